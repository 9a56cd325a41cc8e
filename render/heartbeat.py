"""Signs of life in a corpus' staging folder, from which any machine can tell what runs and what is lost.

    stage/run.beat            of the driver; stays behind when a run ends early
    stage/clip-000007.beat    of the process that waits for a clip's renderer; there while it renders

They are written every few seconds, also while a frame takes hours. Those of clips are worth no more than a
look: no decision of a run depends on them, and failing to write one is no failure. That of the driver is
also its claim to the folder (`focuspull.render.lease`). Times are seconds since 1970 by the writer's clock,
so machines' clocks must agree to a few seconds (NTP) for ages to be right.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX
from focuspull.dataset.storage import Folder
from focuspull.render.spec import Model

BEAT_S = 10.0
REMOTE_BEAT_S = 30.0
"""Where every beat is a paid put: 1,000 clips at a time make 33 of them a second."""
STALE_BEATS = 12
"""Beats that may be missing before a process counts as gone: storage may stall for minutes."""
MAX_BEAT_BYTES = 1 << 22
RUN_BEAT = "run.beat"


class ClipBeat(Model):
    """A clip that is being rendered.

    Host, process and start tell two attempts at one clip apart, also if the machine of the first is only out
    of reach and goes on.

    Args:
        key: Name of the clip.
        attempt: Which try in its run, from 1.
        host: Name of the machine.
        pid: The renderer's process id there.
        started_s: When it was started.
        beat_s: When this was written.
        frames: Frames with all their images.
        num_frames: Frames of the clip.
        memory_bytes: Resident memory of the process and all its children.
        every_s: Seconds between two beats.
    """

    key: str
    attempt: int
    host: str
    pid: int
    started_s: float
    beat_s: float
    frames: int
    num_frames: int
    memory_bytes: int
    every_s: float = BEAT_S

    def same_attempt(self, other: ClipBeat | None) -> bool:
        """Whether both are of one attempt."""
        return other is not None and (self.host, self.pid, self.started_s) == (
            other.host,
            other.pid,
            other.started_s,
        )


class RunBeat(Model):
    """The driver of a run.

    Args:
        host: Name of the machine.
        pid: Its process id there.
        started_s: When it began to render.
        beat_s: When this was written.
        ended: Whether it has ended, in whatever way it could still tell.
        workers: Clips rendered at a time.
        num_before: Clips that were finished when it began to render.
        files: Where the scenes' files lie, by SHA-256.
        process_start: When the process was started, in its kernel's clock; with host and pid it names one
            process for good.
        every_s: Seconds between two beats.
    """

    host: str
    pid: int
    started_s: float
    beat_s: float
    ended: bool = False
    workers: int
    num_before: int
    files: dict[str, Path]
    process_start: int = 0
    every_s: float = BEAT_S

    def same_run(self, other: RunBeat | None) -> bool:
        """Whether both are of one run."""
        return other is not None and (self.host, self.pid, self.process_start, self.started_s) == (
            other.host,
            other.pid,
            other.process_start,
            other.started_s,
        )


BeatT = TypeVar("BeatT", ClipBeat, RunBeat)


def is_stale(beat: ClipBeat | RunBeat, now_s: float) -> bool:
    """Whether a process has shown no sign of life for too long."""
    return now_s - beat.beat_s > STALE_BEATS * beat.every_s


def beat_s(stage: Folder) -> float:
    """Seconds between two beats in a folder."""
    return BEAT_S if stage.is_local else REMOTE_BEAT_S


def clip_beat(key: str) -> str:
    """Name of the heartbeat of a clip."""
    return f"{key}.beat"


def write_beat(stage: Folder, name: str, beat: ClipBeat | RunBeat) -> None:
    """Replace a heartbeat; not durable on a local disk, and silent if the storage refuses."""
    content = beat.model_dump_json().encode()
    if not stage.is_local:
        with contextlib.suppress(UserError):
            stage.write(name, content)
        return
    temporary = stage.local / f"{TEMPORARY_PREFIX}{name}-{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            temporary.write_bytes(content)
            temporary.replace(stage.local / name)
        finally:
            temporary.unlink(missing_ok=True)


def read_beat(stage: Folder, name: str, kind: type[BeatT]) -> BeatT | None:
    """A heartbeat; None if there is none, or it cannot be made sense of."""
    try:
        return parse_beat(stage.read(name, limit=MAX_BEAT_BYTES), kind)
    except UserError:
        return None


def parse_beat(content: bytes, kind: type[BeatT]) -> BeatT | None:
    """A heartbeat from its bytes; None if it cannot be made sense of."""
    try:
        return kind.model_validate_json(content)
    except ValidationError:
        return None


def process_start(pid: int) -> int | None:
    """When a process of this machine was started, in clock ticks since the boot; None if there is none."""
    try:
        # The name of the program, in brackets, may have spaces and brackets.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None
