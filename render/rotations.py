"""Rotation matrices, ``[3, 3]`` float64; angles in degrees, counter-clockwise seen from the axis' tip."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def euler_rotation(degrees: ArrayLike) -> NDArray[np.float64]:
    """Rotation about x, then y, then z."""
    x, y, z = np.asarray(degrees, np.float64)
    return axis_rotation((0, 0, 1), z) @ axis_rotation((0, 1, 0), y) @ axis_rotation((1, 0, 0), x)


def axis_rotation(axis: ArrayLike, degrees: float) -> NDArray[np.float64]:
    """Rotation about an axis of any length (Rodrigues)."""
    a = np.asarray(axis, np.float64)
    a = a / np.linalg.norm(a)
    cross = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
    angle = math.radians(degrees)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
