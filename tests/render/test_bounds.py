"""Boxes around shapes, against their meshes, and distances to them, against formulas."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter

from focuspull.render import motion, spec
from focuspull.render.bounds import bounds, ground_clearance, joined, object_boxes, terrain_height
from focuspull.render.geometry import bent_card, card_mesh, make_mesh
from focuspull.render.pool import MeshAsset

SHAPES = (
    {"type": "sphere", "radius_m": 0.7},
    {"type": "box", "size_m": (1, 2, 3), "bevel_m": 0.1},
    {"type": "plane", "size_m": (3, 2)},
    {"type": "cylinder", "radius_m": 0.2, "top_radius_m": 0.5, "height_m": 2.0},
    {"type": "torus"},
    {"type": "lathe", "profile_m": ((0, -0.1), (0.4, 0.2), (0.1, 0.9), (0, 1))},
    {"type": "blob", "amplitude": 0.5, "seed": 4, "segments": 24},
    {"type": "terrain", "resolution": 24},
    {"type": "tube", "points_m": ((0, 0, 0), (0.3, 0.1, 0.5), (-0.2, 0, 1)), "radius_m": 0.02},
    {"type": "lattice", "pattern": "chain"},
    {"type": "lattice", "pattern": "mesh", "pitch_m": 0.3},
    {
        "type": "compound",
        "parts": (
            {"shape": {"type": "box"}, "position_m": (1, 0, 0), "rotation_deg": (10, 20, 30)},
            {"shape": {"type": "sphere"}, "position_m": (0, 1, 0), "scale": (1, 2, 1)},
            {"shape": {"type": "cylinder"}, "position_m": (0, 0, 2), "rotation_deg": (90, 0, 0)},
        ),
    },
)  # fmt: skip


def thing(shape: dict, **fields) -> spec.ObjectSpec:
    return spec.ObjectSpec.model_validate({"name": "thing", "shape": shape, **fields})


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s["type"])
def test_bounds_hold_the_mesh_and_not_much_more(shape):
    record = TypeAdapter(spec.Shape).validate_python(shape)
    limits = bounds(record)
    assert limits is not None
    low, high = limits
    vertices = make_mesh(record).vertices
    assert (vertices >= low - 1e-5).all()
    assert (vertices <= high + 1e-5).all()
    if shape["type"] not in ("blob", "terrain", "lattice", "compound"):
        assert (np.ptp(vertices, axis=0) >= 0.97 * (high - low) - 0.01).all()


@pytest.mark.parametrize("scale", [(1.0, 1.0, 1.0), (1.5, 1.5, 1.5), (0.5, 1.0, 2.0)])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s["type"])
def test_boxes_hold_the_thing_in_the_world_as_it_moves(shape, scale):
    item = thing(
        shape,
        position_m=(1, 2, 3),
        rotation_deg=(20, -30, 70),
        scale=scale,
        motion=({"type": "linear", "velocity_m_s": (1, 0, 0.5)}, {"type": "spin", "rate_deg_s": 50}),
    )
    for time in (0.0, 0.8):
        vertices, _ = make_mesh(item.shape).scaled(scale).moved(motion.object_pose(item, time))
        assert object_boxes(item, time).distance(vertices).min(axis=1).max() < 1e-4


def test_distance_and_rays_are_those_of_a_box():
    boxes = object_boxes(thing({"type": "box", "size_m": (2, 2, 2)}, rotation_deg=(0, 0, 45)), 0)
    points = [(0, 0, 0.5), (0, 0, 3), (np.sqrt(2) + 1, 0, 0), (2, 2, 0)]
    expected = [0, 2, 1, np.sqrt(8) - 1]
    np.testing.assert_allclose(boxes.distance(points)[:, 0], expected, atol=1e-12)
    hits = boxes.hit_distance((0, -5, 0), [(0, 1, 0), (0, -1, 0), (1, 0, 0)])[:, 0]
    np.testing.assert_allclose(hits, [5 - np.sqrt(2), np.inf, np.inf])
    both = joined([boxes, object_boxes(thing({"type": "lattice", "pattern": "bars"}), 0)])
    assert both.opaque.tolist() == [True, False]


def test_terrain_height_is_that_of_its_mesh():
    shape = spec.Terrain(type="terrain", resolution=48, seed=9)
    vertices = make_mesh(shape).vertices
    np.testing.assert_allclose(terrain_height(shape, vertices[:, :2]), vertices[:, 2], atol=1e-5)
    item = spec.ObjectSpec(name="ground", shape=shape, position_m=(3, 0, 1), rotation_deg=(0, 0, 90))
    world, _ = make_mesh(shape).moved(motion.object_pose(item, 0))
    inner = np.abs(vertices[:, :2]).max(axis=1) < 4.9
    np.testing.assert_allclose(ground_clearance(item, world[inner] + [0, 0, 0.5]), 0.5, atol=1e-4)
    assert ground_clearance(item, [(99.0, 0.0, 0.0)])[0] == np.inf


def test_files_are_not_opened():
    file = spec.FileRef(name="chair.glb", sha256="a" * 64)
    mesh = {"type": "mesh", "file": file, "height_m": 1.0}
    assert bounds(spec.MeshFile.model_validate(mesh | {"height_m": None})) is None
    assert len(object_boxes(thing(mesh | {"height_m": None}), 0).half) == 0
    asset = MeshAsset(id="chair", file=file, height_m=2.0, footprint_m=(1.0, 0.6))
    np.testing.assert_allclose(object_boxes(thing(mesh), 0).half, [[0.5, 0.5, 0.5]])
    np.testing.assert_allclose(object_boxes(thing(mesh), 0, {"a" * 64: asset}).half, [[0.25, 0.15, 0.5]])


@pytest.mark.parametrize("bend", [0.0, 120.0, -180.0])
def test_a_card_up_to_twice_as_wide_as_high_is_within_its_box(bend):
    card = spec.Card.model_validate({"type": "card", "image": "a.png", "height_m": 1.5, "bend_deg": bend})
    vertices = bent_card(card_mesh(np.ones((40, 78)), 1.5), bend).vertices
    limits = bounds(card)
    assert limits is not None
    assert (vertices >= limits[0] - 1e-5).all()
    assert (vertices <= limits[1] + 1e-5).all()
