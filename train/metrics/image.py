"""Errors of predicted frames, whole and by where they are: in focus, before it, behind it, near edges.

Videos are ``[B, T, 3, H, W]`` sRGB in [0, 1]; masks ``[B, T, 1, H, W]`` bool. A measure is first a map, one
value per pixel, and then pooled over the pixels of a video, all of its frames together. Maps that need
neighbours lack the border, where there are none.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from focuspull.train.losses import sobel_magnitude

Band = Literal["in focus", "foreground", "background", "edges"]
BANDS: tuple[Band, ...] = get_args(Band)

IDENTICAL_DB = 100.0
"""PSNR of a video without any error, and the largest there is: it would be infinite."""
SSIM_BORDER_PX = 5
"""What a map of SSIM lacks on every side: half of its window, rounded down."""
FOCUS_PX = 0.5
"""Blur radius up to which a pixel is in focus."""
EDGE_PX = 1.0
"""Jump of the signed blur radius between neighbours beyond which there is an edge."""
MAX_MARGIN_PX = 16
"""Farthest from an edge that a pixel is near it."""
K_BANDS = (0.0, math.sqrt(4 * 8), math.sqrt(8 * 16), math.sqrt(16 * 32))
"""Lower ends at 1024 pixels: the geometric middles between the K = 4, 8, 16, 32 of the paper's test set."""


