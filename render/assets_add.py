"""The user's own files and folders as assets: found, checked, converted where needed, stored.

    chair.glb, lamp.obj (with its MTL and images), scene.blend, figure.fbx, set.usdz   meshes
    room.hdr, sky.exr (2:1)                                                            panoramas
    leaf.png (with alpha); walk/0001.png, walk/0002.png, ...                           stills, sequences
    fgr/a.mp4 with pha/a.mp4, or folders of frames of these names (VideoMatte240K)     sequences
    brick.jpg                                                                          photos, textures, ...

What is broken is refused in one line, and the others go on.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.errors import UserError
from focuspull.render.assets import (
    Asset,
    AssetFile,
    Kind,
    Manifest,
    manifests,
    read_manifest,
    split_of,
    store,
    write_manifest,
)
from focuspull.render.assets_check import UNITS_M, Unit, check_alpha, check_image, check_mesh
from focuspull.render.assets_obj import encoded, read_obj
from focuspull.render.glb import FilePart, MeshDocument, needs_conversion, read_glb, write_glb
from focuspull.render.textures import decode

MESH_SUFFIXES = {
    ".glb", ".gltf", ".obj", ".blend", ".fbx", ".usd", ".usda", ".usdc", ".usdz", ".abc", ".ply", ".stl",
}  # fmt: skip
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".exr", ".hdr"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi"}
_RAW_AXES = {".ply", ".stl"}
"""Formats without axes of their own, whose z Blender takes to be up."""
_FLOAT_SUFFIXES = {".exr", ".hdr"}
_NORMAL_WORDS = {"normal", "normals", "nor", "nrm", "normalmap"}
_TEXTURE_WORDS = {
    "texture",
    "textures",
    "tile",
    "tiles",
    "tileable",
    "seamless",
    "albedo",
    "diffuse",
    "basecolor",
}
_PHOTO_WORDS = {"photo", "photos", "photograph", "photographs", "poster", "painting", "picture", "pictures"}
MATTE_FOLDERS = ("fgr", "pha")
CONVERSION_TIMEOUT_S = 900


@dataclass(frozen=True)
class AddOptions:
    """What a user says about the files.

    Attributes:
        source: Of the ids.
        kind: What all of them are; None: by name and content.
        tags: What they show.
        licence: SPDX name, or ``user``.
        attribution: Whom to name.
        height_m: Of meshes and cut-outs.
        unit: Of meshes.
        up: Axis of meshes that is up; None: as the format has it.
        max_frames: Of a sequence.
        max_height_px: Of the frames of matted videos.
    """

    source: str = "mine"
    kind: Kind | None = None
    tags: tuple[str, ...] = ()
    licence: str = "user"
    attribution: str = ""
    height_m: float | None = None
    unit: Unit | None = None
    up: Literal["y", "z"] | None = None
    max_frames: int = 120
    max_height_px: int = 1080


@dataclass(frozen=True)
class Candidate:
    """Something that may become an asset.

    Attributes:
        name: For messages, relative to what the user gave.
        path: A file; a folder of frames; of a matted video, the foreground.
        alpha: The matte of a matted video.
    """

    name: str
    path: Path
    alpha: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate: an asset (``note`` says if it was there already), or the ``problem``."""

    name: str
    asset: Asset | None = None
    note: str = ""
    problem: str = ""


