"""What a corpus folder has of a spec: read back from markers, so that no run keeps state of its own.

corpus/
    corpus.json              the resolved spec, its hash, the versions that render it
    train-000000.tar, .json  shards, `focuspull.dataset.shards`
    index.parquet            `focuspull.dataset.index`
    stage/clip-000007.tar    finished clips whose shard is not complete
    stage/train-000000.rows  rows of a shard that are not in the index yet
    stage/<sha256>.file      files of the scenes, for machines that have other disks
    stage/clip-000008.log    what the renderer of a failed clip printed, and its .job to run it again
    stage/*.beat             signs of life, `focuspull.render.heartbeat`
    quarantine.jsonl         clips that are given up, `focuspull.render.failures`
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from focuspull.dataset.clip import first_problem, member_names
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX, remove_durably
from focuspull.dataset.index import INDEX_NAME, ROWS_SUFFIX, shard_ends
from focuspull.dataset.markers import TAR_BLOCK, committed_names, read_marker
from focuspull.dataset.shards import StagedClip, read_staged, shard_size
from focuspull.dataset.storage import Folder
from focuspull.render.backends import get_backend
from focuspull.render.corpus import CorpusSpec, LoadedCorpus
from focuspull.render.failures import Quarantined, read_quarantine
from focuspull.render.heartbeat import RUN_BEAT, RunBeat, read_beat
from focuspull.render.randomize import randomize

CORPUS_NAME = "corpus.json"
STAGE_NAME = "stage"
PNG_PART = 0.6
"""Bound of PNG size over raw pixels for denoised renders; images of pure noise take more."""
META_BYTES = 32 << 10
MAX_DIFFERENCES = 8


@dataclass(frozen=True)
class Ledger:
    """What is done of a spec, and what is not.

    Attributes:
        committed: Names of the shards that are complete.
        staged: Numbers of the finished clips that are in no shard yet.
        left: Numbers of the clips still to be rendered, in order.
        quarantined: Numbers of the clips that are given up, and why.
        unindexed: Names of the committed shards that are not in the index yet.
        other_versions: Versions that have rendered some of it, besides those that it was begun with.
    """

    committed: frozenset[str]
    staged: frozenset[int]
    left: tuple[int, ...]
    quarantined: Mapping[int, Quarantined] = field(default_factory=dict[int, Quarantined])
    unindexed: frozenset[str] = frozenset()
    other_versions: tuple[Mapping[str, str], ...] = ()


def clip_key(index: int) -> str:
    """Key of a clip number."""
    return f"clip-{index:06d}"


def spec_sha256(spec: CorpusSpec) -> str:
    """The corpus' identity: hash of the resolved spec, which names files by content.

    Keys keep their order, since clips are numbered in the order of the splits.
    """
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def versions_here(spec: CorpusSpec) -> dict[str, str]:
    """Versions of all that decides what the pixels of a corpus are.

    Raises:
        UserError: If the backend is not installed.
    """
    backend = get_backend(spec.backend)
    return {
        spec.backend: backend.version(),
        "variant": backend.load().choose_variant(),
        "focuspull": metadata.version("focuspull"),
    }


def describe_corpus(spec: CorpusSpec, other_versions: Sequence[Mapping[str, str]] = ()) -> bytes:
    """The bytes of ``corpus.json``.

    Args:
        spec: The spec.
        other_versions: With which a run has gone on by option: the first are those that began the corpus, and
            `versions_here` come after them.

    Raises:
        UserError: If the backend is not installed.
    """
    first, *others = [*other_versions, versions_here(spec)]
    document = {
        "format": "focuspull-corpus-1",
        "spec": spec.model_dump(mode="json"),
        "spec_sha256": spec_sha256(spec),
        "versions": first,
        **({"other_versions": others} if others else {}),
    }
    return json.dumps(document, indent=2, allow_nan=False).encode() + b"\n"


def read_ledger(
    spec: CorpusSpec, out: Path | Folder, *, any_versions: bool = False, before: Ledger | None = None
) -> Ledger:
    """Read back from a folder what is done of a spec; changes nothing, the folder need not exist.

    Markers of shards that are in the index are not read: they are large, and the index says how long a shard
    must be.

    Args:
        spec: The spec.
        out: Folder of the corpus.
        any_versions: Whether clips of other versions of what renders them are taken as they are.
        before: What the folder had of the spec a moment ago: the scenes of clips that were staged or
            quarantined then are not made again to compare them, which is most of the time this takes.

    Raises:
        UserError: If the folder holds another corpus, or a marker in it is invalid.
    """
    out = Folder.of(out)
    known_staged = before.staged if before else frozenset[int]()
    known_quarantined = before.quarantined if before else {}
    sizes, stage = out.sizes(), out.below(STAGE_NAME)
    stage_sizes = stage.sizes()
    is_begun = any(name.endswith(".tar") for name in (*sizes, *stage_sizes))
    other_versions = _refuse_another_corpus(spec, out, any_versions=any_versions) if is_begun else ()
    ends = shard_ends(out) if sizes.keys() >= {CORPUS_NAME, INDEX_NAME} else {}
    committed: set[str] = set()
    for name in committed_names(sizes):
        shard = f"{name}.tar"
        if shard in ends:
            size = shard_size(ends[shard])
        else:
            marker = read_marker(out, name)
            if marker.spec_sha256 != spec_sha256(spec):
                path = out.path(f"{name}.json")
                hint = "Choose another --out, or remove the shards."
                raise UserError(f"{path}: belongs to another spec. {hint}")
            size = marker.size
        if sizes.get(shard) == size:
            committed.add(name)
    finished, given_up = read_staged(stage, sizes=stage_sizes), read_quarantine(out)
    staged: set[int] = set()
    left: list[int] = []
    quarantined: dict[int, Quarantined] = {}
    for planned in spec.shards():
        if planned.name in committed:
            continue
        for index in planned.indices:
            done, clip = finished.get(clip_key(index)), given_up.get(clip_key(index))
            if done is not None and (index in known_staged or _is_of(done, spec, index)):
                staged.add(index)
            elif clip is not None and (
                clip == known_quarantined.get(index) or clip.scene_sha256 == scene_sha256(spec, index)
            ):
                quarantined[index] = clip
            else:
                left.append(index)
    unindexed = frozenset(name for name in committed if f"{name}.tar" not in ends)
    return Ledger(
        frozenset(committed), frozenset(staged), tuple(left), quarantined, unindexed, other_versions
    )


def scene_sha256(spec: CorpusSpec, index: int) -> str | None:
    """Identity of a clip's scene; None if no scene can be made of the spec."""
    try:
        return randomize(spec, index).sha256()
    except UserError:
        return None


