"""Triangles of every shape: closed, outward, smooth where they should be, of the right size."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import trimesh
from pydantic import TypeAdapter

from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.geometry import Mesh, bent_card, card_mesh, disc, make_mesh, read_mesh, rectangle

SHAPE = TypeAdapter(spec.Shape)
CLOSED: dict[str, dict[str, Any]] = {
    "sphere": {"type": "sphere", "radius_m": 0.7, "segments": 64},
    "box": {"type": "box", "size_m": (1.0, 2.0, 0.5)},
    "bevelled box": {"type": "box", "size_m": (1.0, 2.0, 0.5), "bevel_m": 0.1},
    "cylinder": {"type": "cylinder", "radius_m": 0.4, "height_m": 1.2, "segments": 128},
    "cone": {"type": "cylinder", "radius_m": 0.4, "top_radius_m": 0.0, "height_m": 1.2, "segments": 128},
    "frustum": {"type": "cylinder", "radius_m": 0.4, "top_radius_m": 0.2, "height_m": 1.2, "segments": 128},
    "torus": {"type": "torus", "major_radius_m": 0.6, "minor_radius_m": 0.2, "segments": 128},
    "lathe": {"type": "lathe", "profile_m": ((0, 0), (0.3, 0.1), (0.2, 0.5), (0, 0.7))},
    "blob": {"type": "blob", "radius_m": 0.5, "amplitude": 0.3, "segments": 64},
    "tube": {"type": "tube", "points_m": ((0, 0, 0), (0, 0.2, 1), (0.5, 0.2, 1.5)), "radius_m": 0.05},
    "tapered tube": {
        "type": "tube",
        "points_m": ((0, 0, 0), (0, 0, 1.2)),
        "radius_m": 0.4,
        "tip_radius_m": 0.2,
        "segments": 128,
    },
    "bars": {"type": "lattice", "pattern": "bars", "size_m": (1.0, 0.5)},
    "compound": {
        "type": "compound",
        "parts": [
            {"shape": {"type": "box"}, "position_m": (0, 0, 0.5), "scale": (1, 2, 1)},
            {"shape": {"type": "cylinder"}, "position_m": (3, 0, 0), "rotation_deg": (90, 0, 30)},
        ],
    },
}
OPEN: dict[str, dict[str, Any]] = {
    "plane": {"type": "plane", "size_m": (2.0, 3.0)},
    "terrain": {"type": "terrain", "size_m": (4.0, 6.0), "resolution": 24},
    "bowl": {"type": "lathe", "profile_m": ((0, 0), (0.3, 0.1), (0.4, 0.5))},
}


def mesh_of(shape: dict) -> Mesh:
    return make_mesh(SHAPE.validate_python(shape))


def merged(mesh: Mesh) -> np.ndarray:
    """Triangles over places instead of vertices: seams closed."""
    _, place = np.unique(mesh.vertices.astype(np.float64).round(6), axis=0, return_inverse=True)
    return place.reshape(-1)[mesh.triangles]


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(np.float64) for i in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def face_normals(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals and areas of the triangles."""
    a, b, c = (mesh.vertices[mesh.triangles[:, i]].astype(np.float64) for i in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return cross / length[:, None], length / 2


@pytest.mark.parametrize("name", CLOSED)
def test_closed_shapes_are_watertight_and_face_outwards(name):
    """Each edge is used once in each direction, and the signed volume is positive."""
    mesh = mesh_of(CLOSED[name])
    edges = Counter()
    for triangle in merged(mesh):
        for i in range(3):
            edges[triangle[i], triangle[(i + 1) % 3]] += 1
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)
    assert volume(mesh) > 0


@pytest.mark.parametrize("name", [*CLOSED, *OPEN])
def test_normals_are_unit_and_on_the_side_of_their_triangles(name):
    mesh = mesh_of((CLOSED | OPEN)[name])
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1)[np.unique(mesh.triangles)], 1, atol=1e-5)
    normals, areas = face_normals(mesh)
    assert (areas > 0).all()
    cosine = np.einsum("ij,ikj->ik", normals, mesh.normals[mesh.triangles].astype(np.float64))
    assert cosine.min() > 0.1
    assert np.isfinite(mesh.uvs).all()
    assert mesh.vertices.dtype == mesh.normals.dtype == mesh.uvs.dtype == np.float32
    assert mesh.triangles.dtype == np.int32
    assert mesh.triangles.max() < len(mesh.vertices)


