"""The farm's driver at scale: `run_corpus` on 1,000 simulated workers, rendering replaced by a cost model.

Real: the driver, the ledger, the claim, the heartbeat of the run, staging (`stage_clip`), packing
(`pack_staged`), the index, the files on disk, and the command line that resumes and asks for the status.
Simulated: time (nothing sleeps), machines and what they render. A task that ends well stages one and the
same tiny clip under the scene's own key and hash; others crash, are lost with their machine, or crash
whenever they are tried, and are quarantined. `os.fsync` does nothing here: the disk is not what is measured.

A corpus is begun, stopped by SIGTERM at half, continued to the end, its quarantined clips retried, and run
once more when there is nothing left to do. CPU of the driver is that of this process less that of the tasks,
which it runs too; what Ray itself costs is in `tests.benchmarks.farm`.

Storage calls are counted at `Folder`, as the requests that they make to an object store: a write is a PUT
and a HEAD that looks at the size, a listing one LIST per 1,000 names, a read of a file of unknown size a HEAD
and a GET. Heartbeats that a clip writes while it renders are counted, but for the first not written.

Run it from the root of the repository: ``python -m tests.benchmarks.farm_scale --clips 100000``
(fifteen minutes of a core, 2.5 GB in ``--folder``).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np

from focuspull.dataset.clip import Clip, encode_meta
from focuspull.dataset.shards import stage_clip
from focuspull.dataset.storage import Folder
from focuspull.render import farm, lease
from focuspull.render.corpus import load_corpus
from focuspull.render.farm import Lost, Need, Progress, RunReport, StoppedError, run_corpus
from focuspull.render.heartbeat import REMOTE_BEAT_S, ClipBeat, clip_beat, read_beat, write_beat
from focuspull.render.status import read_status
from focuspull.render.tasks import pack_staged
from focuspull.render.worker import Ended
from tests.dataset.conftest import make_clip

SPEC = "demo"
COST_MEDIAN_S, COST_SIGMA = 187.0, 0.47
"""Log-normal of a clip's seconds: the median of ``render_cpu_seconds`` in the index of ``make demo`` (4
clips, one thread of Mitsuba), and the standard deviation of the logarithm of ``render_seconds`` of 24 smaller
clips on a machine shared with others, where it is 0.12 for CPU seconds (``focuspull-render run demo --out DIR
--splits '{train: 24}' --film.width 224 --film.height 126 --film.num_frames 4``)."""
PACK_S = 5.0
CRASH_SHARE, LOST_SHARE = 0.01, 0.02
"""Attempts that end in a crash of the renderer, and with their machine (preempted every three hours)."""
POISON_SHARE = 0.001
"""Clips that crash in every attempt."""

PUT_USD, GET_USD = 0.005 / 1000, 0.0004 / 1000
"""List prices of Amazon S3 Standard in us-east-1 (PUT and LIST; GET and HEAD; DELETE is free); single-region
Google Cloud Storage asks the same for operations of class A and B."""
USD = {"PUT": PUT_USD, "LIST": PUT_USD, "GET": GET_USD, "HEAD": GET_USD, "DELETE": 0.0}
LIST_PAGE = 1000


class Calls:
    """Counts storage requests by who makes them and kind."""

    def __init__(self) -> None:
        self.count: Counter[tuple[str, str]] = Counter()
        self.who = "driver"

    def add(self, kind: str, number: int = 1) -> None:
        """Count requests of whoever is at work."""
        self.count[self.who, kind] += number

    @contextmanager
    def of(self, who: str) -> Generator[None, None, None]:
        """Whom to count for meanwhile."""
        before, self.who = self.who, who
        try:
            yield
        finally:
            self.who = before

    @contextmanager
    def counted(self) -> Generator[None, None, None]:
        """Have all folders counted meanwhile."""
        names = ("sizes", "find", "size", "read", "read_ranges", "read_all", "write", "create", "remove")
        original = {name: getattr(Folder, name) for name in names}

        def wrapped(name: str) -> Callable[..., Any]:
            def call(folder: Folder, *arguments: Any, **options: Any) -> Any:
                if name == "remove":
                    arguments = (list(arguments[0]),)
                    self.add("DELETE", len(arguments[0]))
                result = original[name](folder, *arguments, **options)
                if name == "sizes":
                    self.add("LIST", max(1, -(-len(result) // LIST_PAGE)))
                elif name in ("find", "size"):
                    self.add("HEAD")
                elif name in ("read", "read_ranges"):
                    self.add("GET")
                elif name == "read_all":
                    self.add("GET", len(arguments[0]))
                elif name in ("write", "create"):
                    self.add("PUT")
                    self.add("HEAD", int(name == "write"))
                return result

            return call

        for name in original:
            setattr(Folder, name, wrapped(name))
        try:
            yield
        finally:
            for name, method in original.items():
                setattr(Folder, name, method)


class Clock:
    """Stands in for the module `time` in the driver and the claim; only the simulation moves it."""

    def __init__(self) -> None:
        self.start = time.time()
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds of the simulation."""
        return self.now

    def time(self) -> float:
        """Seconds since 1970 in the simulation."""
        return self.start + self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class Workers:
    """Simulated machines; an `Executor`.

    Args:
        clock: Of the simulation.
        calls: Where storage requests are counted.
        template: The clip that every render task stages.
        number: Clips rendered at a time.
        seed: Of what happens to them.
        poison: Numbers of the clips that always crash.
    """

    clock: Clock
    calls: Calls
    template: Clip
    number: int
    seed: int
    poison: Collection[int] = ()
    cpu_s: float = 0.0
    ended: Counter[str] = field(default_factory=Counter[str])
    on_first: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int]] = []
        self._tasks: dict[int, Callable[[], dict[str, Any] | Lost]] = {}
        self._handle = 0
        self.rendered_s = 0.0

    @contextmanager
    def _aside(self, who: str) -> Generator[None, None, None]:
        """Keep what is done meanwhile out of the driver's account."""
        start = time.process_time()
        with self.calls.of(who):
            yield
        self.cpu_s += time.process_time() - start

    def capacity(self) -> int:
        """Clips that may be in work at a time."""
        return self.number

    def render(self, job_json: str) -> int:
        """Start a simulated render task."""
        with self._aside("render"):
            job = json.loads(job_json)
            index, attempt, scene = int(job["key"].removeprefix("clip-")), job["attempt"], job["scene"]
            rng = np.random.default_rng((self.seed, index, attempt))
            duration_s = float(rng.lognormal(np.log(COST_MEDIAN_S), COST_SIGMA))
            chance = rng.random()
            if index in self.poison or chance < CRASH_SHARE:
                how = "crash"
            else:
                how = "lost" if chance < CRASH_SHARE + LOST_SHARE else "done"
            if how != "done":
                duration_s *= rng.random()
            text = json.dumps(scene, sort_keys=True, separators=(",", ":"))
            job = {name: job[name] for name in ("key", "split", "stage", "attempt")}
            job["scene_sha256"] = hashlib.sha256(text.encode()).hexdigest()
            beat = ClipBeat(
                key=job["key"],
                attempt=attempt,
                host="simulated",
                pid=1 + index,
                started_s=self.clock.time(),
                beat_s=self.clock.time() + duration_s,
                frames=0,
                num_frames=self.template.meta.num_frames,
                memory_bytes=0,
            )
            stage = Folder(job["stage"])
            write_beat(stage, clip_beat(beat.key), beat)
            self.calls.add("PUT", 1 + int(duration_s / REMOTE_BEAT_S))
            self.calls.add("HEAD", 1 + int(duration_s / REMOTE_BEAT_S))
            return self._start(duration_s, partial(self._rendered, stage, job, beat, how, duration_s))

    def pack(self, job_json: str) -> int:
        """Start `pack_staged`, the real one."""
        with self._aside("pack"):
            return self._start(PACK_S, partial(pack_staged, job_json))

    def wait(self, handles: Sequence[int], timeout_s: float) -> list[int]:
        """The task that ends next, if it does so in time."""
        with self._aside("render"):
            if not self._events or self._events[0][0] > self.clock.now + timeout_s:
                self.clock.now += timeout_s
                return []
            self.clock.now, handle = heappop(self._events)
            return [handle]

    def result(self, handle: int) -> dict[str, Any] | Lost:
        """What a task has returned; it is done only now."""
        task = self._tasks.pop(handle)
        who = "pack" if task.func is pack_staged else "render"  # type: ignore[attr-defined]
        with self._aside(who):
            return task()

    def cancel(self, handle: int) -> None:
        """Nothing is left of a task that has not ended."""

    def _start(self, duration_s: float, task: Callable[[], dict[str, Any] | Lost]) -> int:
        if not self._handle:
            self.on_first()
        self._handle += 1
        heappush(self._events, (self.clock.now + duration_s, self._handle))
        self._tasks[self._handle] = task
        return self._handle

    def _rendered(
        self, stage: Folder, job: dict[str, Any], beat: ClipBeat, how: str, duration_s: float
    ) -> dict[str, Any] | Lost:
        """What a render task leaves in the staging folder, as `focuspull.render.worker.spawn` does."""
        key = job["key"]
        self.ended[how] += 1
        self.rendered_s += duration_s
        if how == "lost":
            return Lost("its Ray worker is gone (NodeDiedError)", "machine")
        if beat.same_attempt(read_beat(stage, clip_beat(key), ClipBeat)):
            stage.remove([clip_beat(key)])
        if how == "crash":
            stage.write(f"{key}.log", b"Segmentation fault\n")
            stage.write(f"{key}.job", json.dumps(job).encode())
            return vars(Ended(False, -signal.SIGSEGV, "killed by SIGSEGV", "crash"))
        update = {"key": key, "split": job["split"], "scene_sha256": job["scene_sha256"]}
        meta = self.template.meta.model_copy(update=update)
        clip = Clip(meta, (("json", encode_meta(meta)), *self.template.members[1:]))
        stage_clip(
            clip,
            stage,
            record={
                "render_seconds": duration_s,
                "render_cpu_seconds": duration_s,
                "peak_memory_bytes": 1 << 29,
                "attempts": job["attempt"],
            },
        )
        return vars(Ended(stage.find(f"{key}.json") is not None, 0, ""))


