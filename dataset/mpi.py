"""Focal-plane adaptive multi-plane regions: which part of an image a network level may look at.

A region is a band of distance from the plane in focus, ``|d - d_f|``: region 0 is in focus, region N - 1 is
farthest from it. Level i of the network sees the regions up to i, so its masks grow from the plane in focus
to the whole image. Arrays are NumPy's or torch's, and the result is of the same kind, on the same device;
torch is not imported here, it is there already if a tensor is.

Thresholds between regions, for i = 1 .. N - 1 (Any-to-Bokeh, arXiv 2505.21593, the method's figure; the
exponent ``a`` is from its released code, which has 1 in training and 1.5 in its demo: use one for both)::

    power    h_i = (i / N) ** (1 / d_f ** a)
    linear   h_i = (i / N) / d_f

``linear`` is a misprint that summaries of the paper carry, kept to repeat work that was built on it. It is
degenerate: at d_f = 0.5 it gives 0.5, 1, 1.5, so region 0 holds nearly the whole scene and regions 2 and 3
are always empty, and for d_f <= 0.25 every threshold is at least 1: all is region 0. In the power form the
bands around a far focus get narrower instead, as distances there do in disparity, and no threshold is beyond
1.

The values of disparities are not checked, since that would make the host wait for a GPU.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np

Form = Literal["power", "linear"]

MAX_LEVELS = 255
"""Region ids are uint8."""


def thresholds(focus_disparity: Any, num_levels: int = 4, exponent: float = 1.0, form: Form = "power") -> Any:
    """Distances from the plane in focus at which regions end.

    Args:
        focus_disparity: ``[...]`` array or tensor, or a number, in [0, 1].
        num_levels: Number of regions N, 1 to 255.
        exponent: The exponent ``a`` of ``d_f``, not negative; 0 makes the thresholds the same for every
            focus. Without effect on ``linear``.
        form: ``power``, the paper's; ``linear``, degenerate (module docstring).

    Returns:
        ``[..., N - 1]`` float32, disparity, not decreasing. As ``d_f`` goes to 0 the thresholds go to 0
        (``power``: all but what is exactly in focus is in the last region) or to infinity (``linear``).

    Raises:
        ValueError: If the number of levels, the exponent or the form is not one of those above.
    """
    _check_levels(num_levels)
    if not exponent >= 0 or exponent == float("inf"):
        raise ValueError(f"exponent: must be finite and not negative, got {exponent}")
    xp = _namespace(focus_disparity)
    focus = xp.asarray(focus_disparity, dtype=xp.float64)
    # In float64 and rounded, so that NumPy and torch, whose powers differ in the last bit, agree about ties.
    with np.errstate(divide="ignore", over="ignore"):
        if form == "power":
            inverse = 1.0 / focus**exponent
            levels = [(i / num_levels) ** inverse for i in range(1, num_levels)]
        elif form == "linear":
            levels = [(i / num_levels) / focus for i in range(1, num_levels)]
        else:
            raise ValueError(f"form: must be 'power' or 'linear', got {form!r}")
        if not levels:
            return xp.asarray(focus[..., None][..., :0], dtype=xp.float32)
        return xp.asarray(xp.stack([xp.asarray(level) for level in levels], -1), dtype=xp.float32)


def region_ids(
    disparity: Any,
    focus_disparity: Any,
    *,
    num_levels: int = 4,
    exponent: float = 1.0,
    form: Form = "power",
) -> Any:
    """Region of every pixel: the number of thresholds that ``|d - d_f|`` exceeds.

    Args:
        disparity: ``[..., H, W]`` array or tensor, in [0, 1]; float16 and bfloat16 are compared as float32.
        focus_disparity: ``[...]`` of the same kind, one per image.
        num_levels: Number of regions N, 1 to 255.
        exponent: As in `thresholds`.
        form: As in `thresholds`.

    Returns:
        ``[..., H, W]`` uint8 in 0 .. N - 1, 0 in focus. A distance equal to a threshold is in the lower
        region.

    Raises:
        ValueError: If there is not one focus disparity per image, or an argument of `thresholds` is wrong.
    """
    xp = _namespace(disparity)
    if _namespace(focus_disparity) is not xp:
        raise ValueError("disparity and focus_disparity: must both be NumPy arrays or both torch tensors")
    if disparity.ndim < 2 or tuple(disparity.shape[:-2]) != tuple(focus_disparity.shape):
        raise ValueError(
            f"focus_disparity: must be {list(disparity.shape[:-2])}, one per image of disparity "
            f"{list(disparity.shape)}, got {list(focus_disparity.shape)}"
        )
    bounds = thresholds(focus_disparity, num_levels, exponent, form)
    focus = xp.asarray(focus_disparity, dtype=xp.float32)[..., None, None]
    distance = abs(xp.asarray(disparity, dtype=xp.float32) - focus)
    ids = xp.zeros_like(distance, dtype=xp.uint8)
    for i in range(num_levels - 1):
        ids += distance > bounds[..., i, None, None]
    return ids


def level_masks(ids: Any, num_levels: int = 4) -> Any:
    """What each level sees, narrow to wide.

    Args:
        ids: ``[..., H, W]`` regions of `region_ids`.
        num_levels: Number of regions N they were made with.

    Returns:
        ``[N, ..., H, W]`` bool; mask i is true where the region is at most i, so the last is true everywhere.

    Raises:
        ValueError: If the number of levels is not in 1 .. 255.
    """
    _check_levels(num_levels)
    return _namespace(ids).stack([ids <= i for i in range(num_levels)])


def resize_regions(ids: Any, height: int, width: int) -> Any:
    """Regions on another grid, each that of the nearest pixel, so that none appears that was not there.

    Interpolating ids would invent regions 1 and 2 along every edge between 0 and 3. The images' borders
    coincide, not the first pixels' centres: row r takes source row ``floor((r + 1/2) H / height)``, which is
    torch's ``nearest-exact``.

    Args:
        ids: ``[..., H, W]`` array or tensor of any dtype.
        height: Rows of the result, positive.
        width: Columns of the result, positive.

    Returns:
        ``[..., height, width]``, dtype of ``ids``.

    Raises:
        ValueError: If a size is not positive or ``ids`` has fewer than two axes.
    """
    if height < 1 or width < 1:
        raise ValueError(f"size: must be positive, got {height}x{width}")
    if ids.ndim < 2:
        raise ValueError(f"ids: must be [..., H, W], got {list(ids.shape)}")
    rows = (2 * np.arange(height) + 1) * ids.shape[-2] // (2 * height)
    columns = (2 * np.arange(width) + 1) * ids.shape[-1] // (2 * width)
    return ids[..., rows[:, None], columns]


def _namespace(array: Any) -> Any:
    """The module whose functions take this array: numpy or torch; numbers and sequences are numpy's."""
    return sys.modules["torch"] if type(array).__module__.partition(".")[0] == "torch" else np


def _check_levels(num_levels: int) -> None:
    if not 1 <= num_levels <= MAX_LEVELS:
        raise ValueError(f"num_levels: must be in 1..{MAX_LEVELS}, got {num_levels}")