def psnr(predicted: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of each video, over its pixels and channels, not the mean of its frames'.

    Args:
        predicted: ``[B, T, 3, H, W]``.
        truth: Likewise.
        mask: Which pixels count; None for all.

    Returns:
        ``[B]`` decibels, at most `IDENTICAL_DB`; nan where no pixel counts.
    """
    return decibels(pooled(squared_error(predicted, truth), mask))


def ssim(predicted: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity of each video, the mean of `ssim_map`; arguments and result as for `psnr`."""
    return pooled(ssim_map(predicted, truth), mask)


def gradient_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """How much edges are too sharp or too soft: the mean absolute difference of Sobel magnitudes.

    Args:
        predicted: ``[B, T, 3, H, W]``, at least 3x3.
        truth: Likewise.

    Returns:
        ``[B]``; a Sobel magnitude is 8 times the change from pixel to pixel.
    """
    return (sobel_magnitude(predicted) - sobel_magnitude(truth)).abs().flatten(1).mean(1)


def temporal_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """How much changes from frame to frame are not the truth's: the mean absolute difference of the two.

    Flicker of what ought to stand still counts, and so does stillness of what ought to move.

    Args:
        predicted: ``[B, T, 3, H, W]``.
        truth: Likewise.

    Returns:
        ``[B]``; 0 for single frames.
    """
    if truth.shape[1] == 1:
        return torch.zeros(len(truth))
    return (predicted.diff(dim=1) - truth.diff(dim=1)).abs().flatten(1).mean(1)


def squared_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """Squared error of each pixel, the mean of its channels: ``[B, T, 1, H, W]`` float64."""
    return (predicted.double() - truth.double()).square().mean(2, keepdim=True)


def decibels(mean_squared_error: Tensor) -> Tensor:
    """PSNR of a mean squared error of values in [0, 1], at most `IDENTICAL_DB`."""
    return (-10 * torch.log10(mean_squared_error)).clamp(max=IDENTICAL_DB)


def ssim_map(predicted: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity around each pixel, the mean of its channels.

    An 11x11 Gaussian window of standard deviation 1.5, K1 = 0.01, K2 = 0.03 (Wang et al., "Image quality
    assessment: from error visibility to structural similarity", IEEE TIP 2004). As there, only windows that
    lie in the frame count. torchmetrics mirrors the frame at its border, and whether its mean takes in the
    windows over that differs from version to version; so the map is cropped here.

    Args:
        predicted: ``[B, T, 3, H, W]``, at least 11x11.
        truth: Likewise.

    Returns:
        ``[B, T, 1, H - 10, W - 10]`` in [-1, 1].

    Raises:
        ValueError: If the frames are smaller than the window.
    """
    height, width = truth.shape[-2:]
    window = 2 * SSIM_BORDER_PX + 1
    if min(height, width) < window:
        raise ValueError(f"ssim: needs frames of {window}x{window} pixels at least, got {width}x{height}")
    # Variances are small differences, which would be lost in TF32, what GPUs convolve float32 in. On CPUs
    # float64 takes 17 times as long, and float32 costs flat frames 2e-4 at most.
    dtype = torch.float64 if truth.is_cuda else torch.float32
    maps = []
    with torch.autocast(truth.device.type, enabled=False):
        # Frame by frame, since it takes ten times the memory of what it is given.
        for a, b in zip(predicted.flatten(0, 1), truth.flatten(0, 1), strict=True):
            _, full = structural_similarity_index_measure(
                a[None].to(dtype), b[None].to(dtype), sigma=1.5, data_range=1.0, return_full_image=True
            )
            maps.append(_cropped(full, SSIM_BORDER_PX).mean(1))
    return torch.stack(maps).unflatten(0, truth.shape[:2])


def pooled(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of a map over all pixels of each video.

    Args:
        values: ``[B, T, 1, h, w]``, such as `squared_error` or `ssim_map`.
        mask: ``[B, T, 1, H, W]``, which pixels count; None for all. Its border is left out as the map's is.

    Returns:
        ``[B]`` float64; nan where no pixel counts.
    """
    values = values.double()
    if mask is None:
        return values.flatten(1).mean(1)
    weight = fitted(mask, values).double()
    return (values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


def fitted(mask: Tensor, values: Tensor) -> Tensor:
    """A mask without the border that a map lacks."""
    return _cropped(mask, (mask.shape[-1] - values.shape[-1]) // 2)


def _cropped(images: Tensor, border: int) -> Tensor:
    height, width = images.shape[-2:]
    return images[..., border : height - border, border : width - border]


def blur_bands(disparity: Tensor, focus_disparity: Tensor, k: Tensor) -> dict[Band, Tensor]:
    """Where pixels are, by the signed blur radius ``r = K (d - d_f)`` of what they show.

    ``in focus`` (r at most `FOCUS_PX` either way), ``foreground`` and ``background`` share out the frame.
    ``edges`` overlaps them: pixels no farther from a jump of r by more than `EDGE_PX` than the larger of the
    two radii and `MAX_MARGIN_PX`, along each axis; there the blur of one surface meets another.

    Args:
        disparity: ``[B, T, 1, H, W]``, as it is and not as perturbed.
        focus_disparity: ``[B, T]``.
        k: ``[B, T]``, blur radius in pixels of this width per unit of disparity.

    Returns:
        ``[B, T, 1, H, W]`` bool for each band.
    """
    radius = (disparity - focus_disparity[..., None, None, None]) * k[..., None, None, None]
    return {
        "in focus": radius.abs() <= FOCUS_PX,
        "foreground": radius > FOCUS_PX,
        "background": radius < -FOCUS_PX,
        "edges": _near_edges(radius.flatten(0, 1)).view_as(radius),
    }


def _near_edges(radius: Tensor) -> Tensor:
    """Mask of the pixels near edges, of signed radii, both ``[N, 1, H, W]``."""
    # How much farther the band of an edge reaches from here; below 0 outside.
    reach = torch.full_like(radius, -1)
    for dim in (-1, -2):
        length = radius.shape[dim] - 1
        a, b = radius.narrow(dim, 0, length), radius.narrow(dim, 1, length)
        margin = torch.maximum(a.abs(), b.abs()).ceil().clamp(max=MAX_MARGIN_PX)
        margin = torch.where((a - b).abs() > EDGE_PX, margin, -1)
        for start in (0, 1):
            side = reach.narrow(dim, start, length)
            side.copy_(torch.maximum(side, margin))
    for _ in range(int(reach.max())):
        reach = torch.maximum(reach, functional.max_pool2d(reach, 3, stride=1, padding=1) - 1)
    return reach >= 0


def k_band(k_at_1024: float) -> str:
    """Name of the band that a blur strength is in, such as ``6-11``; see `K_BANDS`."""
    number = sum(k_at_1024 >= low for low in K_BANDS) - 1
    low = round(K_BANDS[number])
    return f"{low}-{round(K_BANDS[number + 1])}" if number + 1 < len(K_BANDS) else f"{low}+"
