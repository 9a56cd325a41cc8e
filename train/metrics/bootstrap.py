"""Confidence intervals by bootstrap over clips: targets of one clip share their scene, so they go together.

The percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13): clips
are drawn with replacement as often as there are clips; the middle 95 % of what comes out are the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

MIN_CLIPS = 6
"""Of fewer the bootstrap's interval is far too narrow, so none is given."""
NUM_DRAWS = 1000
LEVEL = 0.95


def mean_interval(by_clip: Sequence[Sequence[float]], rng: np.random.Generator) -> tuple[float, float] | None:
    """Interval of the mean over all items.

    Args:
        by_clip: The values of each clip's items; clips may have different numbers of them.
        rng: For the draws.

    Returns:
        Low and high; None for fewer than `MIN_CLIPS` clips that have a value.
    """
    known = [values for values in by_clip if len(values)]
    if len(known) < MIN_CLIPS:
        return None
    sums = np.array([np.sum(values) for values in known])
    counts = np.array([len(values) for values in known])
    drawn = rng.integers(0, len(known), (NUM_DRAWS, len(known)))
    return _middle(sums[drawn].sum(1) / counts[drawn].sum(1))


def interval(
    num_clips: int,
    statistic: Callable[[Sequence[int]], float],
    rng: np.random.Generator,
    *,
    num_draws: int = 100,
) -> tuple[float, float] | None:
    """Interval of any statistic of a set of clips.

    Args:
        num_clips: How many there are.
        statistic: Its value for a list of clip numbers, in which some occur several times.
        rng: For the draws.
        num_draws: How many; statistics such as Fréchet distances are costly.

    Returns:
        As `mean_interval`.
    """
    if num_clips < MIN_CLIPS:
        return None
    drawn = rng.integers(0, num_clips, (num_draws, num_clips))
    return _middle(np.array([statistic([int(clip) for clip in clips]) for clips in drawn]))


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
