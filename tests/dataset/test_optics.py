"""Thin-lens optics: closed forms by hand, and every function against its inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from focuspull.dataset import optics

ROOM = optics.DisparityMap(2.0, 10.0)
OUTDOORS = optics.DisparityMap(0.5, math.inf)


def test_nearest_depth_has_disparity_one_and_farthest_zero():
    np.testing.assert_allclose(ROOM.disparity([2.0, 10.0]), [1.0, 0.0], atol=1e-15)
    np.testing.assert_array_equal(OUTDOORS.disparity([0.5, math.inf]), [1.0, 0.0])


@pytest.mark.parametrize("mapping", [ROOM, OUTDOORS])
def test_depth_and_disparity_are_inverse(mapping: optics.DisparityMap):
    disparity = np.linspace(0, 1, 11)
    np.testing.assert_allclose(mapping.disparity(mapping.depth_m(disparity)), disparity, atol=1e-14)
    inverse_depth = mapping.offset + mapping.scale * disparity
    np.testing.assert_allclose(1 / mapping.depth_m(disparity), inverse_depth, atol=1e-14)


@pytest.mark.parametrize(("near", "far"), [(0, 1), (2, 1), (1, 1), (math.inf, math.inf), (math.nan, 1)])
def test_depths_out_of_order_are_refused(near: float, far: float):
    with pytest.raises(ValueError, match=r"needs 0 < z_near < z_far, got z_near="):
        optics.DisparityMap(near, far)


def test_full_frame_36_mm_lens_sees_53_degrees():
    focal_px = optics.focal_length_px(36.0, 36.0, 1024)
    assert focal_px == 1024
    assert optics.focal_length_mm(focal_px, 36.0, 1024) == 36.0
    assert optics.field_of_view_deg(focal_px, 1024) == pytest.approx(2 * math.degrees(math.atan(0.5)))


def test_50_mm_at_f_2_has_a_pupil_of_25_mm():
    assert optics.lens_radius_m(50.0, 2.0) == pytest.approx(0.0125)
    assert optics.f_number(50.0, 0.0125) == pytest.approx(2.0)
    assert optics.lens_radius_m(50.0, math.inf) == 0
    assert optics.f_number(50.0, 0.0) == math.inf


def test_blur_radius_of_a_traced_ray_is_k_times_disparity_difference():
    """Through the rim of the lens, similar triangles put the ray f_px * R * |1/z - 1/z_f| px off."""
    focal_px, radius_m, depth_m, focus_m = 900.0, 0.02, 3.0, 7.0
    offset_at_focus_m = radius_m * (focus_m - depth_m) / depth_m
    traced_px = focal_px * offset_at_focus_m / focus_m
    k = optics.k_from_lens_radius(radius_m, focal_px, ROOM)
    focus = optics.focus_disparity(focus_m, ROOM)
    assert optics.coc_radius_px(ROOM.disparity(depth_m), focus, k) == pytest.approx(traced_px)
    assert optics.lens_radius_from_k(k, focal_px, ROOM) == pytest.approx(radius_m)
    assert optics.focus_distance_m(focus, ROOM) == pytest.approx(focus_m)


def test_sky_in_focus_is_at_infinity():
    assert optics.focus_distance_m(0.0, OUTDOORS) == math.inf
    assert optics.focus_disparity(math.inf, OUTDOORS) == 0


def test_k_scales_with_width():
    assert optics.k_at_width(32.0, 256) == 8
    np.testing.assert_allclose(optics.k_at_1024(optics.k_at_width([4.0, 32.0], 832), 832), [4.0, 32.0])


def test_signed_coc_is_positive_in_front_of_the_focus_and_broadcasts_over_frames():
    disparity = np.array([[[0.2, 0.8]], [[0.2, 0.8]]])
    focus, k = np.array([0.5, 0.2])[:, None, None], np.array([10.0, 20.0])[:, None, None]
    signed = optics.signed_coc_px(disparity, focus, k)
    np.testing.assert_allclose(signed, [[[-3, 3]], [[0, 12]]], atol=1e-12)
    np.testing.assert_array_equal(optics.coc_radius_px(disparity, focus, k), np.abs(signed))
    np.testing.assert_allclose(optics.disparity_from_coc(signed, focus, k), disparity)


def test_negative_k_is_refused():
    with pytest.raises(ValueError, match=r"must not be negative, got -1\.0"):
        optics.signed_coc_px(0.5, 0.5, [-1.0, 2.0])
    with pytest.raises(ValueError, match=r"must be positive, got 0\.0"):
        optics.disparity_from_coc(1.0, 0.5, 0.0)