def _is_of(clip: StagedClip, spec: CorpusSpec, index: int) -> bool:
    """Whether a staged clip is what the spec asks for; ``corpus.json`` may have been removed in between."""
    if clip.marker.split != spec.split_of(index):
        return False
    return clip.marker.scene_sha256 == randomize(spec, index).sha256()


def read_spec(out: Path | Folder) -> CorpusSpec:
    """The spec that a folder was begun with.

    Raises:
        UserError: If the folder holds no corpus, or one that this version cannot read.
    """
    out = Folder.of(out)
    path = out.path(CORPUS_NAME)
    if (size := out.find(CORPUS_NAME)) is None:
        raise UserError(f"{path}: is not there. Give the folder that a run writes to.")
    try:
        document = json.loads(out.read(CORPUS_NAME, limit=size))
        spec = CorpusSpec.model_validate(document["spec"])
        known = document["spec_sha256"] == spec_sha256(spec)
    except ValidationError as error:
        hint = "Use the version of focuspull that began it."
        raise UserError(f"{path}: spec: {first_problem(error)}. {hint}") from error
    except (ValueError, KeyError, TypeError) as error:
        hint = "Give the folder that a run writes to."
        raise UserError(f"{path}: is not the description of a corpus. {hint}") from error
    if not known:
        hint = "Restore the file, or run with the spec again."
        raise UserError(f"{path}: the field 'spec' has another hash than 'spec_sha256' says. {hint}")
    return spec


def load_begun(out: Path | Folder) -> LoadedCorpus:
    """The corpus that a folder was begun with, and its files where the last run found them.

    Raises:
        UserError: If the folder holds no corpus, or a file of the scenes is not there any more or another.
    """
    out = Folder.of(out)
    spec = read_spec(out)
    beat = read_beat(out.below(STAGE_NAME), RUN_BEAT, RunBeat)
    known = {} if beat is None else beat.files
    for name, sha256 in named_files(spec.model_dump(mode="json")):
        path = known.get(sha256)
        if path is None:
            raise UserError(
                f"{out.path(CORPUS_NAME)}: no run has left word where '{name}' lies. "
                f"Run this once: focuspull-render run SPEC --out {out.address}"
            )
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}. Put it back there.") from error
        if found != sha256:
            raise UserError(f"{path}: has changed since the corpus was begun. Put the old file back there.")
    return LoadedCorpus(spec, known)


def named_files(node: Any) -> Iterator[tuple[str, str]]:
    """Names and hashes of the files that a dumped spec names."""
    if isinstance(node, dict):
        if set(node) == {"name", "sha256"}:
            yield node["name"], node["sha256"]
            return
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from named_files(child)


