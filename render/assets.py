"""The asset library: files named by content in one folder, with a manifest for each source.

    ROOT/files/<sha256><suffix>     what scenes use
    ROOT/manifests/<source>.json    what it is, where it is from, its licence, its split

ROOT is ``$FOCUSPULL_ASSETS``, by default ``~/.local/share/focuspull/assets``. A spec names an asset as
``asset:SOURCE/NAME``; further files of one are ``asset:SOURCE/NAME#vertices`` and, for the frames of a
sequence, ``#0000``, ``#0001``, ... The source ``bpy`` is there without any fetch: the panoramas inside the
installed bpy.

The split of an asset is a hash of its id: one in ten is kept for tests, on every machine the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from focuspull.dataset.documents import explain
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.render.pool import AssetCredit, AssetPool, CutoutAsset, MeshAsset
from focuspull.render.records import FileRef, ImageSequence, Model, Positive

ROOT_VARIABLE = "FOCUSPULL_ASSETS"
PREFIX = "asset:"
"""Of names of files in the library."""
BPY_SOURCE = "bpy"
BPY_HDRIS = "studiolights/world"
"""Folder of panoramas among bpy's data files."""
TEST_PARTS = 10
"""One asset in so many is for tests."""
ID_PATTERN = "^[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*$"

Kind = Literal["hdri", "normal-map", "texture", "photo", "mesh", "cutout"]
KINDS: tuple[Kind, ...] = ("hdri", "normal-map", "texture", "photo", "mesh", "cutout")
Split = Literal["train", "test"]


