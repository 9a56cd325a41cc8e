"""What pictures are like, in numbers that can be had of renders and of real clips alike.

All on display values of one small size, two frames `STEP_S` apart. Depth is known of renders only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (160, 90)
"""Width and height; no real clip has to be enlarged for it."""
STEP_S = 1 / 12
MAX_CUT = 0.5
"""Largest mean difference of a pair, as a part of the contrast of its first frame, that is no cut."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Feature:
    """A number of a picture: name, unit, what it is, and the range that is drawn."""

    name: str
    unit: str
    low: float
    high: float


FEATURES = (
    Feature("brightness", "mean of luma", 0.0, 1.0),
    Feature("contrast", "standard deviation of luma", 0.0, 0.4),
    Feature("colourfulness", "Hasler-Suesstrunk, of 255", 0.0, 120.0),
    Feature("edge density", "share of pixels", 0.0, 0.4),
    Feature("motion", "mean flow, % of width per s", 0.0, 30.0),
    Feature("fastest motion", "95th percentile, % of width per s", 0.0, 60.0),
    Feature("median disparity", "0 far, 1 near", 0.0, 1.0),
    Feature("spread of disparity", "95th - 5th percentile", 0.0, 1.0),
)


def measure(first: NDArray[np.uint8], second: NDArray[np.uint8], gap_s: float) -> dict[str, float]:
    """The features of two frames ``[H, W, 3]``, RGB, of size `SIZE`, this many seconds apart."""
    luma = _luma(first)
    speed = 100 * flow_px(first, second) / first.shape[1] / gap_s
    return {
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "colourfulness": colourfulness(first),
        "edge density": float((cv2.Canny((luma * 255).astype(np.uint8), 60, 150) > 0).mean()),
        "motion": float(speed.mean()),
        "fastest motion": float(np.percentile(speed, 95)),
    }


def measure_depth(disparity: NDArray) -> dict[str, float]:
    """The features of disparity in [0, 1]."""
    low, middle, high = np.percentile(disparity, (5, 50, 95))
    return {"median disparity": float(middle), "spread of disparity": float(high - low)}


def colourfulness(image: NDArray[np.uint8]) -> float:
    """Hasler and Suesstrunk 2003, equation for natural images: spread and offset of two opponent axes."""
    red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
    axes = (red - green, (red + green) / 2 - blue)
    spread = np.hypot(*(axis.std() for axis in axes))
    offset = np.hypot(*(axis.mean() for axis in axes))
    return float(spread + 0.3 * offset)


def flow_px(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far each pixel moves, pixels ``[H, W]``: dense inverse search, finest setting of OpenCV's."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    greys = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (first, second))
    flow = search.calc(*greys, None)  # type: ignore[call-overload]
    return np.hypot(flow[..., 0], flow[..., 1]).astype(np.float64)


def is_cut(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> bool:
    """Whether two frames are of different shots."""
    a, b = _luma(first), _luma(second)
    return bool(
        np.abs(a - b).mean() > MAX_CUT * max(a.std(), 0.02) and np.corrcoef(a.ravel(), b.ravel())[0, 1] < 0.5
    )


def _luma(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return image @ np.array([0.2126, 0.7152, 0.0722]) / 255


# --- Real clips -----------------------------------------------------------------------------------


def read_pairs(path: Path, count: int) -> list[dict[str, float]]:
    """Features of pairs of frames spread evenly over a video file; fewer where it is short or cut.

    Black bars are cut off, the middle is cropped to the shape of `SIZE`, then the image is made small. Frames
    that repeat (a film at another rate) count as they are.

    Raises:
        ValueError: If OpenCV cannot read it.
    """
    capture = cv2.VideoCapture(str(path))
    fps = capture.get(cv2.CAP_PROP_FPS)
    raw = []
    while True:
        good, frame = capture.read()
        if not good:
            break
        # Far smaller than what most files have, far larger than `SIZE`: memory.
        scale = min(1.0, 640 / frame.shape[1])
        raw.append(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[..., ::-1])
    if len(raw) < 2 or not 1 <= fps <= 1000:
        raise ValueError(f"{path}: OpenCV reads {len(raw)} frames at {fps:g} fps")
    bars = picture_area(raw[:: max(1, len(raw) // 16)])
    images = [small(frame[bars]) for frame in raw]
    step = max(1, round(STEP_S * fps))
    starts = np.unique(np.linspace(0, len(images) - 1 - step, min(count, len(images) - step)).astype(int))
    return [
        measure(images[i], images[i + step], step / fps)
        for i in starts
        if images[i].std() > 2 and not is_cut(images[i], images[i + step])
    ]


def picture_area(frames: list[NDArray[np.uint8]]) -> tuple[slice, slice]:
    """Rows and columns that are not black in all frames."""
    brightest = np.max([frame.max(axis=-1) for frame in frames], axis=0)
    rows = np.flatnonzero(np.median(brightest, axis=1) > 24)
    columns = np.flatnonzero(np.median(brightest, axis=0) > 24)
    if not len(rows) or not len(columns):
        return slice(None), slice(None)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a frame at `SIZE`."""
    height, width = frame.shape[:2]
    wanted = SIZE[0] / SIZE[1]
    crop_w, crop_h = min(width, round(height * wanted)), min(height, round(width / wanted))
    left, top = (width - crop_w) // 2, (height - crop_h) // 2
    middle = np.ascontiguousarray(frame[top : top + crop_h, left : left + crop_w])
    return np.asarray(cv2.resize(middle, SIZE, interpolation=cv2.INTER_AREA), np.uint8)


# --- Distributions --------------------------------------------------------------------------------


def overlap(a: NDArray, b: NDArray, low: float, high: float, bins: int = 20) -> float:
    """Area that two histograms share, 0 to 1; what is beyond the range counts in the last bins."""
    edges = np.linspace(low, high, bins + 1)
    shares = [np.histogram(np.clip(x, low, high), edges)[0] / len(x) for x in (a, b)]
    return float(np.minimum(*shares).sum())


def wasserstein(a: NDArray, b: NDArray) -> float:
    """First Wasserstein distance: mean difference of the quantile functions, in the unit of the values."""
    points = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(x), points[:-1], side="right") / len(x) for x in (a, b)]
    return float((np.abs(below[0] - below[1]) * np.diff(points)).sum())


def covered(real: NDArray, rendered: NDArray) -> float:
    """Share of real values that lie between the 1st and the 99th percentile of the rendered ones."""
    low, high = np.percentile(rendered, (1, 99))
    return float(((real >= low) & (real <= high)).mean())


def column(rows: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float64]:
    """A feature of all rows that have it."""
    return np.array([row[name] for row in rows if name in row], np.float64)
