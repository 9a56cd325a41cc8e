"""A whole corpus on Ray, one task per clip with the renderer in a child process; the only file with ray.

The driver keeps no state (`focuspull.render.ledger`), so the same command again continues where a killed run
stopped, and the bytes of the shards do not depend on workers, order or kills. A clip that fails is tried
again as often as its way of failing deserves, then quarantined (`focuspull.render.failures`); the others go
on, and its shard waits. Pixels never pass through Ray.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import remove_durably, write_atomic
from focuspull.dataset.shards import publish_shard, read_staged
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
from focuspull.render.heartbeat import BEAT_S, RUN_BEAT, RunBeat, clip_beat_path, write_beat
from focuspull.render.ledger import (
    CORPUS_NAME,
    STAGE_NAME,
    Ledger,
    clip_key,
    describe_corpus,
    only_run,
    read_ledger,
    refuse_full_disk,
    scene_sha256,
    spec_sha256,
    sweep,
)
from focuspull.render.randomize import randomize
from focuspull.render.worker import EXIT_OUTPUT, EXIT_USER, Ended, Job, spawn

SAME_MISTAKE = 8
"""Clips that may fail by one mistake of the user before the run of a corpus without any clip gives up."""
POLL_S = 0.5
"""How often the status is shown, and signals are looked for."""
OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB; nothing large passes through it.


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
    log: Path | None


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


def run_corpus(
    loaded: LoadedCorpus,
    out: Path,
    *,
    workers: int | None = None,
    threads: int = 1,
    address: str | None = None,
    memory_gib: float | None = None,
    timeout_min: float | None = None,
    retry: Collection[int] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Render what is left of a corpus. To be called in the main thread, as it handles signals.

    Args:
        loaded: The spec and its files.
        out: Folder of the corpus; earlier runs in it must have been for the same spec.
        workers: Clips rendered at a time; None: as many as there are CPU cores for.
        threads: CPU threads per clip; the pixels do not depend on it.
        address: Of a running Ray cluster that sees ``out`` and the spec's files under the same paths; None
            starts Ray on this machine for this run, unless the process has a Ray session already.
        memory_gib: Limit of memory per clip; None: none.
        timeout_min: Limit of minutes that a clip's renderer may make no progress; None: none.
        retry: Numbers of quarantined clips (none named: all of them) to render, and nothing else; those that
            get done leave the quarantine. None: render what is left and not quarantined.
        progress: Called on every change, and about twice a second.

    Returns:
        What was done; failed clips do not stop a run.

    Raises:
        UserError: If the folder holds another corpus, cannot be written to or has no room; if the backend is
            not installed; if no clip at all can be rendered because of one and the same mistake; if a clip to
            retry is not quarantined.
        StoppedError: By SIGINT or SIGTERM. The children are killed; what is staged stays.
    """
    spec, out = loaded.spec, out.absolute()
    get_backend(spec.backend).version()
    with only_run(out), _Stop() as stop:
        ledger = read_ledger(spec, out)
        if retry is not None:
            ledger = _only_quarantined(ledger, out, retry)
        refuse_full_disk(spec, out, len(ledger.left))
        # Also if it is there already: a folder that cannot be written to is found out now, not after hours.
        write_atomic(out / CORPUS_NAME, describe_corpus(spec))
        write_quarantine(out, ledger.quarantined.values())
        sweep(out, ledger)
        limits = _Limits(threads, memory_gib, timeout_min)
        run = _Run(loaded, out, limits, progress, ledger, stop)
        run.publish_complete()
        if ledger.left or ledger.quarantined:
            run.begin_beating(0)
        try:
            if ledger.left:
                wanted = min(workers, len(ledger.left)) if workers else None
                with _ray_session(address, wanted, threads) as num_workers:
                    stop.listen()  # starting Ray has put a handler of its own in place
                    run.render(num_workers)
        finally:
            run.leave_stage()
    return run.report()


