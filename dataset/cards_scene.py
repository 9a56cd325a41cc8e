"""Scenes of cards: what a clip of `focuspull.dataset.cards` shows, drawn from its seed alone.

Every card has a part of the range of disparity for itself, in which its plane stays whatever the card does,
so that cards are one behind the other everywhere and at all times. Position, size, angle and disparity are
sums of a steady change and a slow swing; a common camera moves near cards more than far ones.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from focuspull.dataset import optics
from focuspull.dataset.cards_lens import Layer, Plane
from focuspull.dataset.cards_shapes import (
    REC709,
    random_cutout,
    random_spots,
    random_texture,
    read_background,
    read_cutout,
)
from focuspull.dataset.clip import FrozenModel

GAP = 0.02
"""Disparity between the parts of two cards; less where there are many."""
EDGE_ALPHA = 0.5
"""Opacity from which a card is what is seen, in disparity and instance."""


class CardsSpec(FrozenModel):
    """Clips of cards.

    Args:
        num_clips: Of the split ``train``.
        num_held_out: Of every other split.
        num_targets: Bokeh videos of each clip.
        width: Pixels.
        height: Pixels.
        num_frames: T.
        cards: Least and most cards before the background.
        k_at_1024: Least and most blur radius per unit of disparity at 1024 pixels; drawn log-uniformly.
        slant: Least and most of a card's part of the range of disparity that its plane spans.
        slanted: Share of cards, and of backgrounds, whose planes lean; the others face the camera.
        lens_samples: Points of the lens at most; fewer where the largest disc has fewer pixels.
        seed: Of everything.
        cutouts: Folder of RGBA PNGs in place of drawn cards; relative to the working directory.
        backgrounds: Folder of RGB PNGs in place of drawn backgrounds; likewise.
    """

    num_clips: int = Field(default=100_000, gt=0)
    num_held_out: int = Field(default=32, gt=0)
    num_targets: int = Field(default=3, gt=0, le=16)
    width: int = Field(default=256, ge=16, le=4096)
    height: int = Field(default=144, ge=16, le=4096)
    num_frames: int = Field(default=24, gt=0)
    cards: tuple[int, int] = (2, 6)
    k_at_1024: tuple[float, float] = (8.0, 80.0)
    slant: tuple[float, float] = (0.3, 1.0)
    slanted: float = Field(default=0.5, ge=0, le=1)
    lens_samples: int = Field(default=128, ge=16, le=4096)
    seed: int = Field(default=0, ge=0)
    cutouts: Path | None = None
    backgrounds: Path | None = None

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> CardsSpec:
        limits = {"cards": (0, 16), "k_at_1024": (0.01, 1000), "slant": (0, 1)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name}: must go from small to large in [{least}, {most}], got {[low, high]}"
                )
        return self


@dataclass(frozen=True)
class Wave:
    """A value over time: ``start + speed t + swing sin(2 pi (t / period + phase))``, t in frames."""

    start: float
    speed: float = 0.0
    swing: float = 0.0
    period: float = 1.0
    phase: float = 0.0

    def at(self, t: float) -> float:
        """The value at a time."""
        angle = 2 * math.pi * (t / self.period + self.phase)
        return self.start + self.speed * t + self.swing * math.sin(angle)


@dataclass(frozen=True)
class Card:
    """A picture on a plane.

    Args:
        image: ``[S, S, 4]`` float32: linear light times opacity, opacity; a background has three channels
            and any size, is mirrored at its borders and opaque.
        x: Of its centre in the frame, pixels.
        y: Likewise.
        zoom: Frame pixels per pixel of the image, natural logarithm.
        angle: Clockwise, radians.
        disparity: At its centre.
        slope: Change of disparity per pixel of the frame, rightwards and downwards.
    """

    image: NDArray[np.float32]
    x: Wave
    y: Wave
    zoom: Wave
    angle: Wave
    disparity: Wave
    slope: tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """A clip without its lenses.

    Args:
        size: Height and width of the frame.
        num_frames: T.
        margin_px: Rendered around the frame.
        cards: The farthest first; the first is the background.
        camera: Where it looks, x and y in pixels for what is at disparity 1.
    """

    size: tuple[int, int]
    num_frames: int
    margin_px: int
    cards: tuple[Card, ...]
    camera: tuple[Wave, Wave]

    def layers(self, frame: int) -> list[Layer]:
        """The cards as the pinhole sees them in a frame, the farthest first."""
        t = frame - (self.num_frames - 1) / 2
        return [self._layer(card, t) for card in self.cards]

    def _layer(self, card: Card, t: float) -> Layer:
        m = self.margin_px
        height, width = (side + 2 * m for side in self.size)
        parallax = 0.3 + 0.7 * card.disparity.start
        x, y = (
            wave.at(t) + parallax * eye.at(t) for wave, eye in zip((card.x, card.y), self.camera, strict=True)
        )
        turn = np.exp(-card.zoom.at(t) - 1j * card.angle.at(t))
        rows, columns = card.image.shape[:2]
        offset = turn * complex(-m - x, -m - y) + complex(columns - 1, rows - 1) / 2
        matrix = np.array([[turn.real, -turn.imag, offset.real], [turn.imag, turn.real, offset.imag]])
        is_opaque = card.image.shape[2] == 3
        border = cv2.BORDER_REFLECT_101 if is_opaque else cv2.BORDER_CONSTANT
        seen = cv2.warpAffine(
            card.image,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
        )
        a, b = card.slope
        plane = Plane(card.disparity.at(t) - a * x - b * y, card.slope)
        light, alpha = (np.ascontiguousarray(part, np.float32) for part in (seen[..., :3], seen[..., -1]))
        return Layer(light, None if is_opaque else alpha, plane, m)


@dataclass(frozen=True)
class Target:
    """A lens over time.

    Args:
        k: ``[T]`` float32, pixels per unit of disparity.
        focus_disparity: ``[T]`` float32, in [0, 1].
        turns: ``[T]``, by which the pattern of lens points is turned.
    """

    k: NDArray[np.float32]
    focus_disparity: NDArray[np.float32]
    turns: NDArray[np.float64]


def what_is_seen(layers: list[Layer]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Disparity ``[H, W]`` and instance ids ``[H, W]`` of the nearest card that is more than half opaque.

    The background is instance 0, the card before it 1.
    """
    height, width = layers[0].size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    disparity, instance = np.zeros((height, width), np.float32), np.zeros((height, width), np.uint16)
    for number, layer in enumerate(layers):
        alpha = layer.cropped()[1]
        seen = np.ones((height, width), np.bool_) if alpha is None else alpha >= EDGE_ALPHA
        disparity[seen] = layer.plane.disparity(x, y)[seen]
        instance[seen] = number
    return disparity.clip(0, 1), instance


