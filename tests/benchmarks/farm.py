"""What the farm adds to rendering: speed of two workers against one, and who uses the CPU.

``speed`` runs the same small corpus with one worker of one thread and with two, in turns (1 2, 2 1, ...), and
gives the ratio of their wall times: of the whole command, and of the part in which clips are rendered, which
leaves out starting Python and Ray (that part of a long run is nothing). ``share`` runs a spec once and says
where its CPU seconds went. ``ray`` gives the CPU seconds of this process per task that Ray runs for it while
a thousand others wait, which the simulation in `tests.benchmarks.farm_scale` leaves out.

CPU seconds are from /proc, twice a second, of the command and all its descendants that live longer than a
clip: their own, and those of the children that they have waited for. (Resource usage would not do, as Ray's
raylet does not wait for its workers.) Rendering and encoding is what the clips' own processes have used,
Python's start included, up to the moment they write (``render_cpu_seconds`` of the index); all else is
orchestration, packing and staging included.

Run it from the root of the repository, on an idle machine: ``python -m tests.benchmarks.farm speed``,
``... share``, ``... ray``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from focuspull.dataset.index import read_index

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_S = 0.5
SMALL = ("--film.width", "224", "--film.height", "126", "--film.num_frames", "6")
SHORT = "short"
KINDS = {
    "focuspull.render.worker": SHORT,
    "gcs_server": "gcs_server",
    "raylet/raylet": "raylet",
    "Agent": "Ray's agents",
    "ray/": "Ray's agents",
    "ray::": "Ray's workers",
    "focuspull.render": "driver",
}
"""What is in the first words of a command line, and what that makes a process, the first that fits."""


@dataclass(frozen=True)
class Cost:
    """What one command took.

    Attributes:
        wall_s: Seconds.
        clips_s: From the first heartbeat of a clip to the last shard.
        cpu_s: CPU seconds of the command and all its descendants.
        render_cpu_s: Those of rendering and encoding.
        parts: CPU seconds by kind of process, about.
        load: Load average of the machine before it started.
    """

    wall_s: float
    clips_s: float
    cpu_s: float
    render_cpu_s: float
    parts: Counter[str]
    load: float


def measure(out: Path, words: Sequence[str]) -> Cost:
    """Run ``focuspull-render run`` and wait for all its processes."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "focuspull.render", "run", *words, "--out", str(out)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    parts: dict[int, tuple[str, float, float]] = {}
    first = None
    while process.poll() is None:
        sample = _sample(process.pid)
        kinds = {kind for kind, _, _ in sample.values()}
        if "gcs_server" not in kinds and process.pid in parts and process.pid in sample:
            # Ray has been ended, and waited for: what its processes have used was counted while they lived.
            kind, own_s, _ = sample[process.pid]
            sample[process.pid] = (kind, own_s, parts[process.pid][2])
        parts.update(sample)
        if first is None and any((out / "stage").glob("clip-*.beat")):
            first = time.time()
        time.sleep(SAMPLE_S)
    wall_s = time.monotonic() - started
    assert process.stderr is not None
    if process.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {process.stderr.read()}")
    last = max(path.stat().st_mtime for path in out.glob("*-*.json"))
    summed: Counter[str] = Counter()
    for kind, own_s, waited_s in parts.values():
        if kind != SHORT:  # these are among what their parents have waited for
            summed[kind] += own_s  # type: ignore[assignment]
            summed[f"children of {kind}"] += waited_s  # type: ignore[assignment]
    render_cpu_s = sum(row["render_cpu_seconds"] for row in read_index(out))
    # Ray's workers may be gone before it is seen that they have waited for the last clips.
    clips = "children of Ray's workers"
    summed[clips] = max(summed[clips], render_cpu_s)  # type: ignore[assignment]
    return Cost(
        wall_s=wall_s,
        clips_s=last - (first or last),
        cpu_s=sum(summed.values()),
        render_cpu_s=render_cpu_s,
        parts=summed,
        load=load,
    )


