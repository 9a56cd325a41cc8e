"""What is in focus, and how strong the blur is, in every frame of a video.

A focus is a disparity, keyframes of it, a pixel that is followed through time, or a mask. Keyframes are
numbers of frames of the whole video; between them values are interpolated linearly, outside they stay.

A pixel is followed by optical flow (Lucas-Kanade, checked forwards and backwards, the median of a grid of
points as in MedianFlow, Kalal et al. 2010) of those points around it that are about as far away as it is.
Where the place that was asked for is recognised again nearby, the drift is taken out. What is covered or
leaves the frame is lost: the focus waits, and goes on where the place is recognised again.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError

_TRACK_WIDTH = 640
"""Wider frames are shrunk for tracking."""
_MIN_RADIUS, _RADIUS_SHARE = 10, 0.04
"""Of the patch around the point, pixels of tracking and share of its width."""
_MIN_CONTRAST = 4.0
"""Standard deviation of a patch, in levels of 256, that can be recognised."""
_GRID = 11
_MAX_RETURN_PX = 1.0
"""Between a point and where it ends up after tracking it forwards and backwards."""
_MIN_INLIERS = 0.3
_SAME_PATCH = 0.6
"""Least correlation of a patch with that of the frame before it, else it is lost."""
_KNOWN_PATCH = 0.8
"""Least correlation with the first patch at which drift is taken out or a lost place is found again."""
_DEPTH_SHARE = 0.15
"""Of the frame's span of disparity: points farther from the middle one are not the same thing."""
_DEPTH_JUMP = 0.25
"""Of the frame's span of disparity: a jump from frame to frame by more is something else."""
_SAMPLE_SHARE = 0.006
"""Radius of the disc in which disparity is read, share of the width."""
_SMOOTH_S = 0.08
"""Standard deviation of the smoothing of a followed focus over time."""


@dataclass(frozen=True)
class Keyframes:
    """A number that changes over time.

    Args:
        frames: Increasing.
        values: One each.
    """

    frames: tuple[int, ...]
    values: tuple[float, ...]

    def at(self, frame: int) -> float:
        """The value in a frame."""
        after = bisect_right(self.frames, frame)
        if after in (0, len(self.frames)):
            return self.values[0 if after == 0 else -1]
        first, last = self.frames[after - 1], self.frames[after]
        share = (frame - first) / (last - first)
        return (1 - share) * self.values[after - 1] + share * self.values[after]


@dataclass(frozen=True)
class Point:
    """A pixel of the first frame that is rendered, x to the right and y down, from 0."""

    x: float
    y: float


@dataclass(frozen=True)
class Mask:
    """White in each frame of a video, or image of a folder, on what is in focus."""

    path: Path


Focus = Keyframes | Point | Mask


def parse_focus(text: str) -> Focus:
    """Read ``0.6``, ``0:0.8, 40:0.2``, ``640,360`` or the path of a mask.

    Raises:
        UserError: If it is none of these.
    """
    forms = "a disparity such as 0.6, keyframes such as '0:0.8, 40:0.2', a pixel such as 640,360, or a mask"
    if text.strip() and Path(text).exists():
        return Mask(Path(text))
    if ":" in text or "," not in text:
        try:
            keyframes = _keyframes(text)
        except ValueError:
            raise UserError(f"--focus {text}: must be {forms}; no such file either.") from None
        if bad := [value for value in keyframes.values if not 0 <= value <= 1]:
            raise UserError(f"--focus {text}: disparity must be in [0, 1], got {bad[0]:g}. A pixel is X,Y.")
        return keyframes
    try:
        x, y = (float(part) for part in text.strip(" ()").split(","))
    except ValueError:
        raise UserError(f"--focus {text}: must be {forms}; no such file either.") from None
    return Point(x, y)


