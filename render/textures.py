"""Images as scene-linear float arrays: files, and procedural patterns baked from Perlin noise.

Both renderers get the same texels, so that they can be compared. Row 0 is the top of the image (v = 1).
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

import noise
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.color import srgb_to_linear
from focuspull.dataset.errors import UserError
from focuspull.render.spec import ProceduralTexture

os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")  # OpenCV ships the codec switched off
import cv2  # noqa: E402  (after the variable it reads at import)

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class TextureMap:
    """Texels ``[H, W, C]`` (C = 1 or 3), linear, how often they tile u and v, and whether they wrap."""

    pixels: Pixels
    tiles: tuple[float, float] = (1.0, 1.0)
    repeats: bool = True


def read_image(path: Path, name: str) -> Pixels:
    """Reads an image file as linear float32 ``[H, W, 3 or 4]``.

    8- and 16-bit images are taken as sRGB, float images (EXR, HDR) as linear; grey becomes RGB, alpha
    stays straight and linear.

    Raises:
        UserError: If the file cannot be decoded or has values that are not finite.
    """
    return linear(_decoded(np.fromfile(path, np.uint8), name), name)


def linear(image: NDArray, name: str) -> Pixels:
    """A decoded image as `read_image` has it.

    Raises:
        UserError: If it has values that are not finite.
    """
    if np.issubdtype(image.dtype, np.integer):
        unit = _unit(image)
        image = np.concatenate([srgb_to_linear(unit[..., :3]), unit[..., 3:]], axis=2)
    image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise UserError(
            f"{name}: has pixels that are not finite. Save the image again without NaN and infinity."
        )
    return np.maximum(image, 0.0)


def read_values(path: Path, name: str) -> Pixels:
    """Reads an image file whose values are no colours, such as normals, as float32 ``[H, W, 3 or 4]``.

    8- and 16-bit values are divided by their largest; floats stay.

    Raises:
        UserError: If the file cannot be decoded.
    """
    return values(_decoded(np.fromfile(path, np.uint8), name))


def values(image: NDArray) -> Pixels:
    """A decoded image as `read_values` has it."""
    return _unit(image) if np.issubdtype(image.dtype, np.integer) else image.astype(np.float32)


def decode(encoded: bytes, name: str) -> NDArray:
    """An image file in memory as ``[H, W, 3 or 4]`` of its own type.

    Raises:
        UserError: If it cannot be decoded.
    """
    return _decoded(np.frombuffer(encoded, np.uint8), name)


def _decoded(encoded: NDArray[np.uint8], name: str) -> NDArray:
    """``[H, W, 3 or 4]`` of the file's own type; grey becomes RGB."""
    image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    if image is None:
        raise UserError(f"{name}: cannot be read as an image. Give a PNG, JPEG, WebP, TIFF, EXR or HDR file.")
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _unit(image: NDArray) -> Pixels:
    return image.astype(np.float32) / (255 if image.dtype == np.uint8 else 65535)


def bake(texture: ProceduralTexture) -> Pixels:
    """Texels ``[resolution, resolution, 3]`` of a procedural pattern; seamless in both directions."""
    n = texture.resolution
    v, u = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")
    c = texture.cells
    fbm = _even_fbm(n, c, texture.octaves, texture.seed)
    if texture.type == "perlin":
        mix = 0.5 + fbm
    elif texture.type == "marble":
        mix = 0.5 + 0.5 * np.sin(2 * np.pi * (c * u + 2.0 * fbm))
    elif texture.type == "wood":
        # Growth rings cut lengthwise, and fibres: noise stretched along v.
        fibres = _fbm(u * 24 * c, v * c, texture, 24 * c, c)
        rings = (c * u + 0.15 * np.sin(2 * np.pi * v) + 0.9 * _fbm(u * c, v * 2, texture, c, 2)) % 1
        mix = 0.3 + 0.45 * rings**2 + 0.7 * fibres + 0.2 * fbm
    elif texture.type == "checker":
        odd = (np.floor(u * c) + np.floor(v * c)) % 2
        mix = odd + 0.25 * fbm
    else:
        row = np.floor(v * 2 * c)
        x, y = (u * c + 0.5 * (row % 2)) % c, v * 2 * c
        joint = np.minimum(2 * np.minimum(x % 1, 1 - x % 1), np.minimum(y % 1, 1 - y % 1)) < 0.07
        tint = _hash01(np.floor(x) + 131 * (row % (2 * c)), texture.seed)
        mix = np.where(joint, 1.0, 0.35 * tint + 0.25 * fbm)
    mix = np.clip(mix, 0.0, 1.0)[..., None]
    pixels = (1 - mix) * np.asarray(texture.color_a) + mix * np.asarray(texture.color_b)
    return pixels.astype(np.float32)


@functools.lru_cache(maxsize=16)
def _even_fbm(resolution: int, cells: int, octaves: int, seed: int) -> NDArray:
    """Noise with as many cells along u as along v; kept, since many patterns differ in colours only."""
    at = (np.arange(resolution) + 0.5) / resolution * cells
    y, x = np.meshgrid(at, at, indexing="ij")
    fbm = _noise(x, y, octaves, seed, cells, cells)
    fbm.flags.writeable = False
    return fbm


def _fbm(x: NDArray, y: NDArray, texture: ProceduralTexture, repeat_x: int, repeat_y: int) -> NDArray:
    return _noise(x, y, texture.octaves, texture.seed, repeat_x, repeat_y)


def _noise(x: NDArray, y: NDArray, octaves: int, seed: int, repeat_x: int, repeat_y: int) -> NDArray:
    """Fractal Perlin noise, about [-0.5, 0.5], periodic in x and y."""
    perlin = np.frompyfunc(
        lambda a, b: noise.pnoise2(a, b, octaves=octaves, repeatx=repeat_x, repeaty=repeat_y, base=seed),
        2,
        1,
    )
    return perlin(x, y).astype(np.float64)


def _hash01(cell: NDArray, seed: int) -> NDArray:
    """A fixed pseudo-random number in [0, 1) per integer cell."""
    x = (cell.astype(np.uint64) + np.uint64(seed) * np.uint64(7919)) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(29)
    return ((x * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(40)).astype(np.float64) / 2**24