@dataclass(frozen=True)
class Phase:
    """What one run of the driver took, tasks left out.

    Attributes:
        name: What it did.
        clips: Clips that it finished.
        cpu_s: CPU seconds of the driver.
        ready_s: Wall seconds before the first clip was handed out, or until the run was over.
        ready_reads: GET, HEAD and LIST requests of the driver until then.
        calls: Requests by who and kind.
        ended: Render tasks by how they ended.
        simulated_s: Seconds in the simulation.
        busy: Part of them that workers rendered.
        peak_rss_bytes: The most memory that the process had so far, simulation included.
        report: Of the run; None if it was stopped.
    """

    name: str
    clips: int
    cpu_s: float
    ready_s: float
    ready_reads: int
    calls: Counter[tuple[str, str]]
    ended: Counter[str]
    simulated_s: float
    busy: float
    peak_rss_bytes: int
    report: RunReport | None


def overrides(clips: int) -> dict[str, str]:
    """Fields of the spec that make it a corpus of so many clips, as small as those that are staged."""
    val = max(1, clips // 20)
    film = {"film.width": "24", "film.height": "16", "film.num_frames": "2"}
    return {"splits": f"{{train: {clips - val}, val: {val}}}", "clips_per_shard": "16", **film}


def run_phase(
    name: str,
    clips: int,
    out: Path,
    *,
    workers: int = 1000,
    seed: int = 0,
    stop_at: int | None = None,
    retry: Collection[int] | None = None,
    poison: Collection[int] = (),
    at: Callable[[Progress], None] = lambda _: None,
) -> Phase:
    """Run the driver once.

    Args:
        name: What it does, for the table.
        clips: Clips of the corpus.
        out: Its folder.
        workers: Clips rendered at a time.
        seed: Of what happens to them.
        stop_at: Finished clips at which it gets SIGTERM.
        retry: As for `run_corpus`.
        poison: Clips that always crash.
        at: Called on every change.
    """
    clock, calls = Clock(), Calls()
    simulated = Workers(clock, calls, make_clip(num_frames=2, k_at_1024=(24.0,)), workers, seed, poison)
    ready: list[tuple[float, int]] = []

    def reads() -> int:
        return sum(
            count
            for (who, kind), count in calls.count.items()
            if who == "driver" and kind in ("GET", "HEAD", "LIST")
        )

    def progress(now: Progress) -> None:
        with calls.of("onlooker"):
            at(now)
        if stop_at is not None and now.done >= stop_at:
            signal.raise_signal(signal.SIGTERM)

    report = None
    with calls.counted(), _simulated_time(clock):
        loaded = load_corpus(SPEC, overrides(clips))
        started, cpu = time.perf_counter(), time.process_time()
        simulated.on_first = lambda: ready.append((time.perf_counter() - started, reads()))
        with contextlib.suppress(StoppedError):
            report = run_corpus(
                loaded,
                out,
                need=Need(),
                retry=retry,
                progress=progress,
                connect=lambda *_: contextlib.nullcontext(simulated),
            )
        cpu_s = time.process_time() - cpu - simulated.cpu_s
        if not ready:
            ready.append((time.perf_counter() - started, reads()))
    return Phase(
        name=name,
        clips=simulated.ended["done"],
        cpu_s=cpu_s,
        ready_s=ready[0][0],
        ready_reads=ready[0][1],
        calls=calls.count,
        ended=simulated.ended,
        simulated_s=clock.now,
        busy=simulated.rendered_s / (workers * clock.now) if clock.now else 0.0,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        report=report,
    )


@contextmanager
def _simulated_time(clock: Clock) -> Generator[None, None, None]:
    modules, fsync = (farm, lease), os.fsync
    for module in modules:
        setattr(module, "time", clock)  # noqa: B010 (a module's attribute)
    os.fsync = lambda fd: None  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        for module in modules:
            setattr(module, "time", time)  # noqa: B010
        os.fsync = fsync


def poisoned(clips: int, seed: int = 0) -> frozenset[int]:
    """The clips of a corpus that crash in every attempt."""
    rng = np.random.default_rng((seed, clips))
    return frozenset(np.flatnonzero(rng.random(clips) < POISON_SHARE).tolist())


def simulate(clips: int, out: Path, *, workers: int = 1000, seed: int = 0) -> list[Phase]:
    """All that happens to a corpus, in the order of the module's docstring."""
    poison = poisoned(clips, seed)
    run = partial(run_phase, clips=clips, out=out, workers=workers, seed=seed, poison=poison)
    asked: list[int] = []

    def look(now: Progress) -> None:
        if now.done >= clips // 4 and not asked:
            asked.append(1)
            started = time.perf_counter()
            status = read_status(out, time.time())
            seconds = time.perf_counter() - started
            print(
                f"status at a quarter: {status.done} done, {len(status.running)} running, {seconds:.2f} s",
                flush=True,
            )

    phases = [run(name="first half", stop_at=clips // 2, at=look)]
    phases.append(run(name="second half"))
    if poison:
        phases.append(run(name="nothing left but quarantine"))
        phases.append(run_phase("retry", clips, out, workers=workers, seed=seed, retry=()))
    phases.append(run(name="nothing left"))
    return phases


def command(*words: str) -> tuple[float, float, int, str]:
    """Wall and CPU seconds, peak memory and output of a command of ``focuspull-render``."""
    peak = 0
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "focuspull.render", *words], stdout=output, stderr=subprocess.STDOUT
        )
        # Not from the resource usage, where a child starts with the peak of its parent.
        while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
            text = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in text.splitlines() if "VmHWM" in line)])
            time.sleep(0.02)
        seconds = time.perf_counter() - started
        _, status, usage = ended
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {text}")
    return seconds, usage.ru_utime + usage.ru_stime, peak * 1024, text


