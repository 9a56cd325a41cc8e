"""Focal-plane adaptive regions: hand-worked cases, and NumPy against torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from focuspull.dataset import mpi

# Worked out by hand from the published formula, to the digits given: focus disparity, exponent, thresholds.
PUBLISHED = [
    (1.0, 1.0, (0.25, 0.5, 0.75)),
    (0.8, 1.0, (0.177, 0.420, 0.698)),
    (0.5, 1.0, (0.0625, 0.25, 0.5625)),
    (0.3, 1.0, (0.0098, 0.099, 0.383)),
    (0.25, 1.0, (0.0039, 0.0625, 0.316)),
    (0.2, 1.0, (0.001, 0.031, 0.237)),
    (0.1, 1.0, (0.0, 0.001, 0.056)),
    (0.5, 1.5, (0.020, 0.141, 0.443)),
    (0.25, 1.5, (0.0, 0.004, 0.100)),
]


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def disparities(seed: int = 0, shape: tuple[int, ...] = (3, 20, 30)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize(("focus", "exponent", "expected"), PUBLISHED)
def test_thresholds_are_the_published_ones(focus: float, exponent: float, expected: tuple[float, ...]):
    found = mpi.thresholds(np.array([focus]), exponent=exponent)
    assert found.shape == (1, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected, atol=6e-4)


def test_linear_thresholds_leave_one_region_when_the_focus_is_far():
    np.testing.assert_allclose(mpi.thresholds(0.5, form="linear"), [0.5, 1.0, 1.5])
    assert (mpi.thresholds(np.array([0.25, 0.1, 0.0]), form="linear") >= 1).all()
    ids = mpi.region_ids(disparities(), np.full(3, 0.2, np.float32), form="linear")
    assert not ids.any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("convert", [np.asarray, as_tensor])
@pytest.mark.parametrize("focus", [0.0, 1e-45, 1e-30, 1e-3])
def test_focus_at_infinity_is_the_limit_and_not_nan(convert: Any, focus: float):
    values = convert(np.array([focus], np.float32))
    assert np.asarray(mpi.thresholds(values, exponent=2.0)).tolist() == [[0.0, 0.0, 0.0]]
    linear = np.asarray(mpi.thresholds(values, form="linear"))
    assert (linear > 249).all()
    ids = mpi.region_ids(convert(np.array([[[focus, 0.1, 1.0]]], np.float32)), values)
    assert np.asarray(ids).tolist() == [[[0, 3, 3]]]


def test_exponent_zero_gives_equal_bands_for_every_focus():
    found = mpi.thresholds(np.array([0.0, 0.3, 1.0]), num_levels=5, exponent=0.0)
    np.testing.assert_allclose(found, np.tile([0.2, 0.4, 0.6, 0.8], (3, 1)), rtol=1e-6)


@pytest.mark.parametrize("convert", [np.asarray, as_tensor])
def test_a_distance_equal_to_a_threshold_is_in_the_lower_region(convert: Any):
    """Focus 0.5: regions end at 0.0625, 0.25 and 0.5625, all exact in binary."""
    line = np.array([[0.5, 0.5625, 0.5626, 0.25, 0.2499, 0.75, 0.7501, 0.0, 1.0]], np.float32)
    ids = mpi.region_ids(convert(line), convert(np.array(0.5, np.float32)))
    assert np.asarray(ids).tolist() == [[0, 0, 1, 1, 2, 1, 2, 2, 2]]
    near = mpi.region_ids(convert(line), convert(np.array(1.0, np.float32)))
    assert np.asarray(near).tolist() == [[1, 1, 1, 2, 3, 0, 0, 3, 0]]


def test_regions_do_not_tell_in_front_from_behind():
    ids = mpi.region_ids(np.array([[0.2, 0.8]], np.float32), np.array(0.5, np.float32))
    assert ids[0, 0] == ids[0, 1]


@pytest.mark.parametrize("form", ["power", "linear"])
@pytest.mark.parametrize("shape", [(4, 6), (3, 8, 9), (2, 3, 8, 9)])
def test_torch_and_numpy_agree(shape: tuple[int, ...], form: mpi.Form):
    disparity = disparities(1, shape)
    focus = disparities(2, shape[:-2]) if len(shape) > 2 else np.array(0.7, np.float32)
    ids = mpi.region_ids(disparity, focus, num_levels=6, exponent=1.5, form=form)
    tensor = mpi.region_ids(as_tensor(disparity), as_tensor(focus), num_levels=6, exponent=1.5, form=form)
    assert isinstance(ids, np.ndarray) and ids.dtype == np.uint8 and ids.shape == shape
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.uint8
    np.testing.assert_array_equal(ids, tensor.numpy())
    for found, other in (
        (mpi.level_masks(ids, 6), mpi.level_masks(tensor, 6)),
        (mpi.resize_regions(ids, 3, 4), mpi.resize_regions(tensor, 3, 4)),
    ):
        assert isinstance(other, torch.Tensor)
        np.testing.assert_array_equal(found, other.numpy())


def test_half_precision_disparity_is_compared_as_float32():
    disparity = as_tensor(disparities()).to(torch.bfloat16)
    focus = torch.tensor([0.2, 0.5, 0.9], dtype=torch.bfloat16)
    expected = mpi.region_ids(disparity.float(), focus.float())
    assert torch.equal(mpi.region_ids(disparity, focus), expected)


def test_masks_grow_from_the_plane_in_focus_to_everything():
    ids = mpi.region_ids(disparities(), np.array([0.2, 0.5, 0.9], np.float32))
    masks = mpi.level_masks(ids)
    assert masks.shape == (4, *ids.shape) and masks.dtype == np.bool_
    np.testing.assert_array_equal(masks[0], ids == 0)
    for narrow, wide in zip(masks[:-1], masks[1:], strict=True):
        assert not (narrow & ~wide).any() and wide.sum() > narrow.sum()
    assert masks[-1].all()


def test_one_level_is_the_whole_image():
    assert mpi.thresholds(np.array([0.3, 0.6]), num_levels=1).shape == (2, 0)
    assert mpi.thresholds(torch.tensor([0.3, 0.6]), num_levels=1).shape == (2, 0)
    ids = mpi.region_ids(disparities(), np.full(3, 0.5, np.float32), num_levels=1)
    assert not ids.any() and mpi.level_masks(ids, 1).all()


@pytest.mark.parametrize("size", [(72, 128), (36, 64), (18, 32), (9, 16), (7, 11), (300, 500), (1, 1)])
@pytest.mark.parametrize("convert", [np.asarray, as_tensor])
def test_resized_regions_are_those_of_the_nearest_pixel(size: tuple[int, int], convert: Any):
    ids = np.random.default_rng(3).integers(0, 4, (2, 144, 256), dtype=np.uint8)
    found = mpi.resize_regions(convert(ids), *size)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(ids).float()[None], size=size, mode="nearest-exact"
    )
    np.testing.assert_array_equal(np.asarray(found), expected[0].numpy())


def test_resizing_invents_no_region_between_focus_and_background():
    ids = np.zeros((1, 576, 1024), np.uint8)
    ids[:, :, 333:] = 3
    for size in ((72, 128), (36, 64), (18, 32), (9, 16), (577, 1025)):
        assert set(np.unique(mpi.resize_regions(ids, *size))) == {0, 3}


def test_resizing_keeps_the_image_centred():
    ids = np.arange(9)[None]
    np.testing.assert_array_equal(mpi.resize_regions(ids, 1, 3), [[1, 4, 7]])
    np.testing.assert_array_equal(mpi.resize_regions(ids, 1, 9), ids)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mpi.thresholds(0.5, num_levels=0), r"num_levels: must be in 1\.\.255, got 0"),
        (lambda: mpi.thresholds(0.5, num_levels=256), r"num_levels: must be in 1\.\.255, got 256"),
        (lambda: mpi.thresholds(0.5, exponent=-1.0), r"exponent: must be finite and not negative, got -1"),
        (lambda: mpi.thresholds(0.5, exponent=float("nan")), r"exponent: .* got nan"),
        (lambda: mpi.thresholds(0.5, form="cubic"), r"form: must be 'power' or 'linear', got 'cubic'"),  # type: ignore[arg-type]
        (lambda: mpi.level_masks(np.zeros((2, 2)), 0), r"num_levels: must be in 1\.\.255, got 0"),
        (lambda: mpi.resize_regions(np.zeros((2, 2)), 0, 3), r"size: must be positive, got 0x3"),
        (lambda: mpi.resize_regions(np.zeros(2), 1, 3), r"ids: must be \[\.\.\., H, W\], got \[2\]"),
        (
            lambda: mpi.region_ids(disparities(), np.zeros(4)),
            r"focus_disparity: must be \[3\], one per image of disparity \[3, 20, 30\], got \[4\]",
        ),
        (lambda: mpi.region_ids(disparities(), torch.zeros(3)), r"both be NumPy arrays or both torch"),
    ],
)
def test_wrong_arguments_are_refused(call: Any, message: str):
    with pytest.raises(ValueError, match=message):
        call()
