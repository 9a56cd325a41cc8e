"""Images for cards: outlines, textures and spots of light, drawn; or read from the user's own PNG files.

Everything is in linear light. Drawn textures have detail at all scales down to the pixel, since blur shows
only where there is some, and spots of light far over 1, which become the discs of a blurred background.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import color
from focuspull.dataset.errors import UserError

Shape = Literal["blob", "star", "ring", "bar", "twigs"]
REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Luminance of linear red, green and blue."""


def random_cutout(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """A cut-out of random shape and texture.

    Args:
        rng: Source of all that is drawn.
        size: S, pixels.

    Returns:
        ``[S, S, 4]`` linear light times opacity, opacity; nothing of it lies outside the inscribed circle.
    """
    shape: Shape = rng.choice(get_args(Shape), p=[0.4, 0.2, 0.13, 0.12, 0.15])
    softness = float(np.exp(rng.uniform(np.log(0.8), np.log(3.0))))
    alpha = _smoothstep(0.5 + random_inside(rng, shape, size) * (size / 2) / (2 * softness))
    light = random_texture(rng, size, size)
    if rng.random() < 0.35:
        light += random_spots(rng, size, size, int(rng.integers(1, 5)))
    alpha[[0, -1]] = alpha[:, [0, -1]] = 0
    return np.concatenate([light * alpha[..., None], alpha[..., None]], -1)


def random_inside(rng: np.random.Generator, shape: Shape, size: int) -> NDArray[np.float32]:
    """About how far pixels lie inside a random outline, ``[S, S]``; negative outside, unit S / 2 pixels."""
    y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) * (2 / size) - 1
    rho, theta = np.hypot(x, y), np.arctan2(y, x)
    edge = 1 - 6 / size
    if shape == "ring":
        width = rng.uniform(0.1, 0.4)
        return width / 2 - np.abs(rho - (edge - width / 2))
    if shape == "bar":
        return np.minimum(0.95 * edge - np.abs(x), rng.uniform(0.04, 0.2) - np.abs(y))
    if shape == "twigs":
        inside = np.full_like(rho, -1)
        for _ in range(rng.integers(4, 10)):
            ends = rng.uniform(0.1, 1, 2) * edge * np.exp(2j * np.pi * rng.random(2))
            along = ends[1] - ends[0]
            at = ((x - ends[0].real) * along.real + (y - ends[0].imag) * along.imag) / (
                abs(along) ** 2 + 1e-9
            )
            at = at.clip(0, 1)
            distance = np.hypot(x - ends[0].real - at * along.real, y - ends[0].imag - at * along.imag)
            inside = np.maximum(inside, rng.uniform(0.02, 0.07) * (1 - 0.6 * at) - distance)
        return np.minimum(inside, edge - rho).astype(np.float32)
    if shape == "star":
        turns = theta / (2 * np.pi) * rng.integers(4, 10)
        radius = 1 - rng.uniform(0.25, 0.65) * np.abs(2 * (turns - np.floor(turns)) - 1)
    else:
        radius = np.ones_like(theta)
        for n in range(2, 8):
            radius += rng.uniform(-0.5, 0.5) / n * np.cos(n * theta + rng.uniform(0, 2 * np.pi))
    return (edge * radius / radius.max() - rho).astype(np.float32)


