"""Does the blur obey K and the focus? Radius and sharpness, measured in the pixels of a video.

For images without their scene: what is in one narrow band of disparity has one radius, so in it a bokeh frame
should be the all-in-focus frame blurred with one disc. The radius whose disc fits best is what was rendered.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from focuspull.model.light import linear_to_srgb, srgb_to_linear

MIN_PIXELS = 64
"""That a band needs to be measured."""
_OVERSAMPLING = 8


def fitted_radius(aif: Tensor, bokeh: Tensor, mask: Tensor, radii: Tensor) -> float:
    """Radius of the disc with which the all-in-focus frames, blurred in light, come closest to the bokeh.

    Args:
        aif: ``[T, 3, H, W]`` sRGB in [0, 1].
        bokeh: Likewise.
        mask: ``[T, 1, H, W]`` bool, where to compare: pixels of one disparity, far from others.
        radii: Increasing, pixels, at least three.

    Returns:
        Pixels, between the first and the last of the radii; nan if the mask has too few pixels, or if the
        frames look alike whatever the radius.
    """
    if int(mask.sum()) < MIN_PIXELS:
        return float("nan")
    light = srgb_to_linear(aif)
    errors = torch.stack(
        [
            (((linear_to_srgb(blurred(light, float(radius)).clamp(0, 1)) - bokeh) * mask) ** 2).sum()
            for radius in radii
        ]
    )
    best = int(errors.argmin())
    # Less than a tenth of a grey level, or hardly different.
    floor = 3 * float(mask.sum()) * (0.1 / 255) ** 2
    if float(errors.max()) <= max(1.05 * float(errors.min()), floor):
        return float("nan")
    if not 0 < best < len(radii) - 1:
        return float(radii[best])
    # The vertex of the parabola through the three lowest errors.
    x, y = radii[best - 1 : best + 2].double(), errors[best - 1 : best + 2].double()
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    curvature = (right - left) / (x[2] - x[0])
    vertex = (x[0] + x[1]) / 2 - left / (2 * curvature)
    return float(vertex.clamp(x[0], x[2]))


def blurred(images: Tensor, radius: float) -> Tensor:
    """Images ``[T, C, H, W]`` blurred by a disc of one radius in pixels; mirrored at their borders."""
    kernel = disc(radius).to(images)
    reach = kernel.shape[-1] // 2
    if reach == 0:
        return images
    channels = images.shape[1]
    padded = functional.pad(images, (reach,) * 4, mode="reflect")
    return functional.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)


def disc(radius: float) -> Tensor:
    """How much of each pixel a disc covers, ``[2 n + 1, 2 n + 1]``, adding up to 1."""
    reach = int(radius + 0.5 - 1e-9)
    side = (2 * reach + 1) * _OVERSAMPLING
    x = (torch.arange(side) + 0.5) / _OVERSAMPLING - reach - 0.5
    inside = (x[:, None] ** 2 + x**2 <= max(radius, 1e-6) ** 2).float()
    covered = functional.avg_pool2d(inside[None, None], _OVERSAMPLING)[0, 0]
    total = covered.sum()
    if total == 0:
        covered[reach, reach] = 1.0
        total = covered.sum()
    return covered / total


def sharpest_disparity(aif: Tensor, bokeh: Tensor, disparity: Tensor, *, num_bands: int = 10) -> float:
    """Disparity at which the bokeh has kept most of the detail of the all-in-focus frames.

    Args:
        aif: ``[T, 3, H, W]`` sRGB in [0, 1].
        bokeh: Likewise.
        disparity: ``[T, 1, H, W]`` in [0, 1].
        num_bands: Into which [0, 1] is divided.

    Returns:
        The middle of the sharpest band; nan if none has enough pixels with detail.
    """
    before, after = (detail(images) for images in (aif, bokeh))
    best, sharpest = float("nan"), 0.0
    for number in range(num_bands):
        low, high = number / num_bands, (number + 1) / num_bands
        inside = (disparity >= low) & ((disparity < high) | (number == num_bands - 1))
        there = float((before * inside).sum())
        if int(inside.sum()) < MIN_PIXELS or there == 0:
            continue
        kept = float((after * inside).sum()) / there
        if kept > sharpest:
            best, sharpest = (low + high) / 2, kept
    return best


def detail(images: Tensor) -> Tensor:
    """Energy of what is finer than a pixel and a half, ``[T, 1, H, W]``."""
    grey = images.mean(1, keepdim=True)
    padded = functional.pad(grey, (1,) * 4, mode="reflect")
    return (grey - functional.avg_pool2d(padded, 3, stride=1)) ** 2
