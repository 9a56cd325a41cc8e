"""A whole corpus: one task per clip with the renderer in a child process, one per shard that is complete.

The driver keeps no state (`focuspull.render.ledger`), so the same command again continues where a killed run
stopped, on this machine or another, and the bytes of the shards do not depend on workers, order or kills. A
clip that fails is tried again as often as its way of failing deserves, then quarantined
(`focuspull.render.failures`); the others go on, and its shard waits. Pixels never pass through the driver.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, Protocol

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX
from focuspull.dataset.index import fold_rows
from focuspull.dataset.storage import Folder
from focuspull.render.backends import get_backend
from focuspull.render.corpus import LoadedCorpus
from focuspull.render.failures import (
    QUARANTINE_NAME,
    TRIES,
    FailureClass,
    Quarantined,
    backoff_s,
    write_quarantine,
)
from focuspull.render.heartbeat import RUN_BEAT, clip_beat
from focuspull.render.lease import Lease
from focuspull.render.ledger import (
    CORPUS_NAME,
    STAGE_NAME,
    Ledger,
    clip_key,
    describe_corpus,
    named_files,
    only_run,
    read_ledger,
    refuse_full_disk,
    scene_sha256,
    spec_sha256,
    sweep,
)
from focuspull.render.randomize import randomize
from focuspull.render.tasks import FILE_SUFFIX, Packed, PackJob
from focuspull.render.worker import EXIT_OUTPUT, EXIT_USER, STORAGE_TRIES, Ended, Job

SAME_MISTAKE = 8
"""Clips that may fail by one mistake of the user before the run of a corpus without any clip gives up."""
POLL_S = 0.5
"""How often the status is shown, and signals are looked for."""
INDEX_PART = 0.1
"""Part of the shards that the index may lack: written for every shard, it would cost more than the shards."""
QUARANTINE_PART = 0.02
"""Part of the quarantine that the list may lack: written for every clip, it would grow with their square."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        done: Clips in shards or staged.
        failed: Clips in quarantine, less those still to be rendered again.
        left: Clips still to be rendered by this run.
        clip_s: Seconds per clip in this run, all workers together; None before the first is rendered.
        note: A line worth keeping, or empty.
    """

    done: int
    failed: int
    left: int
    clip_s: float | None = None
    note: str = ""


@dataclass(frozen=True)
class FailedClip:
    """A clip that could not be rendered: why (one line), and the file with all that its child printed."""

    key: str
    reason: str
    log: str | None


@dataclass(frozen=True)
class RunReport:
    """What a run has done.

    Attributes:
        num_clips: Clips in the shards of the corpus.
        num_shards: Its shards.
        num_rendered: Clips that this run rendered.
        failed: Clips that this run gave up.
        num_quarantined: Clips in quarantine, those of earlier runs included.
    """

    num_clips: int
    num_shards: int
    num_rendered: int
    failed: tuple[FailedClip, ...]
    num_quarantined: int = 0


class StoppedError(Exception):
    """A signal asked the run to stop, and it has; the same command continues it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


@dataclass(frozen=True)
class Need:
    """What one clip needs of a machine, and may take.

    Attributes:
        threads: CPU threads; the pixels do not depend on it.
        memory_gib: Limit of memory, GiB, and what a node must have free for it; None: none.
        timeout_min: Limit of minutes that a clip's renderer may make no progress; None: none.
        gpus: GPUs; a fraction for several clips on one.
    """

    threads: int = 1
    memory_gib: float | None = None
    timeout_min: float | None = None
    gpus: float = 0.0

    def fits(self, resources: Mapping[str, float]) -> int:
        """Clips that a node with these resources, in Ray's terms, has room for."""
        bounds = [resources.get("CPU", 0.0) / self.threads]
        if self.gpus:
            bounds.append(resources.get("GPU", 0.0) / self.gpus)
        if self.memory_gib is not None:
            bounds.append(resources.get("memory", 0.0) / (self.memory_gib * 2**30))
        return int(min(bounds))


@dataclass(frozen=True)
class Lost:
    """A task that has ended without a result, for a reason (one line) outside of it."""

    reason: str
    failure: FailureClass


