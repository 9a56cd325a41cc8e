"""The asset library: names, splits, queries, what a corpus spec makes of them, and what packages hold."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from focuspull.dataset.errors import UserError
from focuspull.render import assets_fetch, cli
from focuspull.render.assets import (
    Asset,
    AssetQuery,
    Manifest,
    find_assets,
    manifests,
    read_manifest,
    split_of,
    store,
    write_manifest,
)
from focuspull.render.assets_add import AddOptions, add
from focuspull.render.assets_fetch import Source, decode_module, download, furniture, read_catalogue
from focuspull.render.corpus import CorpusSpec, load_corpus
from focuspull.render.held_out import held_out_problems
from focuspull.render.randomize import randomize
from tests.render.assets_made import checker, panorama, write_box_glb, write_image, write_obj
from tests.render.test_corpus import document, with_object, write


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty library."""
    root = tmp_path / "library"
    monkeypatch.setenv("FOCUSPULL_ASSETS", str(root))
    return root


def fill(library: Path, folder: Path) -> None:
    """Assets of several kinds, of the source ``mine``."""
    write_box_glb(folder / "chairs" / "chair.glb")
    write_image(folder / "textures" / "brick.png", checker(64))
    write_image(folder / "leaf.png", checker(alpha=True))
    write_image(folder / "room.hdr", panorama())
    for i in range(3):
        write_image(folder / "walk" / f"{i:03d}.png", np.roll(checker(alpha=True), i, axis=1))
    outcomes = add(folder, AddOptions(tags=("seat",)), library, lambda outcome: None)
    assert [outcome.problem for outcome in outcomes] == [""] * 5


def asset_named(name: str, library: Path) -> Asset:
    """Something of one byte."""
    file = store(library, name.encode(), ".png")
    return Asset(
        id=f"many/{name}", kind="photo", licence="CC0-1.0", split=split_of(f"many/{name}"), files=(file,)
    )


def test_one_in_ten_is_kept_for_tests_by_its_id_alone():
    splits = [split_of(f"mine/thing-{i}") for i in range(5000)]
    assert 400 < splits.count("test") < 600
    assert split_of("bpy/forest") == "train" and split_of("pmndrs/hdri-forest") == "test"


def test_what_is_inside_bpy_is_there_without_a_fetch(tmp_path: Path):
    pool = load_corpus(write(tmp_path, document(assets={"use": ["bpy"]}))).spec.assets
    assert len(pool.hdris) == 8
    assert pool.hdris[2].name == "bpy:studiolights/world/forest.exr" and len(pool.hdris[2].sha256) == 64


def test_a_query_becomes_files_and_survives_the_round_trip(library: Path, tmp_path: Path):
    fill(library, tmp_path / "my things")
    spec = document(assets={"use": ["mine"], "split": "all", "tags": ["seat"]})
    loaded = load_corpus(write(tmp_path, spec))
    pool = loaded.spec.assets
    assert [mesh.id for mesh in pool.meshes] == ["mine/chairs-chair"]
    assert pool.meshes[0].height_m == 1.5 and pool.meshes[0].footprint_m == (1.0, 1.0)
    assert pool.meshes[0].num_triangles == 24
    assert [cutout.id for cutout in pool.cutouts] == ["mine/leaf", "mine/walk"]
    assert pool.cutouts[1].sequence is not None
    assert [frame.name for frame in pool.cutouts[1].sequence.frames][:2] == [
        "asset:mine/walk#0000",
        "asset:mine/walk#0001",
    ]
    assert [ref.name for ref in pool.hdris + pool.textures] == [
        "asset:mine/room",
        "asset:mine/textures-brick",
    ]
    assert all(path.is_file() for path in loaded.files.values()) and len(loaded.files) == 6  # two are alike
    assert [credit.name for credit in pool.credits][0] == "asset:mine/chairs-chair"
    again = CorpusSpec.model_validate(json.loads(json.dumps(loaded.spec.model_dump(mode="json"))))
    assert again == loaded.spec
    assert randomize(again, 0).sha256() == randomize(loaded.spec, 0).sha256()
    assert str(library) not in json.dumps(loaded.spec.model_dump(mode="json"))


