"""What only a renderer can measure: blur radius, bleeding, flicker and sharpness against the exact truth.

| metric         | what                                                                         |
|----------------|------------------------------------------------------------------------------|
| radius-error   | how far blur radii are off, pixels at 1024, away from edges                  |
| edge-bleeding  | error beside edges of what is in focus, grey levels of 255                   |
| flicker        | residual after motion compensation beyond the truth's own, grey levels       |
| sharpness-kept | detail of what is in focus over the truth's, or its inverse if there is more |
| psnr-...       | PSNR by where pixels are, and by their true blur radius at 1024              |

Every one is perfect for the truth itself: 0, or 1, or the largest PSNR.

**Radii.** Away from edges a bokeh frame is the all-in-focus frame gathered over discs of K |d - d_f|. It is
gathered with several multiples of K; the multiple that comes closest to a video is its scale s. The truth's s
is measured in the same way, since highlights that are clipped in the all-in-focus video shift it; a pixel of
true radius r is off by ``r |s - s_truth|``. Radii before and behind the focus, small and large, are fitted
apart. A video whose blur does not depend on K at all (identity) is at the end of the range of multiples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from focuspull.dataset.optics import REFERENCE_WIDTH_PX
from focuspull.train.metrics import image
from focuspull.train.metrics.base import SCALES, Measure, Prediction, Truth, VideoMetric, plain
from focuspull.train.metrics.bokeh import MIN_PIXELS, detail
from focuspull.train.metrics.flow import warped
from focuspull.train.metrics.image import Band
from focuspull.train.results import MetricInfo

RADIUS_BANDS_PX = ((1.0, 4.0), (4.0, math.inf))
"""Of radii in pixels of the video that are fitted together, on either side of the focus."""
BLUR_EDGES_PX = (0.5, 4.0, 8.0, 16.0, math.inf)
"""Between the blur bands of `psnr-r...`, radii in pixels at 1024."""
MIN_SHARE = 1e-3
"""Of the pixels of a video that a band needs to be measured."""
_LEVELS = 255


def radius_error(truth: Truth, prediction: Prediction) -> float:
    """Mean error of blur radii, pixels at 1024 (module docstring); nan if nothing is blurred by a pixel."""
    frames = truth.radius_frames
    radius = truth.radius_px[frames]
    smooth = ~truth.bands["edges"][frames]
    total, weight = 0.0, 0
    for side in (1, -1):
        for low, high in RADIUS_BANDS_PX:
            mask = smooth & (side * radius >= low) & (side * radius < high)
            ours, theirs = (_scale(truth, video[frames], mask) for video in (prediction.frames, truth.bokeh))
            if math.isnan(ours) or math.isnan(theirs):
                continue
            total += float(radius[mask].abs().sum()) * abs(ours - theirs)
            weight += int(mask.sum())
    if weight == 0:
        return math.nan
    return total / weight * REFERENCE_WIDTH_PX / truth.item.width


def _scale(truth: Truth, video: Tensor, mask: Tensor) -> float:
    """The multiple of K that a video looks blurred with in a mask ``[t, 1, H, W]``; nan if none is better."""
    if int(mask.sum()) < MIN_PIXELS:
        return math.nan
    errors = torch.stack([((gathered - video) ** 2 * mask).sum() for gathered in truth.blurred]).double()
    # Less than a tenth of a grey level between all of them: nothing there to be blurred.
    if float(errors.max() - errors.min()) <= 3 * float(mask.sum()) * (0.1 / _LEVELS) ** 2:
        return math.nan
    best = int(errors.argmin())
    if best in (0, len(SCALES) - 1):
        return SCALES[best]
    x = torch.tensor(SCALES[best - 1 : best + 2], dtype=torch.float64)
    y = errors[best - 1 : best + 2]
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    vertex = (x[0] + x[1]) / 2 - left * (x[2] - x[0]) / (2 * (right - left))
    return float(vertex.clamp(x[0], x[2]))


def edge_bleeding(truth: Truth, prediction: Prediction) -> float:
    """Root mean squared error of what is in focus and beside the edge of something blurred, grey levels."""
    mask = truth.bands["in focus"] & truth.bands["edges"]
    if float(mask.double().mean()) < MIN_SHARE:
        return math.nan
    error = image.squared_error(prediction.frames[None], truth.bokeh[None])
    return _LEVELS * math.sqrt(float(image.pooled(error, mask[None])))


def flicker(truth: Truth, prediction: Prediction) -> float:
    """How much more a video changes along the truth's motion than the truth does, grey levels.

    The residual of a frame is what is left of its difference to the next, moved back along the truth's flow.
    Only what is above the truth's own residual counts: less is too smooth, which other metrics see.
    """
    if len(truth.bokeh) < 2:
        return math.nan
    ours, theirs = (_residual(video, truth.flow) for video in (prediction.frames, truth.bokeh))
    return _LEVELS * float((ours - theirs).clamp(min=0).mean())


def _residual(video: Tensor, flow: Tensor) -> Tensor:
    return (warped(video[1:], flow) - video[:-1]).abs().mean(1)


def sharpness_kept(truth: Truth, prediction: Prediction) -> float:
    """Detail of what is in focus, away from edges, against the truth's: the smaller over the larger."""
    mask = truth.bands["in focus"] & ~truth.bands["edges"]
    if float(mask.double().mean()) < MIN_SHARE:
        return math.nan
    ours, theirs = (float((detail(video) * mask).sum()) for video in (prediction.frames, truth.bokeh))
    if max(ours, theirs) == 0:
        return 1.0
    return math.sqrt(min(ours, theirs) / max(ours, theirs))