def _sample(root: int) -> dict[int, tuple[str, float, float]]:
    """Kind and CPU seconds of a process and of all below it: their own, and of children waited for."""
    parents: dict[int, int] = {}
    found: dict[int, tuple[str, float, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:4]
        except OSError:
            continue  # it has ended
        if fields[0] == b"Z":  # without a command line; its last seconds are of little account
            continue
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        kind = next((kind for part, kind in KINDS.items() if part in " ".join(words)), SHORT)
        own_s, waited_s = (sum(int(field) for field in fields[i : i + 2]) / TICKS for i in (11, 13))
        found[pid] = (kind, own_s, waited_s)
    ours = {root}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {pid: found[pid] for pid in ours if pid in found}


def speed(repeats: int, clips: int, words: Sequence[str]) -> None:
    """Prints wall and CPU of one worker and two, and their ratios."""
    found: dict[int, list[Cost]] = {1: [], 2: []}
    print("| turn | workers | load before | wall s | clips s | CPU s | render CPU s | orchestration |")
    print("| --- " * 8 + "|")
    for turn in range(repeats):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            with tempfile.TemporaryDirectory(prefix="focuspull-speed-") as folder:
                splits = ("--splits", f"{{train: {clips}}}", "--clips_per_shard", "2")
                options = ("--workers", str(workers), "--threads", "1")
                cost = measure(Path(folder) / "out", [*words, *splits, *options])
            found[workers].append(cost)
            print(
                f"| {turn} | {workers} | {cost.load:.2f} | {cost.wall_s:.1f} | {cost.clips_s:.1f} | "
                f"{cost.cpu_s:.1f} | {cost.render_cpu_s:.1f} | {1 - cost.render_cpu_s / cost.cpu_s:.3f} |",
                flush=True,
            )
    one, two = found[1], found[2]
    print(
        f"\nwhole command: {median(c.wall_s for c in one) / median(c.wall_s for c in two):.2f} times as fast"
    )
    print(f"clips: {median(c.clips_s for c in one) / median(c.clips_s for c in two):.2f} times")
    cpu = median(c.render_cpu_s for c in two) / median(c.render_cpu_s for c in one)
    print(f"a clip takes {cpu:.2f} times the CPU seconds beside another one")


def share(words: Sequence[str]) -> None:
    """Prints where the CPU seconds of a run go."""
    with tempfile.TemporaryDirectory(prefix="focuspull-share-") as folder:
        cost = measure(Path(folder) / "out", words)
    orchestration = cost.cpu_s - cost.render_cpu_s
    print(f"load before {cost.load:.2f}, wall {cost.wall_s:.1f} s, clips {cost.clips_s:.1f} s\n")
    print("| CPU seconds | | of all |\n| --- | --- | --- |")
    rows = [("all", cost.cpu_s), ("rendering and encoding", cost.render_cpu_s), ("all else", orchestration)]
    rows += sorted(cost.parts.items())
    for name, seconds in rows:
        print(f"| {name} | {seconds:.1f} | {100 * seconds / cost.cpu_s:.2f} % |")


def ray(tasks: int, in_flight: int) -> None:
    """Prints CPU of this process per task of Ray."""
    import ray as ray_package

    from focuspull.render.cluster import ray_session
    from focuspull.render.farm import Need

    with ray_session(None, 2, Need()) as executor:
        executor._render = ray_package.remote(_nap).options(num_cpus=1, max_retries=0)
        handles = [executor.render("{}") for _ in range(in_flight)]
        executor.result(executor.wait(handles, 60)[0])
        waits = done = 0
        started, cpu = time.perf_counter(), time.process_time()
        while done < tasks:
            for handle in executor.wait(handles, 60):
                executor.result(handle)
                handles.remove(handle)
                handles.append(executor.render("{}"))
                done += 1
            waits += 1
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - started
        print(
            f"{in_flight} in flight: {1000 * cpu_s / done:.2f} ms of CPU per task, {waits / done:.2f} waits, "
            f"{wall_s:.0f} s for {done} tasks"
        )
        for handle in handles:
            executor.cancel(handle)


def _nap(job_json: str) -> dict[str, str]:
    time.sleep(0.02)
    return {"done": job_json}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("speed", help="two workers against one; further options go to the spec")
    one.add_argument("--repeats", type=int, default=3)
    one.add_argument("--clips", type=int, default=8)
    one.add_argument("--spec", default="demo")
    two = verbs.add_parser("share", help="where the CPU goes; further options go to the spec")
    two.add_argument("--spec", default="demo")
    three = verbs.add_parser("ray", help="what Ray costs the driver")
    three.add_argument("--tasks", type=int, default=1000)
    three.add_argument("--in-flight", type=int, nargs="+", default=[10, 100, 1000])
    options, extra = parser.parse_known_args()
    if options.verb == "speed":
        speed(options.repeats, options.clips, [options.spec, *(extra or SMALL)])
    elif options.verb == "share":
        share([options.spec, *extra])
    else:
        for in_flight in options.in_flight:
            ray(options.tasks, in_flight)


if __name__ == "__main__":
    main()
