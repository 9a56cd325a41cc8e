from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from focuspull.render.geometry import Mesh, make_mesh
from focuspull.render.solids import hull_points
from focuspull.render.spec import Box, Compound, Faceted, Hull, Part, Plane, Wall

CAR = Hull(type="hull", stations=((-1, 0.5, 0, 0.5), (0, 0.8, 0, 1), (1, 0.5, 0.1, 0.5)), squareness=4.0)
PRISM = Faceted(type="faceted", profile_m=((0, 0), (1, 0), (1, 2), (0, 2)), sides=3)


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(float) for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


@pytest.mark.parametrize("shape", [CAR, PRISM, Wall(type="wall", openings_m=((-1, 1, 0, 2), (1, 0, 2, 2)))])
def test_triangles_face_where_their_normals_point(shape: Hull | Faceted | Wall) -> None:
    mesh = make_mesh(shape)
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(float) for i in range(3))
    facing = np.cross(b - a, c - a)
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    assert ((facing * mesh.normals[mesh.triangles].mean(axis=1)).sum(axis=1) > 0.8).all()


def test_a_hull_is_closed_and_as_large_as_its_stations() -> None:
    mesh = make_mesh(CAR)
    assert volume(mesh) == pytest.approx(2 * 1.6 * 0.72, rel=0.2)
    assert mesh.vertices[:, 0].min() == -1
    assert mesh.vertices[:, 1].max() == pytest.approx(0.8, abs=0.02)
    assert mesh.vertices[:, 2].max() == pytest.approx(1.0, abs=0.02)


def test_points_of_a_hull_lie_on_it() -> None:
    side, top = hull_points(CAR, 1.0, [0.0, 90.0])
    np.testing.assert_allclose(side, (0, 0.8, 0.5), atol=1e-6)
    np.testing.assert_allclose(top, (0, 0, 1), atol=1e-6)


def test_a_taper_narrows_the_top() -> None:
    narrow = CAR.model_copy(update={"taper": 0.5})
    assert hull_points(narrow, 1.0, 60.0)[1] < 0.7 * hull_points(CAR, 1.0, 60.0)[1]
    assert hull_points(narrow, 1.0, -60.0)[1] > 0.9 * hull_points(CAR, 1.0, -60.0)[1]


def test_a_wall_is_open_where_it_should_be() -> None:
    wall = Wall(type="wall", size_m=(4, 3), depth_m=0.5, openings_m=((-1, 1, 1, 2),))
    mesh = make_mesh(wall)
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(float) for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    front = (np.abs(mesh.vertices[mesh.triangles][..., 1]) < 1e-9).all(axis=1)
    assert area[front].sum() == pytest.approx(4 * 3 - 2)
    assert area[~front].sum() == pytest.approx(0.5 * (2 + 2 + 1 + 1))


def test_a_prism_has_the_volume_of_a_prism() -> None:
    assert volume(make_mesh(PRISM)) == pytest.approx(2 * 3 * np.sqrt(3) / 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hull(type="hull", stations=((0, 1, 0, 1), (0, 1, 0, 1))), "order of x"),
        (lambda: Hull(type="hull", stations=((0, 1, 1, 1), (1, 1, 0, 1))), "lowest z"),
        (lambda: Wall(type="wall", size_m=(2, 2), openings_m=((0, 0, 3, 1),)), "does not lie in the wall"),
    ],
)
def test_impossible_solids_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()


def test_a_sharp_box_is_the_limit_of_a_bevelled_one() -> None:
    sharp = make_mesh(Box(type="box", size_m=(1, 2, 3)))
    assert len(sharp.triangles) == 12
    assert volume(sharp) == pytest.approx(6)
    assert volume(make_mesh(Box(type="box", size_m=(1, 2, 3), bevel_m=1e-4))) == pytest.approx(6, rel=1e-3)


def test_parts_of_one_shape_do_not_disturb_each_other() -> None:
    plane = Plane(type="plane", size_m=(1, 1))
    parts = (
        Part(shape=plane),
        Part(shape=plane, position_m=(0, 0, 2), scale=(2, 1, 1)),
        Part(shape=plane, rotation_deg=(90, 0, 0)),
    )
    low, high, upright = np.split(make_mesh(Compound(type="compound", parts=parts)).vertices, 3)
    np.testing.assert_allclose(np.ptp(low, axis=0), (1, 1, 0))
    np.testing.assert_allclose(np.ptp(high, axis=0), (2, 1, 0))
    np.testing.assert_allclose(np.ptp(upright, axis=0), (1, 0, 1), atol=1e-6)