@pytest.mark.parametrize(
    ("name", "expected_volume", "expected_area"),
    [
        ("sphere", 4 / 3 * math.pi * 0.7**3, 4 * math.pi * 0.7**2),
        ("box", 1.0, 2 * (2 + 0.5 + 1.0)),
        ("cylinder", math.pi * 0.16 * 1.2, 2 * math.pi * 0.16 + 2 * math.pi * 0.4 * 1.2),
        ("cone", math.pi * 0.16 * 1.2 / 3, math.pi * 0.16 + math.pi * 0.4 * math.hypot(0.4, 1.2)),
        ("torus", 2 * math.pi**2 * 0.6 * 0.04, 4 * math.pi**2 * 0.6 * 0.2),
    ],
)
def test_volume_and_area_match_closed_forms(name, expected_volume, expected_area):
    mesh = mesh_of(CLOSED[name])
    assert volume(mesh) == pytest.approx(expected_volume, rel=0.01)
    assert face_normals(mesh)[1].sum() == pytest.approx(expected_area, rel=0.01)


def test_bevel_keeps_the_size_and_rounds_the_edges():
    """Volume of a rounded box: inner box, six slabs, twelve quarter cylinders, eight eighths of a ball."""
    mesh = mesh_of(CLOSED["bevelled box"])
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), (1.0, 2.0, 0.5), rtol=1e-6)
    r, inner = 0.1, np.array([0.8, 1.8, 0.3])
    slabs = 2 * r * (inner[0] * inner[1] + inner[1] * inner[2] + inner[0] * inner[2])
    expected = inner.prod() + slabs + math.pi * r**2 * inner.sum() + 4 / 3 * math.pi * r**3
    assert volume(mesh) == pytest.approx(expected, rel=0.005)


def test_sphere_normals_are_radial_and_seam_shares_places():
    mesh = mesh_of(CLOSED["sphere"])
    np.testing.assert_allclose(mesh.normals * 0.7, mesh.vertices, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.7, rtol=1e-6)


def test_lathe_goes_through_its_profile():
    mesh = mesh_of(CLOSED["lathe"])
    radius = np.hypot(mesh.vertices[:, 0], mesh.vertices[:, 1])
    for r, z in CLOSED["lathe"]["profile_m"]:
        assert np.hypot(radius - r, mesh.vertices[:, 2] - z).min() < 1e-5
    assert radius.max() <= 0.3 + 1e-6


def test_straight_tube_is_a_cylinder():
    mesh = mesh_of(CLOSED["tapered tube"])
    assert volume(mesh) == pytest.approx(math.pi * 1.2 * (0.16 + 0.08 + 0.04) / 3, rel=0.01)


def test_parts_of_a_compound_are_scaled_then_turned_then_moved():
    mesh = mesh_of(CLOSED["compound"])
    box = mesh.vertices[: len(mesh_of(CLOSED["box"]).vertices)]
    np.testing.assert_allclose(box.min(axis=0), (-0.5, -1.0, 0.0), atol=1e-6)
    np.testing.assert_allclose(box.max(axis=0), (0.5, 1.0, 1.0), atol=1e-6)
    rest = mesh.vertices[len(box) :]
    # A cylinder along z, laid along -y by 90 degrees about x, then turned by 30 about z.
    end = rest.astype(np.float64).mean(axis=0) - (3, 0, 0)
    np.testing.assert_allclose(
        end, 0.5 * np.array([math.sin(math.pi / 6), -math.cos(math.pi / 6), 0]), atol=0.02
    )


