"""Mesh files with their own materials, vertices that move: what is read, what becomes of it in scenes."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.assets_obj import encoded, read_obj
from focuspull.render.build import Built, build
from focuspull.render.file_meshes import is_closed, read_file_mesh
from focuspull.render.glb import FileImage, FileMaterial, FilePart, MeshDocument, read_glb, write_glb
from focuspull.render.textures import TextureMap
from tests.render.assets_made import box_part, checker, two_part_document, write_box_glb, write_obj
from tests.rendering import render, simple_scene


class Shelf:
    """Files by content."""

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}

    def ref(self, path: Path) -> dict[str, str]:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.paths[digest] = path
        return {"name": path.name, "sha256": digest}


def thing(ref: dict, **fields) -> dict:
    shape = {"type": "mesh", "file": ref, "file_materials": True}
    return {"name": "thing", "shape": shape | fields.pop("shape", {}), **fields}


def built(path: Path, **fields) -> Built:
    shelf = Shelf()
    return build(simple_scene([thing(shelf.ref(path), **fields)]), shelf.paths)


def with_material(tmp_path: Path, material: FileMaterial, part: FilePart | None = None) -> Path:
    write_glb(MeshDocument((part or box_part((1, 1, 1)),), (material,)), tmp_path / "one.glb")
    return tmp_path / "one.glb"


def test_what_is_written_is_read_back(tmp_path: Path):
    document = two_part_document()
    material = replace(
        document.materials[0],
        alpha_mode="MASK",
        alpha_cutoff=0.3,
        opacity=0.8,
        transmission=0.4,
        ior=1.33,
        thickness=0.1,
        normal_image=replace(encoded(checker()), repeats=False),
        rough_metal_image=encoded(checker()),
    )
    document = MeshDocument(document.parts, (material, document.materials[1]))
    write_glb(document, tmp_path / "a.glb")
    found = read_glb(tmp_path / "a.glb", "a.glb")
    assert found.materials == document.materials
    for ours, theirs in zip(found.parts, document.parts, strict=True):
        assert ours.uvs is not None and theirs.uvs is not None
        assert (ours.triangles == theirs.triangles).all() and ours.material == theirs.material
        assert np.allclose(ours.vertices, theirs.vertices) and np.allclose(ours.uvs, theirs.uvs)


@pytest.mark.parametrize(
    "wrong", [b"", b"glTF", b"not a mesh at all, but text", struct.pack("<4sII", b"glTF", 2, 12)]
)
def test_a_broken_glb_is_one_line(wrong: bytes, tmp_path: Path):
    (tmp_path / "a.glb").write_bytes(wrong)
    with pytest.raises(UserError, match=r"^a.glb: is a broken GLB file \(.*\). Export it again.$"):
        read_glb(tmp_path / "a.glb", "a.glb")


def test_a_cut_off_glb_is_one_line(tmp_path: Path):
    path = write_box_glb(tmp_path / "a.glb")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UserError, match="ends too early"):
        read_glb(path, "a.glb")


def test_each_material_is_an_item_of_one_object(tmp_path: Path):
    scene = built(write_box_glb(tmp_path / "box.glb"), shape={"height_m": 3.0}, scale=(2.0, 1.0, 1.0))
    assert [(item.name, item.owner, item.instance) for item in scene.items] == [
        ("thing.1", "thing", 1),
        ("thing.2", "thing", 1),
    ]
    checkered, blue = (item.surfaces[0] for item in scene.items)
    assert isinstance(checkered.base_color, TextureMap) and checkered.roughness == pytest.approx(0.8)
    assert blue.base_color == pytest.approx((0.05, 0.1, 0.9))
    low = np.min([item.mesh.vertices.min(axis=0) for item in scene.items], axis=0)
    high = np.max([item.mesh.vertices.max(axis=0) for item in scene.items], axis=0)
    assert np.allclose(low, (-2, -1, 0), atol=1e-5) and np.allclose(high, (2, 1, 3), atol=1e-5)


def test_all_readers_agree_on_where_a_glb_stands(tmp_path: Path):
    path = write_box_glb(tmp_path / "box.glb")
    shelf = Shelf()
    ref = shelf.ref(path)
    own = thing(ref, shape={"height_m": 0.7})
    plain = thing(ref, shape={"height_m": 0.7, "file_materials": False}, name="plain")
    scene = build(simple_scene([own, plain]), shelf.paths)
    ours = np.unique(np.concatenate([item.mesh.vertices for item in scene.items[:2]]).round(5), axis=0)
    theirs = np.unique(scene.items[2].mesh.vertices.round(5), axis=0)
    assert ours.shape == (16, 3) and np.allclose(ours, theirs, atol=1e-5)


def test_alpha_makes_cut_outs(tmp_path: Path):
    image = encoded(checker(alpha=True))
    mask = built(with_material(tmp_path, FileMaterial(base_image=image, alpha_mode="MASK")))
    opacity = mask.items[0].surfaces[0].opacity
    assert opacity is not None and set(np.unique(opacity.pixels)) == {0.0, 1.0} and mask.has_cards
    blend = built(with_material(tmp_path, FileMaterial(opacity=0.25, alpha_mode="BLEND")))
    opacity = blend.items[0].surfaces[0].opacity
    assert opacity is not None and opacity.pixels.ravel() == pytest.approx([0.25])
    opaque = built(with_material(tmp_path, FileMaterial(base_image=image, opacity=0.25)))
    assert opaque.items[0].surfaces[0].opacity is None


def test_a_mesh_that_shows_nothing_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="one.glb: is fully transparent"):
        built(with_material(tmp_path, FileMaterial(opacity=0.0, alpha_mode="BLEND")))


def test_glass_needs_an_inside(tmp_path: Path):
    glass = FileMaterial(transmission=1.0, roughness=0.0)
    closed = built(with_material(tmp_path, glass)).items[0].surfaces[0]
    assert closed.transmission == 1.0 and closed.opacity is None
    box = box_part((1, 1, 1))
    sheet = replace(box, triangles=box.triangles[:2])
    thin = built(with_material(tmp_path, glass, sheet)).items[0].surfaces[0]
    assert thin.transmission == 0.0 and thin.opacity is not None and thin.opacity.pixels.max() < 0.1


def test_triangles_that_face_away_from_their_normals_are_turned(tmp_path: Path):
    box = box_part((1, 1, 1))
    mixed = replace(
        box, triangles=np.where(np.arange(12)[:, None] % 3, box.triangles, box.triangles[:, ::-1])
    )
    mesh = built(with_material(tmp_path, FileMaterial(), mixed)).items[0].mesh
    a, b, c = (mesh.vertices[mesh.triangles[:, i]] for i in range(3))
    facing = np.einsum("ij,ij->i", np.cross(b - a, c - a), mesh.normals[mesh.triangles[:, 0]])
    assert (facing > 0).all() and is_closed(mesh)


def test_normals_that_look_away_from_their_triangles_are_mended(tmp_path: Path):
    box = box_part((1, 1, 1))
    assert box.normals is not None
    normals = box.normals.copy()
    normals[0] *= -1  # one corner of the first side
    mesh = built(with_material(tmp_path, FileMaterial(), replace(box, normals=normals))).items[0].mesh
    good = built(with_material(tmp_path, FileMaterial(), box)).items[0].mesh
    corners = [m.vertices[m.triangles] for m in (mesh, good)]
    assert (corners[0] == corners[1]).all()
    assert np.allclose(mesh.normals[mesh.triangles], good.normals[good.triangles])


def test_an_obj_with_materials_has_to_become_a_glb(tmp_path: Path):
    with pytest.raises(UserError, match="board.obj: is no GLB file.*focuspull-render assets add"):
        built(write_obj(tmp_path / "board.obj"))


def test_an_obj_is_read_with_its_texture(tmp_path: Path):
    document = read_obj(write_obj(tmp_path / "board.obj"), "board.obj").document
    assert [len(part.triangles) for part in document.parts] == [4, 8]
    painted, plain = document.materials
    assert painted.base_image is not None and plain.base_image is None
    assert plain.base_color == pytest.approx((0.214, 0.214, 0.214), abs=1e-3)  # display 0.5 in light
    assert np.ptp(document.parts[0].vertices, axis=0) == pytest.approx((100, 120, 20))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("f 1 2 99", "a corner has the number 99 of 3"),
        ("f 1 2 x", "invalid literal"),
        ("v 1 2 nonsense", "could not convert"),
    ],
)
def test_a_broken_obj_is_one_line(line: str, problem: str, tmp_path: Path):
    path = tmp_path / "a.obj"
    path.write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\n{line}\nf 1 2 3\n")
    with pytest.raises(UserError, match=f"^a.obj: is a broken OBJ file .*{problem}"):
        read_obj(path, "a.obj")


def test_a_missing_texture_is_one_line(tmp_path: Path):
    path = write_obj(tmp_path / "board.obj", "gone.png", has_image=False)
    with pytest.raises(UserError, match="^board.obj: its texture gone.png is missing"):
        read_obj(path, "board.obj")
    assert read_obj(path, "board.obj", needs_textures=False).document.materials[0].base_image is None


# --- Vertices that move -------------------------------------------------------------------------


def moving(tmp_path: Path, frames: np.ndarray, *, materials: bool = True, **deform) -> Built:
    shelf = Shelf()
    path = write_box_glb(tmp_path / "box.glb")
    np.save(tmp_path / "v.npy", frames)
    fields = {"type": "vertices", "file": shelf.ref(tmp_path / "v.npy"), "rate_hz": 12.0} | deform
    item = thing(shelf.ref(path), shape={"height_m": 3.0, "file_materials": materials}, deform=fields)
    return build(simple_scene([item], film={"fps": 24.0, "num_frames": 4}), shelf.paths)


def file_vertices() -> np.ndarray:
    return np.concatenate([part.vertices for part in two_part_document().parts])


def test_vertices_follow_their_file_in_its_order_and_units(tmp_path: Path):
    rest = file_vertices()
    lifted = rest + np.where(np.arange(len(rest))[:, None] >= 24, (0.0, 0.4, 0.0), 0.0)  # the upper box alone
    scene = moving(tmp_path, np.stack([rest, lifted]).astype(np.float32))
    lower, upper = scene.items
    assert np.allclose(lower.formed(1.0).vertices, lower.mesh.vertices, atol=1e-5)
    for frame, lift in ((0, 0.0), (1, 0.4), (2, 0.8), (3, 0.4)):  # 12 Hz in 24 fps, and round again
        moved = upper.formed(float(frame)).vertices - upper.mesh.vertices
        assert np.allclose(moved, (0, 0, lift), atol=1e-5), frame
        assert np.allclose(upper.formed(float(frame)).normals, upper.mesh.normals, atol=1e-5)
    held = moving(tmp_path, np.stack([rest, lifted]).astype(np.float16), loop=False).items[1]
    assert np.allclose(held.formed(9.0).vertices - held.mesh.vertices, (0, 0, 0.8), atol=2e-3)


def test_normals_turn_with_the_vertices(tmp_path: Path):
    rest = file_vertices()
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # a quarter about y
    scene = moving(tmp_path, np.stack([rest, rest @ turn.T]).astype(np.float32), materials=False)
    (whole,) = scene.items
    form = whole.formed(2.0)
    world_turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert np.allclose(form.normals, whole.mesh.normals @ world_turn.T, atol=1e-5)


def test_vertices_of_another_mesh_are_refused(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"v.npy: has the shape \[2, 7, 3\], the mesh file needs \[F, 48, 3\]"
    ):
        moving(tmp_path, np.zeros((2, 7, 3), np.float32))


# --- Rendered -----------------------------------------------------------------------------------


def window(ref: dict) -> list[dict]:
    """A cut-out mesh in front of a far red wall."""
    wall = {
        "name": "wall",
        "shape": {"type": "box", "size_m": (8, 0.2, 8)},
        "position_m": (0, 3, 1),
        "material": {"base_color": (0.9, 0.05, 0.05), "roughness": 1.0},
    }
    return [thing(ref, shape={"height_m": 1.6}, position_m=(0, 0, 0.2)), wall]


@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=getattr(pytest.mark, b)) for b in ("cycles", "mitsuba")]
)
def test_cut_outs_on_meshes_are_seen_through_and_show_what_they_cover(backend: str, tmp_path: Path):
    rgba = np.full((32, 32, 4), 255, np.uint8)
    rgba[..., :3] = (10, 10, 250)
    rgba[8:24, 8:24, 3] = 0  # a hole in every side
    path = with_material(tmp_path, FileMaterial(base_image=encoded(rgba), alpha_mode="MASK", roughness=1.0))
    shelf = Shelf()
    objects = window(shelf.ref(path))
    (frames,) = render(
        backend, simple_scene(objects, size=(48, 48), samples=8, max_bounces=2), files=shelf.paths
    )
    middle, frame = frames.aif[0, 24, 24], frames.aif[0, 14, 24]
    assert middle[0] > 3 * middle[2] and frame[2] > 3 * frame[0]
    assert frames.instance[0, 24, 24] == 2 and frames.instance[0, 14, 24] == 1
    assert frames.disparity[0, 14, 24] > frames.disparity[0, 24, 24] + 0.1


@pytest.mark.cycles
@pytest.mark.mitsuba
def test_both_renderers_show_the_same_textured_mesh_at_the_same_moment(tmp_path: Path):
    rest = file_vertices()
    shelf = Shelf()
    np.save(tmp_path / "v.npy", np.stack([rest, rest + (0.5, 0, 0)]).astype(np.float32))
    deform = {"type": "vertices", "file": shelf.ref(tmp_path / "v.npy"), "rate_hz": 24.0, "loop": False}
    item = thing(shelf.ref(write_box_glb(tmp_path / "box.glb")), deform=deform, rotation_deg=(0, 0, 30))
    scene = simple_scene([item], size=(64, 48), samples=32, film={"num_frames": 2}, max_bounces=1)
    cycles, mitsuba = (render(b, scene, files=shelf.paths)[0] for b in ("cycles", "mitsuba"))
    for frame in (0, 1):
        assert (cycles.instance[frame] != mitsuba.instance[frame]).mean() < 0.01
        assert np.abs(cycles.aif[frame] - mitsuba.aif[frame]).mean() < 0.02
    columns = [np.flatnonzero(mitsuba.instance[f].any(axis=0)).mean() for f in (0, 1)]
    assert columns[1] > columns[0] + 3


def test_images_are_shrunk_to_what_a_renderer_can_hold(tmp_path: Path):
    image = FileImage(encoded(np.zeros((2, 4100, 3), np.uint8)).data, "image/png")
    color = built(with_material(tmp_path, FileMaterial(base_image=image))).items[0].surfaces[0].base_color
    assert isinstance(color, TextureMap) and color.pixels.shape[1] == 1025


def test_moving_vertices_need_a_mesh_file():
    with pytest.raises(ValueError, match="shape of type mesh"):
        spec.ObjectSpec.model_validate(
            {
                "name": "a",
                "shape": {"type": "sphere"},
                "deform": {"type": "vertices", "file": "v.npy", "rate_hz": 24},
            }
        )


def test_pieces_come_in_the_order_of_their_materials(tmp_path: Path):
    document = read_file_mesh(
        spec.MeshFile(type="mesh", file=spec.FileRef(name="box.glb")), write_box_glb(tmp_path / "box.glb")
    )
    assert [piece.material.name for piece in document.pieces] == ["checker", "blue"]
    assert document.num_vertices == 48
