"""Errors of predicted frames, whole and by where they are: in focus, before it, behind it, near edges.

Videos are ``[B, T, 3, H, W]`` sRGB in [0, 1]; masks ``[B, T, 1, H, W]`` bool.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from focuspull.train.losses import sobel_magnitude

Band = Literal["in focus", "foreground", "background", "edges"]

IDENTICAL_DB = 100.0
"""PSNR of a video without any error."""
FOCUS_PX = 0.5
"""Blur radius up to which a pixel is in focus."""
EDGE_PX = 1.0
"""Jump of the blur radius between neighbours that makes an edge."""
MAX_MARGIN_PX = 16
"""Farthest from an edge that a pixel is near it."""
K_BANDS = (0.0, math.sqrt(4 * 8), math.sqrt(8 * 16), math.sqrt(16 * 32))
"""Lower ends at 1024 pixels: the geometric middles between the K = 4, 8, 16, 32 of the paper's test set."""


def mean_squared_error(predicted: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Over all pixels and channels of each video, ``[B]``; nan where a mask leaves no pixel."""
    error = (predicted.double() - truth.double()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    weight = mask.to(error.dtype).flatten(1).sum(1) * error.shape[2]
    return (error * mask).flatten(1).sum(1) / weight


def psnr(mse: Tensor) -> Tensor:
    """Decibels of a mean squared error of values in [0, 1], at most `IDENTICAL_DB`."""
    return (-10 * torch.log10(mse)).clamp(max=IDENTICAL_DB)


def ssim(predicted: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each video, ``[B]``, the mean over its frames.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004:
    an 11x11 Gaussian of standard deviation 1.5, K1 = 0.01, K2 = 0.03, in each channel. Windows that leave the
    frame are left out, so frames need at least 11x11 pixels.
    """
    batch, num_frames = truth.shape[:2]
    _, values = structural_similarity_index_measure(
        predicted.flatten(0, 1).float(),
        truth.flatten(0, 1).float(),
        gaussian_kernel=True,
        sigma=1.5,
        kernel_size=11,
        reduction="none",
        data_range=1.0,
        return_full_image=True,
    )
    # Around these the windows hang over the border and see reflections.
    inner = values[..., 5:-5, 5:-5]
    return inner.flatten(1).mean(1).view(batch, num_frames).mean(1)


def gradient_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of Sobel magnitudes of each video, ``[B]``; of values in [0, 1]."""
    error = (sobel_magnitude(predicted) - sobel_magnitude(truth)).abs()
    return error.flatten(1).mean(1)


def blur_bands(disparity: Tensor, focus_disparity: Tensor, k: Tensor) -> dict[Band, Tensor]:
    """Where pixels are, by the signed blur radius ``r = K (d - d_f)`` of what they show.

    ``in focus``, ``foreground`` and ``background`` share out the frame. ``edges`` overlaps them: pixels no
    farther from a jump of r than the larger of the two radii, where one surface's blur meets another's.

    Args:
        disparity: ``[B, T, 1, H, W]``.
        focus_disparity: ``[B, T]``.
        k: ``[B, T]``, pixels.
    """
    radius = (disparity - focus_disparity[..., None, None, None]) * k[..., None, None, None]
    size = radius.abs().flatten(0, 1)
    near = torch.zeros_like(size)
    for dim in (-1, -2):
        length = size.shape[dim] - 1
        a, b = size.narrow(dim, 0, length), size.narrow(dim, 1, length)
        signed = radius.flatten(0, 1)
        jump = (signed.narrow(dim, 0, length) - signed.narrow(dim, 1, length)).abs() > EDGE_PX
        reach = torch.where(jump, torch.maximum(a, b), 0).clamp(max=MAX_MARGIN_PX).ceil()
        for start in (0, 1):
            part = near.narrow(dim, start, length)
            part.copy_(torch.maximum(part, reach))
    edges = torch.zeros_like(near, dtype=torch.bool)
    for margin in near.unique().tolist():
        if margin > 0:
            kernel = 2 * int(margin) + 1
            wide = functional.max_pool2d((near == margin).float(), kernel, stride=1, padding=int(margin))
            edges |= wide > 0
    return {
        "in focus": radius.abs() <= FOCUS_PX,
        "foreground": radius > FOCUS_PX,
        "background": radius < -FOCUS_PX,
        "edges": edges.view_as(radius),
    }


def k_band(k_at_1024: float) -> str:
    """Name of the band that a blur strength is in, such as ``6-11``; see `K_BANDS`."""
    number = sum(k_at_1024 >= low for low in K_BANDS) - 1
    low = round(K_BANDS[number])
    return f"{low}-{round(K_BANDS[number + 1])}" if number + 1 < len(K_BANDS) else f"{low}+"
