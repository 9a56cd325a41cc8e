"""Images to bytes and back, without loss: every stream of a clip is one PNG per frame.

| stream     | array                      | bytes               | error                                      |
|------------|----------------------------|---------------------|--------------------------------------------|
| RGB        | uint8 ``[H, W, 3]``, sRGB  | 8-bit RGB PNG       | none                                       |
| disparity  | float ``[H, W]`` in [0, 1] | 16-bit grey PNG     | at most 7.7e-6, half of 1/65535            |
| instance   | uint16 ``[H, W]``          | 16-bit grey PNG     | none                                       |

A disparity error of 7.7e-6 moves the circle of confusion by 0.0003 px at K = 32. PNG is written with
OpenCV's default level: level 6 saves about a tenth and costs five times the CPU. What OpenCV writes has one
filter in all rows, so that reading it is inflating and a running sum: with ISA-L's inflate that takes half
the time of OpenCV and Pillow. PNGs by others go through OpenCV.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from isal import isal_zlib
from isal.igzip_lib import IsalError
from numpy.typing import NDArray

ScalarT = TypeVar("ScalarT", bound=np.generic)

DISPARITY_STEP = 1.0 / 65535
"""Smallest difference between two stored disparities."""

MAX_PIXELS = 1 << 26
"""Of one image, 8192 x 8192: what claims more is not decoded."""

_PNG_START = struct.Struct(">8s4x4sIIBB2xB")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_GREY, _PNG_RGB = 0, 2
_PNG_CHUNK_BYTES = 12
_PNG_FILTER_SUB = 1


def encode_rgb(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a display image ``[H, W, 3]``, uint8, RGB.

    Raises:
        ValueError: If dtype or shape is another.
    """
    _require("rgb", image, np.uint8, "[H, W, 3]", image.ndim == 3 and image.shape[-1] == 3)
    return _png(image[..., ::-1])