def random_generator(spec: CardsSpec, split: str, number: int, use: int) -> np.random.Generator:
    """The generator of one clip of one split: of its scene (``use`` 0), or of target p (``use`` 1 + p)."""
    key = (zlib.crc32(split.encode()), number, use)
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))


def random_scene(
    rng: np.random.Generator, spec: CardsSpec, cutouts: list[Path], backgrounds: list[Path]
) -> Scene:
    """A scene.

    Args:
        rng: Source of all that is drawn.
        spec: Ranges.
        cutouts: Files for the cards; none: they are drawn.
        backgrounds: Likewise for the background.

    Raises:
        UserError: If a file is not what it should be.
    """
    size, diagonal = (spec.height, spec.width), math.hypot(spec.height, spec.width)
    margin = math.ceil(float(optics.k_at_width(spec.k_at_1024[1], spec.width))) + 3
    num_cards = int(rng.integers(spec.cards[0], spec.cards[1] + 1))
    parts = _parts(rng, num_cards)
    camera = (_sway(rng, 0.0, spec.width), _sway(rng, 0.0, spec.width))
    # The whole of a background lies in its part of the disparity, with all that a lens may see of it.
    radius = diagonal / 2 + 1.5 * margin
    height, width = (side + 2 * margin for side in size)
    if backgrounds:
        light = read_background(backgrounds[rng.integers(len(backgrounds))], height, width)
    else:
        light = random_texture(rng, height, width)
        # Between night and noon: the mean of the display image is about 0.35 to 0.7.
        light *= np.float32(np.exp(rng.uniform(np.log(0.1), np.log(0.45)))) / (light @ REC709).mean()
        if rng.random() < 0.75:
            light += random_spots(rng, height, width, int(rng.integers(4, 40)))
    centre = (spec.width - 1) / 2, (spec.height - 1) / 2
    disparity, slope = _random_plane(rng, spec, parts[0], radius)
    zoom, angle = Wave(0.0, 0.002 * _swing(rng)), Wave(0.0, 0.002 * _swing(rng))
    cards = [Card(light, Wave(centre[0]), Wave(centre[1]), zoom, angle, disparity, slope)]
    for part in parts[1:]:
        # Half its side; what lies nearer tends to be larger.
        half = spec.width * 0.09 * 4.0 ** (0.7 * rng.random() + 0.3 * part[0])
        side = math.ceil(2 * half) + 4
        if cutouts:
            image = read_cutout(cutouts[rng.integers(len(cutouts))], side)
        else:
            image = random_cutout(rng, side)
        image[..., :3] *= np.float32(np.exp(rng.normal(0, 0.4)))
        zoom = Wave(0.0, 0.002 * _swing(rng), 0.08 * rng.random(), rng.uniform(16, 60), rng.random())
        largest = math.exp(abs(zoom.speed) * spec.num_frames / 2 + zoom.swing)
        disparity, slope = _random_plane(rng, spec, part, half * largest)
        spin = rng.uniform(0.02, 0.5)
        angle = Wave(
            rng.uniform(0, 2 * np.pi),
            0.01 * _swing(rng),
            spin * rng.random(),
            rng.uniform(16, 60),
            rng.random(),
        )
        x = _sway(rng, rng.uniform(0, spec.width), spec.width)
        y = _sway(rng, rng.uniform(0.05, 0.95) * spec.height, spec.width)
        cards.append(Card(image, x, y, zoom, angle, disparity, slope))
    return Scene(size, spec.num_frames, margin, tuple(cards), camera)