def test_tags_ask_things_alone_and_kinds_all(library: Path, tmp_path: Path):
    fill(library, tmp_path / "my")
    names = [a.id for a in find_assets(AssetQuery(use=("mine",), tags=("car",)), "all")]
    assert names == ["mine/room", "mine/textures-brick"]
    names = [a.id for a in find_assets(AssetQuery(use=("all",), kinds=("mesh",)), "all")]
    assert names == ["mine/chairs-chair"]
    assert [a.id for a in find_assets(AssetQuery(use=("mine/leaf",)), "all")] == ["mine/leaf"]


def test_assets_for_tests_do_not_get_into_a_corpus_to_train_with(library: Path, tmp_path: Path):
    some = [asset_named(f"photo-{i}", library) for i in range(40)]
    write_manifest(library, Manifest(source="many", assets=tuple(some)))
    kept = {a.id for a in some if a.split == "test"}
    assert 0 < len(kept) < 20

    def names(**changes: object) -> set[str]:
        loaded = load_corpus(write(tmp_path, document(**changes)))
        return {ref.name.removeprefix("asset:") for ref in loaded.spec.assets.photos}

    assert names(assets={"use": ["many"]}) == {a.id for a in some} - kept
    assert names(assets={"use": ["many"]}, splits={"test": 2}) == kept
    assert names(assets={"use": ["many"], "split": "all"}) == {a.id for a in some}
    leak = load_corpus(write(tmp_path, document(assets={"use": [min(kept)], "split": "test"})))
    assert held_out_problems(leak, {}) == [f"mine: asset:{min(kept)} is kept for tests. Leave it out."]
    held = load_corpus(write(tmp_path, document(assets={"use": ["many"]}, splits={"test": 2}, name="held")))
    assert held_out_problems(held, {}) == []
    assert f"file asset:{min(kept)} is in the test set held" in " ".join(
        held_out_problems(leak, {"held": held})
    )


def test_any_field_of_a_spec_may_name_an_asset(library: Path, tmp_path: Path):
    fill(library, tmp_path / "my")
    shape = {"type": "mesh", "file": "asset:mine/chairs-chair", "file_materials": True, "height_m": 0.9}
    loaded = load_corpus(write(tmp_path, with_object(shape=shape)))
    (sha256,) = loaded.files
    assert loaded.files[sha256].name == f"{sha256}.glb"
    assert [c.licence for c in loaded.spec.assets.credits] == ["user"]
    card = {"type": "card", "sequence": {"pattern": "asset:mine/walk"}}
    assert len(load_corpus(write(tmp_path, with_object(shape=card))).files) == 3


@pytest.mark.parametrize(
    ("assets", "problem"),
    [
        ({"use": ["nonsense"]}, "assets.use: the library has no source 'nonsense'. There is: bpy"),
        ({"use": ["bpy/beach"]}, "assets.use: the library has no asset 'bpy/beach'"),
        ({"use": ["bpy"], "kinds": ["mesh"]}, "assets: none of 8 has what tags, kinds, licences and split"),
        ({"use": ["bpy"], "split": "val"}, "assets: field 'split'"),
        ({"tags": ["chair"]}, "assets.tags: says which, but not of what"),
        ({"used": ["bpy"]}, "unknown field 'assets.used'"),
        ({"hdris": ["asset:mine/room"]}, "the library has no asset 'mine/room'"),
    ],
)
def test_a_wrong_query_is_one_line(assets: dict, problem: str, tmp_path: Path):
    with pytest.raises(UserError) as error:
        load_corpus(write(tmp_path, document(assets=assets)))
    assert problem in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_gone_is_one_line(library: Path, tmp_path: Path):
    fill(library, tmp_path / "my")
    for path in (library / "files").glob("*.glb"):
        path.unlink()
    with pytest.raises(UserError, match="is gone from .* Fetch or add it again"):
        load_corpus(write(tmp_path, document(assets={"use": ["mine"], "split": "all"})))


