"""One run at a time in a corpus, on one machine or on several, on a disk or in an object store.

The claim to a corpus is ``stage/run.beat``, made with a conditional put and renewed with every beat. A run
that finds one of a process that is gone takes it over: at once if that process was of this machine,
otherwise after the claim has not changed for a while. No clocks are compared.

Between reading a claim and replacing it lies a moment, so two runs may both think for up to one beat that
they hold a corpus. That costs work and no data: clips and shards are put whole, a shard is packed from
clips whose hashes are compared, and a packer looks at the claim again before it commits.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from focuspull.dataset.errors import UserError
from focuspull.dataset.storage import Folder
from focuspull.render.heartbeat import RUN_BEAT, RunBeat, beat_s, process_start, read_beat, write_beat

SILENT_BEATS = 6
"""Beats that a claim of another machine may not be renewed before it is taken over."""
POLL_S = 0.5


class Lease:
    """A run's claim to a corpus.

    Args:
        stage: Staging folder of the corpus.
        num_before: Clips that are finished already.
        files: Where the scenes' files lie, by SHA-256.
    """

    def __init__(self, stage: Folder, *, num_before: int, files: dict[str, Path]) -> None:
        self.stage = stage
        now = time.time()
        self.beat = RunBeat(
            host=socket.gethostname(),
            pid=os.getpid(),
            process_start=process_start(os.getpid()) or 0,
            started_s=now,
            beat_s=now,
            every_s=beat_s(stage),
            workers=0,
            num_before=num_before,
            files=files,
        )

    def take(self, poll: Callable[[str], None]) -> None:
        """Make the claim; waits for a silent run of another machine.

        Args:
            poll: Called while waiting, with a line for the user the first time; may raise.

        Raises:
            UserError: If another run is at work, or the storage refuses.
        """
        seen: RunBeat | None = None
        seen_at = time.monotonic()
        while not self.stage.create(RUN_BEAT, self.beat.model_dump_json().encode()):
            there = read_beat(self.stage, RUN_BEAT, RunBeat)
            if (
                seen is not None
                and seen.same_run(there)
                and there is not None
                and there.beat_s != seen.beat_s
            ):
                raise UserError(
                    f"{self.stage.address}: a run is at work there, process {there.pid} on {there.host}. "
                    "Wait for it, or choose another --out."
                )
            if there is not None and not there.same_run(seen):
                seen, seen_at = there, time.monotonic()
                patience_s = SILENT_BEATS * there.every_s
                note = (
                    f"{self.stage.address}: waiting up to {patience_s:.0f} s for a sign of life of the run "
                    f"of process {there.pid} on {there.host}"
                )
            else:
                patience_s, note = SILENT_BEATS * (there or self.beat).every_s, ""
            is_silent = time.monotonic() - seen_at > patience_s
            if is_silent or (there is not None and _is_gone(there)):
                if there is None or there.same_run(read_beat(self.stage, RUN_BEAT, RunBeat)):
                    self.stage.remove([RUN_BEAT])
                continue
            poll(note)
            time.sleep(POLL_S)

    def renew(self, *, workers: int | None = None, ended: bool = False) -> None:
        """Show a sign of life.

        Args:
            workers: Clips rendered at a time; None: as before.
            ended: Whether the run is over.

        Raises:
            UserError: If another run has taken the corpus over.
        """
        there = read_beat(self.stage, RUN_BEAT, RunBeat)
        if there is not None and not self.beat.same_run(there):
            raise UserError(
                f"{self.stage.address}: the run of process {there.pid} on {there.host} has taken over, since "
                "this one had shown no sign of life for too long. Leave it to that one."
            )
        update = {"beat_s": time.time(), "ended": ended}
        self.beat = self.beat.model_copy(update=update if workers is None else update | {"workers": workers})
        write_beat(self.stage, RUN_BEAT, self.beat)

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it."""
        return not 0 <= time.time() - self.beat.beat_s < self.beat.every_s

    def release(self) -> None:
        """Give it up, leaving nothing."""
        if self.beat.same_run(read_beat(self.stage, RUN_BEAT, RunBeat)):
            self.stage.remove([RUN_BEAT])


def _is_gone(beat: RunBeat) -> bool:
    """Whether the run of a claim is over for certain."""
    if beat.ended:
        return True
    return beat.host == socket.gethostname() and process_start(beat.pid) != beat.process_start