class AssetFile(Model):
    """One file of an asset.

    Attributes:
        part: Empty for the asset itself, ``vertices``, or the number of a frame, ``0000``.
        sha256: Of its bytes.
        size: Bytes.
        suffix: Ending of its name, with the dot.
    """

    part: str = Field(default="", pattern="^(vertices|[0-9]{4,})?$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)
    suffix: str


class Asset(Model):
    """Something that scenes may show.

    Attributes:
        id: ``source/name``.
        kind: What it is used as.
        tags: What it shows.
        licence: SPDX name, or ``user`` for what users add without saying.
        attribution: Whom the licence asks to name.
        split: ``train`` or ``test``.
        files: The asset itself first; the frames of a sequence in order.
        height_m: Of meshes and cut-outs.
        footprint_m: Of meshes.
        num_triangles: Of meshes.
        is_closed: Whether all of a mesh is watertight.
        rate_hz: Of vertices over time.
        was: The file that it came from.
    """

    id: str = Field(pattern=ID_PATTERN)
    kind: Kind
    tags: tuple[str, ...] = ()
    licence: str
    attribution: str = ""
    split: Split
    files: tuple[AssetFile, ...] = Field(min_length=1)
    height_m: Positive | None = None
    footprint_m: tuple[Positive, Positive] | None = None
    num_triangles: int = Field(default=0, ge=0)
    is_closed: bool = False
    rate_hz: Positive = 24.0
    was: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class Manifest(Model):
    """All assets of a source.

    Attributes:
        source: Its name, the first part of the ids.
        package: What they came in, with the registry's kind: ``npm @pmndrs/assets``.
        version: Of that.
        archive_sha256: Of the archive that was opened; empty for files of users.
        assets: In the order of their ids.
    """

    source: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$")
    package: str = ""
    version: str = ""
    archive_sha256: str = ""
    assets: tuple[Asset, ...] = ()


class AssetQuery(Model):
    """Which assets a corpus uses, as its YAML says.

    Attributes:
        use: Sources or ids; ``all``.
        tags: Meshes and cut-outs need one of these; everything else is not asked.
        kinds: Kinds to take; empty: all.
        licences: Licences to take; empty: all.
        split: ``train``, ``test`` or ``all``. Absent: ``test`` for a corpus that has clips to test on and no
            others, else ``train``.
    """

    use: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    licences: tuple[str, ...] = ()
    split: Split | Literal["all"] | None = None


def library_root() -> Path:
    """Where the library is."""
    default = Path("~/.local/share/focuspull/assets").expanduser()
    return Path(os.environ.get(ROOT_VARIABLE) or default)


def split_of(asset_id: str) -> Split:
    """The split of an asset, by its id alone."""
    number = int.from_bytes(hashlib.sha256(asset_id.encode()).digest()[:8], "big")
    return "test" if number % TEST_PARTS == 0 else "train"


# --- Files and manifests ------------------------------------------------------------------------


def file_path(root: Path, file: AssetFile) -> Path:
    """Where a file of an asset lies."""
    return root / "files" / f"{file.sha256}{file.suffix}"


def store(root: Path, data: bytes, suffix: str, part: str = "") -> AssetFile:
    """Puts bytes into the library, once.

    Raises:
        UserError: If it cannot be written to.
    """
    suffix = suffix.lower()
    file = AssetFile(part=part, sha256=hashlib.sha256(data).hexdigest(), size=len(data), suffix=suffix)
    path = file_path(root, file)
    if not path.is_file() or path.stat().st_size != len(data):
        write_atomic(path, data)
    return file


def read_manifest(root: Path, source: str) -> Manifest:
    """The manifest of a source, an empty one if there is none.

    Raises:
        UserError: If it cannot be read.
    """
    if source == BPY_SOURCE:
        return bpy_manifest()
    path = _manifest_path(root, source)
    if not path.is_file():
        return Manifest(source=source)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        document = json.loads(path.read_bytes()) if _is_json(path) else None
        problem = "no JSON" if document is None else explain(error, document, Manifest)
        raise UserError(f"{path}: is broken ({problem}). Remove it and fetch or add again.") from None


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes a manifest, assets in the order of their ids.

    Raises:
        UserError: If it cannot be written.
    """
    ordered = manifest.model_copy(update={"assets": tuple(sorted(manifest.assets, key=lambda a: a.id))})
    text = json.dumps(ordered.model_dump(mode="json"), indent=1) + "\n"
    write_atomic(_manifest_path(root, manifest.source), text.encode())


def manifests(root: Path) -> list[Manifest]:
    """All manifests, bpy's first if it is installed."""
    names = sorted(path.stem for path in (root / "manifests").glob("*.json"))
    bundled = [bpy_manifest()] if _bpy_folder() is not None else []
    return bundled + [read_manifest(root, name) for name in names]


def _manifest_path(root: Path, source: str) -> Path:
    return root / "manifests" / f"{source}.json"


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


# --- What is inside bpy -------------------------------------------------------------------------


def bpy_data_folder() -> Path:
    """The data files inside the installed bpy, which is not imported.

    Raises:
        UserError: If it is not installed.
    """
    folder = _bpy_folder()
    if folder is None:
        raise UserError("bpy: is not installed, so its files are not there. pip install 'focuspull[render]'")
    return folder


def _bpy_folder() -> Path | None:
    package = find_spec("bpy")
    if package is None or not package.submodule_search_locations:
        return None
    return sorted(Path(package.submodule_search_locations[0]).glob("[0-9]*/datafiles"))[-1]


def bpy_manifest() -> Manifest:
    """The panoramas inside bpy as assets; their files stay where they are.

    Raises:
        UserError: If it is not installed.
    """
    assets: list[Asset] = []
    for path in sorted((bpy_data_folder() / BPY_HDRIS).glob("*.exr")):
        data = path.read_bytes()
        file = AssetFile(sha256=hashlib.sha256(data).hexdigest(), size=len(data), suffix=".exr")
        name = f"{BPY_SOURCE}/{path.stem}"
        assets.append(
            Asset(
                id=name,
                kind="hdri",
                tags=(path.stem,),
                licence="CC0-1.0",
                split=split_of(name),
                files=(file,),
                was=f"{BPY_HDRIS}/{path.name}",
            )
        )
    version = metadata.version("bpy")
    return Manifest(source=BPY_SOURCE, package="PyPI bpy", version=version, assets=tuple(assets))


# --- Names in specs -----------------------------------------------------------------------------


def file_name(asset: Asset, file: AssetFile) -> str:
    """What a spec calls a file of an asset."""
    if asset.id.startswith(f"{BPY_SOURCE}/"):
        return f"bpy:{asset.was}"
    return f"{PREFIX}{asset.id}" + (f"#{file.part}" if file.part else "")


def credits_of(names: Iterable[str]) -> tuple[AssetCredit, ...]:
    """Licences of the assets among some names of files, each once, in the order of their ids."""
    ids = sorted({name.removeprefix(PREFIX).partition("#")[0] for name in names if name.startswith(PREFIX)})
    sources = {asset_id.partition("/")[0] for asset_id in ids}
    known = {a.id: a for source in sources for a in read_manifest(library_root(), source).assets}
    return tuple(
        AssetCredit(name=f"{PREFIX}{i}", licence=known[i].licence, attribution=known[i].attribution)
        for i in ids
        if i in known
    )


def is_for_tests(name: str) -> bool:
    """Whether a file, by its name in a spec, is of an asset that is kept for tests."""
    if name.startswith(f"bpy:{BPY_HDRIS}/"):
        return split_of(f"{BPY_SOURCE}/{Path(name).stem}") == "test"
    return name.startswith(PREFIX) and split_of(name.removeprefix(PREFIX).partition("#")[0]) == "test"


def locate_asset(name: str) -> Path:
    """Where a file that a spec calls ``asset:...`` lies.

    Raises:
        UserError: If the library has none of that name.
    """
    root = library_root()
    asset_id, _, part = name.removeprefix(PREFIX).partition("#")
    source = asset_id.partition("/")[0]
    asset = next((a for a in read_manifest(root, source).assets if a.id == asset_id), None)
    if asset is None:
        hint = "See what there is with: focuspull-render assets list"
        raise UserError(f"file '{name}': the library has no asset '{asset_id}'. {hint}")
    if source == BPY_SOURCE:
        return bpy_data_folder() / asset.was
    # A sequence has no file of its own; its first frame stands for it.
    file = next((f for f in asset.files if f.part == part), None)
    if file is None:
        parts = ", ".join(f.part or "the asset itself" for f in asset.files[:5])
        raise UserError(f"file '{name}': the asset has no part '{part}', but: {parts}")
    path = file_path(root, file)
    if not path.is_file():
        raise UserError(f"file '{name}': is gone from {path.parent}. Fetch or add it again.")
    return path


def sequence_names(pattern: str) -> list[str]:
    """Names of the frames of a sequence that a spec calls ``asset:...``.

    Raises:
        UserError: If the library has none of that name.
    """
    asset_id = pattern.removeprefix(PREFIX)
    found = read_manifest(library_root(), asset_id.partition("/")[0]).assets
    asset = next((a for a in found if a.id == asset_id and a.kind == "cutout" and a.files[0].part), None)
    if asset is None:
        hint = "See what there is with: focuspull-render assets list --kind cutout"
        raise UserError(f"sequence '{pattern}': the library has no sequence '{asset_id}'. {hint}")
    return [file_name(asset, file) for file in asset.files]


# --- Queries ------------------------------------------------------------------------------------


def find_assets(query: AssetQuery, split: Split | Literal["all"]) -> list[Asset]:
    """Assets that a query names, in the order of their ids.

    Raises:
        UserError: If it names a source or an asset that is not there, or nothing is left.
    """
    root = library_root()
    asks_bpy = any(name.partition("/")[0] == BPY_SOURCE for name in query.use)
    # All that is there, and a complaint from bpy only if it is asked for.
    there = manifests(root) if not asks_bpy or _bpy_folder() is not None else [bpy_manifest()]
    known = [asset for manifest in there for asset in manifest.assets]
    for name in query.use:
        if name != "all" and not any(_is_named(asset, name) for asset in known):
            have = ", ".join(manifest.source for manifest in there if manifest.assets) or "nothing"
            kind = "asset" if "/" in name else "source"
            hint = f"There is: {have}. Get more with: focuspull-render assets fetch"
            raise UserError(f"assets.use: the library has no {kind} '{name}'. {hint}")
    asked = [a for a in known if any(name == "all" or _is_named(a, name) for name in query.use)]
    found = [a for a in asked if _suits(a, query) and split in ("all", a.split)]
    if query.use and not found:
        raise UserError(
            f"assets: none of {len(asked)} has what tags, kinds, licences and split ({split}) ask for. "
            "Ask for less, or set assets.split."
        )
    return sorted(found, key=lambda asset: asset.id)


def _is_named(asset: Asset, name: str) -> bool:
    return name in (asset.id, asset.id.partition("/")[0])


def _suits(asset: Asset, query: AssetQuery) -> bool:
    has_tag = asset.kind not in ("mesh", "cutout") or not set(query.tags).isdisjoint(asset.tags)
    return (
        (has_tag or not query.tags)
        and (not query.kinds or asset.kind in query.kinds)
        and (not query.licences or asset.licence in query.licences)
    )


def pool_of(assets: Iterable[Asset]) -> AssetPool:
    """Assets as a corpus holds them."""

    def ref(asset: Asset, file: AssetFile) -> FileRef:
        return FileRef(name=file_name(asset, file), sha256=file.sha256)

    by_kind: dict[str, list[Asset]] = {}
    for asset in assets:
        by_kind.setdefault(asset.kind, []).append(asset)

    def refs(kind: Kind) -> tuple[FileRef, ...]:
        return tuple(ref(asset, asset.files[0]) for asset in by_kind.get(kind, ()))

    return AssetPool(
        hdris=refs("hdri"),
        textures=refs("texture"),
        normal_maps=refs("normal-map"),
        photos=refs("photo"),
        meshes=tuple(_mesh(asset, ref) for asset in by_kind.get("mesh", ())),
        cutouts=tuple(_cutout(asset, ref) for asset in by_kind.get("cutout", ())),
    )


Ref = Callable[[Asset, AssetFile], FileRef]


def _mesh(asset: Asset, ref: Ref) -> MeshAsset:
    vertices = next((file for file in asset.files if file.part == "vertices"), None)
    assert asset.height_m is not None and asset.footprint_m is not None
    return MeshAsset(
        id=asset.id,
        file=ref(asset, asset.files[0]),
        height_m=asset.height_m,
        footprint_m=asset.footprint_m,
        tags=asset.tags,
        vertices=None if vertices is None else ref(asset, vertices),
        rate_hz=asset.rate_hz,
        num_triangles=asset.num_triangles,
    )


def _cutout(asset: Asset, ref: Ref) -> CutoutAsset:
    height_m = asset.height_m or 1.7
    if asset.files[0].part:
        frames = tuple(ref(asset, file) for file in asset.files)
        sequence = ImageSequence(pattern=f"{PREFIX}{asset.id}", frames=frames)
        return CutoutAsset(id=asset.id, sequence=sequence, height_m=height_m, tags=asset.tags)
    return CutoutAsset(id=asset.id, image=ref(asset, asset.files[0]), height_m=height_m, tags=asset.tags)


def merged_pools(first: AssetPool, second: AssetPool) -> AssetPool:
    """Both pools as one; what the second has in common with the first is there once."""
    fields: dict[str, Sequence[object]] = {}
    for name in AssetPool.model_fields:
        mine = getattr(first, name)
        fields[name] = (*mine, *(item for item in getattr(second, name) if item not in mine))
    return AssetPool.model_validate(fields)