def _band_psnr(band: Band) -> Measure:
    def measure(truth: Truth, prediction: Prediction) -> float:
        return _masked_psnr(truth, prediction, truth.bands[band])

    return measure


def _blur_psnr(low: float, high: float) -> Measure:
    def measure(truth: Truth, prediction: Prediction) -> float:
        radius = truth.radius_px.abs() * REFERENCE_WIDTH_PX / truth.item.width
        return _masked_psnr(truth, prediction, (radius >= low) & (radius < high))

    return measure


def _masked_psnr(truth: Truth, prediction: Prediction, mask: Tensor) -> float:
    if float(mask.double().mean()) < MIN_SHARE:
        return math.nan
    return float(image.psnr(prediction.frames[None], truth.bokeh[None], mask[None]))


def _info(
    name: str, label: str, unit: str, summary: str, *, high: bool = False, digits: int = 2
) -> MetricInfo:
    return MetricInfo(
        protocol="corrected",
        name=name,
        label=label,
        unit=unit,
        best="high" if high else "low",
        digits=digits,
        summary=summary,
    )


def _psnr_info(name: str, where: str) -> MetricInfo:
    return _info(f"psnr-{name}", f"PSNR {where}", "dB", f"PSNR of pixels {where}.", high=True)


def _blur_band(low: float, high: float) -> VideoMetric:
    name = f"r{low:g}-{high:g}" if math.isfinite(high) else f"r{low:g}+"
    where = f"blurred by {low:g} to {high:g} px" if math.isfinite(high) else f"blurred by {low:g} px and more"
    return plain(_psnr_info(name, where), _blur_psnr(low, high))


REFOCUS: tuple[VideoMetric, ...] = (
    plain(
        _info(
            "radius-error",
            "Radius error",
            "px",
            "Mean error of blur radii K |d - d_f|, at 1024 px, away from edges.",
        ),
        radius_error,
    ),
    plain(
        _info("edge-bleeding", "Bleeding", "levels", "Error of what is in focus beside edges, of 255."),
        edge_bleeding,
    ),
    plain(
        _info("flicker", "Flicker", "levels", "Change along the motion beyond the truth's own, of 255."),
        flicker,
    ),
    plain(
        _info(
            "sharpness-kept",
            "Sharpness kept",
            "",
            "Detail of what is in focus against the truth's.",
            high=True,
            digits=3,
        ),
        sharpness_kept,
    ),
    plain(_psnr_info("in-focus", "in focus"), _band_psnr("in focus")),
    plain(_psnr_info("foreground", "before the focus"), _band_psnr("foreground")),
    plain(_psnr_info("background", "behind the focus"), _band_psnr("background")),
    plain(_psnr_info("edges", "near edges"), _band_psnr("edges")),
    *(_blur_band(low, high) for low, high in zip(BLUR_EDGES_PX[:-1], BLUR_EDGES_PX[1:], strict=True)),
)
