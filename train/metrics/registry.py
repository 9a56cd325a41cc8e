"""Every metric by its id, and which of them can be computed with the weights that are there.

A metric whose weights are missing is reported as missing, with what gets them; it is never replaced by
another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from focuspull.dataset.errors import UserError
from focuspull.train.metrics.base import Measure, Prediction, Truth, VideoMetric
from focuspull.train.metrics.basic import BASIC
from focuspull.train.metrics.perceptual import Lpips, Net
from focuspull.train.metrics.refocus import REFOCUS
from focuspull.train.metrics.sets import FEATURE_NETS, FeatureNet
from focuspull.train.metrics.weights import MissingWeightsError, locate, sha256_of
from focuspull.train.results import MetricInfo, MissingMetric, Protocol

KERNEL = "-kernel"
"""Ends the name of the kernel distance that stands beside each Fréchet distance."""
LEFT_OUT = ("corrected/lpips-vgg",)
"""Computed only when named: seconds of CPU per frame."""


def _lpips(protocol: Protocol, net: Net) -> VideoMetric:
    def opened(weights: Mapping[str, Path], device: torch.device) -> Measure:
        network = Lpips(net, weights[f"lpips-{net}"], device)

        def measure(truth: Truth, prediction: Prediction) -> float:
            pair = (prediction, truth) if protocol == "official" else None
            a, b = (video.coded for video in pair) if pair else (prediction.frames, truth.bokeh)
            return float(network.distance(a, b).mean())

        return measure

    info = MetricInfo(
        protocol=protocol,
        name=f"lpips-{net}",
        label=f"LPIPS ({net})",
        best="low",
        column="LPIPS",
        digits=4,
        summary=f"Perceptual distance of frames (v0.1, {net}), the mean of the video.",
    )
    return VideoMetric(info, opened, (f"lpips-{net}",))


VIDEO_METRICS: dict[str, VideoMetric] = {
    metric.info.id: metric
    for metric in (
        *BASIC,
        _lpips("official", "squeeze"),
        _lpips("corrected", "alex"),
        _lpips("corrected", "vgg"),
        *REFOCUS,
    )
}
SET_METRICS: dict[str, FeatureNet] = {f"{net.protocol}/{net.name}": net for net in FEATURE_NETS}

_TIMES: dict[Protocol, str] = {
    "official": "Seconds per frame here; where and how the published ones were taken is not known.",
    "corrected": "Seconds per frame: median of runs after one that does not count, disparity given.",
}
_FACTS: tuple[MetricInfo, ...] = (
    *(
        MetricInfo(
            protocol=protocol,
            name="time",
            label="Time",
            unit="s/frame",
            best="low",
            kind="system",
            column="Time",
            summary=summary,
        )
        for protocol, summary in _TIMES.items()
    ),
    MetricInfo(
        protocol="corrected",
        name="time-with-depth",
        label="Time with depth",
        unit="s/frame",
        best="low",
        kind="system",
        summary="The same with the depth network before it.",
    ),
    MetricInfo(
        protocol="corrected",
        name="peak-memory",
        label="Memory",
        unit="MiB",
        best="low",
        kind="system",
        digits=0,
        summary="Largest above what was in use before, while a video is made.",
    ),
)
SYSTEM_METRICS: dict[str, MetricInfo] = {info.id: info for info in _FACTS}

_ORDER = ("FD", "RM", "VFID-I", "FVD", "SSIM", "PSNR", "LPIPS", "VEPI", "Time")


def metric_infos() -> dict[str, MetricInfo]:
    """What every metric is, by id, in the order of the paper's columns, then what only we have."""
    infos = [metric.info for metric in VIDEO_METRICS.values()]
    for net in SET_METRICS.values():
        infos += [_set_info(net, kernel=False), _set_info(net, kernel=True)]
    infos += SYSTEM_METRICS.values()

    def rank(info: MetricInfo) -> int:
        return _ORDER.index(info.column) if info.column in _ORDER else len(_ORDER)

    return {info.id: info for info in sorted(infos, key=rank)}


def _set_info(net: FeatureNet, *, kernel: bool) -> MetricInfo:
    kind = "Kernel (MMD²)" if kernel else "Fréchet"
    return MetricInfo(
        protocol=net.protocol,
        name=f"{net.name}{KERNEL if kernel else ''}",
        label=f"{net.label}{' kernel' if kernel else ''}",
        best="low",
        kind="set",
        column=None if kernel else net.column,
        digits=4 if kernel else 2,
        summary=f"{kind} distance between sets of features: {net.summary}",
    )


@dataclass(frozen=True)
class Choice:
    """What is to be computed.

    Args:
        video: Ids of `VIDEO_METRICS`.
        sets: Ids of `SET_METRICS`.
        system: Ids of `SYSTEM_METRICS`.
        weights: Files by name, for all of them.
        missing: What cannot be computed, and why.
    """

    video: tuple[str, ...]
    sets: tuple[str, ...]
    system: tuple[str, ...]
    weights: dict[str, Path]
    missing: tuple[MissingMetric, ...]

    def identity(self) -> dict[str, str]:
        """What the numbers depend on: ids, and hashes of weights."""
        ids = [*self.video, *self.sets]
        return {"metrics": " ".join(sorted(ids))} | {
            f"weights {name}": sha256_of(path)[:16] for name, path in sorted(self.weights.items())
        }


def choose(
    wanted: Sequence[str] | None, weights: Mapping[str, Path], *, num_frames: int, with_depth: bool = False
) -> Choice:
    """Which metrics can be computed.

    Args:
        wanted: Ids, or names without their protocol (then of both); None for all but `LEFT_OUT`.
        weights: Files given by the user, by name.
        num_frames: Of the shortest video.
        with_depth: Whether there is a depth network to time.

    Raises:
        UserError: If an id or the name of a file is not known, or a given file is not what it should be.
    """
    known = [*VIDEO_METRICS, *SET_METRICS, *SYSTEM_METRICS]
    if wanted is None:
        ids = [name for name in known if name not in LEFT_OUT]
    else:
        ids = []
        for name in wanted:
            found = [metric for metric in known if name in (metric, metric.partition("/")[2])]
            if not found:
                raise UserError(f"--metrics {name}: there is no such metric. focuspull-eval list names all.")
            ids += found
    if not with_depth:
        ids = [name for name in ids if name != "corrected/time-with-depth"]
    video: list[str] = []
    sets: list[str] = []
    files: dict[str, Path] = {}
    missing: list[MissingMetric] = []
    for name in dict.fromkeys(ids):
        if name in SYSTEM_METRICS:
            continue
        needs = VIDEO_METRICS[name].weights if name in VIDEO_METRICS else (SET_METRICS[name].weights,)
        if name in SET_METRICS and num_frames < SET_METRICS[name].min_frames:
            least = SET_METRICS[name].min_frames
            reason = f"needs videos of {least} frames or more, the shortest has {num_frames}"
            missing.append(MissingMetric(metric=name, reason=reason))
            continue
        try:
            files |= {need: locate(need, weights) for need in needs}
        except MissingWeightsError as error:
            missing.append(MissingMetric(metric=name, reason=str(error)))
            continue
        (video if name in VIDEO_METRICS else sets).append(name)
    system = tuple(name for name in dict.fromkeys(ids) if name in SYSTEM_METRICS)
    return Choice(tuple(video), tuple(sets), system, files, tuple(missing))
