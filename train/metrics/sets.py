"""Features of videos for distances between sets: FVD and VFID-I, under both protocols.

| metric            | network, features             | which frames                              | protocol  |
|-------------------|-------------------------------|-------------------------------------------|-----------|
| fvd-i3d           | I3D, 400 logits               | all windows of 16, resized to 224x224     | corrected |
| vfid-i3d          | I3D, 1024 pooled              | all windows of 10, resized to 224x224     | corrected |
| fvd-videomae      | VideoMAE-v2 ViT-g, 1408       | first 24, short side 256, centre 256, 224 | official  |
| vfid-i3d-official | I3D, 1024 pooled, BGR         | the first 10, 2.5 times on average        | official  |
| vfid-resnext      | ResNeXt-101, 2048, BGR        | likewise                                  | official  |

What the official ones do is read from the released evaluation of Any-to-Bokeh: VFID-I draws windows, all of
which start at the first frame, 500 of them from 200 videos; FVD repeats the predictions until there are 2048
and uses the truth once. The repetition is of whole videos in turn, which weighs the first ones more. Both
read H.264.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from focuspull.train.metrics import i3d
from focuspull.train.metrics.coded import coded
from focuspull.train.results import Protocol

Extract = Callable[[Tensor], NDArray[np.float32]]
"""Features ``[n, d]`` of a video ``[T, 3, H, W]``, sRGB in [0, 1]."""

FVD_FRAMES, VFID_FRAMES, VIDEOMAE_FRAMES = 16, 10, 24
OFFICIAL_FVD_COUNT = 2048
OFFICIAL_VFID_RATIO = 2.5
"""500 windows of 200 videos."""


@dataclass(frozen=True)
class FeatureNet:
    """A network and what of a video goes through it.

    Args:
        name: Of the metric.
        protocol: Under whose rules.
        label: Heading of its column.
        column: Of the paper that it is the counterpart of; None: the paper does not report it.
        summary: One sentence.
        weights: Name of its file, see `focuspull.train.metrics.weights`.
        min_frames: Shortest video that it takes.
        open: Gives the function, of the file of weights and a device.
        repeat_fake: How many predicted samples the official evaluation makes of ``n``; None: as many.
        repeat_real: Likewise of the truth.
    """

    name: str
    protocol: Protocol
    label: str
    column: str | None
    summary: str
    weights: str
    min_frames: int
    open: Callable[[Path, torch.device], Extract]
    repeat_fake: Callable[[int], int] | None = None
    repeat_real: Callable[[int], int] | None = None


def repeated(features: NDArray[np.float64], count: Callable[[int], int] | None) -> NDArray[np.float64]:
    """Samples ``[n, d]`` in turn until there are as many as officially; None: as they are."""
    if count is None:
        return features
    return features[np.arange(count(len(features))) % len(features)]


def windows(video: Tensor, length: int) -> list[Tensor]:
    """All windows of a length that do not overlap; frames that are left over at the end are left out."""
    return [video[start : start + length] for start in range(0, len(video) - length + 1, length)]


def _open_fvd_i3d(weights: Path, device: torch.device) -> Extract:
    network = i3d.I3d(weights, device)

    def extract(video: Tensor) -> NDArray[np.float32]:
        parts = [network.logits(i3d.as_input(part)[None]) for part in windows(video, FVD_FRAMES)]
        return torch.cat(parts).cpu().numpy()

    return extract


def _open_vfid_i3d(weights: Path, device: torch.device) -> Extract:
    network = i3d.I3d(weights, device)

    def extract(video: Tensor) -> NDArray[np.float32]:
        parts = [network.pooled(i3d.as_input(part)[None]) for part in windows(video, VFID_FRAMES)]
        return torch.cat(parts).cpu().numpy()

    return extract


def official_vfid_input(video: Tensor) -> Tensor:
    """``[3, 10, 224, 224]`` in [-1, 1]: the first frames through H.264, blue first."""
    return i3d.as_input(coded(video)[:VFID_FRAMES].flip(1))


def _open_vfid_i3d_official(weights: Path, device: torch.device) -> Extract:
    network = i3d.I3d(weights, device)
    return lambda video: network.pooled(official_vfid_input(video)[None]).cpu().numpy()


def _open_vfid_resnext(weights: Path, device: torch.device) -> Extract:
    from focuspull.train.metrics.resnext import ResNeXt3d

    network = ResNeXt3d(weights, device)
    return lambda video: network.features(official_vfid_input(video)[None]).cpu().numpy()


def official_fvd_input(video: Tensor) -> Tensor:
    """``[3, 24, 224, 224]`` in [0, 1]: the first frames through H.264, the middle of a short side of 256."""
    frames = coded(video)[:VIDEOMAE_FRAMES]
    scale = 256 / min(frames.shape[-2:])
    size = tuple(round(side * scale) for side in frames.shape[-2:])
    frames = F.interpolate(frames, size, mode="bilinear", align_corners=False)
    top, left = ((side - 256) // 2 for side in size)
    frames = frames[..., top : top + 256, left : left + 256]
    return F.interpolate(frames, (224, 224), mode="bilinear", align_corners=False).transpose(0, 1)


def _open_fvd_videomae(weights: Path, device: torch.device) -> Extract:
    from focuspull.train.metrics.videomae import VideoMae

    network = VideoMae(weights, device)
    return lambda video: network.features(official_fvd_input(video)[None]).cpu().numpy()


def _vfid_count(count: int) -> int:
    return round(count * OFFICIAL_VFID_RATIO)


def _fvd_count(count: int) -> int:
    return max(count, OFFICIAL_FVD_COUNT)


FEATURE_NETS: tuple[FeatureNet, ...] = (
    FeatureNet(
        name="vfid-i3d-official",
        protocol="official",
        label="VFID-I",
        column="VFID-I",
        summary="I3D features of the first ten frames of every video, in BGR, repeated.",
        weights="i3d-official",
        min_frames=VFID_FRAMES,
        open=_open_vfid_i3d_official,
        repeat_fake=_vfid_count,
        repeat_real=_vfid_count,
    ),
    FeatureNet(
        name="vfid-resnext",
        protocol="official",
        label="VFID (ResNeXt)",
        column=None,
        summary="ResNeXt-101 features of the first ten frames of every video, in BGR, repeated.",
        weights="resnext",
        min_frames=VFID_FRAMES,
        open=_open_vfid_resnext,
        repeat_fake=_vfid_count,
        repeat_real=_vfid_count,
    ),
    FeatureNet(
        name="fvd-videomae",
        protocol="official",
        label="FVD (VideoMAE)",
        column="FVD",
        summary="VideoMAE-v2 features of the middle of every video, predictions repeated to 2048.",
        weights="videomae",
        min_frames=VIDEOMAE_FRAMES,
        open=_open_fvd_videomae,
        repeat_fake=_fvd_count,
    ),
    FeatureNet(
        name="vfid-i3d",
        protocol="corrected",
        label="VFID-I",
        column="VFID-I",
        summary="I3D features of all windows of ten frames.",
        weights="i3d",
        min_frames=VFID_FRAMES,
        open=_open_vfid_i3d,
    ),
    FeatureNet(
        name="fvd-i3d",
        protocol="corrected",
        label="FVD (I3D)",
        column="FVD",
        summary="I3D class scores of all windows of 16 frames.",
        weights="i3d",
        min_frames=FVD_FRAMES,
        open=_open_fvd_i3d,
    ),
)
