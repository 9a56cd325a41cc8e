"""What every metric of one video is given, and what a metric is.

A *truth* is rendered bokeh with all that the renderer knows; a *prediction* is what a system made of the
all-in-focus video. Both keep what is costly and needed by several metrics (optical flow, the coded video of
the official protocol), so that it is computed once: of the truth once for all systems.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from focuspull.model.renderer import get_renderer
from focuspull.train.metrics.coded import coded
from focuspull.train.metrics.flow import dis_flow
from focuspull.train.metrics.image import Band, blur_bands
from focuspull.train.results import Item, MetricInfo

SCALES = (0.0, 0.35, 0.7, 0.85, 1.0, 1.15, 1.3, 1.6)
"""Of K, with which the all-in-focus frames are blurred to measure radii."""
NUM_RADIUS_FRAMES = 3
"""Of which radii are measured, evenly spread over the video."""


@dataclass(frozen=True)
class Truth:
    """One target of one clip, decoded.

    Args:
        item: What is known of it.
        aif: ``[T, 3, H, W]`` float32, sRGB in [0, 1].
        bokeh: Likewise.
        disparity: ``[T, 1, H, W]`` in [0, 1], as rendered, never as corrupted.
        k: ``[T]`` blur radius in pixels of this width per unit of disparity.
        focus_disparity: ``[T]``.
    """

    item: Item
    aif: Tensor
    bokeh: Tensor
    disparity: Tensor
    k: Tensor
    focus_disparity: Tensor

    @cached_property
    def coded(self) -> Tensor:
        """The bokeh as the official protocol reads it, see `focuspull.train.metrics.coded`."""
        return coded(self.bokeh)

    @cached_property
    def flow(self) -> Tensor:
        """``[T - 1, 2, H, W]`` DIS flow of the bokeh."""
        return dis_flow(self.bokeh)

    @cached_property
    def bands(self) -> dict[Band, Tensor]:
        """``[T, 1, H, W]`` bool for each band of `focuspull.train.metrics.image.blur_bands`."""
        bands = blur_bands(self.disparity[None], self.focus_disparity[None], self.k[None])
        return {name: mask[0] for name, mask in bands.items()}

    @cached_property
    def radius_px(self) -> Tensor:
        """``[T, 1, H, W]`` signed blur radius K (d - d_f), px of this width, positive before the focus."""
        return (self.disparity - self.focus_disparity[:, None, None, None]) * self.k[:, None, None, None]

    @cached_property
    def radius_frames(self) -> list[int]:
        """Numbers of the frames that radii are measured in."""
        count = min(NUM_RADIUS_FRAMES, len(self.k))
        return sorted({round(float(t)) for t in torch.linspace(0, len(self.k) - 1, count)})

    @cached_property
    def blurred(self) -> Tensor:
        """All-in-focus radius frames, gathered with each of `SCALES` times K: ``[S, t, 3, H, W]``."""
        gather = get_renderer("gather")
        frames = self.radius_frames
        aif, disparity = self.aif[None, frames], self.disparity[None, frames]
        k, focus = self.k[None, frames], self.focus_disparity[None, frames]
        return torch.cat([gather(aif, disparity, k * scale, focus) for scale in SCALES])


@dataclass(frozen=True)
class Prediction:
    """A bokeh video that a system made.

    Args:
        frames: ``[T, 3, H, W]`` float32, sRGB in [0, 1].
    """

    frames: Tensor

    @cached_property
    def coded(self) -> Tensor:
        """As `Truth.coded`."""
        return coded(self.frames)

    @cached_property
    def flow(self) -> Tensor:
        """``[T - 1, 2, H, W]`` DIS flow."""
        return dis_flow(self.frames)


Measure = Callable[[Truth, Prediction], float]
"""Gives nan where a video has nothing to measure, such as no pixel in focus."""


@dataclass(frozen=True)
class VideoMetric:
    """A metric of one video.

    Args:
        info: What it is.
        open: Gives the function; takes the files of weights by name and the device.
        weights: Names of the files that it needs, see `focuspull.train.metrics.weights`.
    """

    info: MetricInfo
    open: Callable[[Mapping[str, Path], torch.device], Measure]
    weights: tuple[str, ...] = ()


def plain(info: MetricInfo, measure: Measure) -> VideoMetric:
    """A metric without weights."""

    def opened(weights: Mapping[str, Path], device: torch.device) -> Measure:
        del weights, device
        return measure

    return VideoMetric(info, opened)
