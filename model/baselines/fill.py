"""What is hidden behind things, guessed without weights: diffused in from what is visible farther away.

Push-pull (Gortler et al., The Lumigraph, SIGGRAPH 1996): means over ever larger blocks of what is
known, then down again, each level taking over where the finer one knows nothing. Thresholds are fixed in
disparity, so that fills of neighbouring frames are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

GAP = 1 / 16
"""Hidden content is at least this much farther than what hides it: less is one surface, not an edge."""
STEP = 1 / 32
"""Thresholds of disparity are this far apart."""


@dataclass(frozen=True)
class Hidden:
    """The surface behind the visible one.

    Args:
        light: ``[3, H, W]``.
        disparity: ``[H, W]``, less than the visible one by `GAP` and more.
        known: ``[H, W]`` bool, where there is one; false where nothing in the frame is farther.
    """

    light: Tensor
    disparity: Tensor
    known: Tensor


def push_pull(image: Tensor, known: Tensor) -> Tensor:
    """Fill an image smoothly from where it is known.

    Args:
        image: ``[C, H, W]``; what is unknown is not looked at.
        known: ``[H, W]`` weights in [0, 1], some of them positive.

    Returns:
        ``[C, H, W]``; the image itself where the weight is 1.
    """
    weights = [known[None, None].to(image)]
    images = [torch.where(known[None] > 0, image, 0)[None]]
    while max(images[-1].shape[-2:]) > 1:
        height, width = images[-1].shape[-2:]
        padding = (0, width % 2, 0, height % 2)
        weighted = F.pad(images[-1] * weights[-1], padding)
        total = 4 * F.avg_pool2d(F.pad(weights[-1], padding), 2)
        images.append(4 * F.avg_pool2d(weighted, 2) / total.clamp(min=1e-12))
        weights.append(total.clamp(max=1))
    filled = images[-1]
    for finer, weight in zip(images[-2::-1], weights[-2::-1], strict=True):
        height, width = finer.shape[-2:]
        # Pixel by pixel from its block and the nearest neighbours of it, cut to the odd sizes.
        coarse = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        doubled = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., 2 : 2 + height, 2 : 2 + width]
        filled = weight * finer + (1 - weight) * doubled
    return filled[0]


def hidden_surface(light: Tensor, disparity: Tensor) -> Hidden:
    """What may lie behind every pixel, from the pixels that are farther by `GAP` and more.

    Args:
        light: ``[3, H, W]``, linear.
        disparity: ``[H, W]``.
    """
    cell = torch.floor((disparity - GAP) / STEP)
    content = torch.cat([light, disparity[None]])
    result = content.clone()
    found = torch.zeros_like(disparity, dtype=torch.bool)
    for index in torch.unique(cell).tolist():
        known = disparity <= index * STEP
        if bool(known.any()):
            where = cell == index
            result = torch.where(where, push_pull(content, known.to(light)), result)
            found = found | where
    return Hidden(result[:3], result[3], found)
