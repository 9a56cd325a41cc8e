"""Pictures drawn from a seed, for cards without files: cut-outs, and whole sceneries as backdrops.

All are scene-linear, straight alpha. Things are painted as polygons on a canvas three times as large and
scaled down, so that their outlines are smooth; a thing stands on the lower edge of its square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from focuspull.dataset import cards_shapes
from focuspull.render import spec
from focuspull.render.textures import Pixels

SUPERSAMPLING = 3
SMALLEST_COVER = 0.12
"""Share of its picture that a cut-out covers: thin bars would be hard to find as a subject."""
Colour = NDArray[np.float64]
Outline = NDArray[Any] | Sequence[ArrayLike]


def drawn(drawing: spec.Drawing) -> Pixels:
    """``[H, W, 4]``, linear light and opacity; a cut-out of kind ``cutout`` may hold lamps far above 1."""
    rng = np.random.default_rng([drawing.seed, 30])
    size = drawing.resolution
    if drawing.kind == "scenery":
        return _scenery(rng, size, round(size * drawing.aspect))
    if drawing.kind == "cutout":
        picture = cards_shapes.random_cutout(rng, size)
        while picture[..., 3].mean() < SMALLEST_COVER:
            picture = cards_shapes.random_cutout(rng, size)
        return _straight(picture)
    canvas = _Canvas(size)
    {"figure": _figure, "bird": _bird, "tree": _tree, "bloom": _bloom}[drawing.kind](rng, canvas)
    return canvas.finished(rng)


def _straight(premultiplied: Pixels) -> Pixels:
    alpha = premultiplied[..., 3:]
    return np.concatenate([premultiplied[..., :3] / np.maximum(alpha, 1e-4), alpha], axis=-1)


class _Canvas:
    """What is painted so far; x to the right and y upwards in [-1, 1] x [0, 2]."""

    def __init__(self, size: int) -> None:
        self.size = size
        large = size * SUPERSAMPLING
        self.pixels = np.zeros((large, large, 4), np.float32)

    def fill(self, outline: Outline, colour: ArrayLike) -> None:
        """Paints a polygon ``[N, 2]``."""
        half = self.size * SUPERSAMPLING / 2
        at = np.array([np.asarray(p, np.float64) for p in outline]) * [1, -1] * half + [half, 2 * half]
        r, g, b = np.asarray(colour, np.float64).tolist()
        cv2.fillPoly(self.pixels, [np.rint(at).astype(np.int32)], (r, g, b, 1.0))

    def solid(self, outline: Outline, colour: Colour, depth: float = 0.5) -> None:
        """Paints a polygon as if it were round: steps that brighten towards the upper left."""
        points = np.array([np.asarray(p, np.float64) for p in outline])
        middle = points.mean(axis=0)
        extent = np.ptp(points, axis=0).min()
        for i, shrink in enumerate(np.linspace(1.0, 0.25, 7)):
            shift = np.array([-0.1, 0.12]) * extent * (1 - shrink)
            light = 1 - depth * (1 - i / 6) ** 1.3
            self.fill(middle + shift + (points - middle) * shrink, np.minimum(colour * light, 1.0))

    def limb(self, points: Outline, widths: ArrayLike, colour: Colour, depth: float = 0.45) -> None:
        """Paints a band along a polyline, darker on its right; ``widths`` are at its points."""
        spine, width = np.array([np.asarray(p, np.float64) for p in points]), np.asarray(widths, np.float64)
        along = np.gradient(spine, axis=0)
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) * (width / 2)[:, None]
        across *= np.where(across[:, :1].sum() > 0, -1.0, 1.0)
        for i, right in enumerate(np.linspace(1.0, -0.7, 8)):
            light = 1 - depth * (1 - i / 7) ** 1.2
            band = np.concatenate([spine + across, (spine - across * right)[::-1]])
            self.fill(band, np.minimum(colour * light, 1.0))
        for end in (0, -1):
            self.solid(ellipse(spine[end], (width[end] / 2, width[end] / 2)), colour, depth)

    def finished(self, rng: np.random.Generator) -> Pixels:
        """The picture at its size, with a grain in its light."""
        large = self.pixels
        grain = cards_shapes.random_noise(rng, self.size, self.size, cell=self.size / 12)
        large[..., :3] *= large[..., 3:]
        small = np.asarray(
            cv2.resize(large, (self.size, self.size), interpolation=cv2.INTER_AREA), np.float32
        )
        picture = _straight(small)
        picture[..., :3] *= np.exp2(0.16 * grain)[..., None]
        picture[:, [0, -1], 3] = 0
        picture[0, :, 3] = 0
        return np.clip(picture, 0, 1).astype(np.float32)


def ellipse(middle: ArrayLike, radii: tuple[float, float], turn: float = 0.0, points: int = 40) -> Colour:
    """Outline ``[N, 2]``."""
    angle = np.linspace(0, 2 * math.pi, points, endpoint=False)
    x, y = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    c, s = math.cos(turn), math.sin(turn)
    return np.stack([c * x - s * y, s * x + c * y], axis=1) + np.asarray(middle)


def _blade(root: ArrayLike, tip: ArrayLike, width: float) -> Colour:
    """A pointed leaf from root to tip."""
    root, tip = np.asarray(root, np.float64), np.asarray(tip, np.float64)
    t = np.linspace(0, 1, 12)[:, None]
    across = np.array([root[1] - tip[1], tip[0] - root[0]]) * (width / 2)
    half = np.sin(np.pi * t**0.8)
    spine = root + t * (tip - root)
    return np.concatenate([spine + half * across, (spine - half * across)[::-1]])


def _paint(rng: np.random.Generator, low: float = 0.08, high: float = 0.75) -> Colour:
    """A colour that cloth or paint may have."""
    hue, saturation = rng.random(), rng.uniform(0.1, 0.85)
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (1 - saturation * (1 - wheel)) * math.exp(rng.uniform(math.log(low), math.log(high)))


def _figure(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Someone who stands or strides."""
    skin = np.array([0.62, 0.36, 0.25]) * rng.uniform(0.25, 1.1)
    hair = np.array([0.12, 0.07, 0.04]) * rng.uniform(0.2, 3.5)
    top, bottom, shoes = _paint(rng), _paint(rng, 0.03, 0.4), _paint(rng, 0.02, 0.2)
    stride, lean, build = rng.uniform(0.04, 0.3), rng.uniform(-0.04, 0.04), rng.uniform(0.85, 1.2)
    hip, neck = np.array([0.0, 0.98]), np.array([lean, 1.6])
    swing = rng.uniform(-0.25, 0.25)

    def arm(side: float, reach: float) -> None:
        shoulder = neck + [side * 0.19 * build, -0.06]
        elbow = shoulder + [side * 0.07 + 0.6 * reach, -0.29]
        hand = elbow + [side * 0.01 + 0.9 * reach + rng.uniform(-0.06, 0.06), -0.25 + abs(reach) * 0.5]
        canvas.limb([elbow, hand], [0.085, 0.07], skin)
        canvas.solid(ellipse(hand, (0.045, 0.06)), skin)
        canvas.limb([shoulder, elbow], [0.125 * build, 0.1], top)

    arm(1.0, swing)
    for side in (1.0, -1.0):
        knee = hip + [side * (0.07 + 0.35 * stride), -0.44]
        foot = np.array([hip[0] + side * (0.09 + stride), 0.06])
        canvas.limb([hip + [side * 0.08, 0.02], knee, foot], [0.2 * build, 0.14, 0.1], bottom)
        canvas.solid(ellipse(foot + [0.06, -0.012], (0.11, 0.045)), shoes)
    coat = rng.uniform(0.0, 0.28)
    trunk = [
        neck + [-0.2 * build, -0.04], neck + [-0.06, 0.03], neck + [0.06, 0.03], neck + [0.2 * build, -0.04],
        hip + [0.17 * build, 0.3], hip + [(0.17 + 0.3 * coat) * build, -coat],
        hip + [-(0.17 + 0.3 * coat) * build, -coat], hip + [-0.17 * build, 0.3],
    ]  # fmt: skip
    canvas.solid(trunk, top)
    arm(-1.0, -swing)
    head = neck + [0.01, 0.19]
    canvas.limb([neck + [0, -0.02], head], [0.1, 0.09], skin)
    if rng.random() < 0.5:
        canvas.solid(ellipse(head + [0, -0.04], (0.125, 0.2)), hair)
    canvas.solid(ellipse(head, (0.1, 0.135)), skin)
    canvas.solid(ellipse(head + [0.0, 0.075], (0.112, 0.085)), hair)


