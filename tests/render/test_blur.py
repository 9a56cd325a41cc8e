"""The blur of both renderers against closed forms: radius, light, place, and the shape of the aperture."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest

from tests.benchmarks.blur import (
    FOCUS,
    MAX_IN_FOCUS_PX,
    MIN_RADIUS_PX,
    TOLERANCE_PX,
    Disc,
    emitters,
    measure,
)
from tests.rendering import render

WIDTH = 256


def discs(backend: str, *scenes) -> list[list[list[Disc]]]:
    return [measure(frames) for frames in render(backend, *scenes)]


def test_disc_radius_is_k_times_disparity_difference(backend):
    """K 8, 16 and 32 at 1024 px, 2 to 8 px here; the estimator's own noise is below 0.07 px."""
    scenes = [emitters(WIDTH, k, tuple(FOCUS.values()), 40 * k * k) for k in (2, 4, 8)]
    sides = []
    for per_scene in discs(backend, *scenes):
        for disc in (disc for per_target in per_scene for disc in per_target):
            assert disc.shift < 0.3, "the lens must not move anything"
            assert disc.flux == pytest.approx(1, abs=0.15), "the lens must not change the light"
            if abs(disc.expected) >= MIN_RADIUS_PX:
                sides.append(np.sign(disc.expected))
                assert disc.radius == pytest.approx(abs(disc.expected), abs=TOLERANCE_PX)
    assert sides.count(1) >= 8
    assert sides.count(-1) >= 8


def test_points_in_focus_stay_sharp(backend):
    """Each focus falls on an emitter: their own size taken off, nothing is left."""
    for per_target in discs(backend, emitters(WIDTH, 8, tuple(FOCUS.values()), 2560))[0]:
        sharp = [disc.radius for disc in per_target if abs(disc.expected) < 0.05]
        assert sharp
        assert max(sharp) < MAX_IN_FOCUS_PX / 2


LENSES = (
    {"blades": 3, "rotation_deg": 20.0},
    {"blades": 6, "rotation_deg": 10.0},
    {"squeeze": 2.0},
    {"blades": 3, "rotation_deg": 30.0, "squeeze": 1.6},
)


def test_aperture_has_the_shape_of_the_lens(backend):
    """Moments of polygon and ellipse: both have the area of the disc, the corner is where the spec says.

    A regular n-gon with circumradius c has <rho^2> = c^2 (2 + cos(2 pi / n)) / 6; for n = 3 and a corner at
    angle a, <(x + i y)^3> points to 3 a. Squeezing divides x and multiplies y by its root, after the turn.
    Tolerances are about five times the noise; a mirrored triangle is off by 2, one turned by 20 degrees by
    1.
    """
    scene = emitters(WIDTH, 10, (0.5,), 800, LENSES)
    for lens, per_target in zip(LENSES, discs(backend, scene)[0], strict=True):
        for disc in per_target:
            if abs(disc.expected) < 3:
                continue
            second, third = aperture_moments(lens)
            r = abs(disc.expected)
            np.testing.assert_allclose(
                disc.moments / r**2, second, atol=0.03, err_msg=f"{lens} {disc.expected}"
            )
            if lens.get("blades") == 3:
                # Behind the focus the image of the aperture is upside down.
                expected = third * np.sign(disc.expected)
                assert abs(disc.third / r**3 - expected) < 0.3 * abs(third), f"{lens} {disc.expected}"


def aperture_moments(lens: dict) -> tuple[np.ndarray, complex]:
    """Second moments and <(x + i y)^3> of an aperture with the area of the unit disc, from many points."""
    blades, squeeze = lens.get("blades", 0), lens.get("squeeze", 1.0)
    turn = math.radians(lens.get("rotation_deg", 0.0))
    grid = (np.arange(800) + 0.5) / 800 * 5 - 2.5
    x, y = np.meshgrid(grid, grid)
    z = x + 1j * y
    if blades:
        step = 2 * math.pi / blades
        circumradius = math.sqrt(step / math.sin(step))
        around = (np.angle(z) - turn) % step - step / 2  # from the middle of an edge
        inside = np.abs(z) * np.cos(around) <= circumradius * math.cos(step / 2)
    else:
        inside = np.abs(z) <= 1
    points = z[inside]
    x, y = points.real / math.sqrt(squeeze), points.imag * math.sqrt(squeeze)
    second = np.array([[np.mean(x * x), np.mean(x * y)], [np.mean(x * y), np.mean(y * y)]])
    return second, complex(np.mean((x + 1j * y) ** 3))


def test_aperture_moments_agree_with_closed_forms():
    """The reference of the test above, against formulas that need no grid."""
    second, third = aperture_moments({"blades": 3, "rotation_deg": 20.0})
    circumradius = math.sqrt(2 * math.pi / 3 / math.sin(2 * math.pi / 3))
    assert np.trace(second) == pytest.approx(circumradius**2 * (2 + math.cos(2 * math.pi / 3)) / 6, rel=0.01)
    assert cmath.phase(third) == pytest.approx(math.radians(60), abs=0.02)
    second, _ = aperture_moments({"squeeze": 2.0})
    np.testing.assert_allclose(second, np.diag([1 / 8, 1 / 2]), atol=0.003)
