"""Deforming meshes: where points go, and normals that stay those of the surface."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter

from focuspull.render import spec
from focuspull.render.build import build
from focuspull.render.deform import bent, rippled
from focuspull.render.geometry import Mesh, make_mesh
from tests.rendering import simple_scene

SHAPE = TypeAdapter(spec.Shape)
STALK = {"type": "tube", "points_m": ((0, 0, 0), (0, 0, 1)), "radius_m": 0.03, "steps": 48, "segments": 24}
SHEET = {"type": "terrain", "size_m": (2, 1), "amplitude_m": 0, "resolution": 160}
WIND = spec.Wind(type="wind", amplitude_m=0.3, height_m=1.0, direction_deg=30.0, phase=0.2, wavelength_m=3.0)
RIPPLE = spec.Ripple(type="ripple", amplitude_m=0.05, wavelength_m=0.7, direction=(1, 0.5, 0), fixed_m=0.3)


def mesh_of(shape: dict) -> Mesh:
    return make_mesh(SHAPE.validate_python(shape))


def worst_angle_deg(mesh: Mesh) -> float:
    """Between the vertex normals and the triangles around them, averaged per vertex."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(np.float64) for i in range(3))
    cross = np.cross(b - a, c - a)
    _, place = np.unique(
        np.concatenate([mesh.vertices, mesh.normals], axis=1).round(4), axis=0, return_inverse=True
    )
    total = np.zeros((place.max() + 1, 3))
    for i in range(3):
        np.add.at(total, place.reshape(-1)[mesh.triangles[:, i]], cross)
    used = np.unique(mesh.triangles)
    found = total[place.reshape(-1)][used]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    cosine = np.einsum("ij,ij->i", found, mesh.normals[used].astype(np.float64))
    return float(np.degrees(np.arccos(np.clip(np.percentile(cosine, 2), -1, 1))))


@pytest.mark.parametrize("time_s", [0.0, 0.7, 3.1])
def test_wind_bends_along_its_direction_and_leaves_the_foot(time_s):
    rest, pose = mesh_of(STALK), np.eye(4)
    moved = bent(rest, WIND, time_s, pose)
    shift = (moved.vertices - rest.vertices).astype(np.float64)
    along = np.array([np.cos(np.pi / 6), 0.5, 0.0])
    np.testing.assert_allclose(np.cross(shift, along), 0, atol=1e-6)
    height = rest.vertices[:, 2]
    assert np.abs(shift[height < 1e-6]).max() == 0
    top = shift[height > 0.999] @ along
    assert (top > 0.2 * WIND.amplitude_m - 1e-6).all() and (top < WIND.amplitude_m + 1e-6).all()
    assert worst_angle_deg(moved) < 5


def test_wind_blows_the_same_way_over_things_that_are_turned():
    rest, turned = mesh_of(STALK), np.eye(4)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    here = bent(rest, WIND, 0.4, np.eye(4)).vertices.astype(np.float64)
    there = bent(rest, WIND, 0.4, turned).vertices.astype(np.float64) @ turned[:3, :3].T
    tips = [points[rest.vertices[:, 2] > 0.999].mean(axis=0) for points in (here, there)]
    np.testing.assert_allclose(tips[0], tips[1], atol=2e-3)


def test_ripples_travel_and_their_normals_are_those_of_the_waves():
    rest = mesh_of(SHEET)
    moved, later = rippled(rest, RIPPLE, 0.3), rippled(rest, RIPPLE, 0.3 + 1.0)
    np.testing.assert_allclose(moved.vertices, later.vertices, atol=1e-6)  # one period
    assert np.abs(moved.vertices[:, 2]).max() == pytest.approx(RIPPLE.amplitude_m, rel=0.02)
    assert worst_angle_deg(moved) < 1.0
    way = rest.vertices @ np.array([1, 0.5, 0]) / np.hypot(1, 0.5)
    assert np.abs(moved.vertices[way < way.min() + 1e-3, 2]).max() < 1e-4


def test_a_deforming_object_moves_and_keeps_its_triangles():
    item = {
        "name": "reed",
        "shape": STALK,
        "rotation_deg": (0, 0, 90),
        "deform": WIND.model_dump(),
    }
    scene = simple_scene([item], film={"num_frames": 3, "fps": 4.0})
    (reed,) = build(scene, {}).items
    assert reed.moves
    first, last = reed.placed(0.0)[0], reed.placed(2.0)[0]
    assert len(first) == len(reed.mesh.vertices) and np.abs(first - last).max() > 1e-3


def test_vertices_of_a_file_need_a_mesh():
    deform = {"type": "vertices", "file": "walk.npy", "rate_hz": 24}
    with pytest.raises(ValueError, match="for a shape of type mesh"):
        spec.ObjectSpec.model_validate({"name": "a", "shape": {"type": "box"}, "deform": deform})
