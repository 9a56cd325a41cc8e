"""Disparity and instance ids of both renderers against geometry worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from focuspull.render import spec
from focuspull.render.corpus import load_corpus
from focuspull.render.frames import Frames, fit_disparity_map
from focuspull.render.randomize import randomize
from tests.benchmarks.agreement import Files, scenes
from tests.rendering import BACKENDS, in_child, open_session, render, simple_scene

EXACT = 1e-4
PLANE, BALL = 1, 2
PLANE_TILT_DEG = (35.0, 15.0, 0.0)
BALL_RADIUS_M, BALL_CENTRE_M = 0.6, np.array([0.4, -1.2, 1.3])
FACING_CAMERA = (90.0, 0.0, 0.0)
"""Turns +z to -y, where the camera of `simple_scene` stands."""


def plane(name: str, y: float, *, size: float = 30.0, x: float = 0.0, z: float = 1.0) -> dict:
    """An upright square facing the camera."""
    shape = {"type": "plane", "size_m": (size, size)}
    return {"name": name, "shape": shape, "position_m": (x, y, z), "rotation_deg": FACING_CAMERA}


def tilted_plane_and_ball() -> list[dict]:
    return [
        {"name": "plane", "shape": {"type": "plane", "size_m": (60, 60)}, "rotation_deg": PLANE_TILT_DEG},
        {
            "name": "ball",
            "shape": {"type": "sphere", "radius_m": BALL_RADIUS_M, "segments": 512},
            "position_m": tuple(BALL_CENTRE_M),
        },
    ]


def pixel_rays(frames: Frames, eye: np.ndarray, aim: np.ndarray) -> np.ndarray:
    """Directions ``[H, W, 3]`` through pixel centres, one metre along the axis; from scratch."""
    height, width = frames.disparity.shape[1:]
    forward = (aim - eye) / np.linalg.norm(aim - eye)
    right = np.cross(forward, [0, 0, 1])
    right = right / np.linalg.norm(right)
    down = np.cross(forward, right)
    x = (np.arange(width) + 0.5 - width / 2) / frames.focal_px
    y = (np.arange(height) + 0.5 - height / 2) / frames.focal_px
    return forward + x[None, :, None] * right + y[:, None, None] * down


def plane_depth(rays: np.ndarray, eye: np.ndarray) -> np.ndarray:
    a, b = (math.radians(angle) for angle in PLANE_TILT_DEG[:2])
    # Turned about x by a, then about y by b.
    normal = np.array([math.cos(a) * math.sin(b), -math.sin(a), math.cos(a) * math.cos(b)])
    depth = -(eye @ normal) / (rays @ normal)
    return np.where(depth > 0, depth, np.inf)


def ball_depth(rays: np.ndarray, eye: np.ndarray) -> np.ndarray:
    to_eye = eye - BALL_CENTRE_M
    a, b, c = (rays * rays).sum(-1), rays @ to_eye, to_eye @ to_eye - BALL_RADIUS_M**2
    inside = b * b - a * c
    return np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)


@pytest.mark.parametrize("path", ["static", "dolly", "push-in", "orbit"])
def test_disparity_of_plane_and_ball_is_analytic(backend, path):
    """From each kind of camera path, in each of its frames."""
    eye, aim, move = np.array([0.3, -6.0, 2.0]), np.array([0.1, 0.0, 0.9]), np.array([0.8, 0.5, 0.4])
    extra = {"dolly": {"offset_m": tuple(move)}, "push-in": {"distance_m": 1.5}, "orbit": {"sweep_deg": 30.0}}
    path_spec = {"type": path, "position_m": tuple(eye), "look_at_m": tuple(aim), **extra.get(path, {})}
    num_frames = 1 if path == "static" else 3
    scene = simple_scene(
        tilted_plane_and_ball(),
        size=(128, 72),
        camera={"path": path_spec, "ease": False},
        film={"num_frames": num_frames},
    )
    (frames,) = render(backend, scene)
    for t in range(num_frames):
        progress = t / 2
        eye_t, aim_t = eye.copy(), aim.copy()
        if path == "dolly":
            eye_t, aim_t = eye + progress * move, aim + progress * move
        elif path == "push-in":
            eye_t = eye + progress * 1.5 * (aim - eye) / np.linalg.norm(aim - eye)
        elif path == "orbit":
            turn = math.radians(30.0) * progress
            dx, dy = (eye - aim)[:2]
            eye_t[:2] = aim[:2] + [
                dx * math.cos(turn) - dy * math.sin(turn),
                dx * math.sin(turn) + dy * math.cos(turn),
            ]
        rays = pixel_rays(frames, eye_t, aim_t)
        depths = np.stack(
            [np.full(rays.shape[:2], np.inf), plane_depth(rays, eye_t), ball_depth(rays, eye_t)]
        )
        expected_id = np.where(np.isinf(depths.min(axis=0)), 0, depths.argmin(axis=0))
        # On the outline, and where the far edge of the plane meets the sky, a pixel centre may fall to
        # either side.
        assert (frames.instance[t] != expected_id).mean() < 2e-3
        same = frames.instance[t] == expected_id
        expected = np.clip(frames.disparity_map.disparity(depths.min(axis=0)), 0, 1)
        assert (frames.instance[t] == BALL).sum() > 300
        # The outline of the ball is touched, not hit: there the triangles' depth is not the ball's.
        clear = same & (ball_margin(rays, eye_t) > 0.006)
        assert clear.mean() > 0.98
        np.testing.assert_allclose(frames.disparity[t][clear], expected[clear], atol=EXACT)


def ball_margin(rays: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Distance of a ray from the outline of the ball, metres."""
    unit = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    to_ball = BALL_CENTRE_M - eye
    return np.abs(np.linalg.norm(np.cross(unit, to_ball), axis=-1) - BALL_RADIUS_M)


