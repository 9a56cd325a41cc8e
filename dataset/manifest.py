"""Manifests: what the clips of a corpus must be, so that who renders them again can tell if they are.

A manifest has the hash of every clip's scene, which depends on the spec alone, and where the clips were
rendered the hash of their contents, with the versions and the model of processor that made them: the same
versions on the same model give the same bytes, other models may round differently. Shipped ones have a name:
``focuspull-dataset check DIR --manifest NAME``.
They are made by `focuspull-render manifest`, again whenever a shipped spec or the look of a family changes.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from pydantic import Field, ValidationError

from focuspull.dataset.clip import FrozenModel, Name, RendererMeta, Sha256, decode_meta, first_problem
from focuspull.dataset.documents import document_path
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.markers import ShardMarker, committed_names, read_marker, read_members

MANIFESTS = Path(__file__).parent / "manifests"
LIBRARIES = ("drjit", "karellen-llvm-core", "mitsuba-oidn", "numpy", "opencv-python-headless")
"""Packages that decide how images are computed, denoised and packed, besides the renderer itself."""
_CPUINFO = Path("/proc/cpuinfo")
_LEVELS = (("x86-64-v4", {"avx512f", "avx512bw", "avx512vl"}), ("x86-64-v3", {"avx2", "fma"}))


class ManifestClip(FrozenModel):
    """One clip.

    Args:
        key: Its name.
        scene_sha256: Hash of its scene.
        members_sha256: Hash over its members' hashes; None: not rendered yet.
    """

    key: Name
    scene_sha256: Sha256
    members_sha256: Sha256 | None = None


class Manifest(FrozenModel):
    """A corpus.

    Args:
        name: Of its spec.
        spec_sha256: Hash of the spec, as in ``corpus.json``. It is not compared: a spec may cut the same
            scenes into other shards.
        renderer: What made the contents; None if there are none.
        processor: On what kind, see `processor_kind`; likewise.
        libraries: With which versions of `LIBRARIES`.
        clips: All of them, by key.
    """

    name: str
    spec_sha256: Sha256 | None = None
    renderer: RendererMeta | None = None
    processor: str | None = None
    libraries: dict[str, str] = Field(default_factory=dict)
    clips: tuple[ManifestClip, ...] = Field(min_length=1)


def read_manifest(name_or_path: str) -> Manifest:
    """A shipped manifest, or a file.

    Raises:
        UserError: If it is not there or is no manifest.
    """
    path = document_path(name_or_path, MANIFESTS, "manifest", suffix=".json")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise UserError(f"{path.name}: is no manifest: {first_problem(error)}.") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest, a line per clip so that differences can be read.

    Raises:
        UserError: If the operating system refuses.
    """
    head = manifest.model_dump_json(exclude={"clips"}).removesuffix("}")
    clips = ",\n".join(clip.model_dump_json(exclude_none=True) for clip in manifest.clips)
    write_atomic(path, f'{head},"clips":[\n{clips}\n]}}\n'.encode())


def rendered_manifest(manifest: Manifest, corpus: Path) -> Manifest:
    """A manifest with the contents that a corpus has.

    Args:
        manifest: With the scenes.
        corpus: Folder of the corpus, made on this machine.

    Raises:
        UserError: If a clip is missing or of another scene, or clips were made by different versions.
    """
    if problems := check_manifest(corpus, manifest):
        raise UserError(problems[0])
    there = {clip.key: (marker, clip) for marker in _markers(corpus) for clip in marker.clips}
    made = [_renderer(corpus, there[clip.key][0], clip.key) for clip in manifest.clips]
    if any(renderer != made[0] for renderer in made):
        raise UserError(f"{corpus}: was made by several versions. Render it anew with one.")
    clips = [
        clip.model_copy(update={"members_sha256": there[clip.key][1].members_sha256})
        for clip in manifest.clips
    ]
    return manifest.model_copy(
        update={
            "renderer": made[0],
            "processor": processor_kind(),
            "libraries": libraries_here(),
            "clips": tuple(clips),
        }
    )


