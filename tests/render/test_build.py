"""From spec to arrays: items, files, lights as geometry, environment; the clip's disparity and focus."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.build import SKY_ID, SUN_DISTANCE_M, build
from focuspull.render.frames import fit_disparity_map, shutter_times, split_samples
from tests.benchmarks.agreement import Files, cutout, panorama
from tests.rendering import simple_scene

BALL = {"name": "ball", "shape": {"type": "sphere"}, "position_m": (0, 0, 1)}


def environment_of(environment: dict, files: Files | None = None) -> np.ndarray:
    pixels = build(simple_scene([BALL], environment=environment), files.paths if files else {}).environment
    assert pixels is not None
    return pixels


def card(source: dict, **material) -> dict:
    return {"name": "card", "shape": {"type": "card", "height_m": 1.0, **source}, "material": material}


def test_objects_are_numbered_in_order_and_lights_are_sky():
    lights = [
        {"type": "point", "position_m": (0, 0, 3), "intensity_w_sr": (1, 1, 1)},
        {
            "type": "area",
            "position_m": (0, 0, 3),
            "look_at_m": (0, 0, 0),
            "size_m": (1, 2),
            "radiance": (1, 2, 3),
        },
        {"type": "sun", "direction": (0, 0, 2), "irradiance_w_m2": (1, 1, 1), "angle_deg": 2.0},
    ]
    built = build(simple_scene([BALL, BALL | {"name": "other", "scale": (2, 1, 1)}], lights=lights), {})
    assert [(item.name, item.instance, item.is_sun) for item in built.items] == [
        ("ball", 1, False),
        ("other", 2, False),
        ("_light-0", SKY_ID, False),
        ("_light-1", SKY_ID, True),
    ]
    assert len(built.points) == 1
    assert np.ptp(built.items[1].mesh.vertices[:, 0]) == pytest.approx(2.0, rel=1e-5)
    assert not built.has_cards


def test_area_light_shines_towards_its_aim():
    light = {
        "type": "area",
        "position_m": (1, 2, 3),
        "look_at_m": (1, -2, 0),
        "size_m": (1, 2),
        "radiance": (1, 2, 3),
    }
    item = build(simple_scene([BALL], lights=[light]), {}).items[-1]
    vertices, normals = item.mesh.moved(item.pose(0.0))
    np.testing.assert_allclose(vertices.mean(axis=0), (1, 2, 3), atol=1e-6)
    np.testing.assert_allclose(normals[0], (0, -0.8, -0.6), atol=1e-6)
    assert item.surfaces[0].emission == (1, 2, 3)


def test_sun_is_a_far_disc_with_the_asked_irradiance():
    sun = {"type": "sun", "direction": (3, 0, 4), "irradiance_w_m2": (2, 1, 0.5), "angle_deg": 4.0}
    item = build(simple_scene([BALL], lights=[sun]), {}).items[-1]
    vertices, normals = item.mesh.moved(item.pose(0.0))
    np.testing.assert_allclose(vertices.mean(axis=0), (600, 0, 800), rtol=1e-3, atol=2.0)
    np.testing.assert_allclose(normals[0], (-0.6, 0, -0.8), atol=1e-6)
    radius = np.linalg.norm(vertices - (600, 0, 800), axis=1).max()
    assert math.degrees(math.atan(radius / SUN_DISTANCE_M)) == pytest.approx(2.0, rel=1e-4)
    solid = math.pi * math.sin(math.radians(2)) ** 2
    np.testing.assert_allclose(np.array(item.surfaces[0].emission) * solid, (2, 1, 0.5), rtol=1e-6)


def test_item_pose_takes_frame_numbers():
    item = BALL | {"motion": [{"type": "linear", "velocity_m_s": (12, 0, 0)}]}
    ball = build(simple_scene([item], film={"fps": 24.0, "num_frames": 2}), {}).items[0]
    assert ball.moves
    np.testing.assert_allclose(ball.pose(1.5)[:3, 3], (0.75, 0, 1))


def test_card_takes_color_and_opacity_from_its_image(tmp_path):
    files = Files(tmp_path)
    image = files.add("a.png", cutout())
    built = build(simple_scene([card({"image": image}, roughness=0.3)]), files.paths)
    (surface,) = built.items[0].surfaces
    assert built.has_cards
    assert surface.roughness == 0.3
    assert surface.opacity is not None
    assert surface.opacity.pixels.shape == (128, 96, 1)
    assert not surface.opacity.repeats
    np.testing.assert_allclose(surface.opacity.pixels[..., 0], cutout()[..., 3] / 255, atol=1e-6)


def test_card_sequence_has_a_surface_per_image_used_in_turn(tmp_path):
    files = Files(tmp_path)
    refs = [files.add(f"{i}.png", cutout(i)) for i in range(3)]
    built = build(simple_scene([card({"sequence": {"pattern": "*.png", "frames": refs}})]), files.paths)
    item = built.items[0]
    assert len(item.surfaces) == 3
    assert item.surface(4) is item.surfaces[1]


def test_textures_are_loaded_and_roughness_is_grey(tmp_path):
    files = Files(tmp_path)
    texture = {"type": "image", "file": files.add("a.png", cutout()[..., :3].copy()), "tiles": (2, 3)}
    built = build(
        simple_scene([BALL | {"material": {"base_color": texture, "roughness": texture}}]), files.paths
    )
    surface: Any = built.items[0].surfaces[0]
    assert surface.base_color.pixels.shape == (128, 96, 3)
    assert surface.roughness.pixels.shape == (128, 96, 1)
    assert surface.base_color.tiles == surface.roughness.tiles == (2, 3)


# --- Environment --------------------------------------------------------------------------------------


def test_constant_environment_has_no_image():
    built = build(simple_scene([BALL], environment={"type": "constant", "radiance": (1, 2, 3)}), {})
    assert built.environment is None
    assert built.environment_color == (1, 2, 3)


def test_sky_is_bluer_above_and_ground_below():
    sky = {"type": "sky", "zenith": (0, 0, 1), "horizon": (1, 1, 1), "ground": (0.2, 0.1, 0)}
    pixels = environment_of(sky)
    assert pixels.shape == (256, 512, 3)
    np.testing.assert_allclose(pixels[0, 0], (0, 0, 1), atol=0.01)
    np.testing.assert_allclose(pixels[-1, 0], (0.2, 0.1, 0), atol=0.01)
    assert np.abs(np.diff(pixels[:, 0], axis=0)).max() < 0.2


def test_hdri_rotation_moves_columns_and_keeps_light(tmp_path):
    files = Files(tmp_path)
    environment = {"type": "hdri", "file": files.add("sky.hdr", panorama()), "strength": 2.0}
    plain = environment_of(environment, files)
    quarter = environment_of(environment | {"rotation_deg": 90}, files)
    part = environment_of(environment | {"rotation_deg": 1.0}, files)
    np.testing.assert_allclose(plain, panorama() * 2, rtol=0.02, atol=0.02)
    np.testing.assert_array_equal(quarter, np.roll(plain, 32, axis=1))
    np.testing.assert_allclose(part.sum(axis=1), plain.sum(axis=1), rtol=1e-4)


# --- Unhappy paths ------------------------------------------------------------------------------------


def test_missing_file_is_named():
    scene = simple_scene([card({"image": {"name": "gone.png", "sha256": "a" * 64}})])
    with pytest.raises(UserError, match="gone.png: file is missing"):
        build(scene, {})


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4, 3), 9, np.uint8), "has no alpha channel"),
        (np.zeros((4, 4, 4), np.uint8), "is fully transparent"),
    ],
)
def test_unusable_card_images_are_refused(tmp_path, pixels, message):
    files = Files(tmp_path)
    with pytest.raises(UserError, match=f"a.png: {message}"):
        build(simple_scene([card({"image": files.add("a.png", pixels)})]), files.paths)


def test_sequence_of_different_sizes_is_refused(tmp_path):
    files = Files(tmp_path)
    refs = [files.add("a.png", cutout()), files.add("b.png", cutout()[:50].copy())]
    with pytest.raises(UserError, match="frames differ in size"):
        build(simple_scene([card({"sequence": {"pattern": "*.png", "frames": refs}})]), files.paths)


def test_panorama_must_be_twice_as_wide_as_high(tmp_path):
    files = Files(tmp_path)
    environment = {"type": "hdri", "file": files.add("a.hdr", panorama()[:, :100].copy())}
    with pytest.raises(UserError, match="is 100x64, a lat-long map is 2:1"):
        build(simple_scene([BALL], environment=environment), files.paths)


# --- The clip's disparity, focus and shutter ---------------------------------------------------------


def test_disparity_map_spans_what_is_in_view():
    depth = np.array([[[2.0, 5.0]], [[4.0, np.inf]]], np.float32)
    assert fit_disparity_map(depth).z_near_m == 2.0
    assert fit_disparity_map(depth).z_far_m == np.inf
    assert fit_disparity_map(depth[:, :, :1]).z_far_m == 4.0


@pytest.mark.parametrize(
    ("depth", "message"),
    [(np.full((1, 2, 2), np.inf), "nothing but sky"), (np.full((1, 2, 2), 3.0), "needs depth")],
)
def test_clip_without_depth_is_refused(depth, message):
    with pytest.raises(UserError, match=message):
        fit_disparity_map(depth)


def test_shutter_passes_are_centred_and_stratified():
    film = spec.FilmSpec(shutter=0.5, shutter_samples=4)
    np.testing.assert_allclose(shutter_times(film, 3), (2.8125, 2.9375, 3.0625, 3.1875))
    assert shutter_times(spec.FilmSpec(shutter=0), 3) == [3.0]
    assert split_samples(64, 8) == 8
    assert split_samples(3, 8) == 1
