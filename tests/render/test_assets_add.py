"""The user's files as assets: each kind added with one command and seen in a clip, broken ones refused."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from focuspull.dataset.errors import UserError
from focuspull.render import cli
from focuspull.render.assets import Asset, file_path, read_manifest
from focuspull.render.assets_add import AddOptions, Outcome, add
from focuspull.render.corpus import load_corpus
from focuspull.render.frames import Frames
from focuspull.render.glb import FilePart, MeshDocument, read_glb, write_glb
from focuspull.render.randomize import randomize
from tests.render.assets_made import (
    box_part,
    checker,
    make_blend,
    panorama,
    scripts_ran,
    two_part_document,
    write_box_glb,
    write_image,
    write_obj,
    write_video,
)
from tests.render.test_corpus import document, write
from tests.rendering import in_child, render


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty library."""
    root = tmp_path / "library"
    monkeypatch.setenv("FOCUSPULL_ASSETS", str(root))
    return root


def added(path: Path, library: Path, **options) -> list[Outcome]:
    return add(path, AddOptions(**options), library, lambda outcome: None)


def one(path: Path, library: Path, **options) -> Asset:
    (outcome,) = added(path, library, **options)
    assert outcome.asset is not None, outcome.problem
    return outcome.asset


def scaled_document(factor: float) -> MeshDocument:
    """`two_part_document`, 1.5 high, in other units."""
    document = two_part_document()
    parts = [
        FilePart(part.vertices * factor, part.triangles, part.normals, part.uvs, part.material)
        for part in document.parts
    ]
    return MeshDocument(tuple(parts), document.materials)


# --- Size ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "options", "height_m"),
    [
        (1.0, {}, 1.5),
        (0.02, {}, 0.03),
        (100.0, {}, 1.5),  # centimetres
        (1000.0, {}, 1.5),  # millimetres
        (1.0, {"unit": "inch"}, 1.5 * 0.0254),
        (1e-4, {"height_m": 0.4}, 0.4),
    ],
)
def test_sizes_become_metres(factor: float, options: dict, height_m: float, library: Path, tmp_path: Path):
    write_glb(scaled_document(factor), tmp_path / "a.glb")
    asset = one(tmp_path / "a.glb", library, **options)
    assert asset.height_m == pytest.approx(height_m, rel=1e-4)
    assert asset.footprint_m == pytest.approx((height_m / 1.5, height_m / 1.5), rel=1e-4)


@pytest.mark.parametrize("factor", [1e-4, 1e5])
def test_an_absurd_size_is_refused_with_what_to_do(factor: float, library: Path, tmp_path: Path):
    write_glb(scaled_document(factor), tmp_path / "a.glb")
    (outcome,) = added(tmp_path / "a.glb", library)
    assert "units long, which is no plausible size" in outcome.problem and "--height-m" in outcome.problem


def test_an_obj_says_its_unit_in_a_comment(library: Path, tmp_path: Path):
    path = write_obj(tmp_path / "board.obj")
    path.write_text("# File units = inches\n" + path.read_text())
    (outcome,) = added(path, library)
    assert outcome.asset is not None and outcome.asset.height_m == pytest.approx(120 * 0.0254)


def test_z_up_files_are_turned(library: Path, tmp_path: Path):
    flat = box_part((1, 0.1, 2))
    write_glb(MeshDocument((flat,), two_part_document().materials), tmp_path / "door.glb")
    asset = one(tmp_path / "door.glb", library, up="z")
    assert asset.height_m == pytest.approx(2.0) and asset.footprint_m == pytest.approx((1.0, 0.1))


# --- What is found ------------------------------------------------------------------------------


def test_a_folder_is_gone_through_once(library: Path, tmp_path: Path):
    things = tmp_path / "things"
    write_obj(things / "board" / "board.obj")  # its texture is no photo
    write_box_glb(things / "box.glb")
    write_image(things / "wall_normal.png", np.full((32, 32, 3), (128, 128, 255), np.uint8))
    write_image(things / "holiday.jpg", checker(64))
    write_image(things / "room.exr", panorama())
    (things / "readme.txt").write_text("hello")
    outcomes = added(things, library)
    assert {o.name: o.asset.kind if o.asset else o.problem for o in outcomes} == {
        "board/board.obj": "mesh",
        "box.glb": "mesh",
        "holiday.jpg": "photo",
        "room.exr": "hdri",
        "wall_normal.png": "normal-map",
    }
    again = added(things, library)
    assert [o.note for o in again] == ["was there, its facts are renewed"] * 5
    assert len(read_manifest(library, "mine").assets) == 5
    elsewhere = added(things / "box.glb", library, source="other")
    assert elsewhere[0].note == "is mine/box already"


