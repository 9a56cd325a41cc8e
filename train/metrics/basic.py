"""SSIM, PSNR, RM, FD and VEPI of one video, under both protocols.

| metric | ``official``                                            | ``corrected``                           |
|--------|---------------------------------------------------------|-----------------------------------------|
| all    | truth and prediction through H.264                      | as rendered, as predicted               |
| PSNR   | of the mean squared error of all frames together        | the same, at most 100 dB; and per frame |
| SSIM   | torchmetrics' own mean, mirrored borders                | windows inside the frame only           |
| RM     | of the first two pairs of frames, whatever the length   | of all pairs                            |
| FD     | of the size that it comes in                            | per 1024 px of width                    |
| VEPI   | edges against the all-in-focus video, inside the focus: | edges against the truth, everywhere:    |
|--------|---------------------------------------------------------|-----------------------------------------|

Source: Any-to-Bokeh (arXiv 2505.21593), its released evaluation; what its columns mean and where the code
differs from the text. FD is the mean absolute difference of optical flow, RM that of the changes from frame
to frame, VEPI the correlation of Sobel magnitudes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

from focuspull.dataset.optics import REFERENCE_WIDTH_PX
from focuspull.train.metrics import image
from focuspull.train.metrics.base import Measure, Prediction, Truth, VideoMetric, plain
from focuspull.train.metrics.flow import flow_difference
from focuspull.train.metrics.raft import Raft
from focuspull.train.results import MetricInfo, Protocol

OFFICIAL_RM_PAIRS = 2
"""The official loop takes its length from the axis of channels: 3 frames, whatever there is."""


# --- Likeness ---------------------------------------------------------------------------------------


def official_psnr(truth: Truth, prediction: Prediction) -> float:
    """Torchmetrics' PSNR of all frames as one batch; infinite for equal videos."""
    return float(peak_signal_noise_ratio(prediction.coded, truth.coded, data_range=1.0))


def corrected_psnr(truth: Truth, prediction: Prediction) -> float:
    """PSNR of the mean squared error of the whole video, at most 100 dB."""
    return float(image.psnr(prediction.frames[None], truth.bokeh[None]))


def frame_psnr(truth: Truth, prediction: Prediction) -> float:
    """The mean of the frames' PSNRs, each at most 100 dB."""
    return float(image.psnr(prediction.frames[:, None], truth.bokeh[:, None]).mean())


def official_ssim(truth: Truth, prediction: Prediction) -> float:
    """Torchmetrics' SSIM of all frames as one batch, its own mean and borders."""
    values = [
        structural_similarity_index_measure(ours[None], theirs[None], sigma=1.5, data_range=1.0)
        for ours, theirs in zip(prediction.coded, truth.coded, strict=True)
    ]
    return float(torch.stack([value for value in values if isinstance(value, Tensor)]).mean())


def corrected_ssim(truth: Truth, prediction: Prediction) -> float:
    """SSIM over windows that lie in the frame, see `focuspull.train.metrics.image.ssim_map`."""
    return float(image.ssim(prediction.frames[None], truth.bokeh[None]))


# --- Motion ----------------------------------------------------------------------------------------


def official_rm(truth: Truth, prediction: Prediction) -> float:
    """RM of the first two pairs of frames."""
    return _rm(truth.coded[: OFFICIAL_RM_PAIRS + 1], prediction.coded[: OFFICIAL_RM_PAIRS + 1])


def corrected_rm(truth: Truth, prediction: Prediction) -> float:
    """RM of all pairs of frames."""
    return _rm(truth.bokeh, prediction.frames)


def _rm(truth: Tensor, predicted: Tensor) -> float:
    if len(truth) < 2:
        return math.nan
    return float(image.temporal_error(predicted[None], truth[None]))


def corrected_fd_dis(truth: Truth, prediction: Prediction) -> float:
    """Difference of DIS flow, pixels per frame at 1024."""
    if len(truth.bokeh) < 2:
        return math.nan
    return flow_difference(truth.flow, prediction.flow) * REFERENCE_WIDTH_PX / truth.item.width


def _open_fd_raft(protocol: Protocol) -> VideoMetric:
    def opened(weights: Mapping[str, Path], device: torch.device) -> Measure:
        raft = Raft(weights["raft"], device)
        kept: dict[str, Tensor] = {}

        def measure(truth: Truth, prediction: Prediction) -> float:
            if len(truth.bokeh) < 2:
                return math.nan
            official = protocol == "official"
            if truth.item.name not in kept:
                kept.clear()
                kept[truth.item.name] = raft.flow(truth.coded if official else truth.bokeh)
            flow = raft.flow(prediction.coded if official else prediction.frames)
            difference = flow_difference(kept[truth.item.name], flow)
            return difference if official else difference * REFERENCE_WIDTH_PX / truth.item.width

        return measure

    info = MetricInfo(
        protocol=protocol,
        name="fd-raft",
        label="FD (RAFT)",
        unit="px/frame",
        best="low",
        column="FD",
        summary="Mean absolute difference of RAFT-large optical flow to the truth's"
        + (", in pixels of the size that the video has." if protocol == "official" else ", at 1024 px."),
    )
    return VideoMetric(info, opened, ("raft",))