def table(rows: Iterable[Sequence[object]], *heads: str) -> None:
    """Print a table."""
    print("\n| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where the corpora go (default: a temporary folder)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for clips in options.clips:
            out = Path(scratch) / f"{clips}"
            workers = min(options.workers, clips // 4)
            print(f"\n{clips} clips, {workers} workers", flush=True)
            phases = simulate(clips, out, workers=workers, seed=options.seed)
            _show(phases, clips)
            _show_commands(out, clips)
            shutil.rmtree(out)


def _show(phases: Sequence[Phase], clips: int) -> None:
    table(
        (
            (
                phase.name,
                phase.clips,
                f"{phase.cpu_s:.1f}",
                f"{1000 * phase.cpu_s / phase.clips:.2f}" if phase.clips else "",
                f"{phase.ready_s:.2f}",
                phase.ready_reads,
                f"{phase.simulated_s / 3600:.2f}",
                f"{phase.busy:.2f}",
                f"{phase.peak_rss_bytes / 2**20:.0f}",
                f"{phase.ended['crash']} / {phase.ended['lost']}",
            )
            for phase in phases
        ),
        "run",
        "clips",
        "driver CPU s",
        "ms per clip",
        "s until the first clip",
        "requests until then",
        "simulated h",
        "workers busy",
        "peak MiB",
        "crashed / lost",
    )
    calls: Counter[tuple[str, str]] = Counter()
    for phase in phases:
        calls.update(phase.calls)
    kinds = ("PUT", "HEAD", "GET", "LIST", "DELETE")
    rows: list[list[str]] = []
    for who in ("render", "pack", "driver", "all"):
        mine: dict[str, int] = dict.fromkeys(kinds, 0)
        for (asks, kind), number in calls.items():
            mine[kind] += number if who == asks or (who == "all" and asks != "onlooker") else 0
        usd = sum(USD[kind] * number for kind, number in mine.items())
        per_clip = [f"{number / clips:.3f}" for number in mine.values()]
        rows.append([who, *per_clip, f"{sum(mine.values()) / clips:.2f}", f"{1e6 * usd / clips:.1f}"])
    table(rows, "requests per clip", *kinds, "together", "USD per million clips")


def _show_commands(out: Path, clips: int) -> None:
    splits = overrides(clips)
    again = ["run", SPEC, "--out", str(out)]
    for name, value in splits.items():
        again += [f"--{name}", value]
    rows: list[list[str]] = []
    for name, words in (("run", again), ("status", ["status", str(out)])):
        best = min((command(*words) for _ in range(3)), key=lambda found: found[0])
        seconds, cpu_s, memory, text = best
        last = text.strip().splitlines()[-1 if name == "run" else 1]
        rows.append([name, f"{seconds:.2f}", f"{cpu_s:.2f}", f"{memory / 2**20:.0f}", last])
    table(rows, "finished, focuspull-render", "s", "CPU s", "peak MiB", "says")
    files = [path.stat().st_size for path in out.iterdir()]
    index = (out / "index.parquet").stat().st_size
    markers = sum(path.stat().st_size for path in out.glob("*-*.json"))
    print(
        f"\n{len(files)} files, {sum(files) / 1e6:.0f} MB; index {index / clips:.0f} bytes per clip, "
        f"markers {markers / clips:.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