def _only_quarantined(ledger: Ledger, out: Path, asked: Collection[int]) -> Ledger:
    """The ledger with quarantined clips (none asked for: all) as the only ones that are left."""
    if missing := sorted(set(asked) - ledger.quarantined.keys()):
        there = ", ".join(str(index) for index in sorted(ledger.quarantined)) or "none"
        raise UserError(f"--clip {missing[0]}: is not in {out / QUARANTINE_NAME}. There are: {there}.")
    return replace(ledger, left=tuple(sorted(set(asked or ledger.quarantined))))


@dataclass(frozen=True)
class _Limits:
    """What one clip may take; `Job` has what they mean."""

    threads: int
    memory_gib: float | None = None
    timeout_min: float | None = None


class _Run:
    """The driver while it runs; what it remembers can be read back from the folder."""

    def __init__(
        self,
        loaded: LoadedCorpus,
        out: Path,
        limits: _Limits,
        progress: Callable[[Progress], None],
        ledger: Ledger,
        stop: _Stop,
    ) -> None:
        self.loaded, self.out, self.limits, self.progress, self.stop = loaded, out, limits, progress, stop
        self.left = ledger.left
        self.staged = set(ledger.staged)
        self.committed = set(ledger.committed)
        self.quarantined = dict(ledger.quarantined)
        self.is_first = not (ledger.staged or ledger.committed or ledger.quarantined)
        self.num_given_up_before = len(ledger.quarantined.keys() - set(ledger.left))
        self.shards = loaded.spec.shards()
        self.shard_of = {index: shard for shard in self.shards for index in shard.indices}
        self.failures: dict[int, Counter[FailureClass]] = {}
        self.failed: list[FailedClip] = []
        self.interrupted: set[int] = set()
        self.num_mistakes = 0
        self.num_rendered = 0
        self.clip_s: float | None = None
        self.beat: RunBeat | None = None

    def render(self, num_workers: int) -> None:
        """Render all that is left, ``num_workers`` clips at a time, and publish shards on the way."""
        import ray

        task = ray.remote(_render_clip).options(num_cpus=self.limits.threads, max_retries=0)
        queue = deque(self.left)
        waiting: list[tuple[float, int]] = []  # when to try again, by the monotonic clock; a heap
        in_flight: dict[Any, int] = {}
        started = time.monotonic()
        self.begin_beating(num_workers)
        self._tell()
        try:
            while queue or waiting or in_flight:
                self.stop.check()
                while waiting and waiting[0][0] <= time.monotonic():
                    queue.appendleft(heappop(waiting)[1])
                while queue and len(in_flight) < num_workers:
                    index = queue.popleft()
                    try:
                        job = self._job(index)
                    except UserError as error:
                        self._give_up(index, Ended(False, EXIT_USER, str(error), "scene"))
                    else:
                        in_flight[task.remote(job.model_dump_json())] = index
                if waiting and not in_flight:
                    time.sleep(POLL_S)
                ready, _ = ray.wait(list(in_flight), timeout=POLL_S) if in_flight else ([], [])
                for reference in ready:
                    index = in_flight.pop(reference)
                    ended = _result(reference)
                    if ended.done:
                        self.num_rendered += 1
                        self.clip_s = (time.monotonic() - started) / self.num_rendered
                        self.staged.add(index)
                        if self.quarantined.pop(index, None) is not None:
                            write_quarantine(self.out, self.quarantined.values())
                        self._publish_if_complete(index)
                    elif (pause_s := self._pause_s(index, ended)) is not None:
                        heappush(waiting, (time.monotonic() + pause_s, index))
                    else:
                        self._give_up(index, ended)
                self._tell()
        finally:
            for reference in in_flight:
                ray.cancel(reference, force=True)
            self.interrupted = set(in_flight.values())

    def publish_complete(self) -> None:
        """Publish the shards whose clips were all staged by an earlier run."""
        for shard in self.shards:
            self.stop.check()
            self._publish_if_complete(shard.indices[0])

    def report(self) -> RunReport:
        """What was done."""
        return RunReport(
            self._num_committed(),
            len(self.committed),
            self.num_rendered,
            tuple(self.failed),
            len(self.quarantined),
        )

    def begin_beating(self, num_workers: int) -> None:
        """Say that the run is there, with the clips it renders at a time (0: none yet)."""
        now = time.time()
        self.beat = RunBeat(
            host=socket.gethostname(),
            pid=os.getpid(),
            started_s=now,
            beat_s=now,
            workers=num_workers,
            num_before=self._num_committed() + len(self.staged),
            files=self.loaded.files,
        )
        (self.out / STAGE_NAME).mkdir(exist_ok=True)
        self._beat()

    def leave_stage(self) -> None:
        """Remove the staging folder if nothing waits there; say that the run has ended if something does."""
        stage = self.out / STAGE_NAME
        if not stage.is_dir():
            return
        for index in self.interrupted:
            # Killed by us, so they have not failed: only what an earlier attempt has left is worth keeping.
            suffixes = ("beat",) if self._num_failures(index) else ("beat", "log", "job")
            for suffix in suffixes:
                (stage / f"{clip_key(index)}.{suffix}").unlink(missing_ok=True)
        if {path.name for path in stage.iterdir()} <= {RUN_BEAT}:
            (stage / RUN_BEAT).unlink(missing_ok=True)
            stage.rmdir()
        elif self.beat is not None:
            self._beat(ended=True)

    def _job(self, index: int) -> Job:
        spec = self.loaded.spec
        return Job(
            mode="clip",
            key=clip_key(index),
            split=spec.split_of(index),
            scene=randomize(spec, index),
            files=self.loaded.files,
            backend=spec.backend,
            variant=get_backend(spec.backend).load().choose_variant(),
            threads=self.limits.threads,
            memory_gib=self.limits.memory_gib,
            timeout_min=self.limits.timeout_min,
            folder=self.out / STAGE_NAME,
            attempt=1 + self._num_failures(index),
        )

    def _publish_if_complete(self, index: int) -> None:
        shard = self.shard_of[index]
        if shard.name in self.committed or not self.staged.issuperset(shard.indices):
            return
        staged = read_staged(self.out / STAGE_NAME)
        clips = [staged[clip_key(number)] for number in shard.indices]
        publish_shard(self.out, shard.name, clips, spec_sha256=spec_sha256(self.loaded.spec))
        self.committed.add(shard.name)
        self.staged.difference_update(shard.indices)

    def _pause_s(self, index: int, ended: Ended) -> float | None:
        """Count a failure; seconds to wait before the clip is tried again, None if it is not.

        Raises:
            UserError: If the output cannot be written, which no clip can do anything about.
        """
        if ended.returncode == EXIT_OUTPUT:
            raise UserError(ended.reason)
        assert ended.failure is not None
        # What a lost process has left; the next attempt makes its own.
        clip_beat_path(self.out / STAGE_NAME, clip_key(index)).unlink(missing_ok=True)
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
        log = self.out / STAGE_NAME / f"{key}.log"
        self.failed.append(FailedClip(key, ended.reason, log if log.exists() else None))
        self.quarantined[index] = Quarantined(
            key=key,
            scene_sha256=scene_sha256(self.loaded.spec, index),
            failure=ended.failure or "error",
            reason=ended.reason,
            attempts=self._num_failures(index),
            log=str(log.relative_to(self.out)) if log.exists() else None,
        )
        self.num_mistakes += ended.failure == "scene"
        only_mistakes = self.num_mistakes == len(self.failed) and self.is_first and not self.num_rendered
        enough = len(self.failed) >= min(SAME_MISTAKE, len(self.left))
        if only_mistakes and enough and len({clip.reason for clip in self.failed}) == 1:
            # A mistake in the spec, not in its clips: nothing is to be remembered.
            write_quarantine(self.out, [])
            logs = [clip.log for clip in self.failed if clip.log is not None]
            remove_durably([*logs, *(path.with_suffix(".job") for path in logs)])
            raise UserError(ended.reason)
        write_quarantine(self.out, self.quarantined.values())

    def _num_failures(self, index: int) -> int:
        return self.failures.get(index, Counter()).total()

    def _beat(self, *, ended: bool = False) -> None:
        assert self.beat is not None
        self.beat = self.beat.model_copy(update={"beat_s": time.time(), "ended": ended})
        write_beat(self.out / STAGE_NAME / RUN_BEAT, self.beat)

    def _num_committed(self) -> int:
        return sum(len(shard.indices) for shard in self.shards if shard.name in self.committed)

    def _tell(self, note: str = "") -> None:
        if self.beat is not None and time.time() - self.beat.beat_s >= BEAT_S:
            self._beat()
        done = self._num_committed() + len(self.staged)
        left = len(self.left) - self.num_rendered - len(self.failed)
        failed = self.num_given_up_before + len(self.failed)
        self.progress(Progress(done, failed, left, self.clip_s, note))


