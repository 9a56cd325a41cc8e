"""Optical flow, for how things move and for moving frames onto each other.

DIS flow (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) comes with OpenCV and
needs no weights; RAFT (`focuspull.train.metrics.raft`) is what the official evaluation uses. Flow is ``[N,
2, H, W]``, x then y, pixels: where the content of a pixel of one frame is in the next.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

MIN_SIDE = 16
"""Of smaller frames DIS has no patch to search for."""


def dis_flow(video: Tensor) -> Tensor:
    """DIS flow, preset medium, from every frame to the next.

    Args:
        video: ``[T, 3, H, W]`` sRGB in [0, 1].

    Returns:
        ``[T - 1, 2, H, W]`` float32.

    Raises:
        ValueError: If frames are smaller than `MIN_SIDE`.
    """
    if min(video.shape[-2:]) < MIN_SIDE:
        raise ValueError(
            f"flow: needs frames of {MIN_SIDE}x{MIN_SIDE} at least, got {video.shape[-1]}x{video.shape[-2]}"
        )
    pixels = (video.permute(0, 2, 3, 1).cpu() * 255).round().to(torch.uint8).numpy()
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in pixels]
    flow = torch.zeros(len(video) - 1, 2, *video.shape[-2:])
    for number, (before, after) in enumerate(zip(grey, grey[1:], strict=False)):
        # A fresh one each time: it keeps what it has seen.
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        found = search.calc(before, after, np.zeros((*before.shape, 2), np.float32))
        flow[number] = torch.from_numpy(found).permute(2, 0, 1)
    return flow


def flow_difference(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of two flows, over x and y, pixels and pairs of frames: FD of the paper."""
    return float((a - b).abs().mean())


def warped(frames: Tensor, flow: Tensor) -> Tensor:
    """Frames moved back along a flow: each pixel takes what is where its content has gone.

    Args:
        frames: ``[N, C, H, W]``, to which the flow leads.
        flow: ``[N, 2, H, W]``.

    Returns:
        ``[N, C, H, W]``, bilinear; the border is repeated beyond the frame.
    """
    height, width = frames.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid_x = (x + flow[:, 0] + 0.5) / width * 2 - 1
    grid_y = (y + flow[:, 1] + 0.5) / height * 2 - 1
    grid = torch.stack([grid_x, grid_y], -1).to(frames.dtype)
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
