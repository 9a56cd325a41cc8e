"""Smooth curves through points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def monotone_cubic(knots: ArrayLike, values: ArrayLike, at: ArrayLike) -> NDArray[np.float64]:
    """Cubic through keys that never overshoots them (Fritsch and Carlson 1980, harmonic-mean slopes).

    Args:
        knots: ``[N]``, increasing, N >= 2.
        values: ``[N, C]``.
        at: ``[M]``; outside the knots the end values hold.

    Returns:
        ``[M, C]``.
    """
    t, v, x = np.asarray(knots, np.float64), np.asarray(values, np.float64), np.asarray(at, np.float64)
    secant = np.diff(v, axis=0) / np.diff(t)[:, None]
    turning = secant[:-1] * secant[1:] <= 0
    total = np.where(turning, 1.0, secant[:-1] + secant[1:])
    slope = np.zeros_like(v)
    slope[1:-1] = np.where(turning, 0.0, 2 * secant[:-1] * secant[1:] / total)
    x = np.clip(x, t[0], t[-1])
    i = np.clip(np.searchsorted(t, x, "right") - 1, 0, len(t) - 2)
    h = (t[i + 1] - t[i])[:, None]
    s = (x - t[i])[:, None] / h
    return (
        (2 * s**3 - 3 * s**2 + 1) * v[i]
        + (s**3 - 2 * s**2 + s) * h * slope[i]
        + (3 * s**2 - 2 * s**3) * v[i + 1]
        + (s**3 - s**2) * h * slope[i + 1]
    )
