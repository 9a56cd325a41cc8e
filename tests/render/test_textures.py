"""Baked patterns and image files: in range, seamless, repeatable, linear."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from focuspull.dataset.color import srgb_to_linear
from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.textures import bake, read_image

KINDS = ("perlin", "marble", "wood", "checker", "bricks")


def texture(kind: str, **fields) -> spec.ProceduralTexture:
    colors = {"color_a": (0.1, 0.2, 0.3), "color_b": (0.9, 0.7, 0.4)}
    return spec.ProceduralTexture.model_validate(
        {"type": kind, "resolution": 128, "cells": 4, **colors, **fields}
    )


@pytest.mark.parametrize("kind", KINDS)
def test_pattern_lies_between_its_two_colors_and_uses_them(kind):
    pixels = bake(texture(kind))
    assert pixels.shape == (128, 128, 3)
    assert pixels.dtype == np.float32
    mix = (pixels - [0.1, 0.2, 0.3]) / np.array([0.8, 0.5, 0.1])
    np.testing.assert_allclose(mix, mix[..., :1].repeat(3, axis=2), atol=1e-5)
    assert mix.min() >= -1e-6
    assert mix.max() <= 1 + 1e-6
    assert np.ptp(mix) > 0.5


# A checker with an odd number of cells has two equal cells side by side at the seam, which no border step
# shows.
@pytest.mark.parametrize(("kind", "cells"), [*((kind, 8) for kind in KINDS), *((kind, 3) for kind in KINDS)])
def test_pattern_tiles_seamlessly(kind, cells):
    """The step over the border is no larger than the steps inside."""
    pixels = bake(texture(kind, cells=cells, octaves=2, resolution=240))
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(axis=(1 - axis, 2))
        seam = np.abs(np.take(pixels, 0, axis) - np.take(pixels, -1, axis)).mean()
        assert seam <= steps.max() * 1.05 + 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_pattern_is_a_function_of_its_fields(kind):
    one = bake(texture(kind, seed=3))
    np.testing.assert_array_equal(one, bake(texture(kind, seed=3)))
    assert not np.array_equal(one, bake(texture(kind, seed=4)))
    assert not np.array_equal(one, bake(texture(kind, seed=3, cells=5)))


def write(path, pixels: np.ndarray):
    order = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[
        pixels.shape[2] if pixels.ndim == 3 else 2
    ]
    assert cv2.imwrite(str(path), pixels if order is None else cv2.cvtColor(pixels, order))
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_images_are_srgb(tmp_path, dtype):
    top = np.iinfo(dtype).max
    pixels = (np.random.default_rng(0).random((5, 7, 3)) * top).astype(dtype)
    image = read_image(write(tmp_path / "a.png", pixels), "a.png")
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, srgb_to_linear(pixels / top), atol=1e-6)


def test_alpha_stays_straight_and_linear(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)
    image = read_image(write(tmp_path / "a.png", pixels), "a.png")
    np.testing.assert_allclose(image[..., 3], pixels[..., 3] / 255, atol=1e-6)
    np.testing.assert_allclose(image[..., :3], srgb_to_linear(pixels[..., :3] / 255), atol=1e-6)


@pytest.mark.parametrize("suffix", ["exr", "hdr"])
def test_float_images_are_linear_and_keep_their_highlights(tmp_path, suffix):
    pixels = np.random.default_rng(0).random((6, 12, 3)).astype(np.float32) * 100
    image = read_image(write(tmp_path / f"a.{suffix}", pixels), "a")
    # The Radiance format has 8 bits of mantissa shared by the three channels.
    np.testing.assert_allclose(
        image, pixels, rtol=1e-6 if suffix == "exr" else 0, atol=0 if suffix == "exr" else 0.5
    )


def test_grey_becomes_rgb(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    image = read_image(write(tmp_path / "a.png", pixels), "a.png")
    np.testing.assert_allclose(image, srgb_to_linear(pixels / 255)[..., None].repeat(3, axis=2), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n truncated"])
def test_unreadable_image_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match="pictures/a.png: cannot be read as an image"):
        read_image(path, "pictures/a.png")


def test_image_with_values_that_are_not_finite_is_refused(tmp_path):
    pixels = np.ones((4, 4, 3), np.float32)
    pixels[1, 2, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        read_image(write(tmp_path / "a.exr", pixels), "a.exr")


def test_negative_light_becomes_black(tmp_path):
    pixels = np.full((4, 4, 3), -0.5, np.float32)
    assert read_image(write(tmp_path / "a.exr", pixels), "a.exr").max() == 0
