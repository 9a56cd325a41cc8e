"""Checkpoints: what a run needs to go on, and beside it the networks as anyone can use them.

    checkpoints/000500/meta.json     stage, step and version of focuspull
    checkpoints/000500/pipeline/     the networks, as `focuspull.model.pipeline.load_pipeline` takes them
    checkpoints/000500/state/        weights, optimiser, averages, random numbers, place in the data:
                                     torch.distributed.checkpoint, whatever the number of processes
    checkpoints/last                 link to the newest

A checkpoint is written under another name, synced and renamed, so under its own name it is always whole. If
it cannot be written, those before it are untouched. All processes of a run call the functions here together.
"""

from __future__ import annotations

import errno
import os
import shutil
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from pydantic import ValidationError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX
from focuspull.train.stages import StageName

LAST = "last"
META = "meta.json"
PIPELINE = "pipeline"
STATE = "state"
_DIGITS = 6


class Checkpoint(FrozenModel):
    """What ``meta.json`` says.

    Args:
        stage: Stage it is of.
        step: Optimiser steps of that stage that are done.
        version: Of focuspull.
    """

    stage: StageName
    step: int
    version: str


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """Whole checkpoints by step, oldest first; none if there is no such folder."""
    found = {int(path.name): path for path in folder.glob("[0-9]*") if path.name.isdigit()}
    return {step: found[step] for step in sorted(found) if (found[step] / META).is_file()}


def read_checkpoint(path: Path) -> Checkpoint:
    """Stage, step and version of a checkpoint.

    Raises:
        UserError: If it is none.
    """
    try:
        return Checkpoint.model_validate_json((path / META).read_bytes())
    except (OSError, ValidationError) as error:
        raise UserError(f"{path}: is not a checkpoint, its {META} cannot be read. Choose another.") from error


def save_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    state: dict[str, Any],
    write_pipeline: Callable[[Path], object],
    *,
    keep: int,
) -> Path:
    """Write a checkpoint, point ``last`` to it, and remove the oldest.

    Args:
        folder: For the checkpoints of one stage; made if missing.
        checkpoint: What it is.
        state: Nested dicts of tensors, distributed or not, and of what pickle takes.
        write_pipeline: Writes the networks into a folder that is not there yet; called in the first process.
        keep: How many to keep, this one included, at least 1.

    Returns:
        Its folder.

    Raises:
        UserError: If the operating system refuses; those before it are still there.
    """
    name = f"{checkpoint.step:0{_DIGITS}d}"
    path, temporary = folder / name, folder / f"{TEMPORARY_PREFIX}{name}"
    is_first = not dist.is_initialized() or dist.get_rank() == 0
    with _refusals(path, temporary if is_first else None, folder):
        if is_first:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(f"{TEMPORARY_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
            temporary.mkdir()
        _wait_for_all()
        with _quiet():
            save(state, checkpoint_id=temporary / STATE, no_dist=not dist.is_initialized())
        if is_first:
            write_pipeline(temporary / PIPELINE)
            (temporary / META).write_text(checkpoint.model_dump_json(indent=1) + "\n", encoding="utf-8")
            for part in sorted(temporary.rglob("*"), reverse=True):
                _sync(part)
            _sync(temporary)
            if path.exists():  # an earlier run that has gone on from before it
                shutil.rmtree(path)
            temporary.rename(path)
            link = folder / f"{TEMPORARY_PREFIX}{LAST}"
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            link.replace(folder / LAST)
            _sync(folder)
            for _, old in sorted(list_checkpoints(folder).items(), reverse=True)[max(keep, 1) :]:
                shutil.rmtree(old)
    _wait_for_all()
    return path


def load_state(path: Path, state: dict[str, Any]) -> None:
    """Fill a state with that of a checkpoint, in place.

    Args:
        path: Of the checkpoint.
        state: As it was saved: the same names, and tensors of the same shapes. Other values are replaced.

    Raises:
        UserError: If it has another name or shape, or cannot be read.
    """
    try:
        stored = FileSystemReader(path / STATE).read_metadata()
    except Exception as error:
        # Whatever is raised about a file that is missing or cut short.
        raise UserError(f"{path / STATE}: cannot be read. Continue from another checkpoint.") from error
    names = dict(_flat(state))
    entries = stored.state_dict_metadata
    if unlike := sorted(names.keys() ^ entries.keys()):
        where = "lacks" if unlike[0] in names else "has, and this run has not,"
        raise UserError(f"{path}: {where} '{unlike[0]}'. It is of another network, stage or optimiser.")
    for name, value in names.items():
        entry = entries[name]
        if (
            isinstance(value, Tensor)
            and isinstance(entry, TensorStorageMetadata)
            and value.shape != entry.size
        ):
            shapes = " and ".join("x".join(map(str, shape)) for shape in (entry.size, value.shape))
            raise UserError(
                f"{path}: '{name}' is of shapes {shapes} there and here. It is of another network."
            )
    try:
        with _quiet():
            load(state, checkpoint_id=path / STATE, no_dist=not dist.is_initialized())
    except CheckpointException as error:
        reason = str(_cause(error)).strip().splitlines()[0]
        raise UserError(f"{path / STATE}: cannot be read: {reason}. Use another checkpoint.") from error


def _flat(state: dict[str, Any], prefix: str = "") -> Generator[tuple[str, Any]]:
    """Leaves by dotted name, as torch.distributed.checkpoint names them."""
    for key, value in state.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cause(error: CheckpointException) -> BaseException:
    """What went wrong in the first process in which something did."""
    return next(iter(error.failures.values()))[0] if error.failures else error


@contextmanager
def _refusals(path: Path, temporary: Path | None, folder: Path) -> Generator[None]:
    """One line for what the operating system refuses, with the last whole checkpoint; nothing is left."""
    try:
        yield
    except (OSError, CheckpointException) as error:
        cause = _cause(error) if isinstance(error, CheckpointException) else error
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        number = cause.errno if isinstance(cause, OSError) else None
        reason = str(cause).strip().splitlines()[0] if number is None else os.strerror(number)
        remedy = "Free some space" if number == errno.ENOSPC else "Check the disk"
        before = list(list_checkpoints(folder).values())
        last = f"the last one is {before[-1]}" if before else "there is none before it"
        raise UserError(f"{path}: cannot be written: {reason}; {last}. {remedy}, then go on.") from error


@contextmanager
def _quiet() -> Generator[None]:
    """Without torch's warning that it saves in one process, which is what was asked for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _wait_for_all() -> None:
    if dist.is_initialized():
        dist.barrier()


def _sync(path: Path) -> None:
    if path.is_symlink():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