def test_depth_is_planar_into_the_corners(backend):
    """A wall facing a lens of 122 degrees has one disparity; radial, it would halve to the corner."""
    scene = simple_scene(
        [plane("wall", 0.0, size=60.0), plane("sign", -3.0, size=0.5)],
        camera={"focal_length_mm": 10.0},
        size=(64, 36),
    )
    (frames,) = render(backend, scene)
    wall = frames.instance[0] == 1
    assert wall[[0, 0, -1, -1], [0, -1, 0, -1]].all()
    expected = (1 / 5 - 1 / 5) / (1 / 2 - 1 / 5)
    np.testing.assert_allclose(frames.disparity[0][wall], expected, atol=1e-5)
    np.testing.assert_allclose(frames.disparity[0][~wall], 1.0, atol=1e-5)
    assert frames.disparity_map.z_near_m == pytest.approx(2.0, rel=1e-5)
    assert frames.disparity_map.z_far_m == pytest.approx(5.0, rel=1e-5)


def test_moving_objects_are_where_their_motion_says(backend):
    """A square that comes nearer by 1 m/s and moves to the right by 0.5 m/s."""
    motion = ({"type": "linear", "velocity_m_s": (0.5, -1.0, 0.0)},)
    square = plane("square", -1.0, size=0.8) | {"motion": motion}
    scene = simple_scene([plane("wall", 3.0), square], film={"num_frames": 3, "fps": 2.0}, size=(128, 72))
    (frames,) = render(backend, scene)
    for t in range(3):
        z = 4.0 - 0.5 * t
        mask = frames.instance[t] == 2
        np.testing.assert_allclose(frames.disparity[t][mask], frames.disparity_map.disparity(z), atol=EXACT)
        columns = np.flatnonzero(mask.any(axis=0))
        centre = (columns[0] + columns[-1]) / 2 + 0.5 - 64
        assert centre == pytest.approx(frames.focal_px * 0.25 * t / z, abs=0.6)
        assert columns.size == pytest.approx(frames.focal_px * 0.8 / z, abs=1.1)


def test_cards_are_looked_through_below_half_opacity(backend, files):
    """Four stripes, opacity 0, 0.4, 0.6 and 1, before the same card farther away, before a wall."""
    stripes = np.full((32, 64, 4), 255, np.uint8)
    stripes[..., 3] = np.repeat([0, 102, 153, 255], 16)
    image = files.add("stripes.png", stripes)
    cards = [
        {"name": name, "shape": {"type": "card", "image": image, "height_m": 1.0}, "position_m": (x, y, 0.5)}
        for name, x, y in (("front", 0.0, -2.0), ("middle", -0.9, -1.0))
    ]
    scene = simple_scene([plane("wall", 0.0), *cards], size=(128, 72))
    (frames,) = render(backend, scene, files=files.paths)
    row = frames.instance[0, 36]
    # The front card covers 59 pixels on both sides of the middle, the other one from -84 to 4; stripes of a
    # quarter.
    columns = {-55: 1, -45: 1, -35: 3, -25: 3, -10: 3, 2: 2, 20: 2, 40: 2, 55: 2, 62: 1}
    assert {x: int(row[64 + x]) for x in columns} == columns
    depth = frames.disparity_map.depth_m(frames.disparity[0, 36])
    for number, z in ((1, 5.0), (2, 3.0), (3, 4.0)):
        np.testing.assert_allclose(depth[row == number], z, rtol=1e-4)