# --- Edges ------------------------------------------------------------------------------------------


def official_vepi(truth: Truth, prediction: Prediction) -> float:
    """Correlation of the edges of the all-in-focus and the predicted frames, inside what is in focus.

    8-bit grey, Sobel 3x3 magnitudes, the mask dilated by 5x5, the mean over the frames. The official masks
    are of a segmentation network; here they are the pixels in focus.
    """
    values: list[float] = []
    for t, mask in enumerate(truth.bands["in focus"]):
        wide = cv2.dilate(mask[0].numpy().astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        values.append(_correlation(_sobel(truth.aif[t]), _sobel(prediction.coded[t]), wide))
    return _mean_of_known(values)


def corrected_vepi(truth: Truth, prediction: Prediction) -> float:
    """Correlation of the edges of the true and the predicted frames, everywhere."""
    values = [
        _correlation(_sobel(true), _sobel(predicted), None)
        for true, predicted in zip(truth.bokeh, prediction.frames, strict=True)
    ]
    return _mean_of_known(values)


def _sobel(frame: Tensor) -> NDArray[np.float64]:
    """Sobel magnitude ``[H, W]`` of the 8-bit grey image of a frame ``[3, H, W]``."""
    pixels = (frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    x, y = (cv2.Sobel(grey, cv2.CV_64F, dx, 1 - dx, ksize=3) for dx in (1, 0))
    return np.hypot(x, y)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64], mask: NDArray[np.bool_] | None) -> float:
    """Pearson correlation of pixels; nan for fewer than two, or if either is flat."""
    x, y = (values.ravel() if mask is None else values[mask] for values in (a, b))
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])


def _mean_of_known(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


# --- All of them ------------------------------------------------------------------------------------


def _official(name: str, label: str, column: str, summary: str, **facts: object) -> MetricInfo:
    return MetricInfo.model_validate(
        {"protocol": "official", "name": name, "label": label, "column": column, "summary": summary, **facts}
    )


def _corrected(name: str, label: str, column: str | None, summary: str, **facts: object) -> MetricInfo:
    return MetricInfo.model_validate(
        {"protocol": "corrected", "name": name, "label": label, "column": column, "summary": summary, **facts}
    )


BASIC: tuple[VideoMetric, ...] = (
    _open_fd_raft("official"),
    plain(
        _official(
            "rm",
            "RM",
            "RM",
            "Changes from frame to frame against the truth's; first two only.",
            best="low",
            digits=4,
        ),
        official_rm,
    ),
    plain(
        _official("ssim", "SSIM", "SSIM", "Structural similarity as torchmetrics averages it.", best="high"),
        official_ssim,
    ),
    plain(
        _official(
            "psnr",
            "PSNR",
            "PSNR",
            "Of the squared error of all frames together.",
            best="high",
            unit="dB",
            digits=2,
        ),
        official_psnr,
    ),
    plain(
        _official(
            "vepi",
            "VEPI",
            "VEPI",
            "Correlation of edges with the all-in-focus video in what is in "
            "focus; doing nothing scores best.",
            best="high",
        ),
        official_vepi,
    ),
    plain(
        _corrected(
            "fd-dis",
            "FD (DIS)",
            "FD",
            "Mean absolute difference of DIS optical flow to the truth's, at 1024 px.",
            best="low",
            unit="px/frame",
        ),
        corrected_fd_dis,
    ),
    _open_fd_raft("corrected"),
    plain(
        _corrected(
            "rm", "RM", "RM", "Changes from frame to frame against the truth's.", best="low", digits=4
        ),
        corrected_rm,
    ),
    plain(
        _corrected(
            "ssim", "SSIM", "SSIM", "Structural similarity over windows inside the frame.", best="high"
        ),
        corrected_ssim,
    ),
    plain(
        _corrected(
            "psnr",
            "PSNR",
            "PSNR",
            "Of the squared error of the whole video.",
            best="high",
            unit="dB",
            digits=2,
        ),
        corrected_psnr,
    ),
    plain(
        _corrected(
            "psnr-frames",
            "PSNR per frame",
            None,
            "The mean of the frames' PSNRs.",
            best="high",
            unit="dB",
            digits=2,
        ),
        frame_psnr,
    ),
    plain(
        _corrected(
            "vepi", "VEPI", "VEPI", "Correlation of edges with the true bokeh, everywhere.", best="high"
        ),
        corrected_vepi,
    ),
)