@pytest.mark.parametrize("pattern", ["bars", "mesh", "chain"])
def test_lattice_fills_its_size_and_is_mostly_open(pattern):
    mesh = mesh_of(
        {"type": "lattice", "pattern": pattern, "size_m": (2.0, 1.0), "pitch_m": 0.1, "wire_m": 0.01}
    )
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0)[[0, 2]], (2.0, 1.0), atol=0.03)
    assert np.ptp(mesh.vertices[:, 1]) < 0.045
    shadow = face_normals(mesh)[1].sum() / math.pi  # of round wires
    assert shadow < 0.5 * 2.0 * 1.0


def test_bent_card_keeps_its_width_along_the_arc_and_comes_forward():
    flat = card_mesh(np.ones((32, 64)), 1.0)
    bent = bent_card(flat, 90.0)
    radius = 2.0 / (math.pi / 2)
    x, y = bent.vertices[:, 0].astype(np.float64), bent.vertices[:, 1].astype(np.float64)
    np.testing.assert_allclose(np.hypot(x, y + radius), radius, rtol=1e-5)
    assert y.min() == pytest.approx(-radius * (1 - math.cos(math.pi / 4)), rel=1e-4)
    np.testing.assert_array_equal(bent.uvs, flat.uvs)
    # Still facing the viewer at -y, each part towards the middle of the arc.
    np.testing.assert_allclose(bent.normals[:, 0] * radius, -x, atol=1e-5)


def test_terrain_has_zero_mean_and_faces_up():
    mesh = mesh_of(OPEN["terrain"])
    assert mesh.vertices[:, 2].mean() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(np.ptp(mesh.vertices[:, :2], axis=0), (4, 6), rtol=1e-6)
    assert (face_normals(mesh)[0][:, 2] > 0).all()


def test_rectangle_and_disc_face_up():
    for mesh, area in ((rectangle(2, 3), 6.0), (disc(0.5, 256), math.pi / 4)):
        normals, areas = face_normals(mesh)
        np.testing.assert_allclose(normals, np.tile([0, 0, 1], (len(normals), 1)), atol=1e-6)
        np.testing.assert_allclose(mesh.normals[np.unique(mesh.triangles)][:, 2], 1, atol=1e-6)
        assert areas.sum() == pytest.approx(area, rel=1e-3)


def test_uvs_of_a_plane_grow_with_x_and_y():
    mesh = rectangle(2, 3)
    np.testing.assert_allclose(mesh.uvs, mesh.vertices[:, :2] / [2, 3] + 0.5, atol=1e-6)


def test_scaled_mesh_keeps_normals_perpendicular():
    """An ellipsoid's normal is the gradient of its equation."""
    scale = np.array([1.0, 2.0, 0.5])
    mesh = mesh_of({"type": "sphere", "radius_m": 1.0}).scaled(scale)
    gradient = mesh.vertices.astype(np.float64) / scale**2
    gradient /= np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(mesh.normals, gradient, atol=1e-5)


def test_moved_mesh_is_rigid():
    pose = np.eye(4)
    pose[:3, :3] = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    pose[:3, 3] = (1, 2, 3)
    mesh = mesh_of(CLOSED["box"])
    vertices, normals = mesh.moved(pose)
    np.testing.assert_allclose(vertices[:, 0], 1 - mesh.vertices[:, 1], atol=1e-6)
    np.testing.assert_allclose(normals[:, 1], mesh.normals[:, 0], atol=1e-6)


# --- Cards -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 37), (16, 100), (5, 3)])
def test_card_covers_every_texel_that_shows(height, width):
    """Every texel with alpha, and what bilinear filtering spreads of it, lies in some triangle."""
    rng = np.random.default_rng(height)
    alpha = np.zeros((height, width), np.float32)
    for _ in range(5):
        alpha[rng.integers(height), rng.integers(width)] = 1
    mesh = card_mesh(alpha, 2.0, cell_px=8)
    np.testing.assert_allclose(mesh.normals, np.tile([0, -1, 0], (len(mesh.normals), 1)))
    np.testing.assert_allclose(
        face_normals(mesh)[0], np.tile([0, -1, 0], (len(mesh.triangles), 1)), atol=1e-6
    )
    # Corners of the two triangles of a cell lie on the cell, so a texel is covered if its cell is there.
    corners = mesh.uvs[mesh.triangles]
    low, high = corners.min(axis=1), corners.max(axis=1)
    for row, column in zip(*np.nonzero(alpha), strict=True):
        for dy in (-0.99, 0.0, 0.99):
            for dx in (-0.99, 0.0, 0.99):
                u, v = (column + 0.5 + dx) / width, 1 - (row + 0.5 + dy) / height
                if 0 < u < 1 and 0 < v < 1:
                    assert (
                        (low[:, 0] <= u) & (u <= high[:, 0]) & (low[:, 1] <= v) & (v <= high[:, 1])
                    ).sum() >= 2
    # Place and texture coordinate go together: 2 m high, standing on z = 0, centred in x.
    np.testing.assert_allclose(mesh.vertices[:, 2], mesh.uvs[:, 1] * 2, atol=1e-6)
    np.testing.assert_allclose(mesh.vertices[:, 0], (mesh.uvs[:, 0] - 0.5) * 2 * width / height, atol=1e-5)


