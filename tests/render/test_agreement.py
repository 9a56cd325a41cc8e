"""The two renderers against each other, and their light and orientation against closed forms.

`tests.benchmarks.agreement` is the full table (512 px); here the classes are small. Its estimate has no
noise in it on average; sizes and paths are chosen so that twice its standard error stays below the wanted
difference.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.benchmarks.agreement import CASES, Files, compare, panorama, scenes
from tests.rendering import BACKENDS, render, simple_scene

MATT = {"ior": 1.01, "roughness": 1.0}
both = [pytest.mark.cycles, pytest.mark.mitsuba]
BRIEF = ("everything together", "motion, shutter 0.5", "diffuse")


def agreement(name: str, files: Files, width: int, samples: int) -> dict[str, tuple[float, float]]:
    pair = scenes(name, files, width, samples)
    middle = pair[0].film.num_frames // 2
    cycles, mitsuba = (render(backend, *pair, files=files.paths, frames=[middle]) for backend in BACKENDS)
    return compare(cycles, mitsuba)


@pytest.mark.parametrize("name", [pytest.param(name, marks=both) for name in BRIEF])
def test_renderers_agree(name, files):
    """At 128 px two standard errors are 48 dB for the diffuse scene, 38 dB for the one with everything."""
    found = agreement(name, files, 128, 36 if name != "diffuse" else 64)
    for stream, (clean, _) in found.items():
        assert clean >= CASES[name].wanted_db, stream


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=both) for name in CASES])
def test_renderers_agree_on_every_class(name, files):
    found = agreement(name, files, 256, 64)
    for stream, (clean, _) in found.items():
        assert clean >= CASES[name].wanted_db, stream


# --- Light, against closed forms ----------------------------------------------------------------

ALBEDO = 0.6
FLOOR = {
    "name": "floor",
    "shape": {"type": "plane", "size_m": (40, 40)},
    "material": {"base_color": (ALBEDO,) * 3, **MATT},
}
MARKER = {
    "name": "marker",
    "shape": {"type": "box", "size_m": (0.1, 0.1, 0.1)},
    "position_m": (-0.3, 0.2, 0.1),
}
FAINT_RADIANCE = 2e-3
"""From everywhere, because an image without any light is refused."""
FAINT = {"type": "constant", "radiance": (FAINT_RADIANCE,) * 3}


def floor_radiance(backend: str, lights: list[dict], samples: int = 256) -> np.ndarray:
    """Radiance that the lights give the origin of a matt floor, seen from above."""
    scene = simple_scene(
        [FLOOR, MARKER],
        lights=lights,
        eye=(0, -0.01, 3),
        aim=(0, 0, 0),
        environment=FAINT,
        samples=samples,
        size=(33, 17),
        camera={"focal_length_mm": 200},
    )
    (frames,) = render(backend, scene)
    return frames.aif[0, 7:10, 15:18].mean(axis=(0, 1), dtype=np.float64) - ALBEDO * FAINT_RADIANCE


def test_point_light_gives_its_intensity(backend):
    light = {"type": "point", "position_m": (1.0, 0.5, 2.0), "intensity_w_sr": (10, 5, 1)}
    squared = 1 + 0.25 + 4
    expected = ALBEDO / math.pi * np.array([10, 5, 1]) * 2 / squared**1.5
    np.testing.assert_allclose(floor_radiance(backend, [light]), expected, rtol=0.01)


def test_sun_gives_its_irradiance_from_its_direction(backend):
    light = {"type": "sun", "direction": (2, 1, 2), "irradiance_w_m2": (3, 2, 1), "angle_deg": 1.0}
    expected = ALBEDO / math.pi * np.array([3, 2, 1]) * 2 / 3
    np.testing.assert_allclose(floor_radiance(backend, [light]), expected, rtol=0.01)


def test_area_light_shines_to_the_front_only(backend):
    light = {
        "type": "area",
        "position_m": (1, 0, 2),
        "look_at_m": (0, 0, 0),
        "size_m": (0.2, 0.1),
        "radiance": (50, 20, 10),
    }
    squared = 5.0
    # Facing the origin; small, so that the inverse square law holds within 1 %.
    expected = ALBEDO / math.pi * np.array([50, 20, 10]) * 0.02 * (2 / math.sqrt(5)) / squared
    np.testing.assert_allclose(floor_radiance(backend, [light]), expected, rtol=0.015)
    away = light | {"look_at_m": (2, 0, 4)}
    np.testing.assert_allclose(floor_radiance(backend, [away]), 0, atol=1e-4)


def test_emitting_objects_light_and_are_seen_from_the_front_only(backend):
    """A square that shines away from the camera is black to it, and lights what it faces."""
    square = {
        "name": "lamp",
        "shape": {"type": "plane", "size_m": (0.5, 0.5)},
        "material": {"emission": (5, 4, 3)},
        "position_m": (0, -1, 1),
        "rotation_deg": (-90, 0, 0),
    }
    wall = {
        "name": "wall",
        "shape": {"type": "plane", "size_m": (9, 9)},
        "position_m": (0, 0, 1),
        "rotation_deg": (90, 0, 0),
    }
    scene = simple_scene([wall | {"material": MATT}, square], environment=FAINT, samples=64)
    (frames,) = render(backend, scene)
    np.testing.assert_array_equal(frames.aif[0, 18, 32], 0)
    # A square of side s faces the wall 1 m away: its form factor at the wall beside it is large.
    beside = frames.aif[0, 18, 32 + 8] - 0.8 * FAINT_RADIANCE
    assert beside[0] > 0.05
    np.testing.assert_allclose(beside / beside[0], (1, 0.8, 0.6), rtol=0.01)


# --- Orientation ----------------------------------------------------------------------------------


def spot(rows: slice, columns: slice) -> np.ndarray:
    image = np.full((32, 64, 3), 0.01, np.float32)
    image[rows, columns] = 100.0
    return image


@pytest.mark.parametrize(("column", "rotation_deg"), [(32, 0.0), (40, 0.0), (12, 0.0), (32, 45.0)])
def test_environment_is_seen_and_lights_from_the_same_place(backend, files, column, rotation_deg):
    """A patch 34 degrees up: columns right of the middle (+x) turn towards -y, as does a rotation."""
    file = files.add(f"spot-{column}.hdr", spot(slice(9, 11), slice(column - 1, column + 1)))
    azimuth = math.radians((column - 32) / 64 * 360 + rotation_deg)
    elevation = math.radians(90 * (1 - 10 / 16))
    toward = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            -math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    environment = {"type": "hdri", "file": file, "rotation_deg": rotation_deg}
    ball = {
        "name": "ball",
        "shape": {"type": "sphere", "radius_m": 0.2},
        "material": MATT,
        "position_m": tuple(-1.5 * toward),
    }
    # Looking away from the light the camera sees the ball's brightest point in the middle ...
    lit = simple_scene(
        [ball], eye=(0, 0, 0), aim=tuple(-toward), environment=environment, samples=64, size=(64, 64)
    )
    # ... and looking towards it, the patch.
    far = ball | {"position_m": tuple(3 * toward + np.array([0, 0, 0.8]))}
    seen = simple_scene(
        [far], eye=(0, 0, 0), aim=tuple(toward), environment=environment, samples=16, size=(64, 64)
    )
    lit_frames, seen_frames = render(backend, lit, seen, files=files.paths)
    on_ball = np.where(lit_frames.instance[0] == 1, lit_frames.aif[0].mean(axis=2), 0)
    for image in (on_ball**4, np.where(seen_frames.instance[0] == 0, seen_frames.aif[0].mean(axis=2), 0)):
        rows, columns = np.indices(image.shape) + 0.5
        centre = np.array([(columns * image).sum(), (rows * image).sum()]) / image.sum()
        np.testing.assert_allclose(centre, (32, 32), atol=1.0)


@pytest.mark.parametrize("tiles", [(1.0, 1.0), (2.0, 1.5)])
def test_textures_are_upright_and_tile_from_the_lower_left_corner(backend, files, tiles):
    """A picture on a square that faces the camera, in even light: each pixel shows the texel it should."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(60, 255, (6, 6, 3), dtype=np.uint8)
    image = coarse.repeat(8, axis=0).repeat(8, axis=1)
    file = files.add("patches.png", image)
    material = {"base_color": {"type": "image", "file": file, "tiles": tiles}, **MATT}
    square = {
        "name": "square",
        "shape": {"type": "plane", "size_m": (2, 2)},
        "position_m": (0, 0, 1),
        "rotation_deg": (90, 0, 0),
    }
    floor = {
        "name": "behind",
        "shape": {"type": "plane", "size_m": (99, 99)},
        "position_m": (0, 3, 1),
        "rotation_deg": (90, 0, 0),
    }
    scene = simple_scene(
        [square | {"material": material}, floor], samples=64, size=(96, 96), camera={"focal_length_mm": 75}
    )
    (frames,) = render(backend, scene, files=files.paths)
    linear = ((image / 255 + 0.055) / 1.055) ** 2.4
    # 2 m at 5 m are 80 px of the 96.
    checked = 0
    for row in range(4, 80, 8):
        for column in range(4, 80, 8):
            u, v = (column + 0.5) / 80 * tiles[0] % 1, (1 - (row + 0.5) / 80) * tiles[1] % 1
            x, y = u * 6 % 1, v * 6 % 1
            if min(x, y, 1 - x, 1 - y) < 0.25:  # close to where two patches meet
                continue
            texel = linear[int((1 - v) * 48), int(u * 48)]
            np.testing.assert_allclose(frames.aif[0, row + 8, column + 8], texel, rtol=0.08, atol=0.01)
            checked += 1
    assert checked > 20