def _bird(rng: np.random.Generator, canvas: _Canvas) -> None:
    """A bird on a twig."""
    back, belly, beak = _paint(rng, 0.15), _paint(rng, 0.3, 0.8), np.array([0.6, 0.3, 0.05])
    bark = np.array([0.16, 0.1, 0.06])
    canvas.limb([(-0.5, 0.0), (-0.58, 0.25), (-0.5, 0.46)], [0.13, 0.1, 0.09], bark)
    canvas.limb([(-0.9, 0.42), (-0.2, 0.5), (0.3, 0.48), (0.85, 0.62)], [0.1, 0.09, 0.08, 0.04], bark)
    for x in (-0.75, -0.5, 0.6):
        canvas.solid(_blade((x, 0.47), (x + rng.uniform(-0.2, 0.2), 0.9), 0.45), np.array([0.12, 0.3, 0.06]))
    canvas.fill([(-0.35, 0.75), (-0.95, 0.35), (-0.72, 0.3), (-0.2, 0.62)], back * 0.6)
    canvas.solid(ellipse((0.05, 0.88), (0.47, 0.34), 0.5), belly)
    canvas.solid(ellipse((0.38, 1.28), (0.24, 0.22)), back)
    for i in range(5):
        tip = (-0.55 + 0.05 * i, 0.52 + 0.04 * i)
        canvas.solid(_blade((0.22, 1.12 - 0.04 * i), tip, 0.3), back * (0.6 + 0.1 * i))
    canvas.fill([(0.58, 1.33), (0.85, 1.25), (0.58, 1.2)], beak)
    canvas.fill(ellipse((0.46, 1.33), (0.035, 0.035)), (0.01, 0.01, 0.01))
    canvas.fill(ellipse((0.45, 1.345), (0.012, 0.012)), (0.9, 0.9, 0.9))
    for x in (0.0, 0.14):
        canvas.limb([(x, 0.62), (x + 0.03, 0.5)], [0.035, 0.03], beak * 0.6)