def parse_strength(option: str, text: str) -> Keyframes:
    """Read a K, ``16``, or keyframes of it, ``0:0, 40:24``.

    Raises:
        UserError: If it is neither, or negative or not finite.
    """
    try:
        keyframes = _keyframes(text)
    except ValueError:
        raise UserError(f"{option} {text}: must be a number such as 16, or keyframes '0:0, 40:24'.") from None
    if bad := [value for value in keyframes.values if not 0 <= value < math.inf]:
        raise UserError(f"{option} {text}: must be finite and not negative, got {bad[0]:g}.")
    return keyframes


def _keyframes(text: str) -> Keyframes:
    """Keyframes from text.

    Raises:
        ValueError: If they are none; without a message.
        UserError: If their frames do not increase.
    """
    if ":" not in text:
        return Keyframes((0,), (float(text),))
    pairs = [part.split(":") for part in text.split(",")]
    frames = tuple(int(frame) for frame, _ in pairs)
    values = tuple(float(value) for _, value in pairs)
    if frames[0] < 0 or any(a >= b for a, b in zip(frames, frames[1:], strict=False)):
        raise UserError(f"keyframes {text}: frames must be from 0 and increase.")
    return Keyframes(frames, values)


@dataclass(frozen=True)
class Sight:
    """Where the focus is in one frame.

    Args:
        x: Pixels; None for a mask.
        y: Likewise.
        score: Correlation with the frame before; 0 where it is lost. For a mask, its share of the frame.
        disparity: As the source stores it; None where it is lost.
    """

    x: float | None
    y: float | None
    score: float
    disparity: float | None


def mask_sight(mask: NDArray[np.float32], disparity: NDArray[np.float32]) -> Sight:
    """Median disparity ``[H, W]`` where the mask ``[H, W]`` is more than half white."""
    inside = mask > 0.5
    median = float(np.median(disparity[inside])) if inside.any() else None
    return Sight(None, None, float(inside.mean()), median)


def focus_over_time(sights: list[Sight], fps: float) -> NDArray[np.float64]:
    """Disparity in focus ``[T]``: what is lost is bridged linearly, and all of it is smoothed.

    Raises:
        ValueError: If it is lost in every frame.
    """
    numbers = [i for i, sight in enumerate(sights) if sight.disparity is not None]
    if not numbers:
        raise ValueError("the focus is lost in every frame")
    known = [cast(float, sights[i].disparity) for i in numbers]
    bridged = np.interp(np.arange(len(sights)), numbers, known)
    sigma = _SMOOTH_S * fps
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(bridged, radius, mode="edge")
    return np.convolve(padded, weights / weights.sum(), mode="valid")


