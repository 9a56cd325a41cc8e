"""Images to bytes and back: lossless, and loud about anything else."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from focuspull.dataset import codec

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
DISPARITY = RNG.random((5, 7), np.float32)
INSTANCE = RNG.integers(0, 65536, (5, 7), np.uint16)


def test_rgb_round_trip_is_exact_and_keeps_channel_order():
    np.testing.assert_array_equal(codec.decode_rgb(codec.encode_rgb(RGB)), RGB)
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_array_equal(codec.decode_rgb(codec.encode_rgb(red)), red)


def test_instance_round_trip_is_exact():
    np.testing.assert_array_equal(codec.decode_instance(codec.encode_instance(INSTANCE)), INSTANCE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_disparity_error_is_below_the_stated_bound(dtype: type):
    decoded = codec.decode_disparity(codec.encode_disparity(DISPARITY.astype(dtype)))
    assert decoded.dtype == np.float32
    assert np.abs(decoded - DISPARITY).max() <= 7.7e-6


def test_every_stored_disparity_is_a_fixed_point():
    levels = (np.arange(65536) / 65535).reshape(256, 256)
    decoded = codec.decode_disparity(codec.encode_disparity(levels))
    np.testing.assert_array_equal(decoded, levels.astype(np.float32))
    assert codec.encode_disparity(decoded) == codec.encode_disparity(levels)


def test_same_image_gives_the_same_bytes():
    assert codec.encode_rgb(RGB) == codec.encode_rgb(RGB.copy(order="F"))


@pytest.mark.parametrize(
    ("encode", "image", "message"),
    [
        (codec.encode_rgb, RGB.astype(np.float32), "rgb: must be uint8 [H, W, 3], got float32 [5, 7, 3]"),
        (codec.encode_rgb, RGB[..., :2], "rgb: must be uint8 [H, W, 3], got uint8 [5, 7, 2]"),
        (codec.encode_rgb, RGB[:0], "got uint8 [0, 7, 3]"),
        (
            codec.encode_instance,
            INSTANCE.astype(np.int32),
            "instance: must be uint16 [H, W], got int32 [5, 7]",
        ),
        (codec.encode_disparity, RGB[..., 0], "disparity: must be floating [H, W], got uint8 [5, 7]"),
        (codec.encode_disparity, DISPARITY + 1, "35 of 35 pixels are not (minimum 1."),
        (
            codec.encode_disparity,
            np.array([[0.5, np.nan, -0.25]]),
            "2 of 3 pixels are not (minimum -0.25, maximum 0.5)",
        ),
        (codec.encode_disparity, np.array([[np.inf, 0.0]]), "1 of 2 pixels are not"),
    ],
)
def test_wrong_arrays_are_refused_with_numbers(
    encode: Callable[[Any], bytes], image: np.ndarray, message: str
):
    with pytest.raises(ValueError, match=re.escape(message)):
        encode(image)


@pytest.mark.parametrize("decode", [codec.decode_rgb, codec.decode_disparity, codec.decode_instance])
@pytest.mark.parametrize("content", [b"", b"not a png", b"not a png, but longer than its header is"])
def test_unreadable_bytes_are_a_value_error(decode: Callable[[bytes], Any], content: bytes):
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(content)


@pytest.mark.parametrize(
    ("decode", "content"),
    [(codec.decode_rgb, codec.encode_rgb(RGB)), (codec.decode_instance, codec.encode_instance(INSTANCE))],
)
def test_truncated_and_damaged_png_is_a_value_error(decode: Callable[[bytes], Any], content: bytes):
    for size in range(len(content)):
        with pytest.raises(ValueError, match="cannot be decoded"):
            decode(content[:size])
    for at in range(len(content)):
        with pytest.raises(ValueError, match="cannot be decoded|must"):
            decode(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_png_by_other_writers_gives_the_same_pixels(mode: str):
    rng = np.random.default_rng(3)
    smooth = np.cumsum(rng.integers(0, 3, (40, 60, 3)), axis=1)
    image = smooth.astype(np.uint8) if mode == "RGB" else (smooth[..., 0] * 300).astype(np.uint16)
    decode = codec.decode_rgb if mode == "RGB" else codec.decode_instance
    ours = (codec.encode_rgb if mode == "RGB" else codec.encode_instance)(image)  # type: ignore[operator]
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", pnginfo=_with_text())
    assert file.getvalue() != ours
    np.testing.assert_array_equal(decode(file.getvalue()), image)
    np.testing.assert_array_equal(decode(ours), image)


def test_header_decides_before_anything_is_inflated():
    bomb = zlib.compress(bytes(1 << 24))
    png = _png(1 << 14, 1 << 14, bomb)
    with pytest.raises(ValueError, match="must have at most 67108864 pixels, claims 16384x16384"):
        codec.decode_rgb(png)
    with pytest.raises(ValueError, match="must be 7x5, got 16384x16384"):
        codec.decode_rgb(png, size=(7, 5))
    with pytest.raises(ValueError, match="cannot be decoded as PNG of the size in its header"):
        codec.decode_rgb(_png(7, 5, bomb))


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _with_text() -> PngInfo:
    info = PngInfo()
    info.add_text("Software", "another one")
    return info


def test_streams_are_not_taken_for_each_other():
    with pytest.raises(ValueError, match=r"rgb: must be a PNG of 3 channel\(s\) of uint8, got 1 of uint16"):
        codec.decode_rgb(codec.encode_disparity(DISPARITY))
    with pytest.raises(
        ValueError, match=r"disparity: must be a PNG of 1 channel\(s\) of uint16, got 3 of uint8"
    ):
        codec.decode_disparity(codec.encode_rgb(RGB))