def check_manifest(corpus: Path, manifest: Manifest) -> list[str]:
    """What of a corpus is not as a manifest says.

    Args:
        corpus: Folder of a corpus.
        manifest: What it should be.

    Returns:
        One line per clip that is missing, too many, of another scene or, where versions and processor are
        those of the manifest, of other contents; the corpus is taken to have been made on this machine.

    Raises:
        UserError: If the corpus cannot be read.
    """
    return list(_problems(corpus, manifest))


def contents_note(corpus: Path, manifest: Manifest) -> str | None:
    """Why the contents of a corpus cannot be compared with a manifest; None if they can.

    Raises:
        UserError: If the corpus cannot be read.
    """
    if manifest.renderer is None:
        return f"{manifest.name}: the manifest has scenes only, no contents."
    if (here := processor_kind()) != manifest.processor:
        return (
            f"{manifest.name}: contents were made on {manifest.processor}, this is {here}, which may round "
            "differently: they were not compared."
        )
    known = {clip.key for clip in manifest.clips}
    for marker in _markers(corpus):
        for clip in marker.clips:
            made = _renderer(corpus, marker, clip.key)
            if clip.key in known and made != manifest.renderer:
                ours, theirs = (_words(renderer) for renderer in (made, manifest.renderer))
                return f"{corpus}: was made by {ours}, the manifest by {theirs}: contents were not compared."
    return None


def processor_kind() -> str:
    """What of a processor decides how renderers round, such as ``x86-64-v4 GenuineIntel 6-143``.

    The level of its instructions alone does not: two processors of one level, of other models, gave other
    bytes in ten of twelve clips. Off Linux and x86-64 it is the machine's name.
    """
    try:
        text = _CPUINFO.read_text()
    except OSError:
        return platform.machine()
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", "").split())
    level = next((name for name, needed in _LEVELS if needed <= flags), platform.machine())
    if not {"vendor_id", "cpu family", "model"} <= facts.keys():
        return level
    return f"{level} {facts['vendor_id']} {facts['cpu family']}-{facts['model']}"


def libraries_here() -> dict[str, str]:
    """Versions of those of `LIBRARIES` that are installed."""
    installed: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _problems(corpus: Path, manifest: Manifest) -> Iterable[str]:
    markers = _markers(corpus)
    there = {clip.key: (marker, clip) for marker in markers for clip in marker.clips}
    missing = [clip.key for clip in manifest.clips if clip.key not in there]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"{corpus}: {missing[0]}{more} of {manifest.name} is missing. Render it."
    known = {clip.key for clip in manifest.clips}
    for key in sorted(set(there) - known):
        yield f"{corpus}: {key}: is not in {manifest.name}. Render the spec that the manifest is of."
    for clip in manifest.clips:
        if clip.key not in there:
            continue
        marker, entry = there[clip.key]
        where = f"{corpus / marker.shard}, {clip.key}"
        if entry.scene_sha256 != clip.scene_sha256:
            yield (
                f"{where}: is of scene {entry.scene_sha256[:12]}..., {manifest.name} has "
                f"{clip.scene_sha256[:12]}... Render it from the spec."
            )
        elif (
            clip.members_sha256 not in (None, entry.members_sha256)
            and manifest.processor == processor_kind()
            and _renderer(corpus, marker, clip.key) == manifest.renderer
        ):
            yield (
                f"{where}: has contents {entry.members_sha256[:12]}..., {manifest.name} "
                f"{str(clip.members_sha256)[:12]}... by the same versions on {manifest.processor}"
                f"{_libraries_text(manifest)}. Render it again."
            )


def _markers(corpus: Path) -> Sequence[ShardMarker]:
    names = committed_names(corpus)
    if not names:
        raise UserError(f"{corpus}: has no committed shard. Give the folder of a corpus.")
    return [read_marker(corpus, name) for name in names]


def _renderer(corpus: Path, marker: ShardMarker, key: str) -> RendererMeta:
    try:
        return decode_meta(read_members(corpus, marker, key, ["json"])["json"]).renderer
    except ValueError as error:
        raise UserError(f"{corpus / marker.shard}, {key}: {error}") from error


def _libraries_text(manifest: Manifest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in manifest.libraries.items())
    return f" with {versions}" if versions else ""


def _words(renderer: RendererMeta) -> str:
    made = f"{renderer.backend} {renderer.backend_version} {renderer.variant}"
    return f"{made}, focuspull {renderer.focuspull_version}"