def _tree(rng: np.random.Generator, canvas: _Canvas) -> None:
    """A trunk that forks, and leaves one by one, those at the back darker."""
    bark = np.array([0.17, 0.11, 0.07]) * rng.uniform(0.6, 1.6)
    autumn = rng.random()
    green = np.array([0.1, 0.26, 0.05]) * (1 - autumn) + np.array([0.6, 0.25, 0.05]) * autumn**2
    tips = []
    for _ in range(14):
        end = np.array([rng.uniform(-0.6, 0.6), rng.uniform(1.0, 1.75)])
        bend = np.array([end[0] * 0.35, 0.5 + 0.4 * (end[1] - 1)])
        canvas.limb([(0, 0.0), bend * [0.4, 0.6], bend, end], [0.13, 0.1, 0.06, 0.02], bark)
        tips.append(end)
    for layer in range(4):
        for _ in range(330):
            at = tips[int(rng.integers(len(tips)))] + rng.normal(0, 0.17, 2)
            if abs(at[0]) > 0.92 or not 0.5 < at[1] < 1.9:
                continue
            angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.1)
            light = (0.35 + 0.25 * layer) * rng.uniform(0.6, 1.2) * (0.6 + 0.35 * at[1])
            tip = at + length * np.array([math.cos(angle), math.sin(angle)])
            canvas.fill(_blade(at, tip, 0.6), np.minimum(green * light * 1.6, 1.0))