def test_what_is_changed_takes_the_place_of_the_old(library: Path, tmp_path: Path):
    path = write_box_glb(tmp_path / "box.glb")
    old = one(path, library)
    write_glb(scaled_document(2.0), path)
    (outcome,) = added(path, library)
    assert outcome.note == "takes the place of what had its name"
    (asset,) = read_manifest(library, "mine").assets
    assert asset.id == old.id and asset.height_m == 3.0
    assert file_path(library, old.files[0]).is_file()  # corpora that use it go on


def test_an_obj_becomes_one_file_with_its_texture(library: Path, tmp_path: Path):
    asset = one(write_obj(tmp_path / "board.obj"), library)
    assert asset.height_m == pytest.approx(1.2) and asset.is_closed is False
    materials = read_glb(file_path(library, asset.files[0]), "board").materials
    assert [m.base_image is not None for m in materials] == [True, False]


@pytest.mark.parametrize("as_video", [True, False])
def test_a_matted_video_becomes_rgba_frames(as_video: bool, library: Path, tmp_path: Path):
    colors = [np.full((32, 48, 3), (200, 100, 50 + 10 * i), np.uint8) for i in range(4)]
    mattes = [np.zeros((32, 48, 3), np.uint8) for _ in range(4)]
    for i, matte in enumerate(mattes):
        matte[8:24, 10 + i : 30 + i] = 255
    for name, frames in (("fgr", colors), ("pha", mattes)):
        if as_video:
            write_video(tmp_path / "set" / "train" / name / "0007.mp4", frames)
        else:
            for i, frame in enumerate(frames):
                write_image(tmp_path / "set" / "train" / name / "0007" / f"{i:05d}.png", frame)
    asset = one(tmp_path / "set", library, tags=("person",), max_frames=3)
    assert asset.kind == "cutout" and len(asset.files) == 3 and asset.files[0].part == "0000"
    rgba = cv2.imread(str(file_path(library, asset.files[2])), cv2.IMREAD_UNCHANGED)
    assert rgba.shape == (32, 48, 4)
    assert rgba[16, 20].tolist() == [70, 100, 200, 255] and rgba[2, 2, 3] == 0


def test_large_mattes_are_shrunk(library: Path, tmp_path: Path):
    write_video(tmp_path / "fgr" / "a.mp4", [np.full((64, 96, 3), 90, np.uint8)])
    write_video(tmp_path / "pha" / "a.mp4", [np.full((64, 96, 3), 255, np.uint8)])
    asset = one(tmp_path, library, max_height_px=16)
    assert cv2.imread(str(file_path(library, asset.files[0])), cv2.IMREAD_UNCHANGED).shape == (16, 24, 4)


# --- What is broken -----------------------------------------------------------------------------


def nan_glb(path: Path) -> None:
    """A box with a vertex that is not finite, put into the bytes of the file."""
    data = bytearray(write_box_glb(path).read_bytes())
    start = 20 + struct.unpack_from("<I", data, 12)[0] + 8
    data[start : start + 4] = struct.pack("<f", float("nan"))
    path.write_bytes(data)


def make_broken(folder: Path) -> None:
    """One file of every kind that is refused, and a good one."""
    write_box_glb(folder / "good.glb")
    (folder / "text.glb").write_bytes(b"this is no mesh")
    nan_glb(folder / "nan.glb")
    write_obj(folder / "bare" / "bare.obj", "gone.png", has_image=False)
    (folder / "bare" / "empty.obj").write_text("v 0 0 0\n")
    flat = box_part((1, 1, 1))
    write_glb(
        MeshDocument(
            (FilePart(flat.vertices * (1, 0, 1), flat.triangles),), two_part_document().materials[1:]
        ),
        folder / "flat.glb",
    )
    write_image(folder / "square.hdr", np.ones((64, 64, 3), np.float32))
    write_image(folder / "dark.exr", np.zeros((64, 128, 3), np.float32))
    sun = panorama()
    sun[10, 20] = (0, 0, 9000)
    write_image(folder / "sun.hdr", sun)
    bad = panorama()
    bad[3, 4] = np.nan
    write_image(folder / "nan.exr", bad)
    (folder / "cut.png").write_bytes(write_image(folder / "x.png", checker(64)).read_bytes()[:60])
    write_image(folder / "x.png", np.zeros((32, 32, 4), np.uint8))
    write_image(folder / "grey_normal.png", checker())
    write_image(folder / "plain.png", np.full((32, 32, 3), 7, np.uint8))
    for i in range(2):
        write_image(folder / "walk" / f"{i}.png", np.zeros((20, 20, 4), np.uint8))
        write_image(folder / "jump" / f"{i}.png", checker(20 + 4 * i, alpha=True))
    write_video(folder / "matte" / "fgr" / "a.mp4", [np.full((32, 32, 3), 90, np.uint8)])
    write_video(folder / "matte" / "fgr" / "b.mp4", [np.full((32, 32, 3), 90, np.uint8)])
    write_video(folder / "matte" / "pha" / "b.mp4", [np.zeros((32, 32, 3), np.uint8)])


