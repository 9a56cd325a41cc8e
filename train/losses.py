"""Losses of the three training stages of Any-to-Bokeh (arXiv 2505.21593), each a mean over all elements.

Where the paper and the released code differ, both are here: the paper's texture loss sums squared differences
of gradients, the code takes the L1 distance of Sobel magnitudes. Means, where the paper has sums, so that a
weight means the same at every size.

``predicted`` and ``target`` have one shape, and the result is a float32 scalar whatever their dtype: half
precision would lose what a long mean adds up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

LossName = Literal["latent_mse", "pixel_l1", "sobel_l1", "squared_gradient"]

SOBEL_EPSILON = 1e-6
"""Under the root of a Sobel magnitude, of images in [-1, 1]: the root has no slope at 0 (released code)."""


def latent_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error of latents: stages 1 and 2 (paper, training; released code).

    Args:
        predicted: ``[B, T, 4, h, w]``, scaled latents.
        target: Likewise.
    """
    return functional.mse_loss(predicted.float(), target.float())


def pixel_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Absolute error of images: stage 3 (paper, training; released code).

    Args:
        predicted: ``[..., 3, H, W]`` in [-1, 1].
        target: Likewise.
    """
    return functional.l1_loss(predicted.float(), target.float())


def squared_gradient(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error of the differences between neighbouring pixels: the paper's texture loss.

    Args:
        predicted: ``[..., H, W]`` in [-1, 1], at least 2x2.
        target: Likewise.

    Returns:
        The mean over horizontal neighbours plus the mean over vertical ones.
    """
    error = predicted.float() - target.float()
    return error.diff(dim=-1).square().mean() + error.diff(dim=-2).square().mean()


def sobel_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Absolute error of Sobel magnitudes: the texture loss of the released code.

    Args:
        predicted: ``[..., H, W]`` in [-1, 1], at least 3x3.
        target: Likewise.
    """
    return functional.l1_loss(sobel_magnitude(predicted), sobel_magnitude(target))


def sobel_magnitude(images: Tensor) -> Tensor:
    """How steep images are, channel by channel.

    Args:
        images: ``[..., H, W]``, at least 3x3.

    Returns:
        ``[..., H - 2, W - 2]`` float32, ``sqrt(gx^2 + gy^2 + SOBEL_EPSILON)`` with the 3x3 Sobel filters,
        which add up to 8 times the slope; pixels at the border, which lack neighbours, are left out.
    """
    images = images.float()
    rows = images[..., :-2, :] + 2 * images[..., 1:-1, :] + images[..., 2:, :]
    columns = images[..., :-2] + 2 * images[..., 1:-1] + images[..., 2:]
    across = rows[..., 2:] - rows[..., :-2]
    down = columns[..., 2:, :] - columns[..., :-2, :]
    return torch.sqrt(across.square() + down.square() + SOBEL_EPSILON)


LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "latent_mse": latent_mse,
    "pixel_l1": pixel_l1,
    "sobel_l1": sobel_l1,
    "squared_gradient": squared_gradient,
}
"""Every loss by its name in a recipe."""
