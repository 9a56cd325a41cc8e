"""Thin-lens optics: the only place in focuspull with these formulas.

The camera is a pinhole with a lens of radius R opened at the pinhole, which is what Cycles and
Mitsuba implement: no focus breathing, focus is a plane perpendicular to the optical axis.

Conventions:

* Depth ``z`` is planar, in metres along the optical axis, never radial.
* Disparity ``d`` maps inverse depth affinely to [0, 1], once per clip: 1 is nearest, 0 farthest
  (``z_far`` may be infinite).
* ``k`` is the blur radius in pixels of the clip's own width per unit of disparity,
  ``r = k * |d - d_f|`` (Any-to-Bokeh, section 3.1, the definition of K; BokehMe uses the same).

Derivation of K: a point at depth z, seen through lens point U (``|U| <= R``) with focus at z_f,
lands ``f_px * U * (1/z_f - 1/z)`` pixels from its pinhole image, so the blur radius is
``f_px * R * |1/z - 1/z_f| = f_px * R * span * |d - d_f|`` with ``span = 1/z_near - 1/z_far``, hence
``K = f_px * R * span``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

REFERENCE_WIDTH_PX = 1024
"""Image width at which papers quote K; K scales linearly with width."""


@dataclass(frozen=True)
class DisparityMap:
    """The affine map between inverse depth and disparity of one clip.

    Args:
        z_near_m: Depth with disparity 1, metres, positive and finite.
        z_far_m: Depth with disparity 0, metres, greater than ``z_near_m``; ``math.inf`` for sky.

    Raises:
        ValueError: If the depths are not positive or not in order.
    """

    z_near_m: float
    z_far_m: float

    def __post_init__(self) -> None:
        """Refuse depths that are not positive or not in order."""
        if not 0 < self.z_near_m < self.z_far_m or not math.isfinite(self.z_near_m):
            found = f"z_near={self.z_near_m} m, z_far={self.z_far_m} m"
            raise ValueError(f"disparity map: needs 0 < z_near < z_far, got {found}")

    @property
    def offset(self) -> float:
        """Inverse depth at disparity 0, 1/metres."""
        return 1.0 / self.z_far_m

    @property
    def scale(self) -> float:
        """Inverse depth per unit of disparity (the span), 1/metres: ``1/z = offset + scale * d``."""
        return 1.0 / self.z_near_m - self.offset

    def disparity(self, depth_m: ArrayLike) -> NDArray[np.float64]:
        """Disparity of planar depth ``[...]`` in metres; ``inf`` is allowed; not clipped to [0, 1]."""
        with np.errstate(divide="ignore"):
            return (1.0 / np.asarray(depth_m, np.float64) - self.offset) / self.scale

    def depth_m(self, disparity: ArrayLike) -> NDArray[np.float64]:
        """Planar depth in metres of disparity ``[...]``; ``inf`` where the inverse depth is 0."""
        inverse = self.offset + self.scale * np.asarray(disparity, np.float64)
        with np.errstate(divide="ignore"):
            return 1.0 / np.maximum(inverse, 0.0)


def focal_length_px(focal_length_mm: float, sensor_width_mm: float, width_px: int) -> float:
    """Focal length in pixels of a camera whose sensor width spans the image width."""
    return focal_length_mm / sensor_width_mm * width_px


def focal_length_mm(focal_px: float, sensor_width_mm: float, width_px: int) -> float:
    """Focal length in millimetres; inverse of `focal_length_px`."""
    return focal_px * sensor_width_mm / width_px


def field_of_view_deg(focal_px: float, width_px: int) -> float:
    """Horizontal field of view in degrees."""
    return math.degrees(2.0 * math.atan(width_px / (2.0 * focal_px)))


def lens_radius_m(focal_length_mm: float, f_number: ArrayLike) -> NDArray[np.float64]:
    """Radius of the entrance pupil in metres, ``focal length / (2 N)``; 0 for an infinite f-number."""
    return focal_length_mm * 1e-3 / (2.0 * np.asarray(f_number, np.float64))


def f_number(focal_length_mm: float, lens_radius_m: ArrayLike) -> NDArray[np.float64]:
    """F-number of a lens radius in metres; ``inf`` for a pinhole. Inverse of `lens_radius_m`."""
    with np.errstate(divide="ignore"):
        return focal_length_mm * 1e-3 / (2.0 * np.asarray(lens_radius_m, np.float64))


def k_from_lens_radius(
    lens_radius_m: ArrayLike, focal_px: float, disparity_map: DisparityMap
) -> NDArray[np.float64]:
    """Blur strength K in pixels per unit of disparity: ``K = f_px * R * span`` (module docstring)."""
    return np.asarray(lens_radius_m, np.float64) * focal_px * disparity_map.scale


def lens_radius_from_k(k: ArrayLike, focal_px: float, disparity_map: DisparityMap) -> NDArray[np.float64]:
    """Lens radius in metres that gives blur strength K; inverse of `k_from_lens_radius`."""
    return np.asarray(k, np.float64) / (focal_px * disparity_map.scale)


def focus_distance_m(focus_disparity: ArrayLike, disparity_map: DisparityMap) -> NDArray[np.float64]:
    """Planar distance of the plane in focus, metres; ``inf`` for disparity 0 of a clip with sky."""
    return disparity_map.depth_m(focus_disparity)


def focus_disparity(focus_distance_m: ArrayLike, disparity_map: DisparityMap) -> NDArray[np.float64]:
    """Disparity of a focus distance in metres; inverse of `focus_distance_m`."""
    return disparity_map.disparity(focus_distance_m)


def k_at_width(k_at_1024: ArrayLike, width_px: int) -> NDArray[np.float64]:
    """K in pixels of an image ``width_px`` wide, from K as papers quote it (1024 px wide)."""
    return np.asarray(k_at_1024, np.float64) * (width_px / REFERENCE_WIDTH_PX)


def k_at_1024(k: ArrayLike, width_px: int) -> NDArray[np.float64]:
    """K as papers quote it; inverse of `k_at_width`."""
    return np.asarray(k, np.float64) * (REFERENCE_WIDTH_PX / width_px)


def signed_coc_px(disparity: ArrayLike, focus_disparity: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    """Signed circle-of-confusion radius ``k * (d - d_f)``.

    Args:
        disparity: ``[..., H, W]``, 1 is nearest.
        focus_disparity: Broadcast against ``disparity`` (give it trailing axes: ``d_f[:, None, None]``).
        k: Blur strength in pixels per unit of disparity, not negative; broadcast alike.

    Returns:
        Pixels, positive in front of the plane in focus, negative behind it.

    Raises:
        ValueError: If any ``k`` is negative.
    """
    k = np.asarray(k, np.float64)
    if np.any(k < 0):
        raise ValueError(f"k must not be negative, got {float(k.min())}")
    return k * (np.asarray(disparity, np.float64) - np.asarray(focus_disparity, np.float64))


def coc_radius_px(disparity: ArrayLike, focus_disparity: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    """Circle-of-confusion radius ``r = k * |d - d_f|`` in pixels; arguments as in `signed_coc_px`."""
    return np.abs(signed_coc_px(disparity, focus_disparity, k))


def disparity_from_coc(
    signed_coc_px: ArrayLike, focus_disparity: ArrayLike, k: ArrayLike
) -> NDArray[np.float64]:
    """Disparity from a signed circle of confusion; inverse of `signed_coc_px`, ``k`` must be positive."""
    k = np.asarray(k, np.float64)
    if np.any(k <= 0):
        raise ValueError(f"k must be positive, got {float(k.min())}")
    return np.asarray(focus_disparity, np.float64) + np.asarray(signed_coc_px, np.float64) / k
