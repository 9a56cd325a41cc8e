"""Labels of rendered clips: motion and glass against closed forms."""

from __future__ import annotations

import pytest

from focuspull.render import spec
from focuspull.render.build import build
from focuspull.render.difficulty import clip_difficulty
from tests.rendering import render, simple_scene

WALL = {
    "name": "wall",
    "shape": {"type": "plane", "size_m": (60, 60)},
    "position_m": (0, 10, 1),
    "rotation_deg": (90, 0, 0),
}
BALL = {"name": "ball", "shape": {"type": "sphere", "radius_m": 0.4}, "position_m": (0, 0, 1)}
FILM = {"num_frames": 2, "fps": 1.0}


def difficulty(objects: list[dict], **fields):
    scene = simple_scene(objects, film=FILM, **fields)
    (frames,) = render("mitsuba", scene)
    return clip_difficulty(build(scene, {}), frames), frames, scene


@pytest.mark.mitsuba
def test_a_camera_that_moves_shifts_near_things_more() -> None:
    """A truck by 0.1 m shifts a point at depth z by f_px 0.1 / z."""
    path = {"type": "dolly", "position_m": (0, -5, 1), "look_at_m": (0, 0, 1), "offset_m": (0.1, 0, 0)}
    camera = {"path": path, "ease": False}
    found, frames, scene = difficulty([WALL, BALL], camera=camera)
    near = float((frames.instance[0] == 2).mean())
    focal_at_1024 = frames.focal_px * 1024 / scene.film.width
    far_shift, near_shift = focal_at_1024 * 0.1 / 15, focal_at_1024 * 0.1 / 4.75
    assert found.motion_px == pytest.approx((1 - near) * far_shift + near * near_shift, rel=0.03)
    assert 0.5 < found.disparity_spread <= 1 or near < 0.05


@pytest.mark.mitsuba
def test_things_that_move_shift_where_they_are_seen() -> None:
    motion = [{"type": "linear", "velocity_m_s": (0.2, 0, 0)}]
    found, frames, scene = difficulty([WALL, BALL | {"motion": motion}])
    share = float((frames.instance[0] == 2).mean())
    shift = frames.focal_px * 1024 / scene.film.width * 0.2 / 4.75
    assert found.motion_px == pytest.approx(share * shift, rel=0.05)


@pytest.mark.mitsuba
@pytest.mark.parametrize(
    ("material", "is_clear"),
    [
        ({"transmission": 1.0, "roughness": 0.0}, True),
        ({"metallic": 1.0, "roughness": 0.05}, True),
        ({"metallic": 1.0, "roughness": 0.5}, False),
        ({}, False),
    ],
)
def test_glass_and_mirrors_are_counted(material: dict, is_clear: bool) -> None:
    found, frames, _ = difficulty([WALL, BALL | {"material": material}])
    share = float((frames.instance == 2).mean())
    assert share > 0.02
    assert found.transparent_fraction == pytest.approx(share if is_clear else 0.0)


def test_notes_change_the_scene_only_where_they_are_asked_for() -> None:
    scene = simple_scene([BALL])
    assert "annotate" not in scene.model_dump()
    asked = spec.SceneSpec.model_validate({**scene.model_dump(), "annotate": True})
    assert asked.sha256() != scene.sha256()
