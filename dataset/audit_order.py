"""Order of frames: whether every bokeh frame belongs to the all-in-focus frame of its own number.

Every AIF frame is blurred as its own metadata say, at low resolution and without regard to occlusion. Between
two such predictions a bokeh frame has a place, by projection onto their difference: 0 is its own frame, 1 is
the other. What the prediction gets wrong (occlusion, mirrors) it gets wrong in both, so a sound frame stays
near 0 where the clip moves or its focus does; where neither does, there is nothing to tell, and the frame is
counted as still.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import optics
from focuspull.dataset.audit_blur import blur_stack, dilated, display_source, encoded
from focuspull.dataset.clip import DecodedClip

WIDTH_PX = 192
"""Width at which frames are compared: motion shows as a change of brightness, far below a pixel."""
LADDER = 1.3
"""Ratio of the blur radii of the predictions; what lies between is interpolated."""
MISPLACED = 0.65
"""Place from which a frame is the other one's. Noise of the AIF is in prediction and difference alike and
leads up to 0.5 where little moves; sound clips of 30 dB measured up to 0.43, swapped frames 0.84 and more."""
MIN_MOTION = 0.5
"""Change between two predictions, in parts of the own prediction's error, from which their order is
judged."""
MIN_CHANGE = 0.2 / 255
"""Root mean square of that change, in display values, from which it is more than rounding."""
MAX_DISTANCE = 24
"""Frames on either side with which one is compared; it bounds the work on long clips."""


@dataclass(frozen=True)
class Order:
    """What the order of one bokeh video is.

    Args:
        target: ``bokeh0``, ...
        num_judged: Frames that could be told from their neighbours.
        num_still: Frames that could not.
        largest: The largest place of a frame towards another one; 0 is right, 1 is the other; None: none
            judged.
        misplaced: Frame to the frame whose AIF it fits.
    """

    target: str
    num_judged: int
    num_still: int
    largest: float | None
    misplaced: dict[int, int]


def measure_order(clip: DecodedClip) -> list[Order]:
    """The order of the frames of every bokeh video; the clip is decoded whole."""
    return [_measure_order(clip, index) for index in range(len(clip.meta.targets))]


def _measure_order(clip: DecodedClip, index: int) -> Order:
    target, num_frames = clip.meta.targets[index], clip.meta.num_frames
    shrink = min(1.0, WIDTH_PX / clip.meta.width)
    size = (max(8, round(clip.meta.width * shrink)), max(8, round(clip.meta.height * shrink)))
    predicted = np.empty((num_frames, size[1] * size[0]), np.float32)
    found = np.empty_like(predicted)
    usable = np.empty(predicted.shape, np.bool_)
    for frame in range(num_frames):
        aif, bokeh = clip.aif[frame], clip.bokeh[index][frame]
        disparity = _shrunk(clip.disparity[frame], size)
        radius = shrink * optics.coc_radius_px(disparity, target.focus_disparity[frame], target.k[frame])
        source = _shrunk(display_source(aif, target), size)
        image = encoded(_blurred(source, radius.astype(np.float32)), target)
        seen = encoded(_shrunk(display_source(bokeh, target), size), target)
        # Clipped lamps are brighter than the AIF knows, as far as their discs reach.
        clipped = (aif == 255).any(axis=-1) | (bokeh == 255).any(axis=-1)
        lamps = _shrunk(clipped.astype(np.float32), size) > 0
        near = dilated(lamps, radius.astype(np.float32) + 1)
        predicted[frame], found[frame], usable[frame] = image.ravel(), seen.ravel(), ~near.ravel()
    judged, largest, misplaced = 0, None, {}
    for frame in range(num_frames):
        first, last = max(0, frame - MAX_DISTANCE), min(num_frames, frame + MAX_DISTANCE + 1)
        weight = usable[frame] if usable[frame].mean() > 0.05 else np.ones(size[0] * size[1], np.bool_)
        steps = (predicted[first:last] - predicted[frame])[:, weight].astype(np.float64)
        error = (found[frame] - predicted[frame])[weight].astype(np.float64)
        length = (steps**2).sum(axis=1)
        moves = length > max(MIN_MOTION**2 * float((error**2).sum()), MIN_CHANGE**2 * len(error))
        if not moves.any():
            continue
        judged += 1
        place = np.where(moves, steps @ error / np.maximum(length, 1e-30), -np.inf)
        largest = max(float(place.max()), largest if largest is not None else -np.inf)
        if place.max() > MISPLACED:
            misplaced[frame] = first + int((length - 2 * steps @ error).argmin())
    return Order(target.name, judged, num_frames - judged, largest, misplaced)


def _shrunk(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The mean over each pixel of a smaller image; ``size`` is width and height."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _blurred(image: NDArray[np.float32], radius: NDArray[np.float32]) -> NDArray[np.float32]:
    """An image blurred at every pixel by that pixel's radius."""
    smallest = 0.25
    num_levels = int(np.ceil(np.log(max(float(radius.max()), smallest) / smallest) / np.log(LADDER))) + 2
    stack = blur_stack(image, (smallest * LADDER ** np.arange(num_levels)).tolist())
    position = np.clip(
        np.log(np.maximum(radius, smallest) / smallest) / np.log(LADDER), 0, num_levels - 1.001
    )
    level = position.astype(np.intp)
    part = (position - level).astype(np.float32)
    rows, columns = np.indices(radius.shape)
    lower, upper = stack[level, rows, columns], stack[level + 1, rows, columns]
    return lower + part * (upper - lower)