def _render_clip(job_json: str) -> dict[str, Any]:
    """The Ray task: one child process, waited for."""
    try:
        return asdict(spawn(Job.model_validate_json(job_json)))
    except UserError as error:
        return asdict(Ended(False, EXIT_OUTPUT, str(error)))
    except OSError as error:
        return asdict(Ended(False, EXIT_OUTPUT, f"{error.filename}: cannot be written: {error.strerror}"))


def _result(reference: Any) -> Ended:
    """How a finished task's child ended; a worker process that is gone takes its child along."""
    import ray
    from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

    try:
        ended: dict[str, Any] = ray.get(reference)
    except RayTaskError:
        raise  # an exception in `_render_clip`, so our mistake
    except RayError as error:
        # Ray ends workers of a node that is short of memory; all else is the fault of machine or network.
        failure: FailureClass = "memory" if isinstance(error, OutOfMemoryError) else "machine"
        reason = f"its Ray worker is gone ({type(error).__name__})"
        return Ended(False, -signal.SIGKILL, reason, failure)
    return Ended(**ended)


@contextmanager
def _ray_session(address: str | None, workers: int | None, threads: int) -> Generator[int, None, None]:
    """Start Ray or join a cluster; yields the number of clips to render at a time."""
    # Ray reads these when it is imported.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield workers or _cluster_workers(threads)
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # Ray's default, /tmp/ray, belongs to the machine's first user. In it are sockets, which need short paths.
    folder = tempfile.mkdtemp(prefix="fp-ray-", dir="/tmp")
    try:
        if address is None:
            workers = workers or max(1, num_cores() // threads)
            ray.init(
                num_cpus=workers * threads,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _temp_dir=folder,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
        yield workers or _cluster_workers(threads)
    except ConnectionError as error:
        message = f"--address {address}: no Ray cluster answers there. Start one with: ray start --head"
        raise UserError(message) from error
    except SystemExit as error:  # from Ray's handler of SIGTERM, which is in place while Ray starts
        raise StoppedError(signal.SIGTERM) from error
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _cluster_workers(threads: int) -> int:
    import ray

    num_cpus = int(ray.cluster_resources().get("CPU", 0))
    if num_cpus < threads:
        raise UserError(f"--threads {threads}: the Ray cluster has {num_cpus} CPUs. Ask for fewer threads.")
    return num_cpus // threads


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


class _Stop:
    """Remembers SIGINT and SIGTERM until the run asks: an exception raised inside Ray's calls breaks them."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def __enter__(self) -> _Stop:
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def listen(self) -> None:
        """Put the handlers in place."""
        for signum in self._before:
            signal.signal(signum, self._receive)

    def check(self) -> None:
        """Raise `StoppedError` if a signal has come."""
        if self._received is not None:
            raise StoppedError(self._received)

    def _receive(self, signum: int, frame: object) -> None:
        self._received = signum
