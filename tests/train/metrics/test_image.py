"""Measures of frames against values worked by hand, loops and other implementations."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch

from focuspull.dataset.color import psnr_db
from focuspull.train.metrics.image import (
    BANDS,
    EDGE_PX,
    IDENTICAL_DB,
    MAX_MARGIN_PX,
    blur_bands,
    decibels,
    gradient_error,
    k_band,
    pooled,
    psnr,
    squared_error,
    ssim,
    ssim_map,
    temporal_error,
)


def videos(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_is_pooled_over_the_frames_of_each_video() -> None:
    truth = videos(0, 2, 3, 3, 12, 13) * 0.5
    predicted = truth.clone()
    predicted[0, 1] += 0.1  # one frame of three is wrong
    predicted[1] += 0.2
    found = psnr(predicted, truth)
    assert found.tolist() == pytest.approx([10 * np.log10(3 / 0.01), 10 * np.log10(1 / 0.04)], rel=1e-4)
    assert [psnr_db(p.numpy(), t.numpy()) for p, t in zip(predicted, truth, strict=True)] == pytest.approx(
        found.tolist(), rel=1e-6
    )
    assert psnr(truth, truth).tolist() == [IDENTICAL_DB] * 2
    assert decibels(torch.tensor(1e-20)) == IDENTICAL_DB


def test_pixels_that_are_masked_out_do_not_count() -> None:
    truth = videos(1, 1, 2, 3, 20, 24)
    predicted = (truth + 0.01 * videos(2, 1, 2, 3, 20, 24)).clamp(0, 1)
    mask = torch.zeros(1, 2, 1, 20, 24, dtype=torch.bool)
    mask[..., 7:12, 8:15] = True
    spoiled = torch.where(mask, predicted, 0.5)
    assert psnr(spoiled, truth, mask) == psnr(predicted, truth, mask) > psnr(spoiled, truth)
    assert psnr(predicted, truth, torch.ones_like(mask)) == pytest.approx(psnr(predicted, truth), rel=1e-12)
    assert ssim(predicted, truth, mask) == ssim_map(predicted, truth)[..., 2:7, 3:10].double().mean()
    assert psnr(predicted, truth, torch.zeros_like(mask)).isnan().all()


def reference_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of one channel, float64, windows in the frame only; written from the paper."""
    line = cv2.getGaussianKernel(11, 1.5)
    blur = lambda x: cv2.sepFilter2D(x, cv2.CV_64F, line, line)[5:-5, 5:-5]  # noqa: E731
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (
        (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    )


def test_ssim_is_that_of_the_paper() -> None:
    smooth = torch.nn.functional.avg_pool2d(videos(3, 6, 3, 30, 40), 5, 1).unflatten(0, (2, 3))
    # Also nearly flat frames, where variances are the smallest differences.
    truth = torch.cat([smooth, 0.7 + 1e-3 * smooth])
    predicted = (truth + 0.02 * videos(4, *truth.shape)).clamp(0, 1)
    found = ssim_map(predicted, truth)
    assert found.shape == (4, 3, 1, 16, 26)
    for clip, frame in itertools.product(range(4), range(3)):
        planes = zip(
            predicted[clip, frame].double().numpy(), truth[clip, frame].double().numpy(), strict=True
        )
        expected = np.mean([reference_ssim(*pair) for pair in planes], axis=0)
        np.testing.assert_allclose(found[clip, frame, 0], expected, atol=2e-3)
        assert found[clip, frame].mean().item() == pytest.approx(expected.mean(), abs=2e-4)
    assert ssim(predicted, truth).tolist() == pytest.approx(found.flatten(1).double().mean(1).tolist())
    assert ssim(truth, truth).tolist() == pytest.approx([1.0] * 4, abs=2e-4)


def test_ssim_refuses_frames_smaller_than_its_window() -> None:
    small = videos(5, 1, 1, 3, 10, 40)
    with pytest.raises(ValueError, match="needs frames of 11x11 pixels at least, got 40x10"):
        ssim(small, small)


def test_temporal_error_is_of_changes() -> None:
    still = torch.full((1, 3, 3, 4, 4), 0.5)
    flickering = still.clone()
    flickering[:, 1] += 0.1
    # A wrong brightness that stays is none; two changes of 0.1 are.
    assert temporal_error(still + 0.2, still).item() == 0
    assert temporal_error(flickering, still).item() == pytest.approx(0.1)
    assert temporal_error(still, flickering).item() == pytest.approx(0.1)
    assert temporal_error(still[:, :1], flickering[:, 1:2]).item() == 0


def test_gradient_error_tells_sharp_from_soft() -> None:
    step = torch.zeros(2, 1, 3, 12, 20)
    step[..., 10:] = 1
    soft = step.clone()
    soft[1, ..., 9:11] = 0.5
    assert gradient_error(soft, step)[0] == 0
    # Of 18 columns two with a magnitude of 4 become four with 2.
    assert gradient_error(soft, step)[1].item() == pytest.approx(4 * 2 / 18, rel=1e-3)
    assert gradient_error(step + 0.1, step).max() < 1e-5


def brute_force_edges(radius: np.ndarray) -> np.ndarray:
    height, width = radius.shape
    near = np.zeros(radius.shape, bool)
    for y, x in np.ndindex(radius.shape):
        for v, u in ((y, x + 1), (y + 1, x)):
            if v >= height or u >= width or abs(radius[y, x] - radius[v, u]) <= EDGE_PX:
                continue
            margin = int(min(np.ceil(max(abs(radius[y, x]), abs(radius[v, u]))), MAX_MARGIN_PX))
            for q, p in ((y, x), (v, u)):
                near[max(q - margin, 0) : q + margin + 1, max(p - margin, 0) : p + margin + 1] = True
    return near


def test_bands_are_those_of_a_loop() -> None:
    disparity = videos(6, 2, 3, 1, 40, 50).mul(4).floor().div(4).repeat_interleave(10, 3)[..., :40, :]
    disparity[0, :, :, 15:, 20:] = 0.5
    focus = videos(7, 2, 3)
    k = torch.tensor([[0.0, 3.0, 9.0], [40.0, 1.2, 25.0]])
    bands = blur_bands(disparity, focus, k)
    assert tuple(bands) == BANDS
    sides = torch.stack([bands[name].int() for name in ("in focus", "foreground", "background")])
    assert (sides.sum(0) == 1).all()
    for clip, frame in np.ndindex(2, 3):
        radius = (k[clip, frame] * (disparity[clip, frame, 0] - focus[clip, frame])).numpy()
        np.testing.assert_array_equal(bands["in focus"][clip, frame, 0], np.abs(radius) <= 0.5)
        np.testing.assert_array_equal(bands["foreground"][clip, frame, 0], radius > 0.5)
        np.testing.assert_array_equal(bands["edges"][clip, frame, 0], brute_force_edges(radius))


def test_without_blur_all_is_in_focus() -> None:
    bands = blur_bands(videos(8, 1, 2, 1, 16, 16), torch.zeros(1, 2), torch.zeros(1, 2))
    assert bands["in focus"].all() and not bands["edges"].any()


def test_an_edge_reaches_as_far_as_its_blur() -> None:
    disparity = torch.zeros(1, 1, 1, 9, 60)
    disparity[..., 30:] = 1
    for k, focus, margin in ((5.0, 0.0, 5), (5.0, 0.5, 3), (100.0, 0.0, MAX_MARGIN_PX)):
        edges = blur_bands(disparity, torch.full((1, 1), focus), torch.full((1, 1), k))["edges"]
        columns = edges[0, 0, 0].all(0).nonzero()[:, 0]
        assert (columns.min(), columns.max()) == (29 - margin, 30 + margin)


def test_pooling_leaves_the_border_of_a_mask_out() -> None:
    values = squared_error(videos(9, 1, 1, 3, 6, 8), videos(10, 1, 1, 3, 6, 8))
    mask = torch.ones(1, 1, 1, 10, 12, dtype=torch.bool)
    mask[..., 2:-2, 2:-2] = values > values.median()
    assert pooled(values, mask) == pytest.approx(float(values[values > values.median()].mean()))


@pytest.mark.parametrize(
    ("k", "band"),
    [(0, "0-6"), (4, "0-6"), (5.7, "6-11"), (8, "6-11"), (16, "11-23"), (23, "23+"), (99, "23+")],
)
def test_bands_of_k_are_around_those_of_the_paper(k: float, band: str) -> None:
    assert k_band(k) == band