def test_panorama_matches_between_renderers_and_the_file(backend, files):
    """The sky that the camera sees is the file's, texel for texel."""
    file = files.add("panorama.hdr", panorama())
    ball = {"name": "ball", "shape": {"type": "sphere", "radius_m": 0.1}, "position_m": (2, 0, 0)}
    scene = simple_scene(
        [ball],
        eye=(0, 0, 0),
        aim=(1, 0, 0),
        environment={"type": "hdri", "file": file},
        samples=64,
        size=(64, 64),
        camera={"focal_length_mm": 18},
    )
    (frames,) = render(backend, scene, files=files.paths)
    sky = panorama()
    worst = []
    for row in range(2, 64, 6):
        for column in range(2, 64, 6):
            x, y = (column + 0.5 - 32) / 32, -(row + 0.5 - 32) / 32
            azimuth, elevation = math.atan2(x, 1), math.atan2(y, math.hypot(1, x))
            u, v = 64 + azimuth / (2 * math.pi) * 128, 32 - elevation / math.pi * 64
            near = sky[int(v) - 2 : int(v) + 3, int(u) - 2 : int(u) + 3]
            if np.ptp(near, axis=(0, 1)).max() < 0.1 and frames.instance[0, row, column] == 0:
                worst.append(np.abs(frames.aif[0, row, column] - sky[int(v), int(u)]).max())
    assert len(worst) > 50
    assert max(worst) < 0.02