BROKEN = {
    "text.glb: is a broken GLB file",
    "nan.glb: 1 vertices are not finite",
    "bare/bare.obj: its texture gone.png is missing",
    "bare/empty.obj: has no triangles",
    "flat.glb: is flat, it has no height",
    "square.hdr: is 64x64, a panorama is 2:1",
    "dark.exr: is black",
    "sun.hdr: its brightest spot has only blue light",
    "nan.exr: has pixels that are not finite",
    "cut.png: cannot be read as an image",
    "x.png: is fully transparent",
    "grey_normal.png: its mean is",
    "plain.png: is of one colour",
    "walk: is fully transparent",
    "jump: frames differ in size",
    "matte/fgr/a.mp4: its matte pha/a is missing",
    "matte/fgr/b.mp4: its matte is empty",
}


def test_broken_files_are_refused_in_a_line_each_and_the_others_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    make_broken(tmp_path / "things")
    assert cli.main(["assets", "add", str(tmp_path / "things")]) == 1
    shown = capsys.readouterr()
    lines = [line.removeprefix("refused: ") for line in shown.err.splitlines()]
    assert {next((start for start in BROKEN if line.startswith(start)), line) for line in lines} == BROKEN
    assert len(lines) == len(BROKEN)
    assert shown.out.startswith("mine/good: mesh, 1.5 m high, ")


def test_the_status_says_whether_any_was_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.glb").write_bytes(b"nothing")
    assert cli.main(["assets", "add", str(tmp_path / "a.glb")]) == 2
    assert cli.main(["assets", "add", str(write_box_glb(tmp_path / "b.glb"))]) == 0
    assert cli.main(["assets", "add", str(tmp_path / "not there")]) == 2
    assert "not there: is not there. Check the path." in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    assert cli.main(["assets", "add", str(tmp_path / "none")]) == 2
    assert "holds nothing to add" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("a.png", "mesh", "is no mesh"),
        ("a.png", "cutout", "has no alpha channel"),
        ("b.glb", "photo", "is no photo"),
    ],
)
def test_a_kind_that_cannot_be_is_refused(name: str, kind: str, problem: str, library: Path, tmp_path: Path):
    write_image(tmp_path / "a.png", checker())
    write_box_glb(tmp_path / "b.glb")
    (outcome,) = added(tmp_path / name, library, kind=kind)
    assert problem in outcome.problem


def test_names_of_packages_are_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = write_box_glb(tmp_path / "b.glb")
    assert cli.main(["assets", "add", str(path), "--source", "pmndrs"]) == 2
    assert "--source: 'pmndrs' is a package's" in capsys.readouterr().err


# --- Seen in a clip -----------------------------------------------------------------------------


def clip(folder: Path, backend: str = "mitsuba", environment: dict | None = None, *things: dict) -> Frames:
    """A clip of some things, two frames, as a corpus would have it."""
    objects = [{"name": "floor", "shape": {"type": "plane", "size_m": (8, 8)}}, *things]
    world = {
        "objects": objects,
        "environment": environment or {"type": "constant", "radiance": (1, 1, 1)},
        "camera": {"path": {"type": "static", "position_m": (0, -4, 1), "look_at_m": (0, 0, 0.6)}},
    }
    film = {"width": 64, "height": 36, "num_frames": 2, "fps": 2.0}
    quality = {"aif_samples": 8, "bokeh_samples": 1, "max_bounces": 2, "denoise": False}
    target = {"k_at_1024": 0, "focus": [0.5]}
    path = write(
        folder,
        document(
            scenes=[{"family": "world", "world": world}],
            film=film,
            quality=quality,
            targets=[target],
            splits={"train": 1},
        ),
    )
    loaded = load_corpus(path)
    return render(backend, randomize(loaded.spec, 0), files=loaded.files)[0]


def mesh_thing(asset: Asset, **fields) -> dict:
    shape = {"type": "mesh", "file": f"asset:{asset.id}", "height_m": asset.height_m, "file_materials": True}
    thing = {"name": "thing", "role": "subject", "shape": shape, **fields}
    if any(file.part == "vertices" for file in asset.files):
        thing["deform"] = {"type": "vertices", "file": f"asset:{asset.id}#vertices", "rate_hz": asset.rate_hz}
    return thing