def _bloom(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Flowers on stems with leaves."""
    green = np.array([0.1, 0.28, 0.06]) * rng.uniform(0.6, 1.4)
    petal, middle = _paint(rng, 0.3, 0.85), np.array([0.75, 0.45, 0.05])
    for i in range(int(rng.integers(2, 5))):
        x = rng.uniform(-0.5, 0.5)
        top = np.array([x, rng.uniform(1.1, 1.6)]) if i else np.array([0.1 * x, 1.55])
        canvas.limb([(0.1 * x, 0.0), (0.5 * x, 0.6), top], [0.05, 0.04, 0.03], green)
        for y in rng.uniform(0.1, 0.9, 5):
            side = rng.choice([-1.0, 1.0])
            root = np.array([0.6 * x * y, y])
            canvas.solid(
                _blade(root, root + [side * rng.uniform(0.25, 0.42), rng.uniform(0.1, 0.35)], 0.35), green
            )
        count, radius = int(rng.integers(5, 14)), rng.uniform(0.24, 0.36)
        for k in range(count):
            angle = 2 * math.pi * k / count + rng.normal(0, 0.05)
            tip = top + radius * np.array([math.cos(angle), 0.85 * math.sin(angle)])
            canvas.solid(_blade(top, tip, min(2.6 / count * 1.6, 0.8)), petal * rng.uniform(0.75, 1.0))
        canvas.solid(ellipse(top, (0.25 * radius, 0.22 * radius)), middle)


def _scenery(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Sky, ridges behind each other, things that stand there, and lamps in the distance."""
    sky = _paint(rng, 0.4, 0.9) * 0.4 + np.array([0.45, 0.55, 0.7]) * 0.6
    glow = np.array([0.95, 0.7, 0.45])
    y = np.linspace(1, 0, height)[:, None, None]
    picture = np.broadcast_to(sky * y + glow * (1 - y), (height, width, 3)).astype(np.float32)
    clouds = np.clip(cards_shapes.random_noise(rng, height, width, cell=height / 2), 0, 2)[..., None]
    picture = picture * (1 - 0.2 * clouds) + 0.2 * clouds * 0.9
    ground = _paint(rng, 0.2, 0.5) * 0.75 + np.array([0.12, 0.22, 0.07]) * 0.35
    x = np.arange(width)
    rows = np.arange(height)[:, None]
    for i in range(6):
        near = i / 5
        line = height * (0.35 + 0.4 * near)
        for n in range(1, 9):
            line = line + height * 0.12 / n * rng.normal() * np.sin(
                2 * np.pi * n * x / width + rng.uniform(0, 6.3)
            )
        line = line + (height / 60) * (1 - near) * np.abs(
            cards_shapes.random_noise(rng, 1, width, cell=24.0)[0]
        )
        colour = ground * (0.35 + 0.65 * near) * rng.uniform(0.7, 1.2) + sky * 0.45 * (1 - near)
        grain = np.exp2(0.5 * cards_shapes.random_noise(rng, height, width, cell=height / 10))[..., None]
        cover = np.clip(rows - line + 0.5, 0, 1)[..., None]
        picture = picture * (1 - cover) + cover * np.clip(colour * grain, 0, 1)
    lamps = cards_shapes.random_spots(rng, height, width, int(rng.integers(6, 40)))
    picture = np.clip(picture, 0.01, 1) + np.clip(lamps, 0, 6)
    return np.concatenate([picture, np.ones((height, width, 1))], axis=-1).astype(np.float32)
