"""How difficult a clip is to refocus: numbers to choose clips by, from its ground truth.

Shares are of pixels, means over the frames; of several targets the most difficult counts. Radii and motion
are in pixels of an image 1024 px wide, so that they compare across sizes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from focuspull.dataset.records import FrozenModel, Share

REC709 = np.array([0.2126, 0.7152, 0.0722], np.float32)
MIN_STEP = 0.02
"""Of disparity between neighbours that is an edge."""
MIN_RADIUS_PX = 1.0
"""From which blur reaches over an edge."""
RADIUS_STEPS_PX = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Lower ends of the radii that are treated alike; the largest of a step stands for all."""
THIN_PART = 1 / 100
"""Of the width of the image: what is narrower is thin."""


class DifficultyMeta(FrozenModel):
    """Labels of one clip.

    Args:
        occluded_fraction: Where the blur of something nearer lies over what is behind its edge.
        thin_fraction: Structures narrower than a hundredth of the width, against their surroundings.
        highlight_energy: Part of the all-in-focus light that is beyond white, lost in 8 bits.
        max_radius_px: Blur radius ``K |d - d_f|``, 99.5th percentile.
        mean_radius_px: Mean of the same.
        motion_px: Mean shift of what is seen from one frame to the next.
        transparent_fraction: Glass and mirrors, where blur does not follow the disparity of the surface.
        disparity_spread: 5th to 95th percentile of disparity.
    """

    occluded_fraction: Share
    thin_fraction: Share
    highlight_energy: Share
    max_radius_px: float = Field(ge=0)
    mean_radius_px: float = Field(ge=0)
    motion_px: float = Field(ge=0)
    transparent_fraction: Share
    disparity_spread: Share


def occluded_fraction(
    disparity: NDArray[np.float32], k: NDArray[np.float64], focus_disparity: NDArray[np.float64]
) -> float:
    """Share of pixels within reach of the blur of a nearer neighbour across an edge.

    Args:
        disparity: ``[T, H, W]``.
        k: ``[T]``, pixels of this width per unit of disparity.
        focus_disparity: ``[T]``.
    """
    shares = []
    for frame, strength, focus in zip(disparity, k, focus_disparity, strict=True):
        far = cv2.erode(frame, np.ones((3, 3), np.uint8))
        radius = np.where(frame - far > MIN_STEP, strength * np.abs(frame - focus), 0.0)
        reached = np.zeros(frame.shape, bool)
        for low, high in zip(RADIUS_STEPS_PX, (*RADIUS_STEPS_PX[1:], np.inf), strict=True):
            edges = (radius >= low) & (radius < high)
            if edges.any():
                distance = cv2.distanceTransform((~edges).astype(np.uint8), cv2.DIST_L2, 5)
                reached |= distance <= radius[edges].max()
        shares.append(reached.mean())
    return float(np.mean(shares))


def thin_fraction(disparity: NDArray[np.float32]) -> float:
    """Share of pixels that an opening by a disc of `THIN_PART` of the width takes away from ``[T, H, W]``."""
    size = max(3, round(THIN_PART * disparity.shape[2]) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    opened = np.stack([cv2.morphologyEx(frame, cv2.MORPH_OPEN, disc) for frame in disparity])
    return float((disparity - opened > MIN_STEP).mean())


def highlight_energy(aif: NDArray[np.float32], exposure_ev: float) -> float:
    """Part of the luminance of ``[T, H, W, 3]`` linear light beyond white."""
    luminance = np.maximum(aif, 0) @ REC709 * np.float32(2.0**exposure_ev)
    total = float(luminance.sum(dtype=np.float64))
    return float(np.maximum(luminance - 1, 0).sum(dtype=np.float64)) / total if total > 0 else 0.0
