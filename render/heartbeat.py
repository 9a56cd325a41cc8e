"""Signs of life in a corpus' staging folder, from which any machine can tell what runs and what is lost.

    stage/run.beat            of the driver; stays behind when a run ends early
    stage/clip-000007.beat    of the process that waits for a clip's renderer; there while it renders

They are written every `BEAT_S` seconds, also while a frame takes hours, and are worth no more than a look: no
decision of a run depends on them, and failing to write one is no failure. Times are seconds since 1970 by the
writer's clock, so machines' clocks must agree to a few seconds (NTP) for ages to be right.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from focuspull.dataset.files import TEMPORARY_PREFIX
from focuspull.render.spec import Model

BEAT_S = 10.0
STALE_S = 120.0
"""Age from which a heartbeat is of a process that is gone or hangs; large shards take long to publish."""
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
    """

    host: str
    pid: int
    started_s: float
    beat_s: float
    ended: bool = False
    workers: int
    num_before: int
    files: dict[str, Path]


BeatT = TypeVar("BeatT", ClipBeat, RunBeat)


def is_stale(beat: ClipBeat | RunBeat, now_s: float) -> bool:
    """Whether a process has shown no sign of life for too long."""
    return now_s - beat.beat_s > STALE_S


def clip_beat_path(stage: Path, key: str) -> Path:
    """The heartbeat of a clip."""
    return stage / f"{key}.beat"


def write_beat(path: Path, beat: ClipBeat | RunBeat) -> None:
    """Replace a heartbeat; not durable, and silent if the operating system refuses."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            temporary.write_bytes(beat.model_dump_json().encode())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def read_beat(path: Path, kind: type[BeatT]) -> BeatT | None:
    """A heartbeat; None if there is none, or it cannot be made sense of."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