class Executor(Protocol):
    """Runs `focuspull.render.tasks` somewhere."""

    def capacity(self) -> int:
        """Clips that may be in work at a time; may change."""
        ...

    def render(self, job_json: str) -> Any:
        """Start `render_clip`; returns a handle that can be a key of a dictionary."""
        ...

    def pack(self, job_json: str) -> Any:
        """Start `pack_staged`."""
        ...

    def wait(self, handles: Sequence[Any], timeout_s: float) -> list[Any]:
        """Handles of tasks that have ended: waits for the first, or until the time is over."""
        ...

    def result(self, handle: Any) -> dict[str, Any] | Lost:
        """What an ended task has returned."""
        ...

    def cancel(self, handle: Any) -> None:
        """Kill a task, whatever it does."""
        ...


Connect = Callable[[str | None, int | None, Need], AbstractContextManager[Executor]]


def _connect(address: str | None, workers: int | None, need: Need) -> AbstractContextManager[Executor]:
    from focuspull.render.cluster import ray_session

    return ray_session(address, workers, need)


def run_corpus(
    loaded: LoadedCorpus,
    out: Path | str,
    *,
    workers: int | None = None,
    need: Need = Need(),  # noqa: B008 (frozen)
    address: str | None = None,
    any_versions: bool = False,
    retry: Collection[int] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    connect: Connect = _connect,
) -> RunReport:
    """Render what is left of a corpus. To be called in the main thread, as it handles signals.

    Args:
        loaded: The spec and its files.
        out: Folder of the corpus, or its address in an object store; earlier runs in it must have been for
            the same spec.
        workers: Clips rendered at a time; None: as many as there is room for.
        need: Of one clip.
        address: Of a running Ray cluster, whose nodes reach ``out`` under the same path or address; None
            starts Ray on this machine for this run, unless the process has a Ray session already.
        any_versions: Whether to go on with a corpus that other versions have begun, and record both.
        retry: Numbers of quarantined clips (none named: all of them) to render, and nothing else; those that
            get done leave the quarantine. None: render what is left and not quarantined.
        progress: Called on every change, and about twice a second.
        connect: Gives what runs the tasks.

    Returns:
        What was done; failed clips do not stop a run.

    Raises:
        UserError: If the folder holds another corpus, cannot be written to, has no room or another run; if
            the backend is not installed; if no clip at all can be rendered because of one and the same
            mistake; if a clip to retry is not quarantined.
        StoppedError: By SIGINT or SIGTERM. The children are killed; what is staged stays.
    """
    spec = loaded.spec
    get_backend(spec.backend).version()
    with _Stop() as stop, contextlib.ExitStack() as held:
        address_of_out = out.absolute() if isinstance(out, Path) else out
        folder = Folder(address_of_out, tries=STORAGE_TRIES, sleep=stop.sleep)
        if folder.is_local:
            held.enter_context(only_run(folder.local))
        # Read before the claim is made: a finished corpus, and a folder of another one, are left untouched.
        ledger = read_ledger(spec, folder, any_versions=any_versions)
        if retry is not None:
            ledger = _only_quarantined(ledger, folder, retry)
        refuse_full_disk(spec, folder, len(ledger.left))
        stage = folder.below(STAGE_NAME)
        if not ledger.left and not ledger.unindexed and _is_tidy(folder, stage):
            return RunReport(spec.num_clips, len(ledger.committed), 0, (), 0)
        num_done = sum(len(shard.indices) for shard in spec.shards() if shard.name in ledger.committed)
        lease = Lease(stage, num_before=num_done + len(ledger.staged), files=loaded.files)

        def wait(note: str) -> None:
            stop.check()
            if note:
                progress(Progress(lease.beat.num_before, 0, len(ledger.left), None, note))

        lease.take(wait)
        again = read_ledger(spec, folder, any_versions=any_versions, before=ledger)
        ledger = again if retry is None else _only_quarantined(again, folder, retry)
        run = _Run(loaded, folder, need, progress, ledger, stop, lease)
        try:
            run.prepare()
            if ledger.left or run.complete:
                wanted = min(workers, max(1, len(ledger.left))) if workers else None
                stop.listen(at_once=True)  # starting Ray takes seconds, and may be left anywhere
                with connect(address, wanted, need) as executor:
                    stop.listen()  # starting Ray has put a handler of its own in place
                    run.render(executor, far=address not in (None, "local"))
        finally:
            run.leave_stage()
    return run.report()


def _is_tidy(out: Folder, stage: Folder) -> bool:
    """Whether there is nothing but a corpus."""
    names = out.sizes().keys()
    if CORPUS_NAME not in names or any(name.startswith(TEMPORARY_PREFIX) for name in names):
        return False
    return not (stage.local.exists() if stage.is_local else stage.sizes())


