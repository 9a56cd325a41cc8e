"""Where a corpus stands, read from its folder alone: while it is rendered, from any machine, without Ray.

Only names of shards and staged clips are looked at, not what is in them, so that this stays quick for large
corpora. What is counted may be a few seconds apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from focuspull.dataset.markers import committed_names
from focuspull.dataset.storage import Folder
from focuspull.render.failures import read_quarantine
from focuspull.render.heartbeat import RUN_BEAT, ClipBeat, RunBeat, is_stale, parse_beat, read_beat
from focuspull.render.ledger import STAGE_NAME, clip_key, read_spec


@dataclass(frozen=True)
class Status:
    """Where a corpus stands.

    Attributes:
        num_clips: Clips of the whole corpus.
        num_shards: Its shards.
        committed_clips: Clips in shards that are complete.
        committed_shards: Those shards.
        staged: Finished clips whose shard is not complete.
        running: Clips that are being rendered.
        lost: Clips whose process has shown no sign of life for too long.
        failed: Clips that have failed and are to be tried again.
        quarantined: Clips given up.
        run: The driver, the last one if none is at work; None if there was none or all is done.
        is_live: Whether the driver is at work.
        now_s: When this was so, seconds since 1970.
    """

    num_clips: int
    num_shards: int
    committed_clips: int
    committed_shards: int
    staged: int
    running: tuple[ClipBeat, ...]
    lost: tuple[ClipBeat, ...]
    failed: int
    quarantined: int
    run: RunBeat | None
    is_live: bool
    now_s: float

    @property
    def done(self) -> int:
        """Finished clips."""
        return self.committed_clips + self.staged

    @property
    def left(self) -> int:
        """Clips neither finished nor given up; those that are being rendered are among them."""
        return max(self.num_clips - self.done - self.quarantined, 0)

    @property
    def clip_s(self) -> float | None:
        """Seconds per clip in this run, all workers together; None if it has finished none, or is over."""
        if self.run is None or not self.is_live or self.done <= self.run.num_before:
            return None
        return max(self.now_s - self.run.started_s, 0.0) / (self.done - self.run.num_before)


def read_status(out: Path | Folder, now_s: float) -> Status:
    """Where a corpus stands; changes nothing.

    Args:
        out: Its folder.
        now_s: The time, seconds since 1970.

    Raises:
        UserError: If the folder holds no corpus, or one that this version cannot read.
    """
    out = Folder.of(out)
    spec, stage = read_spec(out), out.below(STAGE_NAME)
    shards = {shard.name: shard for shard in spec.shards()}
    names, staged_names = out.sizes(), stage.sizes()
    committed = [shards[name] for name in committed_names(names) if name in shards and f"{name}.tar" in names]
    done = {clip_key(index) for shard in committed for index in shard.indices}
    finished = _stems(staged_names, ".json") & _stems(staged_names, ".tar")
    quarantined = read_quarantine(out).keys() - done - finished
    beat_names = [name for name in staged_names if name.endswith(".beat") and name != RUN_BEAT]
    beats = [parse_beat(content, ClipBeat) for content in stage.read_all(beat_names).values()]
    live = [beat for beat in beats if beat is not None and not is_stale(beat, now_s)]
    lost = [beat for beat in beats if beat is not None and is_stale(beat, now_s)]
    logs = _stems(staged_names, ".log")
    run = read_beat(stage, RUN_BEAT, RunBeat)
    return Status(
        num_clips=spec.num_clips,
        num_shards=len(shards),
        committed_clips=len(done),
        committed_shards=len(committed),
        staged=len(finished - done),
        running=tuple(live),
        lost=tuple(lost),
        failed=len(logs - done - finished - quarantined - {beat.key for beat in (*live, *lost)}),
        quarantined=len(quarantined),
        run=run,
        is_live=run is not None and not run.ended and not is_stale(run, now_s),
        now_s=now_s,
    )


def _stems(names: Iterable[str], suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in names if name.endswith(suffix)}