class PointTracker:
    """Follows one pixel, frame by frame.

    Args:
        point: Where it is in the first frame.
        luma: The first frame, ``[H, W]`` in [0, 1].
        disparity: Its disparity ``[H, W]``, of any scale.
    """

    def __init__(self, point: Point, luma: NDArray[np.float32], disparity: NDArray[np.float32]) -> None:
        self._scale = min(1.0, _TRACK_WIDTH / luma.shape[1])
        self._at = np.array([point.x, point.y], np.float64)
        self._grey = self._shrunk(luma)
        width = self._grey.shape[1]
        self._radius = max(_MIN_RADIUS, round(_RADIUS_SHARE * width))
        # What has no contrast cannot be told from its surroundings: take more of them.
        self._radius = min(self._radius, (min(self._grey.shape) - 1) // 2)
        small = self._small(self._at)
        while self._patch(self._grey, small).std() < _MIN_CONTRAST and self._radius < width // 6:
            self._radius = min(round(1.5 * self._radius), (min(self._grey.shape) - 1) // 2, width // 6)
        self._first_patch = self._last_patch = self._patch(self._grey, small)
        # The patch lies on whole pixels and within the frame, the point need not be its middle.
        self._offset = small - self._middle(self._grey, small)
        self._lost_frames = 0
        self._disparity = disparity
        self._value = _sample(disparity, self._at)
        self._first_mask = self._last_mask = self._mask(disparity, small)

    def start(self) -> Sight:
        """Where it is in the first frame."""
        return Sight(float(self._at[0]), float(self._at[1]), 1.0, self._value)

    def follow(self, luma: NDArray[np.float32], disparity: NDArray[np.float32]) -> Sight:
        """Where it is in the next frame."""
        grey = self._shrunk(luma)
        before, self._grey = self._grey, grey
        around, self._disparity = self._disparity, disparity
        found = self._flow(before, grey, around) if self._lost_frames == 0 else None
        reach = self._radius / 2 if found is not None else self._radius * (2.0 + self._lost_frames)
        recognised = self._recognise(grey, found if found is not None else self._small(self._at), reach)
        at = recognised if recognised is not None else found
        if at is None and self._first_patch.std() < _MIN_CONTRAST:
            # A plain area cannot be seen to move, and one place in it is as good as another.
            at = self._small(self._at)
        return self._accept(grey, at, disparity, is_certain=recognised is not None)

    def _accept(
        self,
        grey: NDArray[np.uint8],
        at: NDArray[np.float64] | None,
        disparity: NDArray[np.float32],
        *,
        is_certain: bool,
    ) -> Sight:
        """Go there if it looks like what was there before and is about as far."""
        height, width = grey.shape
        if at is not None and 0 <= at[0] <= width - 1 and 0 <= at[1] <= height - 1:
            patch = self._patch(grey, at)
            score = _correlation(patch, self._last_patch, self._last_mask)
            place = at / self._scale
            value = _sample(disparity, place)
            span = float(np.ptp(disparity)) or 1.0
            is_jump = abs(value - self._value) > _DEPTH_JUMP * span
            if (score >= _SAME_PATCH or is_certain) and not is_jump:
                self._at, self._last_patch, self._value, self._lost_frames = place, patch, value, 0
                self._last_mask = self._mask(disparity, at)
                return Sight(float(place[0]), float(place[1]), score, value)
        self._lost_frames += 1
        return Sight(float(self._at[0]), float(self._at[1]), 0.0, None)

    def _flow(
        self, before: NDArray[np.uint8], after: NDArray[np.uint8], disparity: NDArray[np.float32]
    ) -> NDArray[np.float64] | None:
        """Where the flow takes the point, pixels of tracking; None if it cannot be told."""
        at = self._small(self._at)
        steps = np.linspace(-self._radius, self._radius, _GRID)
        grid = (at + np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)).astype(np.float32)
        values = np.array([_sample(disparity, place / self._scale, radius=0) for place in grid])
        same = np.abs(values - self._value) <= _DEPTH_SHARE * (float(np.ptp(disparity)) or 1.0)
        grid = grid[same]
        if not len(grid):
            return None
        window = {"winSize": (15, 15), "maxLevel": 3}
        forth, ok_forth, _ = _lucas_kanade(before, after, grid, window)
        back, ok_back, _ = _lucas_kanade(after, before, forth, window)
        ok = (ok_forth & ok_back).ravel().astype(bool)
        ok &= np.linalg.norm(back - grid, axis=1) <= _MAX_RETURN_PX
        if ok.sum() < max(3, _MIN_INLIERS * len(grid)):
            return None
        return at + np.median((forth - grid)[ok], axis=0)

    def _recognise(
        self, grey: NDArray[np.uint8], around: NDArray[np.float64], reach: float
    ) -> NDArray[np.float64] | None:
        """Where the first patch is found, pixels of tracking; None if it is not."""
        patch = self._first_patch
        if patch.std() < _MIN_CONTRAST:
            return None
        around = around - self._offset
        radius, (height, width) = self._radius, grey.shape
        left, top = (max(0, math.floor(c - reach)) for c in around - radius)
        right = min(width, math.ceil(around[0] + radius + reach) + 1)
        bottom = min(height, math.ceil(around[1] + radius + reach) + 1)
        area = grey[top:bottom, left:right]
        if area.shape[0] < patch.shape[0] or area.shape[1] < patch.shape[1]:
            return None
        scores = _correlations(area, patch, self._first_mask)
        _, best, _, (column, row) = cv2.minMaxLoc(scores)
        if best < _KNOWN_PATCH:
            return None
        offset = [_peak(scores[row], column), _peak(scores[:, column], row)]
        return np.array([left + radius, top + radius]) + offset + self._offset

    def _patch(self, grey: NDArray[np.uint8], at: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The square around a place, moved into the frame where it is not all in it."""
        column, row = self._middle(grey, at)
        radius = self._radius
        return grey[row - radius : row + radius + 1, column - radius : column + radius + 1]

    def _mask(self, disparity: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.uint8]:
        """1 where the square around a place is about as far away as the thing that is followed."""
        size = self._grey.shape[::-1]
        small = np.asarray(cv2.resize(disparity, size, interpolation=cv2.INTER_NEAREST), np.float32)
        reach = _DEPTH_SHARE * (float(np.ptp(disparity)) or 1.0)
        return self._patch((np.abs(small - np.float32(self._value)) <= reach).astype(np.uint8), at)

    def _middle(self, grey: NDArray[np.uint8], at: NDArray[np.float64]) -> tuple[int, int]:
        height, width = grey.shape
        last = width - 1 - self._radius, height - 1 - self._radius
        column, row = (min(max(round(float(c)), self._radius), end) for c, end in zip(at, last, strict=True))
        return column, row

    def _small(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        return at * self._scale

    def _shrunk(self, luma: NDArray[np.float32]) -> NDArray[np.uint8]:
        grey = np.rint(luma * 255).astype(np.uint8)
        if self._scale == 1:
            return grey
        size = None
        scale = self._scale
        return np.asarray(cv2.resize(grey, size, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _lucas_kanade(
    a: NDArray[np.uint8], b: NDArray[np.uint8], points: NDArray[np.float32], window: dict[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.uint8], Any]:
    return cast(Any, cv2.calcOpticalFlowPyrLK)(a, b, points, None, **window)


def _sample(disparity: NDArray[np.float32], at: NDArray[Any], radius: int | None = None) -> float:
    """Median disparity in a small square around a place, cut off at the border of the frame."""
    height, width = disparity.shape
    if radius is None:
        radius = max(1, round(_SAMPLE_SHARE * width))
    column, row = min(max(round(float(at[0])), 0), width - 1), min(max(round(float(at[1])), 0), height - 1)
    area = disparity[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
    return float(np.median(area))


def _correlation(a: NDArray[np.uint8], b: NDArray[np.uint8], mask: NDArray[np.uint8]) -> float:
    """Normalised, of two patches where a mask is 1; 1 for two that have no contrast."""
    if a.std() < 1 and b.std() < 1:
        return 1.0
    return float(_correlations(a, b, mask)[0, 0])


def _correlations(
    area: NDArray[np.uint8], patch: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Normalised correlation of a patch with every place of an area, where the patch's mask is 1."""
    scores = cv2.matchTemplate(
        area.astype(np.float32), patch.astype(np.float32), cv2.TM_CCOEFF_NORMED, mask=mask.astype(np.float32)
    )
    # Nothing is like what has no contrast.
    finite = np.nan_to_num(np.asarray(scores, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return np.where(np.abs(finite) <= 1.001, finite, 0).astype(np.float32)


def _peak(scores: NDArray[np.float32], best: int) -> float:
    """Place of a maximum between pixels, by the parabola through its neighbours."""
    if not 0 < best < len(scores) - 1:
        return float(best)
    low, top, high = (float(score) for score in scores[best - 1 : best + 2])
    curve = low - 2 * top + high
    return best + (0.5 * (low - high) / curve if curve < 0 else 0.0)