def test_card_leaves_out_what_never_shows():
    alpha = np.zeros((128, 128))
    alpha[60:64, 60:64] = 1
    assert face_normals(card_mesh(alpha, 1.0))[1].sum() < 0.1


# --- Files -----------------------------------------------------------------------------------------


def mesh_file(**fields) -> spec.MeshFile:
    return spec.MeshFile.model_validate({"type": "mesh", "file": {"name": "thing.obj"}, **fields})


@pytest.mark.parametrize("suffix", ["obj", "glb"])
def test_imported_box_stands_on_the_ground_at_its_height(tmp_path, suffix):
    """A file with y up, 2 x 4 x 6: z up here, 1 m high, its foot in the middle; sharp edges stay sharp."""
    path = tmp_path / f"thing.{suffix}"
    box = trimesh.creation.box(extents=(2, 4, 6))
    box.apply_translation((10, 20, 30))
    box.export(path)
    mesh = read_mesh(mesh_file(height_m=1.0), path)
    np.testing.assert_allclose(mesh.vertices.min(axis=0), (-0.25, -0.75, 0), atol=1e-6)
    np.testing.assert_allclose(mesh.vertices.max(axis=0), (0.25, 0.75, 1), atol=1e-6)
    assert volume(mesh) == pytest.approx(0.5 * 1.5 * 1, rel=1e-5)
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    if suffix == "obj":  # trimesh writes vertex normals into GLB, which then hold
        normals = face_normals(mesh)[0].repeat(3, axis=0)
        np.testing.assert_allclose(mesh.normals[mesh.triangles.reshape(-1)], normals, atol=1e-5)


def test_imported_mesh_keeps_its_units_and_axes_if_asked(tmp_path):
    path = tmp_path / "thing.obj"
    trimesh.creation.box(extents=(2, 4, 6)).export(path)
    mesh = read_mesh(mesh_file(y_up=False), path)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), (2, 4, 6), atol=1e-6)


def test_imported_ball_without_normals_is_smooth(tmp_path):
    path = tmp_path / "ball.obj"
    ball = trimesh.creation.icosphere(subdivisions=3)
    lines = [f"v {x} {y} {z}" for x, y, z in ball.vertices] + [f"f {a} {b} {c}" for a, b, c in ball.faces + 1]
    path.write_text("\n".join(lines))
    mesh = read_mesh(mesh_file(), path)
    radial = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert (mesh.normals * radial).sum(axis=1).min() > 0.99


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "thing.obj: "),
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "thing.obj: "),
        (b"v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", "thing.obj: "),
        (b"\x00\x01\x02 not a mesh", "thing.obj: "),
    ],
)
def test_unusable_mesh_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "thing.obj"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_mesh(mesh_file(), path)
    assert "\n" not in str(caught.value)


def test_corrupt_glb_is_refused(tmp_path):
    path = tmp_path / "thing.glb"
    trimesh.creation.box().export(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read as a mesh"):
        read_mesh(mesh_file(), path)


def test_flat_mesh_cannot_be_given_a_height(tmp_path):
    path = tmp_path / "flat.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 0 1\nf 1 2 3\n")
    with pytest.raises(UserError, match="is flat"):
        read_mesh(mesh_file(height_m=1.0), path)