def decode_rgb(
    content: bytes | memoryview,
    *,
    size: tuple[int, int] | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[np.uint8]:
    """Display image ``[H, W, 3]``, uint8, RGB, of the bytes `encode_rgb` made.

    Args:
        content: The bytes.
        size: Width and height that the image must have; None for any up to `MAX_PIXELS`.
        out: Array of the result's shape and type to write into, of any strides; None for a new one.

    Raises:
        ValueError: If the bytes are not an 8-bit RGB PNG of this size.
    """
    return _pixels("rgb", content, np.uint8, size, out, num_channels=3)


def encode_disparity(disparity: NDArray[np.floating[Any]]) -> bytes:
    """16-bit PNG bytes of disparity ``[H, W]``, floating point, in [0, 1].

    Raises:
        ValueError: If dtype, shape or range is another, or a pixel is not finite.
    """
    _require("disparity", disparity, np.floating, "[H, W]", disparity.ndim == 2)
    # NaN fails both comparisons, so this one mask counts everything that cannot be stored.
    num_bad = disparity.size - int(np.count_nonzero((disparity >= 0) & (disparity <= 1)))
    if num_bad:
        raise ValueError(
            f"disparity: must be finite and in [0, 1], but {num_bad} of {disparity.size} pixels are not "
            f"(minimum {np.nanmin(disparity)}, maximum {np.nanmax(disparity)})"
        )
    return _png(np.floor(disparity.astype(np.float64) / DISPARITY_STEP + 0.5).astype(np.uint16))


def decode_disparity(
    content: bytes | memoryview, *, size: tuple[int, int] | None = None, out: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    """Disparity ``[H, W]``, float32 in [0, 1], of the bytes `encode_disparity` made.

    Args:
        content: The bytes.
        size: Width and height that the image must have; None for any up to `MAX_PIXELS`.
        out: Array of the result's shape and type to write into, of any strides; None for a new one.

    Raises:
        ValueError: If the bytes are not a 16-bit grey PNG of this size.
    """
    # Rounded once, from float64; multiplying in float32 would round twice.
    return np.take(_disparities(), _pixels("disparity", content, np.uint16, size), out=out, mode="clip")


def encode_instance(instance: NDArray[np.uint16]) -> bytes:
    """16-bit PNG bytes of instance ids ``[H, W]``, uint16.

    Raises:
        ValueError: If dtype or shape is another.
    """
    _require("instance", instance, np.uint16, "[H, W]", instance.ndim == 2)
    return _png(instance)


def decode_instance(
    content: bytes | memoryview,
    *,
    size: tuple[int, int] | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[np.uint16]:
    """Instance ids ``[H, W]``, uint16, of the bytes `encode_instance` made.

    Args:
        content: The bytes.
        size: Width and height that the image must have; None for any up to `MAX_PIXELS`.
        out: Array of the result's shape and type to write into, of any strides; None for a new one.

    Raises:
        ValueError: If the bytes are not a 16-bit grey PNG of this size.
    """
    return _pixels("instance", content, np.uint16, size, out)


def _require(what: str, image: NDArray[Any], kind: type[np.generic], shape: str, shape_matches: bool) -> None:
    if not np.issubdtype(image.dtype, kind) or not shape_matches or image.size == 0:
        raise ValueError(f"{what}: must be {kind.__name__} {shape}, got {image.dtype} {list(image.shape)}")


def _png(image: NDArray[Any]) -> bytes:
    written, buffer = cv2.imencode(".png", np.ascontiguousarray(image))
    assert written, "OpenCV refused to encode a checked array"
    return buffer.tobytes()


def _pixels(
    what: str,
    content: bytes | memoryview,
    dtype: type[ScalarT],
    size: tuple[int, int] | None,
    out: NDArray[ScalarT] | None = None,
    *,
    num_channels: int = 1,
) -> NDArray[ScalarT]:
    """Pixels ``[H, W]``, or ``[H, W, 3]`` in RGB order."""
    width, height = _header(what, content, 8 * np.dtype(dtype).itemsize, num_channels, size)
    pixel_bytes = num_channels * np.dtype(dtype).itemsize
    rows = _sub_filtered_rows(what, content, height, 1 + width * pixel_bytes)
    if rows is not None:
        # The sum over a row undoes the filter; bytes wrap around, as the filter's do.
        rows = rows.reshape(height, width, pixel_bytes)
        if num_channels == 3:
            return np.add.accumulate(rows, axis=1, dtype=np.uint8, out=out)
        pixels = np.add.accumulate(rows, axis=1, dtype=np.uint8).view(">u2")[..., 0]
        return _given(out, pixels.astype(dtype, copy=False))
    # None for unreadable bytes, which OpenCV's annotations leave out.
    decoded = cast(
        "NDArray[ScalarT] | None", cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    )
    if decoded is None:
        raise ValueError(f"{what}: {len(content)} bytes cannot be decoded as PNG")
    return _given(out, decoded if num_channels == 1 else decoded[..., ::-1])


def _given(out: NDArray[ScalarT] | None, pixels: NDArray[Any]) -> NDArray[ScalarT]:
    if out is None:
        return np.ascontiguousarray(pixels)
    np.copyto(out, pixels)
    return out


def _sub_filtered_rows(
    what: str, content: bytes | memoryview, height: int, row_bytes: int
) -> NDArray[np.uint8] | None:
    """Inflated rows without their filter byte if all have the filter Sub, else None.

    Source: PNG, third edition, sections 5.3 (chunks) and 9.2 (filters).

    Raises:
        ValueError: If a chunk is cut off or damaged, or the data are not as long as the header says.
    """
    parts: list[memoryview] = []
    view = memoryview(content)
    at = len(_PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if at + _PNG_CHUNK_BYTES > len(view):
            raise ValueError(f"{what}: {len(content)} bytes cannot be decoded as PNG, the end is missing")
        size, kind = struct.unpack_from(">I4s", view, at)
        end = at + _PNG_CHUNK_BYTES + size
        if end > len(view) or isal_zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise ValueError(f"{what}: {len(content)} bytes cannot be decoded as PNG, a chunk is damaged")
        if kind == b"IDAT":
            parts.append(view[at + 8 : end - 4])
        elif kind not in (b"IHDR", b"IEND"):
            return None
        at = end
    inflater = isal_zlib.decompressobj()
    try:
        # One more than wanted, to see whether there is more; never all of what a bomb may hold.
        flat = inflater.decompress(parts[0] if len(parts) == 1 else b"".join(parts), height * row_bytes + 1)
    except IsalError as error:  # pyright: ignore[reportGeneralTypeIssues] (its stub calls the class a variable)
        raise ValueError(f"{what}: {len(content)} bytes cannot be decoded as PNG: {error}") from error
    if len(flat) != height * row_bytes or not inflater.eof:
        raise ValueError(f"{what}: {len(content)} bytes cannot be decoded as PNG of the size in its header")
    rows = np.frombuffer(flat, np.uint8).reshape(height, row_bytes)
    return rows[:, 1:] if (rows[:, 0] == _PNG_FILTER_SUB).all() else None


def _header(
    what: str, content: bytes | memoryview, bits: int, num_channels: int, size: tuple[int, int] | None
) -> tuple[int, int]:
    """Width and height from the first bytes alone: they decide how much memory a decoder takes."""
    if not content:
        raise ValueError(f"{what}: cannot be decoded, there are 0 bytes")
    if len(content) < _PNG_START.size:
        raise ValueError(f"{what}: {len(content)} bytes cannot be decoded as PNG")
    signature, chunk, width, height, found_bits, kind, interlaced = _PNG_START.unpack_from(content)
    if signature != _PNG_SIGNATURE or chunk != b"IHDR":
        raise ValueError(f"{what}: {len(content)} bytes cannot be decoded as PNG")
    channels = {_PNG_GREY: "1", _PNG_RGB: "3"}
    if found_bits != bits or kind != (_PNG_RGB if num_channels == 3 else _PNG_GREY):
        raise ValueError(
            f"{what}: must be a PNG of {num_channels} channel(s) of uint{bits}, "
            f"got {channels.get(kind, f'colour type {kind}')} of uint{found_bits}"
        )
    if size is not None and (width, height) != size:
        raise ValueError(f"{what}: must be {size[0]}x{size[1]}, got {width}x{height}")
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"{what}: must have at most {MAX_PIXELS} pixels, claims {width}x{height}")
    if interlaced:
        raise ValueError(f"{what}: must not be interlaced")
    return width, height


@cache
def _disparities() -> NDArray[np.float32]:
    """The 65536 disparities that can be stored."""
    return (np.arange(65536) * DISPARITY_STEP).astype(np.float32)