def _only_quarantined(ledger: Ledger, out: Folder, asked: Collection[int]) -> Ledger:
    """The ledger with quarantined clips (none asked for: all) as the only ones that are left."""
    if missing := sorted(set(asked) - ledger.quarantined.keys()):
        there = ", ".join(str(index) for index in sorted(ledger.quarantined)) or "none"
        raise UserError(f"--clip {missing[0]}: is not in {out.path(QUARANTINE_NAME)}. There are: {there}.")
    return replace(ledger, left=tuple(sorted(set(asked or ledger.quarantined))))


class _Run:
    """The driver while it runs; what it remembers can be read back from the folder."""

    def __init__(
        self,
        loaded: LoadedCorpus,
        out: Folder,
        need: Need,
        progress: Callable[[Progress], None],
        ledger: Ledger,
        stop: _Stop,
        lease: Lease,
    ) -> None:
        self.loaded, self.out, self.need, self.progress = loaded, out, need, progress
        self.ledger, self.stop, self.lease = ledger, stop, lease
        self.spec, self.stage = loaded.spec, out.below(STAGE_NAME)
        self.left = ledger.left
        self.staged = set(ledger.staged)
        self.committed = set(ledger.committed)
        self.unindexed = set(ledger.unindexed)
        self.quarantined = dict(ledger.quarantined)
        self.num_unlisted = 0  # changes to the quarantine that the list on disk does not have
        self.is_first = not (ledger.staged or ledger.committed or ledger.quarantined)
        self.num_given_up_before = len(ledger.quarantined.keys() - set(ledger.left))
        self.shards = {shard.name: shard for shard in self.spec.shards()}
        self.shard_of = {index: shard for shard in self.shards.values() for index in shard.indices}
        self.num_committed = sum(len(self.shards[name].indices) for name in self.committed)
        self.complete = deque(
            shard.name
            for shard in self.shards.values()
            if shard.name not in self.committed and self.staged.issuperset(shard.indices)
        )
        self.queue = deque(self.left)
        self.waiting: list[tuple[float, int]] = []  # when to try again, by the monotonic clock; a heap
        self.rendering: dict[Any, int] = {}
        self.packing: dict[Any, str] = {}
        self.failures: dict[int, Counter[FailureClass]] = {}
        self.pack_failures: Counter[str] = Counter()
        self.failed: list[FailedClip] = []
        self.num_left = len(self.left)
        self.num_mistakes = 0
        self.num_rendered = 0
        self.started = time.monotonic()
        self.clip_s: float | None = None
        self.files = {f"{sha256}{FILE_SUFFIX}": path for sha256, path in loaded.files.items()}

    def prepare(self) -> None:
        """Bring the folder in order before anything is rendered."""
        # Also if it is there already: a folder that cannot be written to is found out now, not after hours.
        self.out.write(CORPUS_NAME, describe_corpus(self.spec, self.ledger.other_versions))
        if self.quarantined or self.ledger.left:
            write_quarantine(self.out, self.quarantined.values())
        sweep(self.out, self.ledger, self.files)
        self._index()

    def render(self, executor: Executor, *, far: bool) -> None:
        """Render all that is left, and pack shards on the way.

        Args:
            executor: Runs the tasks.
            far: Whether on other machines, which may not see this one's files.
        """
        if far or not self.stage.is_local:
            there = self.stage.sizes()
            for name, path in self.files.items():
                if name not in there:
                    self.stage.write(name, path.read_bytes())
        versions = (
            get_backend(self.spec.backend).version(),
            get_backend(self.spec.backend).load().choose_variant(),
        )
        self.started = time.monotonic()
        self.lease.renew(workers=executor.capacity())
        self._tell()
        try:
            while self.queue or self.waiting or self.rendering or self.packing or self.complete:
                self.stop.check()
                while self.waiting and self.waiting[0][0] <= time.monotonic():
                    self.queue.appendleft(heappop(self.waiting)[1])
                capacity = executor.capacity()
                while self.complete and len(self.packing) < max(1, capacity // 4):
                    name = self.complete.popleft()
                    self.packing[executor.pack(self._pack_job(name).model_dump_json())] = name
                while self.queue and len(self.rendering) < capacity:
                    index = self.queue.popleft()
                    try:
                        job = self._job(index, *versions)
                    except UserError as error:
                        self._give_up(index, Ended(False, EXIT_USER, str(error), "scene"))
                    else:
                        self.rendering[executor.render(job.model_dump_json())] = index
                handles = [*self.rendering, *self.packing]
                if not handles:
                    time.sleep(POLL_S)
                for handle in executor.wait(handles, POLL_S) if handles else ():
                    result = executor.result(handle)
                    if handle in self.rendering:
                        self._rendered(self.rendering.pop(handle), result)
                    else:
                        self._packed(self.packing.pop(handle), result)
                self._tell()
        finally:
            for handle in (*self.rendering, *self.packing):
                executor.cancel(handle)
        self._list_quarantined(all_of_them=True)

    def report(self) -> RunReport:
        """What was done."""
        return RunReport(
            self.num_committed,
            len(self.committed),
            self.num_rendered,
            tuple(self.failed),
            len(self.quarantined),
        )

    def leave_stage(self) -> None:
        """Remove the staging folder if nothing waits there; say that the run has ended if something does."""
        # Whatever ends the run is to be told, not what this makes of it.
        with contextlib.suppress(UserError):
            self._list_quarantined(all_of_them=True)
            self._index()
            stale: list[str] = []
            for index in self.rendering.values():
                # Killed by us, so they have not failed: only what an earlier attempt has left is kept.
                suffixes = ("beat",) if self._num_failures(index) else ("beat", "log", "job")
                stale += [f"{clip_key(index)}.{suffix}" for suffix in suffixes]
            self.stage.remove(stale)
            if self.stage.sizes().keys() <= {RUN_BEAT, *self.files}:
                self.stage.remove(self.files)
                self.lease.release()
                if self.stage.is_local:
                    with contextlib.suppress(OSError):
                        self.stage.local.rmdir()
            else:
                self.lease.renew(ended=True)

    def _job(self, index: int, backend_version: str, variant: str) -> Job:
        scene = randomize(self.spec, index)
        # Of all that a corpus may draw from, a clip shows a little.
        shown = {sha256 for _, sha256 in named_files(scene.model_dump(mode="json"))}
        return Job(
            mode="clip",
            key=clip_key(index),
            split=self.spec.split_of(index),
            scene=scene,
            files={sha256: path for sha256, path in self.loaded.files.items() if sha256 in shown},
            backend=self.spec.backend,
            backend_version=backend_version,
            variant=variant,
            threads=self.need.threads,
            memory_gib=self.need.memory_gib,
            timeout_min=self.need.timeout_min,
            folder=self.stage.local if self.stage.is_local else Path(),
            stage=self.stage.address,
            attempt=1 + self._num_failures(index),
        )

    def _pack_job(self, name: str) -> PackJob:
        return PackJob(
            corpus=self.out.address,
            stage=self.stage.address,
            name=name,
            keys=tuple(clip_key(index) for index in self.shards[name].indices),
            spec_sha256=spec_sha256(self.spec),
            run=self.lease.beat,
        )

    def _rendered(self, index: int, result: dict[str, Any] | Lost) -> None:
        """Take note of how a clip has ended."""
        if isinstance(result, Lost):
            ended = Ended(False, -signal.SIGKILL, result.reason, result.failure)
        else:
            ended = Ended(**result)
        if ended.done:
            self.num_rendered += 1
            self.num_left -= 1
            self.clip_s = (time.monotonic() - self.started) / self.num_rendered
            self.staged.add(index)
            was_quarantined = self.quarantined.pop(index, None) is not None
            if was_quarantined:
                self._list_quarantined()
            if was_quarantined or self._num_failures(index):
                # On a disk the next attempt has replaced and removed them; in an object store they are left.
                self.stage.remove(f"{clip_key(index)}.{suffix}" for suffix in ("log", "job"))
            if self.staged.issuperset(self.shard_of[index].indices):
                self.complete.append(self.shard_of[index].name)
        else:
            self._failed(index, ended)

    def _failed(self, index: int, ended: Ended) -> None:
        """Have a clip tried again, or give it up."""
        if (pause_s := self._pause_s(index, ended)) is not None:
            heappush(self.waiting, (time.monotonic() + pause_s, index))
        else:
            self._give_up(index, ended)

    def _packed(self, name: str, result: dict[str, Any] | Lost) -> None:
        """Take note of how packing a shard has ended.

        Raises:
            UserError: If it cannot be packed.
        """
        if isinstance(result, Lost):
            self.pack_failures[name] += 1
            if self.pack_failures[name] >= TRIES["machine"]:
                raise UserError(f"{name}: cannot be packed: {result.reason}. Look at the machines.")
            self.complete.append(name)
            self._tell(f"{name}: {result.reason}; packing it again")
            return
        packed = Packed(**result)
        indices = self.shards[name].indices
        if packed.done:
            self.committed.add(name)
            self.unindexed.add(name)
            self.num_committed += len(indices)
            self.staged.difference_update(indices)
            if len(self.unindexed) >= INDEX_PART * len(self.committed):
                self._index()
        elif packed.unsound:
            for index in indices:
                if clip_key(index) in packed.unsound:
                    self.staged.discard(index)
                    self.num_left += 1
                    self._failed(index, Ended(False, -signal.SIGKILL, packed.reason, "machine"))
        else:
            raise UserError(packed.reason)

    def _index(self) -> None:
        """Bring the index up to date."""
        if self.unindexed:
            fold_rows(self.out, self.stage, self.committed)
            self.unindexed.clear()

    def _pause_s(self, index: int, ended: Ended) -> float | None:
        """Count a failure; seconds to wait before the clip is tried again, None if it is not.

        Raises:
            UserError: If the output cannot be written, which no clip can do anything about.
        """
        if ended.returncode == EXIT_OUTPUT:
            raise UserError(ended.reason)
        assert ended.failure is not None
        # What a lost process has left; the next attempt makes its own.
        self.stage.remove([clip_beat(clip_key(index))])
        failures = self.failures.setdefault(index, Counter())
        failures[ended.failure] += 1
        count, tries = failures[ended.failure], TRIES[ended.failure]
        if count >= tries:
            return None
        pause_s = backoff_s(ended.failure, count)
        again = f"trying again ({count + 1} of {tries}{f', in {pause_s:.0f} s' if pause_s else ''})"
        self._tell(f"{clip_key(index)}: {ended.reason}; {again}")
        return pause_s

    def _give_up(self, index: int, ended: Ended) -> None:
        """Quarantine a clip; raise if it makes no sense to go on with others."""
        key = clip_key(index)
        self.num_left -= 1
        log = f"{key}.log" if self.stage.find(f"{key}.log") is not None else None
        self.failed.append(FailedClip(key, ended.reason, log and self.stage.path(log)))
        self.quarantined[index] = Quarantined(
            key=key,
            scene_sha256=scene_sha256(self.spec, index),
            failure=ended.failure or "error",
            reason=ended.reason,
            attempts=self._num_failures(index),
            log=log and f"{STAGE_NAME}/{log}",
        )
        self.num_mistakes += ended.failure == "scene"
        only_mistakes = self.num_mistakes == len(self.failed) and self.is_first and not self.num_rendered
        enough = len(self.failed) >= min(SAME_MISTAKE, len(self.left))
        if only_mistakes and enough and len({clip.reason for clip in self.failed}) == 1:
            # A mistake in the spec, not in its clips: nothing is to be remembered.
            write_quarantine(self.out, [])
            self.stage.remove(f"{clip.key}.{suffix}" for clip in self.failed for suffix in ("log", "job"))
            raise UserError(ended.reason)
        self._list_quarantined()

    def _list_quarantined(self, *, all_of_them: bool = False) -> None:
        """Take note of a change to the quarantine; now and then, or for all of them, also on disk."""
        self.num_unlisted += not all_of_them
        limit = 0 if all_of_them else QUARANTINE_PART * len(self.quarantined)
        if self.num_unlisted > limit:
            write_quarantine(self.out, self.quarantined.values())
            self.num_unlisted = 0

    def _num_failures(self, index: int) -> int:
        return self.failures.get(index, Counter()).total()

    def _tell(self, note: str = "") -> None:
        if self.lease.is_due:
            self.lease.renew()
        done = self.num_committed + len(self.staged)
        failed = self.num_given_up_before + len(self.failed)
        self.progress(Progress(done, failed, self.num_left, self.clip_s, note))


class _Stop:
    """Remembers SIGINT and SIGTERM until the run asks: an exception raised inside Ray's calls breaks them."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._at_once = False
        self._before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> _Stop:
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def listen(self, *, at_once: bool = False) -> None:
        """Put the handlers in place; raise `StoppedError` if a signal has come.

        Args:
            at_once: Whether the first signal raises wherever it comes, until this is called again.
        """
        self._at_once = at_once
        for signum in self._before:
            signal.signal(signum, self._receive)
        self.check()

    def check(self) -> None:
        """Raise `StoppedError` if a signal has come."""
        if self._received is not None:
            raise StoppedError(self._received)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until a signal comes, and raise `StoppedError` then."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, POLL_S))

    def _receive(self, signum: int, frame: object) -> None:
        self._received = signum
        if self._at_once:
            self._at_once = False
            self.check()
