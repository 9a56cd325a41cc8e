"""What a corpus folder has of a spec: read back from markers, so that no run keeps state of its own.

corpus/
    corpus.json              the resolved spec, its hash, the versions that render it
    train-000000.tar, .json  shards, `focuspull.dataset.shards`
    index.parquet            `focuspull.dataset.index`
    stage/clip-000007.tar    finished clips whose shard is not complete
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
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from focuspull.dataset.clip import first_problem, member_names
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX, remove_durably
from focuspull.dataset.markers import TAR_BLOCK, marker_path, read_markers
from focuspull.dataset.shards import StagedClip, read_staged
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
    """

    committed: frozenset[str]
    staged: frozenset[int]
    left: tuple[int, ...]
    quarantined: Mapping[int, Quarantined] = field(default_factory=dict[int, Quarantined])


def clip_key(index: int) -> str:
    """Key of a clip number."""
    return f"clip-{index:06d}"


def spec_sha256(spec: CorpusSpec) -> str:
    """The corpus' identity: hash of the resolved spec, which names files by content.

    Keys keep their order, since clips are numbered in the order of the splits.
    """
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()


def describe_corpus(spec: CorpusSpec) -> bytes:
    """The bytes of ``corpus.json``.

    Raises:
        UserError: If the backend is not installed.
    """
    document = {
        "format": "focuspull-corpus-1",
        "spec": spec.model_dump(mode="json"),
        "spec_sha256": spec_sha256(spec),
        "versions": {
            spec.backend: get_backend(spec.backend).version(),
            "variant": get_backend(spec.backend).load().choose_variant(),
            "focuspull": metadata.version("focuspull"),
        },
    }
    return json.dumps(document, indent=2, allow_nan=False).encode() + b"\n"


def read_ledger(spec: CorpusSpec, out: Path) -> Ledger:
    """Read back from a folder what is done of a spec; changes nothing, the folder need not exist.

    Raises:
        UserError: If the folder holds another corpus, or a marker in it is invalid.
    """
    _refuse_another_corpus(spec, out)
    committed: set[str] = set()
    for marker in read_markers(out):
        if marker.spec_sha256 != spec_sha256(spec):
            path = marker_path(out, marker.name)
            raise UserError(f"{path}: belongs to another spec. Choose another --out, or remove the shards.")
        shard = out / marker.shard
        if shard.is_file() and shard.stat().st_size == marker.size:
            committed.add(marker.name)
    finished, given_up = read_staged(out / STAGE_NAME), read_quarantine(out)
    staged: set[int] = set()
    left: list[int] = []
    quarantined: dict[int, Quarantined] = {}
    for planned in spec.shards():
        if planned.name in committed:
            continue
        for index in planned.indices:
            clip = given_up.get(clip_key(index))
            if _is_of(finished.get(clip_key(index)), spec, index):
                staged.add(index)
            elif clip is not None and clip.scene_sha256 == scene_sha256(spec, index):
                quarantined[index] = clip
            else:
                left.append(index)
    return Ledger(frozenset(committed), frozenset(staged), tuple(left), quarantined)


def scene_sha256(spec: CorpusSpec, index: int) -> str | None:
    """Identity of a clip's scene; None if no scene can be made of the spec."""
    try:
        return randomize(spec, index).sha256()
    except UserError:
        return None


def _is_of(clip: StagedClip | None, spec: CorpusSpec, index: int) -> bool:
    """Whether a staged clip is what the spec asks for; ``corpus.json`` may have been removed in between."""
    if clip is None or clip.marker.split != spec.split_of(index):
        return False
    return clip.marker.scene_sha256 == randomize(spec, index).sha256()


def read_spec(out: Path) -> CorpusSpec:
    """The spec that a folder was begun with.

    Raises:
        UserError: If the folder holds no corpus, or one that this version cannot read.
    """
    path = out / CORPUS_NAME
    try:
        document = json.loads(path.read_bytes())
        spec = CorpusSpec.model_validate(document["spec"])
        known = document["spec_sha256"] == spec_sha256(spec)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: is not there. Give the folder that a run writes to.") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Check the disk.") from error
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


