"""Crops, resizes and flips: what a lens would have made of the other view."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from focuspull.dataset import color
from focuspull.dataset.transforms import Placement, Transform, place

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (36, 64, 3), np.uint8)
VALUES = RNG.random((36, 64), np.float32)


def draw(transform: Transform, seed: int = 0, height: int = 36, width: int = 64) -> Placement:
    return place(transform, height, width, rng=np.random.default_rng(seed))


def test_nothing_asked_for_changes_nothing():
    placed = draw(Transform())
    assert placed.k_scale == 1
    np.testing.assert_array_equal(placed.color(IMAGE), IMAGE)
    np.testing.assert_array_equal(placed.values(VALUES), VALUES)


def test_crop_cuts_all_streams_alike_and_leaves_k():
    placed = draw(Transform(crop=(10, 20), flip=1.0))
    window = np.s_[placed.top : placed.top + 10, placed.left : placed.left + 20]
    assert placed.k_scale == 1
    np.testing.assert_array_equal(placed.color(IMAGE), IMAGE[window][:, ::-1])
    np.testing.assert_array_equal(placed.values(VALUES), VALUES[window][:, ::-1])


def test_crops_reach_every_corner():
    tops, lefts = zip(
        *((p.top, p.left) for p in (draw(Transform(crop=(34, 61)), s) for s in range(200))), strict=True
    )
    assert set(tops) == {0, 1, 2} and set(lefts) == {0, 1, 2, 3}
    centred = draw(Transform(crop=(34, 61), position="center"), 7)
    assert (centred.top, centred.left) == (1, 2)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_k_follows_the_size_of_a_blurred_point(scale: float):
    """The radius of a disc, from its area in light, grows as K does."""
    width, k, defocus = 256, 40.0, 0.5
    y, x = np.mgrid[0:144, 0:width]
    disc = (np.hypot(x - 128.3, y - 70.6) <= k * defocus).astype(np.float32)
    soft = cv2.GaussianBlur(disc, (0, 0), 1)  # an edge that both scales can show
    image = color.to_uint8(color.encode_display(0.5 * np.repeat(soft[..., None], 3, 2)))
    placed = draw(Transform(size=(round(144 * scale), round(width * scale))), height=144, width=width)
    light = color.decode_display(placed.color(image) / 255)[..., 0] / 0.5
    radius = np.sqrt(light.sum() / np.pi)
    assert placed.k_scale == scale
    assert radius == pytest.approx(k * placed.k_scale * defocus, abs=0.15)


def test_zoom_is_a_longer_lens():
    transform = Transform(size=(18, 32), zoom=(1.0, 2.0))
    placements = [draw(transform, seed) for seed in range(200)]
    scales = np.array([placed.k_scale for placed in placements])
    assert scales.min() < 0.53 and scales.max() > 0.97
    assert all(
        placed.size == (18, 32) and abs(placed.width - placed.height * 64 / 36) <= 1.5
        for placed in placements
    )


def test_shrinking_averages_light_not_display_values():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = 255
    placed = Placement(0, 0, 2, 2, (1, 1), False)
    assert placed.color(image)[0, 0].tolist() == [188] * 3  # sRGB of half the light


def test_equal_pixels_stay_equal_at_any_size():
    for value in range(256):
        flat = np.full((4, 6, 3), value, np.uint8)
        assert (Placement(0, 0, 4, 6, (3, 5), False).color(flat) == value).all()


@pytest.mark.parametrize("size", [(7, 13), (36, 64), (50, 99)])
def test_disparity_is_never_mixed(size: tuple[int, int]):
    placed = Placement(0, 0, 36, 64, size, False)
    found = placed.values(VALUES)
    assert found.shape == size and np.isin(found, VALUES).all()
    y, x = size[0] // 2, size[1] // 3
    assert found[y, x] == VALUES[int((y + 0.5) * 36 / size[0]), int((x + 0.5) * 64 / size[1])]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (0, 5)}, "greater than 0"),
        ({"size": (10, 20), "crop": (20, 20)}, "differ in shape"),
        ({"zoom": (1, 2)}, "zoom needs a size"),
        ({"size": (9, 16), "zoom": (2, 1)}, "from small to large"),
        ({"flip": 1.5}, "less than or equal to 1"),
        ({"position": "left"}, "should match pattern"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Transform(**fields)


def test_crop_larger_than_the_frame_is_refused():
    with pytest.raises(ValueError, match="crop 100x10 does not fit into frames of 64x36"):
        draw(Transform(crop=(10, 100)))