@pytest.mark.parametrize("text", ["", "[]", '{"source": "mine", "assets": 3}'])
def test_a_broken_manifest_is_one_line(text: str, library: Path):
    (library / "manifests").mkdir(parents=True)
    (library / "manifests" / "mine.json").write_text(text)
    with pytest.raises(UserError, match=r"mine.json: is broken \("):
        read_manifest(library, "mine")


def test_the_list_has_filters_and_sums_up_licences(
    library: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fill(library, tmp_path / "my")
    assert cli.main(["assets", "list", "--source", "mine", "--kind", "cutout"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["mine/leaf", "mine/walk"]
    assert "3 frames" in lines[1] and lines[-1].startswith("user: 2 assets")
    assert cli.main(["assets", "list", "--tag", "elephant", "--kind", "mesh"]) == 0
    assert "no asset is there" in capsys.readouterr().err


# --- What packages hold -------------------------------------------------------------------------


def test_a_module_gives_the_file_that_it_exports():
    text = base64.b64encode(b"pixels").decode()
    assert decode_module(f"export default 'data:image/webp;base64,{text}'\n", "a.js") == b"pixels"
    assert decode_module("export default 3", "a.js") == b""
    with pytest.raises(UserError, match="a.js: holds broken base64"):
        decode_module("export default 'data:image/webp;base64,AAA'", "a.js")


PROPERTIES = r"""
id=Some#Models
name=Some
id#1=Some#board
name#1=Board with caf\u00e9 2
tags#1=Blend Swap, Seat
category#1=Living room
model#1=/models/board/board.obj
width#1=100
height#1=60
creator#1=A. Maker
name#2=Icon alone
icon#2=/icon.png
name#3=Broken
model#3=/models/broken.obj
height#3=10
"""


def test_a_catalogue_of_furniture_gives_meshes_of_their_real_size(library: Path, tmp_path: Path):
    assert [entry["name"] for entry in read_catalogue(PROPERTIES)] == ["Board with café 2", "Broken"]
    write_obj(tmp_path / "models" / "board" / "board.obj")
    (tmp_path / "models" / "broken.obj").write_text("v 0 0 0\n")
    with zipfile.ZipFile(tmp_path / "Some.sh3f", "w") as zipped:
        zipped.writestr("PluginFurnitureCatalog.properties", PROPERTIES.encode("latin-1"))
        for path in (tmp_path / "models").rglob("*.*"):
            zipped.write(path, path.relative_to(tmp_path))
    good, _ = furniture(tmp_path / "Some.sh3f", "CC-BY-3.0", "Some Company")
    assert (good.name, good.licence, good.attribution) == (
        "some-board",
        "CC-BY-3.0",
        "A. Maker; Some Company",
    )
    assert good.tags == ("living-room", "seat", "board-with-caf", "caf")
    made = []
    # The files are there only while the catalogue is gone through.
    for found in furniture(tmp_path / "Some.sh3f", "CC0-1.0", "Some Company"):
        try:
            made.append(found.stored("some", library))
        except UserError as error:
            assert str(error).startswith("broken.obj: has no triangles")
    (asset,) = made
    assert asset.height_m == 0.6 and asset.footprint_m == pytest.approx((0.5, 0.1))
    assert (library / "files" / f"{asset.files[0].sha256}.glb").is_file()


def test_only_free_catalogues_are_taken_unless_asked():
    free = [name for name, (licence, _) in assets_fetch._CATALOGUES.items() if licence == "CC0-1.0"]
    assert free == ["BlendSwap-CC-0"]


def source(*command: str, sha256: str = "0" * 64) -> Source:
    return Source("some", "npm some", "1.0", sha256, command, "")


def test_a_missing_or_failing_client_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="^some: needs no-such-client, which is not installed"):
        download(source("no-such-client", "pack"), tmp_path)
    with pytest.raises(UserError, match=r"^some: pip could not fetch npm some 1.0 \(SystemExit: Error 7\)"):
        download(
            source("python", "-c", "import sys; print('SystemExit: Error 7', file=sys.stderr); sys.exit(1)"),
            tmp_path,
        )


def test_another_archive_than_is_pinned_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="^some: a.tgz has sha256 .* nothing of it is taken"):
        download(source("python", "-c", "open('a.tgz', 'w').write('other')"), tmp_path)


def test_an_unknown_source_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["assets", "fetch", "nonsense"]) == 2
    assert "'nonsense' is unknown. Fetch one of: bpy, pmndrs" in capsys.readouterr().err