def load_begun(out: Path) -> LoadedCorpus:
    """The corpus that a folder was begun with, and its files where the last run found them.

    Raises:
        UserError: If the folder holds no corpus, or a file of the scenes is not there any more or another.
    """
    spec = read_spec(out)
    beat = read_beat(out / STAGE_NAME / RUN_BEAT, RunBeat)
    known = {} if beat is None else beat.files
    for name, sha256 in _files(spec.model_dump(mode="json")):
        path = known.get(sha256)
        if path is None:
            raise UserError(
                f"{out / CORPUS_NAME}: no run has left word where '{name}' lies. "
                f"Run this once: focuspull-render run SPEC --out {out}"
            )
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}. Put it back there.") from error
        if found != sha256:
            raise UserError(f"{path}: has changed since the corpus was begun. Put the old file back there.")
    return LoadedCorpus(spec, known)


def _files(node: Any) -> Iterator[tuple[str, str]]:
    """Names and hashes of the files that a dumped spec names."""
    if isinstance(node, dict):
        if set(node) == {"name", "sha256"}:
            yield node["name"], node["sha256"]
            return
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _files(child)


def _refuse_another_corpus(spec: CorpusSpec, out: Path) -> None:
    """Raise if there are clips of another spec, or of other versions of what renders it."""
    path = out / CORPUS_NAME
    if not any(out.glob("*.tar")) and not any((out / STAGE_NAME).glob("*.tar")):
        return
    asked = json.loads(describe_corpus(spec))
    try:
        there = json.loads(path.read_bytes())
        same = [there[part] == asked[part] for part in ("spec_sha256", "versions")]
        old, new = ({**document["spec"], "versions": document["versions"]} for document in (there, asked))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Choose another --out.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not the description of a corpus. Choose another --out.") from error
    if all(same):
        return
    differences = _differences(dict(_flat(old)), dict(_flat(new))) or ["splits: in another order"]
    if len(differences) > MAX_DIFFERENCES:
        differences[MAX_DIFFERENCES:] = [f"and {len(differences) - MAX_DIFFERENCES} more"]
    raise UserError(f"{out}: was begun with another spec: {'; '.join(differences)}. Choose another --out.")


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
    """Bytes free where a folder is, or will be."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def size_text(num_bytes: float) -> str:
    """A size for people."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def refuse_full_disk(spec: CorpusSpec, out: Path, num_left: int) -> None:
    """Raise if the clips that are left may not fit; a shard is there twice while it is packed.

    Raises:
        UserError: One line with the bytes needed and free.
    """
    if not num_left:
        return
    needed = (num_left + min(spec.clips_per_shard, num_left)) * clip_bytes(spec)
    if needed > (free := free_bytes(out)):
        raise UserError(
            f"{out}: {num_left} clips need up to {size_text(needed)}, but {size_text(free)} are free. "
            "Free some space, or choose another disk."
        )


@contextmanager
def only_run(out: Path) -> Generator[None, None, None]:
    """Hold a folder, made if missing: two runs would sweep away each other's files. Ends with the process.

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


def sweep(out: Path, ledger: Ledger) -> None:
    """Remove what killed runs left: unfinished files, logs, staged clips that are not in the ledger.

    Logs and jobs of quarantined clips stay.

    Raises:
        UserError: If the operating system refuses.
    """
    stage = out / STAGE_NAME
    wanted = {clip_key(index) for index in ledger.staged}
    # Markers first: without its marker a clip is not staged, whatever else is left of it.
    for suffix in (".json", ".tar"):
        remove_durably([path for path in stage.glob(f"*{suffix}") if path.stem not in wanted])
    unfinished = [path for folder in (out, stage) for path in folder.glob(f"{TEMPORARY_PREFIX}*")]
    given_up = {clip_key(index) for index in ledger.quarantined}
    reports = [path for suffix in ("log", "job") for path in stage.glob(f"*.{suffix}")]
    unfinished += [path for path in stage.glob("*.beat") if path.name != RUN_BEAT]
    remove_durably([*unfinished, *(path for path in reports if path.stem not in given_up)])
