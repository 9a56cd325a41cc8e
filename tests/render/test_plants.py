import math

import numpy as np
import pytest

from focuspull.render import spec
from focuspull.render.deform import bent
from focuspull.render.geometry import Mesh, make_mesh, terrain_height
from focuspull.render.plants import scattered

GROUND = spec.Terrain(type="terrain", size_m=(20, 30), amplitude_m=0.4, frequency_per_m=0.2, resolution=40)
SCATTER = spec.Scatter(count=400, size_m=(18, 28), ground=GROUND, seed=3)
GROWN = [
    spec.Grass(type="grass", scatter=SCATTER),
    spec.Strewn(type="strewn", kind="pebbles", scatter=SCATTER),
    spec.Strewn(type="strewn", kind="leaves", scatter=SCATTER),
    *(
        spec.Plant(type="plant", part=part, levels=2, petals=7, pairs=pairs, detail=detail, stems=3)
        for part in ("wood", "leaves", "petals", "centres")
        for pairs, detail in ((False, 1), (True, 3))
    ),
    spec.Plant(type="plant", part="leaves", scatter=SCATTER),
    *(
        spec.Fibres(type="fibres", arrangement=kind, count=200)
        for kind in ("tuft", "fur", "curtain", "seedhead")
    ),
]


def triangle_normals(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Normals of the triangles, not of unit length, and the mean of their corners' normals."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(np.float64) for i in range(3))
    return np.cross(b - a, c - a), mesh.normals[mesh.triangles].astype(np.float64).mean(axis=1)


@pytest.mark.parametrize("shape", GROWN, ids=lambda s: f"{s.type}-{getattr(s, 'part', '')}")
def test_meshes_are_whole_and_face_their_normals(shape: spec.Shape) -> None:
    mesh = make_mesh(shape)
    assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uvs).all()
    assert np.allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-4)
    assert mesh.triangles.min() == 0 and mesh.triangles.max() == len(mesh.vertices) - 1
    face, shading = triangle_normals(mesh)
    agree = np.einsum("ij,ij->i", face, shading) > 0
    assert agree.mean() > 0.98


@pytest.mark.parametrize("shape", GROWN, ids=lambda s: f"{s.type}-{getattr(s, 'part', '')}")
def test_the_same_seed_grows_the_same(shape: spec.Shape) -> None:
    assert np.array_equal(make_mesh(shape).vertices, make_mesh(shape).vertices)


def test_what_stands_on_a_terrain_touches_its_triangles() -> None:
    ground = make_mesh(GROUND)
    at = terrain_height(GROUND, ground.vertices[:, :2])
    assert np.allclose(at, ground.vertices[:, 2], atol=1e-5)
    middles = ground.vertices[ground.triangles].mean(axis=1)
    assert np.allclose(terrain_height(GROUND, middles[:, :2]), middles[:, 2], atol=1e-5)
    places = scattered(SCATTER)
    assert len(places.points) == 400
    assert np.allclose(places.points[:, 2], terrain_height(GROUND, places.points[:, :2]))


def test_scatter_keeps_off_bare_discs_water_and_outside_its_fan() -> None:
    scatter = SCATTER.model_copy(
        update={"bare": ((1.0, 2.0, 3.0),), "above_m": 0.0, "dense_at": (0.0, -14.0), "fan_deg": 60.0}
    )
    points = scattered(scatter).points
    assert len(points) > 100
    # The edge of a disc is soft by 15 %.
    assert np.hypot(points[:, 0] - 1, points[:, 1] - 2).min() > 3 * 0.85
    assert points[:, 2].min() > 0
    assert np.abs(np.arctan2(points[:, 0], points[:, 1] + 14)).max() <= math.radians(30) + 1e-6


def test_density_falls_with_distance() -> None:
    scatter = spec.Scatter(
        count=4000, size_m=(60, 60), dense_at=(0.0, 0.0), dense_radius_m=2.0, patchiness=0.0
    )
    distance = np.hypot(*scattered(scatter).points[:, :2].T)
    # With density 1 / (r^2 + a^2) the share within r goes with log(1 + r^2 / a^2): equal between these radii.
    near, far = ((distance > low) & (distance < high) for low, high in ((2, 6), (6, 14)))
    assert near.mean() / far.mean() == pytest.approx(1.0, rel=0.15)


def test_parts_of_a_plant_fit() -> None:
    plant = spec.Plant(type="plant", part="wood", levels=1, petals=6, seed=5)
    wood, petals = make_mesh(plant), make_mesh(plant.model_copy(update={"part": "petals"}))
    gap = np.linalg.norm(petals.vertices[:, None] - wood.vertices[None], axis=2).min(axis=1)
    assert gap.max() < 1.3 * plant.flower_radius_m


def test_wind_leaves_roots_on_sloping_ground_where_they_are() -> None:
    mesh = make_mesh(spec.Grass(type="grass", scatter=SCATTER, height_m=0.3))
    wind = spec.Wind(type="wind", amplitude_m=0.2, height_m=0.3)
    moved = bent(mesh, wind, 0.4, np.eye(4))
    assert mesh.heights is not None
    step = np.linalg.norm(moved.vertices - mesh.vertices, axis=1)
    assert step[mesh.heights < 1e-6].max() < 1e-6
    assert step.max() > 0.05
    again = bent(mesh, wind, 0.4 + 1e-3, np.eye(4))
    assert np.abs(again.vertices - moved.vertices).max() < 1e-3