def test_card_sequence_shows_its_frames_in_turn(backend, files):
    """Two images, three frames: red on the left, green on the right, red on the left."""
    images = []
    for side, color in (("left", (255, 0, 0)), ("right", (0, 255, 0))):
        pixels = np.zeros((16, 32, 4), np.uint8)
        half = slice(0, 16) if side == "left" else slice(16, 32)
        pixels[:, half, :3], pixels[:, half, 3] = color, 255
        images.append(files.add(f"{side}.png", pixels))
    card = {
        "name": "card",
        "shape": {"type": "card", "sequence": {"pattern": "*.png", "frames": images}, "height_m": 1.0},
        "material": {"ior": 1.01, "roughness": 1.0},
        "position_m": (0.0, -1.0, 0.5),
    }
    scene = simple_scene([plane("wall", 0.0), card], film={"num_frames": 3}, samples=64)
    (frames,) = render(backend, scene, files=files.paths)
    for t, (x, color) in enumerate([(20, 0), (44, 1), (20, 0)]):
        assert frames.instance[t, 18, x] == 2
        assert frames.instance[t, 18, 64 - x] == 1
        rgb = frames.aif[t, 18, x]
        assert rgb.argmax() == color
        assert rgb[color] > 0.9


def test_area_light_is_seen_as_sky_with_a_place_and_sun_as_sky_far_away(backend):
    """Lights have instance 0; an area light has its own depth, the sun is at infinity."""
    area = {
        "type": "area",
        "position_m": (0, -2, 1),
        "look_at_m": (0, -5, 1),
        "size_m": (0.3, 0.3),
        "radiance": (2, 1, 1),
    }
    sun = {"type": "sun", "direction": (0.25, 1, 0), "irradiance_w_m2": (1, 1, 1), "angle_deg": 3.0}
    point = {"type": "point", "position_m": (-0.5, -3, 1), "intensity_w_sr": (1, 1, 1)}
    square = plane("square", 0.0, size=0.5, x=-0.8, z=1.4)
    scene = simple_scene([square], lights=[area, sun, point], eye=(0, -5, 1), aim=(0, 0, 1), size=(64, 36))
    (frames,) = render(backend, scene)
    depth = frames.disparity_map.depth_m(frames.disparity[0])
    assert set(np.unique(frames.instance[0])) == {0, 1}
    assert depth[18, 32] == pytest.approx(3.0, rel=1e-4)
    np.testing.assert_allclose(frames.aif[0, 18, 32], (2, 1, 1), rtol=1e-3)
    x = int(32 + frames.focal_px * 0.25)
    assert frames.disparity[0, 18, x] == 0
    irradiance = math.pi * math.sin(math.radians(1.5)) ** 2 * frames.aif[0, 18, x]
    np.testing.assert_allclose(irradiance, 1.0, rtol=1e-3)
    # The point light shows nowhere: what is not square, area light or sun is the grey of the sky.
    assert frames.aif[0, 18, int(32 - frames.focal_px * 0.25)] == pytest.approx(1.0)


@pytest.mark.cycles
@pytest.mark.mitsuba
def test_renderers_agree_on_disparity_and_instances(files: Files):
    """All materials, a card and small lamps in one scene; what is left is pixel centres on outlines."""
    scene, _ = scenes("everything together", files, 128, 36)
    (cycles,), (mitsuba,) = (render(name, scene, files=files.paths) for name in ("cycles", "mitsuba"))
    assert (np.abs(cycles.disparity - mitsuba.disparity) <= 1e-3).mean() >= 0.995
    assert (cycles.instance == mitsuba.instance).mean() >= 0.995
    assert cycles.disparity_map.z_near_m == pytest.approx(mitsuba.disparity_map.z_near_m, rel=1e-4)


def _truth(backend: str, text: str, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth and instances of one frame, without light."""
    session, _ = open_session(backend, spec.SceneSpec.model_validate_json(text), {}, 1)
    return session.truth(frame)


@pytest.mark.cycles
@pytest.mark.mitsuba
@pytest.mark.parametrize("clip", [0, 1])
def test_renderers_agree_on_the_disparity_of_a_demo_clip(clip):
    scene = randomize(load_corpus("demo").spec, clip)
    frame = scene.film.num_frames - 1
    cycles, mitsuba = (in_child(_truth, backend, scene.canonical_json(), frame) for backend in BACKENDS)
    disparity_map = fit_disparity_map(mitsuba[0])
    difference = np.abs(disparity_map.disparity(cycles[0]) - disparity_map.disparity(mitsuba[0]))
    assert (difference <= 1e-3).mean() >= 0.995
    assert (cycles[1] == mitsuba[1]).mean() >= 0.995