def _refuse_another_corpus(
    spec: CorpusSpec, out: Folder, *, any_versions: bool
) -> tuple[Mapping[str, str], ...]:
    """Raise if there are clips of another spec, or of other versions of what renders it.

    Returns:
        The versions that have rendered some of it, if they are others than here, oldest first.
    """
    path = out.path(CORPUS_NAME)
    if (size := out.find(CORPUS_NAME)) is None:
        return ()
    asked = json.loads(describe_corpus(spec))
    try:
        there = json.loads(out.read(CORPUS_NAME, limit=size))
        known = [there["versions"], *there.get("other_versions", [])]
        is_same_spec = there["spec_sha256"] == asked["spec_sha256"]
        old, new = ({**document["spec"], "versions": document["versions"]} for document in (there, asked))
        if is_same_spec and not all(isinstance(versions, dict) for versions in known):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is not the description of a corpus. Choose another --out.") from error
    if is_same_spec and known[-1] == asked["versions"]:
        return tuple(known[:-1])
    if is_same_spec and any_versions:
        return tuple(known)
    if is_same_spec:
        changed = "; ".join(_differences(dict(_flat(known[-1])), dict(_flat(asked["versions"]))))
        raise UserError(
            f"{out.address}: was begun with other versions, which may render other pixels: {changed}. "
            "Install those, or add --any-versions to go on and record both."
        )
    differences = _differences(dict(_flat(old)), dict(_flat(new))) or ["splits: in another order"]
    if len(differences) > MAX_DIFFERENCES:
        differences[MAX_DIFFERENCES:] = [f"and {len(differences) - MAX_DIFFERENCES} more"]
    raise UserError(
        f"{out.address}: was begun with another spec: {'; '.join(differences)}. Choose another --out."
    )


def _differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    def shown(values: Mapping[str, Any], name: str) -> str:
        return json.dumps(values[name]) if name in values else "nothing"

    return [
        f"{name}: {shown(there, name)} there, {shown(asked, name)} asked"
        for name in dict.fromkeys([*there, *asked])
        if name not in there or name not in asked or there[name] != asked[name]
    ]


def _flat(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a JSON document's leaves; an empty list or mapping is one."""
    if isinstance(node, dict) and node:
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list) and node:
        children = [(str(number), value) for number, value in enumerate(node)]
    else:
        yield name, node
        return
    for child, value in children:
        yield from _flat(value, f"{name}.{child}" if name else child)


def clip_bytes(spec: CorpusSpec) -> int:
    """Bound of the bytes of one clip in a shard: pixels as PNG, metadata, tar blocks."""
    film, num_targets = spec.film, len(spec.targets)
    raw_bytes = film.width * film.height * film.num_frames * (3 * (1 + num_targets) + 2 + 2)
    num_members = len(member_names(num_targets, film.num_frames))
    return int(raw_bytes * PNG_PART) + META_BYTES + num_members * 2 * TAR_BLOCK


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk where a folder is, or will be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def size_text(num_bytes: float) -> str:
    """A size for people."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def refuse_full_disk(spec: CorpusSpec, out: Path | Folder, num_left: int) -> None:
    """Raise if the clips that are left may not fit; a shard is there twice while it is packed.

    Object stores have no end.

    Raises:
        UserError: One line with the bytes needed and free.
    """
    out = Folder.of(out)
    if not num_left or not out.is_local:
        return
    needed = (num_left + min(spec.clips_per_shard, num_left)) * clip_bytes(spec)
    if needed > (free := free_bytes(out.local)):
        raise UserError(
            f"{out.address}: {num_left} clips need up to {size_text(needed)}, but {size_text(free)} are "
            "free. Free some space, or choose another disk."
        )


@contextmanager
def only_run(out: Path) -> Generator[None, None, None]:
    """Hold a local folder, made if missing, against other runs of this machine. Ends with the process.

    `focuspull.render.lease` holds it against those of others.

    Raises:
        UserError: If another run holds it, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}. Choose another --out.") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        message = f"{out}: another run is writing there. Wait for it, or choose another --out."
        raise UserError(message) from error
    finally:
        os.close(folder)


def sweep(out: Path | Folder, ledger: Ledger, files: Collection[str] = ()) -> None:
    """Remove what killed runs left: unfinished files, logs, staged clips that are not in the ledger.

    Logs and jobs of quarantined clips stay, and so do rows of committed shards.

    Args:
        out: Folder of the corpus.
        ledger: What is done.
        files: Names in the staging folder that stay.

    Raises:
        UserError: If the storage refuses.
    """
    out = Folder.of(out)
    stage = out.below(STAGE_NAME)
    names = [name for name in stage.sizes() if not name.startswith(TEMPORARY_PREFIX)]
    staged = {clip_key(index) for index in ledger.staged}
    given_up = {clip_key(index) for index in ledger.quarantined}
    wanted = {
        *files,
        RUN_BEAT,
        *(f"{key}{suffix}" for key in staged for suffix in (".json", ".tar")),
        *(f"{key}{suffix}" for key in given_up for suffix in (".log", ".job")),
        *(f"{name}{ROWS_SUFFIX}" for name in ledger.committed),
    }
    # Markers first: without its marker a clip is not staged, whatever else is left of it.
    stage.remove(name for name in names if name.endswith(".json") and name not in wanted)
    stage.remove(name for name in names if not name.endswith(".json") and name not in wanted)
    if out.is_local:
        folders = (out.local, stage.local)
        remove_durably([path for folder in folders for path in folder.glob(f"{TEMPORARY_PREFIX}*")])