def random_texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A texture ``[H, W, 3]``, linear, about 0.02 to 0.9: a palette over noise, often with a pattern."""
    palette = [_random_paint(rng) for _ in range(4)]
    share = _smoothstep(0.5 + 0.6 * random_noise(rng, height, width))[..., None]
    light = palette[0] * (1 - share) + palette[1] * share
    # Patches with sharp borders.
    patches = _smoothstep(0.5 + (random_noise(rng, height, width) - 0.6) * rng.uniform(2, 12))[..., None]
    light += (palette[2] - light) * patches
    if rng.random() < 0.6:
        light += (palette[3] - light) * _random_pattern(rng, height, width)[..., None]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    shade = rng.uniform(-0.6, 0.6, 2)
    grain = random_noise(rng, height, width, cell=4.0)
    stops = shade[0] * x + shade[1] * y + rng.uniform(0.1, 0.4) * grain
    return (light * np.exp2(stops)[..., None]).astype(np.float32)


def random_noise(
    rng: np.random.Generator, height: int, width: int, *, cell: float | None = None
) -> NDArray[np.float32]:
    """Smooth noise ``[H, W]`` of several scales, mean 0, standard deviation 1.

    Args:
        rng: Source of all that is drawn.
        height: H.
        width: W.
        cell: Of the coarsest scale, pixels; None: a part of the image, drawn.
    """
    if cell is None:
        cell = max(height, width) / rng.uniform(1.5, 5)
    fade = rng.uniform(0.45, 0.8)
    noise = np.zeros((height, width), np.float32)
    amplitude = 1.0
    while cell >= 1.5:
        # A cell more than is seen, so that the grid need not end at the border.
        rows, columns = math.ceil(height / cell) + 1, math.ceil(width / cell) + 1
        grid = rng.standard_normal((rows, columns), np.float32)
        zoomed = cv2.resize(
            grid, (math.ceil(columns * cell), math.ceil(rows * cell)), interpolation=cv2.INTER_CUBIC
        )
        noise += amplitude * zoomed[:height, :width]
        amplitude, cell = amplitude * fade, cell / 2
    return (noise - noise.mean()) / (noise.std() + 1e-6)


def random_spots(rng: np.random.Generator, height: int, width: int, number: int) -> NDArray[np.float32]:
    """Small lamps ``[H, W, 3]``, linear, 2 to 30 times white."""
    light = np.zeros((height, width, 3), np.float32)
    for _ in range(number):
        at = rng.uniform(0, (width, height))
        radius = float(np.exp(rng.uniform(np.log(0.6), np.log(1.8))))
        colour = _colour(rng.random(), rng.uniform(0, 0.7)) * np.exp(rng.uniform(np.log(2), np.log(30)))
        left, top = (max(int(c - radius - 1), 0) for c in at)
        part = light[top : top + 2 * math.ceil(radius) + 3, left : left + 2 * math.ceil(radius) + 3]
        y, x = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
        part += (radius + 0.5 - np.hypot(x - at[0], y - at[1])).clip(0, 1)[..., None] * colour
    return light


def read_cutout(path: Path, size: int) -> NDArray[np.float32]:
    """The user's cut-out, ``[S, S, 4]`` like a drawn one: its diagonal becomes S.

    Args:
        path: PNG with transparency, 8 bits, sRGB, not premultiplied.
        size: S, pixels.

    Raises:
        UserError: If it is not such a file.
    """
    image = read_matte(path)
    height, width = image.shape[:2]
    scale = (size - 4) / math.hypot(height, width)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    joined = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    cutout = np.zeros((size, size, 4), np.float32)
    top, left = (size - small[1]) // 2, (size - small[0]) // 2
    cutout[top : top + small[1], left : left + small[0]] = joined
    return cutout


def read_matte(path: Path) -> NDArray[np.float32]:
    """The user's cut-out in its own size, ``[H, W, 4]``: linear light times opacity, opacity.

    Args:
        path: PNG with transparency, 8 bits, sRGB, not premultiplied.

    Raises:
        UserError: If it is not such a file.
    """
    image = _read(path, 4, "an 8-bit RGBA PNG (a cut-out needs transparency)")
    light = color.srgb_to_linear(image[..., 2::-1] / 255).astype(np.float32)
    alpha = (image[..., 3:] / 255).astype(np.float32)
    return np.concatenate([light * alpha, alpha], -1)


def read_background(path: Path, height: int, width: int) -> NDArray[np.float32]:
    """The middle of the user's picture, ``[H, W, 3]``, linear.

    Args:
        path: 8-bit RGB PNG, sRGB.
        height: H.
        width: W.

    Raises:
        UserError: If it is not such a file.
    """
    image = _read(path, 3, "an 8-bit RGB PNG")
    scale = max(height / image.shape[0], width / image.shape[1])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    light = color.srgb_to_linear(image[..., ::-1] / 255).astype(np.float32)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    light = np.asarray(cv2.resize(light, size, interpolation=how), np.float32)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return light[top : top + height, left : left + width]


def _read(path: Path, channels: int, what: str) -> NDArray[np.uint8]:
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
        image: Any = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    except (OSError, cv2.error):
        image = None
    if image is None or image.dtype != np.uint8 or image.shape[2:] != (channels,):
        raise UserError(f"{path}: is not {what}. Convert it, or take it out of the folder.")
    return image


def _random_paint(rng: np.random.Generator) -> NDArray[np.float32]:
    """A colour of diffuse light, linear; dark ones are as likely as bright ones."""
    return _colour(rng.random(), rng.beta(1.5, 1.5)) * np.float32(
        np.exp(rng.uniform(np.log(0.04), np.log(0.9)))
    )


def _colour(hue: float, saturation: float) -> NDArray[np.float32]:
    """Linear red, green and blue ``[3]`` of largest 1, of a hue in turns and a saturation in [0, 1]."""
    wheel = np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1
    return (1 - saturation * (1 - wheel.clip(0, 1))).astype(np.float32)


def _random_pattern(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """Stripes, checks or dots ``[H, W]`` in [0, 1], turned, bent a little, 5 pixels or coarser."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    period = float(np.exp(rng.uniform(np.log(5), np.log(max(height, width) / 3 + 5))))
    angle = rng.uniform(0, np.pi)
    bend = rng.uniform(0, 0.15) * random_noise(rng, height, width)
    a = (x * math.cos(angle) + y * math.sin(angle)) / period + bend
    b = (y * math.cos(angle) - x * math.sin(angle)) / period + bend
    wave_a, wave_b = np.cos(2 * np.pi * a), np.cos(2 * np.pi * b)
    kind = rng.integers(3)
    wave = wave_a if kind == 0 else wave_a * wave_b if kind == 1 else wave_a + wave_b - 0.8
    # Borders of about a pixel.
    return _smoothstep(0.5 + wave * period / (4 * np.pi)) * np.float32(rng.uniform(0.4, 1))


def _smoothstep(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 below 0, 1 above 1, smooth between."""
    x = np.asarray(x, np.float32).clip(0, 1)
    return x * x * (3 - 2 * x)
