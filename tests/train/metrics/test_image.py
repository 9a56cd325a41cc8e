"""Errors of frames, against values worked by hand and independent implementations."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from focuspull.train.losses import sobel_magnitude
from focuspull.train.metrics.image import (
    blur_bands,
    gradient_error,
    k_band,
    mean_squared_error,
    psnr,
    ssim,
)


def video(seed: int, batch: int = 2, frames: int = 3, height: int = 20, width: int = 24) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(batch, frames, 3, height, width, generator=rng)


def test_errors_are_pooled_over_the_frames_of_a_video() -> None:
    truth = torch.full((1, 2, 3, 4, 4), 0.5)
    predicted = truth.clone()
    predicted[:, 0] += 0.1  # one frame off by 0.1, the other right
    mse = mean_squared_error(predicted, truth)
    assert mse.tolist() == pytest.approx([0.005])
    assert psnr(mse).tolist() == pytest.approx([-10 * np.log10(0.005)])
    assert psnr(mean_squared_error(truth, truth)).tolist() == [100]


def test_a_mask_chooses_pixels() -> None:
    truth, predicted = torch.zeros(1, 1, 3, 2, 2), torch.zeros(1, 1, 3, 2, 2)
    predicted[..., 0, 0] = 0.2
    mask = torch.zeros(1, 1, 1, 2, 2, dtype=torch.bool)
    mask[..., 0, :] = True
    assert mean_squared_error(predicted, truth, mask).tolist() == pytest.approx([0.02])
    assert mean_squared_error(predicted, truth, ~mask).tolist() == [0]
    assert mean_squared_error(predicted, truth, mask & ~mask).isnan().all()


def test_ssim_is_that_of_wang() -> None:
    a, b = video(0), (video(0) + 0.2 * video(1)) / 1.2
    kernel = cv2.getGaussianKernel(11, 1.5) @ cv2.getGaussianKernel(11, 1.5).T

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.filter2D(x, -1, kernel)[5:-5, 5:-5]

    expected = []
    for clip_a, clip_b in zip(a.double().numpy(), b.double().numpy(), strict=True):
        values = []
        for x, y in zip(clip_a.reshape(-1, 20, 24), clip_b.reshape(-1, 20, 24), strict=True):
            mx, my = mean(x), mean(y)
            vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
            c1, c2 = 0.01**2, 0.03**2
            values.append(
                ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
            )
        expected.append(np.mean(values))
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-4)
    assert ssim(a, a).tolist() == pytest.approx([1, 1])


def test_gradient_error_is_of_slopes() -> None:
    a, b = video(0), video(1)
    expected = (sobel_magnitude(a[1]) - sobel_magnitude(b[1])).abs().mean().item()
    assert gradient_error(a, b)[1].item() == pytest.approx(expected)
    assert gradient_error(a, a + 0.1).tolist() == pytest.approx([0, 0], abs=1e-5)


def test_bands_share_out_the_frame_by_signed_radius() -> None:
    disparity = torch.full((1, 1, 1, 24, 32), 0.2)
    disparity[..., 8:16, 8:16] = 0.9
    bands = blur_bands(disparity, torch.full((1, 1), 0.2), torch.full((1, 1), 5.0))
    square = disparity > 0.5
    assert torch.equal(bands["foreground"], square) and torch.equal(bands["in focus"], ~square)
    assert not bands["background"].any()
    # The radius jumps from 0 to 3.5 at the border of the square: 4 pixels on either side of its outline.
    expected = torch.zeros_like(square)
    expected[..., 3:21, 3:21] = True
    expected[..., 3, 3:7] = expected[..., 3, 3:7]
    assert (bands["edges"] & ~expected).sum() == 0
    assert bands["edges"][..., 12, 4:8].all() and not bands["edges"][..., 12, :3].any()


@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_is_in_one_band(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    disparity = torch.rand(2, 3, 1, 12, 16, generator=rng)
    bands = blur_bands(disparity, torch.rand(2, 3, generator=rng), 9 * torch.rand(2, 3, generator=rng))
    assert (sum(bands[name].int() for name in ("in focus", "foreground", "background")) == 1).all()  # type: ignore[union-attr]


def test_without_blur_all_is_in_focus_and_no_edge_matters() -> None:
    bands = blur_bands(torch.rand(1, 1, 1, 8, 8), torch.zeros(1, 1), torch.zeros(1, 1))
    assert bands["in focus"].all() and not bands["edges"].any()


@pytest.mark.parametrize(
    ("k", "band"), [(0, "0-6"), (4, "0-6"), (8, "6-11"), (16, "11-23"), (32, "23+"), (500, "23+")]
)
def test_bands_of_k_are_around_those_of_the_paper(k: float, band: str) -> None:
    assert k_band(k) == band