def random_target(rng: np.random.Generator, spec: CardsSpec, scene: Scene) -> Target:
    """A lens for a scene: K steady or ramped, focus on a card, the background, between or pulled."""
    t = np.arange(spec.num_frames)
    low, high = np.log(spec.k_at_1024)
    start, end = rng.uniform(low, high, 2)
    k_at_1024 = np.exp(start + (end - start) * _random_ramp(rng, t, rng.random() < 0.2))
    first, second = (_random_focus(rng, scene, t) for _ in range(2))
    focus = first + (second - first) * _random_ramp(rng, t, rng.random() < 0.25)
    return Target(
        k=optics.k_at_width(k_at_1024, spec.width).astype(np.float32),
        focus_disparity=focus.clip(0, 1).astype(np.float32),
        turns=rng.random(spec.num_frames),
    )


def _random_focus(rng: np.random.Generator, scene: Scene, t: NDArray[np.int64]) -> NDArray[np.float64]:
    """Disparity ``[T]`` of something to look at."""
    what = rng.random()
    subjects = scene.cards[1:] or scene.cards
    card = subjects[rng.integers(len(subjects))]
    anywhere = rng.random()
    if what > 0.85:
        return np.full(len(t), anywhere)
    wave = (card if what < 0.65 else scene.cards[0]).disparity
    return np.array([wave.at(frame - (len(t) - 1) / 2) for frame in t])


def _random_ramp(rng: np.random.Generator, t: NDArray[np.int64], moves: bool) -> NDArray[np.float64]:
    """From 0 to 1 over a part of the clip ``[T]``, or 0 throughout."""
    begin, length = rng.uniform(0, 0.5) * len(t), rng.uniform(0.3, 1) * len(t)
    x = ((t - begin) / length).clip(0, 1) * moves
    return x * x * (3 - 2 * x)


def _parts(rng: np.random.Generator, num_cards: int) -> list[tuple[float, float]]:
    """Ranges of disparity with gaps between them, the farthest first; the first is the background's."""
    far = rng.uniform(0.05, 0.35) if num_cards else 1.0
    shares = rng.uniform(0.3, 1, num_cards)
    parts = [(0.0, far)]
    for width in (shares * (1 - far) / max(shares.sum(), 1e-9)).tolist():
        start = parts[-1][1]
        parts.append((start + min(GAP, width / 4), start + width))
    return parts


def _random_plane(
    rng: np.random.Generator, spec: CardsSpec, part: tuple[float, float], radius: float
) -> tuple[Wave, tuple[float, float]]:
    """Disparity and slope of what has a radius in pixels and must stay in its part of the disparity."""
    half = (part[1] - part[0]) / 2
    span = rng.uniform(*spec.slant) * half * (rng.random() < spec.slanted)
    direction = span / radius * np.exp(2j * np.pi * rng.random())
    slack = half - span
    swing = rng.uniform(0, 0.8) * slack
    start = part[0] + half + rng.uniform(-1, 1) * (slack - swing)
    return Wave(start, 0.0, swing, rng.uniform(20, 80), rng.random()), (direction.real, direction.imag)


def _sway(rng: np.random.Generator, start: float, width: int) -> Wave:
    """A position, pixels: up to a percent of the width per frame, and a slow swing."""
    return Wave(
        start, 0.004 * width * _swing(rng), 0.03 * width * rng.random(), rng.uniform(16, 60), rng.random()
    )


def _swing(rng: np.random.Generator) -> float:
    """A normal deviate without its tails."""
    return float(np.clip(rng.normal(), -2.5, 2.5))
