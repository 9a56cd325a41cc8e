"""A whole corpus on Ray, one task per clip with the renderer in a child process; the only file with ray.

The driver keeps no state (`focuspull.render.ledger`), so the same command again continues where a killed run
stopped, and the bytes of the shards do not depend on workers, order or kills. A child that is killed by a
signal (out of memory, a crash in the renderer) is tried again; one that ends with an error is not, since it
would fail again. Pixels never pass through Ray.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import remove_durably, write_atomic
from focuspull.dataset.shards import publish_shard, read_staged
from focuspull.render.backends import get_backend
from focuspull.render.corpus import LoadedCorpus
from focuspull.render.ledger import (
    CORPUS_NAME,
    STAGE_NAME,
    Ledger,
    clip_key,
    describe_corpus,
    only_run,
    read_ledger,
    refuse_full_disk,
    spec_sha256,
    sweep,
)
from focuspull.render.randomize import randomize
from focuspull.render.worker import EXIT_OUTPUT, EXIT_USER, Ended, Job, spawn

MAX_ATTEMPTS = 3
"""Children per clip, if the ones before were killed by a signal."""
SAME_MISTAKE = 8
"""Clips that may fail by one mistake of the user before a run that has rendered nothing gives up."""
POLL_S = 0.5
"""How often the status is shown, and signals are looked for."""
OBJECT_STORE_BYTES = 80 << 20  # Ray's minimum is 75 MiB; nothing large passes through it.


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        done: Clips in shards or staged.
        failed: Clips that failed in this run.
        left: Clips still to be rendered.
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
    """Clips and shards that the corpus has after a run, clips that the run rendered, clips that failed."""

    num_clips: int
    num_shards: int
    num_rendered: int
    failed: tuple[FailedClip, ...]


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
        progress: Called on every change, and about twice a second.

    Returns:
        What was done; failed clips do not stop a run.

    Raises:
        UserError: If the folder holds another corpus, cannot be written to or has no room; if the backend is
            not installed; if no clip at all can be rendered because of one and the same mistake.
        StoppedError: By SIGINT or SIGTERM. The children are killed; what is staged stays.
    """
    spec, out = loaded.spec, out.absolute()
    get_backend(spec.backend).version()
    with only_run(out), _Stop() as stop:
        ledger = read_ledger(spec, out)
        refuse_full_disk(spec, out, len(ledger.left))
        # Also if it is there already: a folder that cannot be written to is found out now, not after hours.
        write_atomic(out / CORPUS_NAME, describe_corpus(spec))
        sweep(out, ledger)
        run = _Run(loaded, out, threads, progress, ledger, stop)
        run.publish_complete()
        try:
            if ledger.left:
                wanted = min(workers, len(ledger.left)) if workers else None
                with _ray_session(address, wanted, threads) as num_workers:
                    stop.listen()  # starting Ray has put a handler of its own in place
                    run.render(num_workers)
        finally:
            stage = out / STAGE_NAME
            if stage.is_dir() and not any(stage.iterdir()):
                stage.rmdir()
    return run.report()


class _Run:
    """The driver while it runs; what it remembers can be read back from the folder."""

    def __init__(
        self,
        loaded: LoadedCorpus,
        out: Path,
        threads: int,
        progress: Callable[[Progress], None],
        ledger: Ledger,
        stop: _Stop,
    ) -> None:
        self.loaded, self.out, self.threads, self.progress, self.stop = loaded, out, threads, progress, stop
        self.left = ledger.left
        self.staged = set(ledger.staged)
        self.committed = set(ledger.committed)
        self.shards = loaded.spec.shards()
        self.shard_of = {index: shard for shard in self.shards for index in shard.indices}
        self.failed: list[FailedClip] = []
        self.num_mistakes = 0
        self.num_rendered = 0
        self.clip_s: float | None = None

    def render(self, num_workers: int) -> None:
        """Render all that is left, ``num_workers`` clips at a time, and publish shards on the way."""
        import ray

        task = ray.remote(_render_clip).options(num_cpus=self.threads, max_retries=0)
        queue = deque((index, 1) for index in self.left)
        in_flight: dict[Any, tuple[int, int]] = {}
        started = time.monotonic()
        self._tell()
        try:
            while queue or in_flight:
                self.stop.check()
                while queue and len(in_flight) < num_workers:
                    index, attempt = queue.popleft()
                    try:
                        job = self._job(index)
                    except UserError as error:
                        self._fail(index, Ended(False, EXIT_USER, str(error)))
                    else:
                        in_flight[task.remote(job.model_dump_json())] = (index, attempt)
                ready, _ = ray.wait(list(in_flight), timeout=POLL_S) if in_flight else ([], [])
                for reference in ready:
                    index, attempt = in_flight.pop(reference)
                    ended = _result(reference)
                    if ended.done:
                        self.num_rendered += 1
                        self.clip_s = (time.monotonic() - started) / self.num_rendered
                        self.staged.add(index)
                        self._publish_if_complete(index)
                    elif ended.returncode < 0 and attempt < MAX_ATTEMPTS:
                        queue.appendleft((index, attempt + 1))
                        again = f"trying again ({attempt + 1} of {MAX_ATTEMPTS})"
                        self._tell(f"{clip_key(index)}: {ended.reason}; {again}")
                    else:
                        self._fail(index, ended)
                self._tell()
        finally:
            for reference in in_flight:
                ray.cancel(reference, force=True)

    def publish_complete(self) -> None:
        """Publish the shards whose clips were all staged by an earlier run."""
        for shard in self.shards:
            self.stop.check()
            self._publish_if_complete(shard.indices[0])

    def report(self) -> RunReport:
        """What was done."""
        return RunReport(self._num_committed(), len(self.committed), self.num_rendered, tuple(self.failed))

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
            threads=self.threads,
            folder=self.out / STAGE_NAME,
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

    def _fail(self, index: int, ended: Ended) -> None:
        """Record a failed clip; raise if it makes no sense to go on with others."""
        log = self.out / STAGE_NAME / f"{clip_key(index)}.log"
        if ended.returncode == EXIT_OUTPUT:
            raise UserError(ended.reason)
        self.failed.append(FailedClip(clip_key(index), ended.reason, log if log.exists() else None))
        self.num_mistakes += ended.returncode == EXIT_USER
        only_mistakes = self.num_mistakes == len(self.failed) and not self.num_rendered
        if only_mistakes and len(self.failed) >= min(SAME_MISTAKE, len(self.left)):
            if len({clip.reason for clip in self.failed}) > 1:
                return
            logs = [clip.log for clip in self.failed if clip.log is not None]
            remove_durably([*logs, *(path.with_suffix(".job") for path in logs)])
            raise UserError(ended.reason)

    def _num_committed(self) -> int:
        return sum(len(shard.indices) for shard in self.shards if shard.name in self.committed)

    def _tell(self, note: str = "") -> None:
        done, failed = self._num_committed() + len(self.staged), len(self.failed)
        left = self.loaded.spec.num_clips - done - failed
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
    """How a finished task's child ended; a worker process that is gone counts as killed, like its child."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        ended: dict[str, Any] = ray.get(reference)
    except RayTaskError:
        raise  # an exception in `_render_clip`, so our mistake
    except RayError as error:
        return Ended(False, -signal.SIGKILL, f"its Ray worker is gone ({type(error).__name__})")
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
