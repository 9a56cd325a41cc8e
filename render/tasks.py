"""What a farm's machines do: render one clip, pack one shard. Arguments and results are small and plain."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.shards import UnsoundClipError, find_staged, pack_shard
from focuspull.dataset.storage import Folder
from focuspull.render.heartbeat import RUN_BEAT, RunBeat, read_beat
from focuspull.render.spec import Model
from focuspull.render.worker import EXIT_OUTPUT, STORAGE_TRIES, Ended, Job, spawn

FILE_SUFFIX = ".file"
"""Of a scene's file in the staging folder, which is named by its SHA-256."""
MAX_FILE_BYTES = 1 << 32


class PackJob(Model):
    """A shard to be packed.

    Args:
        corpus: Address of the corpus.
        stage: Address of its staging folder.
        name: Name of the shard.
        keys: Its clips, in order.
        spec_sha256: Hash of the corpus specification.
        run: The run that asks for it; another one's claim to the corpus keeps the shard uncommitted.
    """

    corpus: str
    stage: str
    name: str
    keys: tuple[str, ...]
    spec_sha256: str
    run: RunBeat


@dataclass(frozen=True)
class Packed:
    """How packing ended.

    Attributes:
        done: Whether the shard is committed.
        unsound: Clips that have to be rendered again.
        reason: One line; empty if it is done.
    """

    done: bool
    unsound: tuple[str, ...] = ()
    reason: str = ""


def render_clip(job_json: str) -> dict[str, Any]:
    """Render and stage a clip.

    Args:
        job_json: A `Job`.

    Returns:
        The fields of an `Ended`.
    """
    job = Job.model_validate_json(job_json)
    stage = job.staging()
    try:
        files = job.files
        if not stage.is_local or not all(path.is_file() for path in files.values()):
            files = fetch_files(stage, files)
        if stage.is_local:
            return asdict(spawn(job.model_copy(update={"files": files})))
        with tempfile.TemporaryDirectory(prefix="focuspull-clip-") as name:
            here = job.model_copy(update={"folder": Path(name), "files": files})
            ended = spawn(here)
            if not ended.done:
                with contextlib.suppress(UserError, OSError):
                    stage.write(job.log_path.name, here.log_path.read_bytes())
                    stage.write(job.job_path.name, job_json.encode())
            return asdict(ended)
    except UserError as error:
        return asdict(Ended(False, EXIT_OUTPUT, str(error)))
    except OSError as error:
        return asdict(Ended(False, EXIT_OUTPUT, f"{error.filename}: cannot be written: {error.strerror}"))


def fetch_files(stage: Folder, files: Mapping[str, Path]) -> dict[str, Path]:
    """Where the scene's files lie here: where the run has them, or fetched from the staging folder.

    Raises:
        UserError: If one is neither here nor there.
    """
    folder = Path(tempfile.gettempdir()) / f"focuspull-files-{os.getuid()}"
    found: dict[str, Path] = {}
    for sha256, path in files.items():
        copy = folder / f"{sha256}{path.suffix}"
        candidates = [known for known in (copy, path) if known.is_file() and _sha256(known) == sha256]
        if not candidates:
            content = stage.read(f"{sha256}{FILE_SUFFIX}", limit=MAX_FILE_BYTES)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise UserError(
                    f"{stage.path(sha256)}{FILE_SUFFIX}: has changed. Run the same command again."
                )
            write_atomic(copy, content)
        found[sha256] = candidates[0] if candidates else copy
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack_staged(job_json: str) -> dict[str, Any]:
    """Pack staged clips into a shard and commit it.

    Args:
        job_json: A `PackJob`.

    Returns:
        The fields of a `Packed`.
    """
    job = PackJob.model_validate_json(job_json)
    corpus = Folder(job.corpus, tries=STORAGE_TRIES)
    stage = Folder(job.stage, tries=STORAGE_TRIES)

    def may_commit() -> bool:
        there = read_beat(stage, RUN_BEAT, RunBeat)
        return there is None or job.run.same_run(there)

    try:
        staged = find_staged(stage, job.keys)
        if unsound := tuple(key for key in job.keys if key not in staged):
            return asdict(Packed(False, unsound, "is not staged any more"))
        clips = [staged[key] for key in job.keys]
        if not pack_shard(corpus, job.name, clips, spec_sha256=job.spec_sha256, may_commit=may_commit):
            return asdict(Packed(False, (), f"{job.name}: another run has taken over. Leave it to that one."))
    except UnsoundClipError as error:
        stage.remove([f"{error.key}.json"])
        return asdict(Packed(False, (error.key,), str(error)))
    except UserError as error:
        return asdict(Packed(False, (), str(error)))
    return asdict(Packed(True))