def add(path: Path, options: AddOptions, root: Path, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Adds a file, or all that is in a folder.

    Args:
        path: What the user gives.
        options: What they say about it.
        root: Of the library.
        tell: Called with each outcome as it comes.

    Raises:
        UserError: If there is nothing of a known kind.
    """
    candidates = list(find_candidates(path))
    if not candidates:
        raise UserError(
            f"{path}: holds nothing to add. Give a mesh ({' '.join(sorted(MESH_SUFFIXES))}), an image, or a "
            "folder of them."
        )
    shelf = Shelf(root, options.source)
    outcomes: list[Outcome] = []
    for candidate in candidates:
        try:
            asset, note = make_asset(candidate, options, root)
            outcome = shelf.put(candidate.name, asset, note)
        except UserError as error:
            outcome = Outcome(candidate.name, problem=str(error))
        outcomes.append(outcome)
        tell(outcome)
    shelf.save()
    return outcomes


class Shelf:
    """The assets of a source while some are added; nothing is in it twice, by content."""

    def __init__(self, root: Path, source: str, **facts: str) -> None:
        self._root = root
        self._manifest = Manifest.model_validate({**read_manifest(root, source).model_dump(), **facts})
        self._assets = {asset.id: asset for asset in self._manifest.assets}
        self._new: set[str] = set()
        others = (m for m in manifests(root) if m.source != source)
        self._elsewhere = {_content(asset): asset.id for m in others for asset in m.assets}

    def put(self, name: str, asset: Asset, note: str = "") -> Outcome:
        """Keeps an asset; what was put there under its name before this shelf makes way for it.

        Args:
            name: Of what it was made from, for messages.
            asset: Its files are stored already.
            note: What there is to say about it.
        """
        content = _content(asset)
        if content in self._elsewhere:
            return Outcome(name, asset, note=f"is {self._elsewhere[content]} already")
        same = next((a.id for a in self._assets.values() if _content(a) == content), None)
        number, new = 1, same or asset.id
        while same is None and new in self._new:
            number += 1
            new = f"{asset.id}-{number}"
        if same is not None:
            note = "was there, its facts are renewed"
        elif new in self._assets:
            note = note or "takes the place of what had its name"
        asset = asset.model_copy(update={"id": new, "split": split_of(new)})
        self._new.add(new)
        self._assets[new] = asset
        return Outcome(name, asset, note=note)

    def drop(self, asset_id: str) -> None:
        """Forgets an asset, if it is there; its files stay for the corpora that name them."""
        self._assets.pop(asset_id, None)

    def save(self) -> None:
        """Writes the manifest."""
        manifest = self._manifest.model_copy(update={"assets": tuple(self._assets.values())})
        write_manifest(self._root, manifest)


def _content(asset: Asset) -> tuple[str, ...]:
    return tuple(file.sha256 for file in asset.files)


# --- Finding ------------------------------------------------------------------------------------


def find_candidates(path: Path) -> Iterator[Candidate]:
    """Everything in a file or folder that may become an asset, in the order of names.

    Images that a mesh file's folder has for it (``textures``, or named by an MTL) are left to the mesh.

    Raises:
        UserError: If there is no such file.
    """
    if path.is_file():
        yield Candidate(path.name, path)
        return
    if not path.is_dir():
        raise UserError(f"{path}: is not there. Check the path.")
    yield from _in_folder(path, path.absolute())


def _in_folder(folder: Path, top: Path) -> Iterator[Candidate]:
    fgr, pha = (folder / name for name in MATTE_FOLDERS)
    if fgr.is_dir() and pha.is_dir():
        yield from _matted(fgr, pha, top)
        return
    entries = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    files = [p for p in entries if p.is_file()]
    if _is_sequence(files):
        yield Candidate(_relative(folder, top), folder)
        return
    claimed = _claimed_by_meshes(files)
    for entry in entries:
        if entry.is_dir():
            if not (claimed is not None and entry.name.lower() in ("textures", "maps", "tex")):
                yield from _in_folder(entry, top)
        elif entry.suffix.lower() in MESH_SUFFIXES or (
            entry.suffix.lower() in IMAGE_SUFFIXES and entry.name.lower() not in (claimed or ())
        ):
            yield Candidate(_relative(entry, top), entry)


def _relative(path: Path, top: Path) -> str:
    relative = path.absolute().relative_to(top)
    return str(relative) if relative.parts else top.name


def _matted(fgr: Path, pha: Path, top: Path) -> Iterator[Candidate]:
    """Pairs of foreground and matte: videos, or folders of frames."""
    mattes = {p.relative_to(pha).with_suffix("").as_posix(): p for p in _clips(pha)}
    for clip in _clips(fgr):
        key = clip.relative_to(fgr).with_suffix("").as_posix()
        yield Candidate(_relative(clip, top), clip, mattes.get(key, pha / key))


def _clips(folder: Path) -> list[Path]:
    """Videos, and folders that hold images, below a folder."""
    found = [p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES]
    found += {p.parent for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES}
    return sorted(found)


def _is_sequence(files: list[Path]) -> bool:
    """Whether a folder holds the numbered frames of one RGBA sequence and no more."""
    images = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    if len(images) < 2 or len(images) != len(files):
        return False
    heads = {re.sub(r"\d+$", "", p.stem) for p in images}
    if len(heads) != 1 or not all(p.stem[-1:].isdigit() for p in images):
        return False
    try:
        return decode(images[0].read_bytes(), images[0].name).shape[2] == 4
    except (OSError, UserError):
        return False


def _claimed_by_meshes(files: list[Path]) -> set[str] | None:
    """Names of images, in lower case, that mesh files beside them use; None if there are no such files."""
    if not any(p.suffix.lower() in MESH_SUFFIXES - {".glb"} for p in files):
        return None
    claimed: set[str] = set()
    for path in files:
        if path.suffix.lower() == ".mtl":
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                words = line.split()
                if words and words[0].lower().startswith(("map_", "norm", "bump", "disp", "refl")):
                    tail = line.replace("\\", "/").split("/")[-1].strip().lower()
                    claimed |= {words[-1].replace("\\", "/").split("/")[-1].lower(), tail}
                    claimed.add(line.strip().partition(" ")[2].strip().lower())
        elif path.suffix.lower() == ".gltf":
            uris = re.findall(r'"uri"\s*:\s*"([^"]+)"', path.read_text(errors="replace"))
            claimed |= {uri.split("/")[-1].lower() for uri in uris}
    return claimed


# --- Making -------------------------------------------------------------------------------------


def make_asset(candidate: Candidate, options: AddOptions, root: Path) -> tuple[Asset, str]:
    """Checks, converts and stores a candidate.

    Returns:
        The asset, and what there is to say about it.

    Raises:
        UserError: If it is not fit.
    """
    if candidate.alpha is not None:
        return _from_matte(candidate, candidate.alpha, options, root), ""
    if candidate.path.is_dir():
        return _from_frames(candidate, options, root), ""
    suffix = candidate.path.suffix.lower()
    if suffix in MESH_SUFFIXES:
        return _from_mesh(candidate, options, root)
    if suffix in IMAGE_SUFFIXES:
        return _from_image(candidate, options, root), ""
    raise UserError(f"{candidate.name}: is of no known kind. Give a mesh or an image.")


def asset_id(source: str, name: str) -> str:
    """An id from a file's name."""
    stem = Path(name).with_suffix("").as_posix() if "." in Path(name).name else Path(name).as_posix()
    slug = re.sub(r"[^a-z0-9._]+", "-", stem.lower()).strip("-._") or "asset"
    return f"{source}/{slug}"


def _asset(
    candidate: Candidate, options: AddOptions, kind: Kind, files: list[AssetFile], **facts: Any
) -> Asset:
    new = asset_id(options.source, candidate.name)
    return Asset(
        id=new,
        kind=kind,
        tags=options.tags,
        licence=options.licence,
        attribution=options.attribution,
        split=split_of(new),
        files=tuple(files),
        was=candidate.path.name,
        **facts,
    )


def _refuse_kind(candidate: Candidate, options: AddOptions, *possible: Kind) -> None:
    if options.kind is not None and options.kind not in possible:
        raise UserError(f"{candidate.name}: is no {options.kind}. Leave --kind out.")


def _from_image(candidate: Candidate, options: AddOptions, root: Path) -> Asset:
    data = _bytes(candidate.path, candidate.name)
    kind = options.kind or _kind_of_image(candidate, data)
    _refuse_kind(candidate, replace(options, kind=kind), "hdri", "normal-map", "texture", "photo", "cutout")
    check_image(data, candidate.name, kind)
    facts = {"height_m": options.height_m or 1.7} if kind == "cutout" else {}
    return _asset(candidate, options, kind, [store(root, data, candidate.path.suffix)], **facts)


def _bytes(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror}). Check its permissions.") from None