def test_bpy_needs_no_client(capsys: pytest.CaptureFixture[str], library: Path):
    assert cli.main(["assets", "fetch", "bpy"]) == 0
    assert "bpy: 8 assets (8 hdri)" in capsys.readouterr().out
    assert [m.source for m in manifests(library)] == ["bpy"]


def test_no_registry_is_named_in_the_sources():
    folder = Path(assets_fetch.__file__).parent
    for path in folder.glob("assets*.py"):
        assert "://" not in path.read_text(), path.name


def test_the_help_is_there_without_anything_heavy():
    code = (
        "import sys; from focuspull.render import cli\n"
        "try: cli.main(['assets', 'add', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('cv2', 'numpy', 'pydantic', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_packages_that_are_unpacked_are_stored_with_their_licence(library: Path, tmp_path: Path):
    import tarfile

    encoded_exr = panorama()
    path = write_image(tmp_path / "sky.hdr", encoded_exr)
    (tmp_path / "package" / "hdri").mkdir(parents=True)
    (tmp_path / "package" / "normals").mkdir()
    flat = np.full((32, 32, 3), (128, 128, 255), np.uint8)
    done, webp = cv2.imencode(".webp", cv2.cvtColor(flat, cv2.COLOR_RGB2BGR))
    assert done
    for name, data in (("hdri/sky.exr.js", path.read_bytes()), ("normals/0000.webp.js", webp.tobytes())):
        text = f"export default 'data:x/y;base64,{base64.b64encode(data).decode()}'"
        (tmp_path / "package" / name).write_text(text)
    (tmp_path / "package" / "normals" / "0001.webp.js").write_text("export default 'data:x/y;base64,AAAA'")
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as tar:
        tar.add(tmp_path / "package", "package")
    pmndrs = assets_fetch.SOURCES["pmndrs"]
    outcomes = assets_fetch.unpack(
        pmndrs, tmp_path / "p.tgz", library, cc_by=False, tell=lambda outcome: None
    )
    assert [o.problem.partition(":")[0] for o in outcomes] == ["", "", "0001.webp.js"]
    manifest = read_manifest(library, "pmndrs")
    assert (manifest.package, manifest.version) == ("npm @pmndrs/assets", "1.7.0")
    assert [(a.id, a.kind, a.licence) for a in manifest.assets] == [
        ("pmndrs/hdri-sky", "hdri", "CC0-1.0"),
        ("pmndrs/normal-0000", "normal-map", "CC0-1.0"),
    ]


def test_the_card_of_a_data_set_names_whom_licences_ask_to_name():
    from focuspull.dataset.card import _credits_table

    credit = {"name": "asset:some/walk", "licence": "CC-BY-3.0", "attribution": "A. Maker"}
    files = [("asset:some/walk#0001", "b"), ("asset:some/walk#0000", "a")]
    table = _credits_table(files, {"asset:some/walk": credit})
    assert table.splitlines()[2:] == ["| `asset:some/walk` | CC-BY-3.0 | A. Maker |"]