def seen(frames: Frames, frame: int = 0) -> np.ndarray:
    """Colours of the thing's pixels, ``[N, 3]``."""
    pixels = frames.aif[frame][frames.instance[frame] == 2]
    assert len(pixels) > 30, "the thing is not in view"
    return pixels


@pytest.mark.mitsuba
def test_a_glb_and_an_obj_are_seen_with_their_textures(library: Path, tmp_path: Path):
    for path in (write_box_glb(tmp_path / "box.glb"), write_obj(tmp_path / "obj" / "board.obj")):
        pixels = seen(clip(tmp_path, "mitsuba", None, mesh_thing(one(path, library))))
        assert (pixels[:, 0] > 2 * pixels[:, 1]).sum() > 5, path  # red fields
        assert (pixels[:, 1] > 2 * pixels[:, 0]).sum() > 5, path  # green fields


@pytest.mark.mitsuba
def test_a_panorama_is_seen(library: Path, tmp_path: Path):
    asset = one(write_image(tmp_path / "room.hdr", panorama()), library)
    frames = clip(tmp_path, "mitsuba", {"type": "hdri", "file": f"asset:{asset.id}"})
    sky = frames.aif[0, :4].reshape(-1, 3)
    assert np.allclose(np.median(sky, axis=0), (0.6, 0.8, 1.5), rtol=0.05)


@pytest.mark.mitsuba
def test_a_still_and_a_sequence_are_seen(library: Path, tmp_path: Path):
    still = one(write_image(tmp_path / "leaf.png", checker(64, alpha=True)), library, height_m=1.2)
    card = {"type": "card", "image": f"asset:{still.id}", "height_m": still.height_m}
    pixels = seen(clip(tmp_path, "mitsuba", None, {"name": "leaf", "shape": card}))
    assert (pixels[:, 0] > 2 * pixels[:, 1]).sum() > 5
    for i, color in enumerate(((250, 20, 20), (20, 20, 250))):
        rgba = np.zeros((32, 32, 4), np.uint8)
        rgba[4:28, 4:28] = (*color, 255)
        write_image(tmp_path / "blink" / f"{i}.png", rgba)
    asset = one(tmp_path / "blink", library)
    card = {"type": "card", "sequence": {"pattern": f"asset:{asset.id}"}, "height_m": 1.2}
    frames = clip(tmp_path, "mitsuba", None, {"name": "blink", "shape": card})
    first, second = (np.median(seen(frames, i), axis=0) for i in range(2))
    assert first[0] > 5 * first[2] and second[2] > 5 * second[0]


@pytest.mark.cycles
@pytest.mark.mitsuba
def test_a_blend_file_moves_in_a_clip_and_its_scripts_never_run(library: Path, tmp_path: Path):
    in_child(make_blend, tmp_path / "post.blend")
    asset = one(tmp_path / "post.blend", library)
    assert asset.height_m == pytest.approx(1.0) and asset.is_closed and not scripts_ran(tmp_path)
    mesh, vertices = (file_path(library, file) for file in asset.files)
    baked = np.load(vertices)
    rest = np.concatenate([part.vertices for part in read_glb(mesh, "post").parts])
    assert baked.shape == (25, len(rest), 3) and np.allclose(baked[0], rest, atol=1e-6)
    assert np.abs(baked[12] - rest).max() > 0.3
    frames = clip(tmp_path, "mitsuba", None, mesh_thing(asset))
    assert np.median(seen(frames), axis=0)[0] > 3 * np.median(seen(frames), axis=0)[1]
    assert (frames.instance[0] != frames.instance[1]).mean() > 0.01  # half a second apart


@pytest.mark.cycles
def test_an_animated_glb_is_baked_and_what_blender_cannot_open_is_one_line(library: Path, tmp_path: Path):
    in_child(make_blend, tmp_path / "post.blend")
    asset = one(tmp_path / "post.glb", library)
    assert [file.part for file in asset.files] == ["", "vertices"] and asset.height_m == pytest.approx(1.0)
    (tmp_path / "wrong.blend").write_bytes(b"BLENDER but not really")
    (tmp_path / "wrong.fbx").write_bytes(b"no")
    for name in ("wrong.blend", "wrong.fbx"):
        (outcome,) = added(tmp_path / name, library)
        assert outcome.problem.startswith(f"{name}: ") and "\n" not in outcome.problem
        assert "Blender" in outcome.problem or "shows no surface" in outcome.problem


def test_options_are_checked(tmp_path: Path):
    with pytest.raises(UserError, match="is not there"):
        add(tmp_path / "gone", AddOptions(), tmp_path / "library", lambda outcome: None)