def _kind_of_image(candidate: Candidate, data: bytes) -> Kind:
    """By the format and alpha channel, then by words in the name and in those of its folders."""
    if candidate.path.suffix.lower() in _FLOAT_SUFFIXES:
        return "hdri"
    image = decode(data, candidate.name)
    if image.shape[2] == 4 and image[..., 3].min() < np.iinfo(image.dtype).max:
        return "cutout"
    given = candidate.path.absolute()
    words = set(re.split(r"[^a-z0-9]+", f"{given.parent.name} {candidate.name}".lower()))
    if words & _NORMAL_WORDS:
        return "normal-map"
    return "texture" if words & _TEXTURE_WORDS and not words & _PHOTO_WORDS else "photo"


def _from_frames(candidate: Candidate, options: AddOptions, root: Path) -> Asset:
    _refuse_kind(candidate, options, "cutout")
    paths = sorted(p for p in candidate.path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    datas = [_bytes(path, candidate.name) for path in paths[: options.max_frames]]
    images = [decode(d, f"{candidate.name}/{p.name}") for d, p in zip(datas, paths, strict=False)]
    if len({image.shape for image in images}) > 1:
        raise UserError(f"{candidate.name}: frames differ in size. Give frames of one size.")
    check_alpha(images, candidate.name)
    files = [store(root, d, p.suffix, f"{i:04d}") for i, (d, p) in enumerate(zip(datas, paths, strict=False))]
    return _asset(candidate, options, "cutout", files, height_m=options.height_m or 1.7)


def _from_matte(candidate: Candidate, alpha: Path, options: AddOptions, root: Path) -> Asset:
    """A foreground and its matte as RGBA frames."""
    _refuse_kind(candidate, options, "cutout")
    if not alpha.exists():
        hint = "Give both folders the same names."
        raise UserError(f"{candidate.name}: its matte {alpha.parent.name}/{alpha.name} is missing. {hint}")
    frames: list[bytes] = []
    shown = False
    pairs = zip(
        frames_of(candidate.path, candidate.name),
        frames_of(alpha, f"{alpha.parent.name}/{alpha.name}"),
        strict=False,
    )
    for number, (color, matte) in enumerate(pairs):
        if number == options.max_frames:
            break
        if color.shape[:2] != matte.shape[:2]:
            raise UserError(f"{candidate.name}: frames and matte differ in size. Give them one size.")
        rgba = np.concatenate([color[..., :3], matte[..., :1]], axis=2)
        factor = options.max_height_px / rgba.shape[0]
        if factor < 1:
            size = (round(rgba.shape[1] * factor), options.max_height_px)
            rgba = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
        shown |= bool((rgba[..., 3] > 127).any())
        frames.append(encoded(rgba).data)
    if not frames:
        raise UserError(f"{candidate.name}: has no frames. Give a video, or a folder of images.")
    if not shown:
        raise UserError(f"{candidate.name}: its matte is empty. Give one with something in it.")
    files = [store(root, frame, ".png", f"{number:04d}") for number, frame in enumerate(frames)]
    return _asset(candidate, options, "cutout", files, height_m=options.height_m or 1.7)


def frames_of(path: Path, name: str) -> Iterator[NDArray[np.uint8]]:
    """Frames ``[H, W, 3]`` of a video, or of a folder of images.

    Raises:
        UserError: If it cannot be decoded.
    """
    if path.is_dir():
        for image in sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
            pixels = decode(_bytes(image, name), f"{name}/{image.name}")[..., :3]
            yield (pixels if pixels.dtype == np.uint8 else pixels / 257).astype(np.uint8)
        return
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (FFmpegError, IndexError, OSError) as error:
        raise UserError(f"{name}: cannot be decoded as a video ({error}). Encode it again.") from None


# --- Meshes -------------------------------------------------------------------------------------


def _from_mesh(candidate: Candidate, options: AddOptions, root: Path) -> tuple[Asset, str]:
    _refuse_kind(candidate, options, "mesh")
    with tempfile.TemporaryDirectory(prefix="focuspull-assets-") as name:
        loaded = _loaded(candidate, options, Path(name))
    unit_m = loaded.unit_m
    if options.unit is not None:
        unit_m = UNITS_M[options.unit]
    facts = check_mesh(loaded.document, candidate.name, height_m=options.height_m, unit_m=unit_m)
    files = [store(root, loaded.data, ".glb")]
    if loaded.vertices is not None:
        files.append(store(root, loaded.vertices, ".npy", "vertices"))
    asset = _asset(
        candidate,
        options,
        "mesh",
        files,
        height_m=round(facts.height_m, 6),
        footprint_m=tuple(round(x, 6) for x in facts.footprint_m),
        num_triangles=facts.num_triangles,
        is_closed=facts.is_closed,
    )
    return asset, loaded.note


@dataclass(frozen=True)
class _Loaded:
    """A mesh with y up, its GLB file, vertices over time, length of its unit if known, what is to be said."""

    document: MeshDocument
    data: bytes
    vertices: bytes | None = None
    unit_m: float | None = None
    note: str = ""


def _loaded(candidate: Candidate, options: AddOptions, folder: Path) -> _Loaded:
    path, suffix, name = candidate.path, candidate.path.suffix.lower(), candidate.name
    made = folder / "mesh.glb"
    vertices, unit_m, note = None, None, ""
    if suffix == ".glb" and needs_conversion(path) is None:
        document = read_glb(path, name)
        if options.up != "z":
            return _Loaded(document, _bytes(path, name))
    elif suffix == ".obj":
        found = read_obj(path, name)
        document, unit_m = found.document, found.unit_m
    else:
        note = convert(path, name, folder)
        document = read_glb(made, name)
        # Blender's unit is the metre, unless the file says nothing of units.
        unit_m = 1.0 if suffix == ".blend" else None
        if (folder / "vertices.npy").is_file():
            vertices = (folder / "vertices.npy").read_bytes()
    turned = options.up == "y" if suffix in _RAW_AXES else options.up == "z"
    if turned:
        if vertices is not None:
            raise UserError(f"{name}: moves, so its axes are known. Leave --up out.")
        document = _turned(document, back=suffix in _RAW_AXES)
    write_glb(document, made)
    return _Loaded(document, made.read_bytes(), vertices, unit_m, note)


def _turned(document: MeshDocument, *, back: bool) -> MeshDocument:
    """Z up to y up, or back."""
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    turn = turn.T if back else turn

    def part(old: FilePart) -> FilePart:
        normals = None if old.normals is None else old.normals @ turn.T
        return replace(old, vertices=old.vertices @ turn.T, normals=normals)

    return MeshDocument(tuple(part(old) for old in document.parts), document.materials)


def convert(path: Path, name: str, folder: Path) -> str:
    """Runs Blender over a file, in a process of its own; what it makes is in ``folder``.

    Returns:
        What there is to say about it.

    Raises:
        UserError: If Blender cannot open it, or is not installed.
    """
    from focuspull.render.backends import get_backend

    get_backend("cycles").version()
    module = "focuspull.render.backends.cycles_import"
    command = [sys.executable, "-P", "-m", module, str(path.absolute()), str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CONVERSION_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(f"{name}: Blender took over {CONVERSION_TIMEOUT_S} s. Simplify the file.") from None
    marker = folder / "done.json"
    if not marker.is_file():
        tail = (done.stderr.decode(errors="replace").strip() or "no message").splitlines()[-1]
        raise UserError(f"{name}: Blender failed on it (status {done.returncode}: {tail}). Export it again.")
    result = json.loads(marker.read_text())
    if "problem" in result:
        raise UserError(result["problem"].replace(path.name, name, 1))
    return result["note"]
