"""Which object is in focus, from the pixels alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FOCUS_TOLERANCE = 0.02
"""Largest difference between the focus and the median disparity of the object in focus. The focus of a
subject is the median over its visible pixels; here the median is of every `_STEP`-th pixel."""
_STEP = 4


def focus_mask(
    disparity: NDArray[np.float32], instance: NDArray[np.uint16], focus_disparity: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Visible pixels of the object in focus: the instance whose median disparity is nearest to the focus.

    Args:
        disparity: ``[T, H, W]`` in [0, 1].
        instance: ``[T, H, W]``; 0 is no instance.
        focus_disparity: ``[T]``.

    Returns:
        ``[T, H, W]``; empty in frames where no median is within `FOCUS_TOLERANCE`, as in mid-pull.
    """
    mask = np.zeros(instance.shape, np.bool_)
    for frame, focus in enumerate(focus_disparity):
        ids, values = (x[frame, ::_STEP, ::_STEP].ravel() for x in (instance, disparity))
        # One sort of whole numbers, by instance and then by disparity, is ten times faster than two keys.
        ordered = np.sort(ids.astype(np.uint32) << 16 | np.round(values.clip(0, 1) * 65535).astype(np.uint32))
        found, starts, counts = np.unique(ordered >> 16, return_index=True, return_counts=True)
        medians = (ordered[starts + counts // 2] & 65535) / 65535
        distance = np.where(found == 0, np.inf, np.abs(medians - focus))
        if distance.min() <= FOCUS_TOLERANCE:
            mask[frame] = instance[frame] == found[np.argmin(distance)]
    return mask
