"""Kills at random: renderers, Ray's workers, its raylet and the driver, until a corpus is done all the same.

    python -m tests.chaos.kills --kills 200

A corpus of small clips is rendered once undisturbed. Then it is rendered again and again while a seeded
killer sends SIGKILL to a process of the run after random pauses; whenever the driver has ended, its command
is given again. Every corpus must have the bytes of the undisturbed one, a complete index, and nothing else
in its folder.

Wasted work is render time that was lost other than in the attempts that a kill ended: attempts that ended
without a clip though nobody killed them or what they ran in, and attempts at clips that were finished
already. It is given as a part of the time of the killed attempts. Times are wall clock, as seen every 30 ms.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from focuspull.dataset.check import check_corpus
from focuspull.dataset.index import RECORD_COLUMNS, read_index
from focuspull.render.child import process_tree
from tests.render.conftest import WEE

POLL_S = 0.03
VICTIMS = {"renderer": 10, "worker": 5, "raylet": 2, "driver": 3}
"""What is killed, and how often in proportion."""
EARLY = 0.1
"""Part of the chances to kill that are taken while nothing renders, as when Ray starts."""
COLLATERAL_S = 3.0
"""Attempts that end this soon after a kill of what they ran in were ended by it."""
MAX_RUNS_PER_KILL = 3


@dataclass
class Attempt:
    """A renderer process, from when it was first seen to when it was last seen."""

    key: str
    first_s: float
    last_s: float
    was_done: bool
    is_done: bool = False
    is_killed: bool = False


@dataclass
class Tally:
    """What has happened so far.

    Attributes:
        kills: Kills by victim.
        drivers: How drivers ended, by exit status.
        corpora: Corpora that were finished.
        finished_s: Time of attempts that made a clip.
        killed_s: Time of attempts that a kill ended.
        wasted_s: Time of attempts that were lost otherwise, or for nothing.
    """

    kills: Counter[str] = field(default_factory=Counter[str])
    drivers: Counter[int] = field(default_factory=Counter[int])
    corpora: int = 0
    finished_s: float = 0.0
    killed_s: float = 0.0
    wasted_s: float = 0.0

    @property
    def wasted(self) -> float:
        """Wasted work as a part of the time of killed attempts."""
        return self.wasted_s / max(self.killed_s, 1e-9)


class Chaos:
    """One run after the other with a killer on their heels.

    Args:
        folder: For specs, corpora and logs.
        num_clips: Clips of the corpus, three in a shard.
        seed: Of the killer.
        pause_s: Longest pause between two kills.
    """

    def __init__(self, folder: Path, *, num_clips: int, seed: int, pause_s: float) -> None:
        self.folder, self.pause_s = folder, pause_s
        self.spec = folder / "wee.yaml"
        self.spec.write_text(WEE)
        self.fields = ["--splits", f"{{train: {num_clips}}}", "--clips_per_shard", "3"]
        self.random = np.random.default_rng(seed)
        self.tally = Tally()
        self.attempts: dict[int, Attempt] = {}
        self.killed_at = -COLLATERAL_S
        self.log: IO[bytes] = (folder / "drivers.log").open("ab")

    def command(self, out: Path, *, retry: bool = False) -> list[str]:
        """The command line of a run, or of one for what is quarantined."""
        program = [sys.executable, "-m", "focuspull.render"]
        if retry:
            return [*program, "retry", str(out), "--workers", "2"]
        return [*program, "run", str(self.spec), "--out", str(out), "--workers", "2", *self.fields]

    def undisturbed(self) -> Path:
        """The corpus that nobody disturbs."""
        out = self.folder / "undisturbed"
        subprocess.run(self.command(out), check=True, stdout=self.log, stderr=self.log, timeout=600)
        return out

    def disturbed(self, num_kills: int) -> Path:
        """Render a corpus under kills, at most this many; the driver is started again until all is done."""
        out = self.folder / f"disturbed-{self.tally.corpora}"
        last_kill = self.tally.kills.total() + num_kills
        status, num_runs = -1, 0
        while status != 0:
            num_runs += 1
            if num_runs > MAX_RUNS_PER_KILL * (num_kills + 1):
                raise AssertionError(f"{out}: is not done after {num_runs} runs, see {self.log.name}")
            words = self.command(out, retry=status == 1 and (out / "quarantine.jsonl").exists())
            with subprocess.Popen(words, stdout=self.log, stderr=self.log) as driver:
                self._hunt(driver, out, last_kill)
            status = driver.returncode
            self.tally.drivers[status] += 1
        self.tally.corpora += 1
        return out

    def _hunt(self, driver: subprocess.Popen[bytes], out: Path, last_kill: int) -> None:
        """Watch a driver, and kill something of it now and then, until it has ended."""
        next_kill = time.monotonic() + self.random.uniform(0.1, self.pause_s)
        while driver.poll() is None:
            self._look(out)
            if time.monotonic() >= next_kill and self.tally.kills.total() < last_kill:
                self._kill(driver.pid)
                next_kill = time.monotonic() + self.random.uniform(0.1, self.pause_s)
            time.sleep(POLL_S)
        deadline = time.monotonic() + 20
        while self.attempts:  # those of a killed driver end on their own
            self._look(out)
            assert time.monotonic() < deadline, f"{out}: a renderer outlives its driver"
            time.sleep(POLL_S)

    def _kill(self, driver: int) -> None:
        kinds: dict[str, list[int]] = {"driver": [driver]}
        for pid in process_tree(driver):
            words = _words(pid)
            if "focuspull.render.worker" in words:
                kinds.setdefault("renderer", []).append(pid)
            elif words[:1] and words[0].startswith("ray::render_clip"):
                kinds.setdefault("worker", []).append(pid)
            elif words[:1] and words[0].endswith("/raylet"):
                kinds.setdefault("raylet", []).append(pid)
        if "renderer" not in kinds and self.random.uniform() > EARLY:
            return
        there = [kind for kind in VICTIMS if kind in kinds]
        weights = np.array([VICTIMS[kind] for kind in there])
        kind = there[self.random.choice(len(there), p=weights / weights.sum())]
        victim = int(self.random.choice(sorted(kinds[kind])))
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.tally.kills[kind] += 1
        self.killed_at = time.monotonic()
        if kind == "renderer" and victim in self.attempts:
            self.attempts[victim].is_killed = True

    def _look(self, out: Path) -> None:
        """Take note of the renderers that work for a corpus, and of those that have ended."""
        now = time.monotonic()
        seen: set[int] = set()
        for path in Path("/proc").glob("[0-9]*"):
            words = _words(int(path.name))
            job = next((word for word in words if word.startswith(f"{out}/") and word.endswith(".job")), None)
            if job is None or "focuspull.render.worker" not in words:
                continue
            pid = int(path.name)
            seen.add(pid)
            if pid not in self.attempts:
                marker = Path(job).with_suffix(".json")
                self.attempts[pid] = Attempt(Path(job).stem, now, now, was_done=marker.exists())
            attempt = self.attempts[pid]
            attempt.last_s = now
            attempt.is_done = attempt.is_done or Path(job).with_suffix(".json").exists()
        for pid in self.attempts.keys() - seen:
            attempt = self.attempts.pop(pid)
            took_s = attempt.last_s - attempt.first_s
            done = attempt.is_done or self._is_finished(out, attempt.key)
            if attempt.was_done:
                self.tally.wasted_s += took_s
            elif done:
                self.tally.finished_s += took_s
            elif attempt.is_killed or now - self.killed_at < COLLATERAL_S:
                self.tally.killed_s += took_s
            else:
                self.tally.wasted_s += took_s

    def _is_finished(self, out: Path, key: str) -> bool:
        """Whether a clip is staged, or in a shard by now."""
        shard = f"train-{int(key[-6:]) // 3:06d}.json"
        return (out / "stage" / f"{key}.json").exists() or (out / shard).exists()


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def compare(out: Path, undisturbed: Path) -> None:
    """Raise if a corpus is not the same, byte by byte, or has anything else.

    Raises:
        AssertionError: With the first difference.
    """
    names = {path.relative_to(undisturbed).as_posix() for path in undisturbed.rglob("*")}
    there = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    assert there == names, f"{out}: differs from {undisturbed} in {sorted(there ^ names)}"
    for name in sorted(names - {"index.parquet"}):
        assert (out / name).read_bytes() == (undisturbed / name).read_bytes(), f"{out / name}: other bytes"
    rows = [
        [
            {name: value for name, value in row.items() if name not in RECORD_COLUMNS}
            for row in read_index(corpus)
        ]
        for corpus in (out, undisturbed)
    ]
    assert rows[0] == rows[1], f"{out}: another index"
    assert check_corpus(out) == [], f"{out}: is not sound"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", metavar="N", type=int, default=200)
    parser.add_argument("--clips", metavar="N", type=int, default=24, help="of a corpus")
    parser.add_argument("--seed", metavar="N", type=int, default=0)
    parser.add_argument("--pause", metavar="S", type=float, default=6.0, help="longest, between two kills")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="focuspull-kills-"))
    chaos = Chaos(folder, num_clips=arguments.clips, seed=arguments.seed, pause_s=arguments.pause)
    started = time.monotonic()
    undisturbed = chaos.undisturbed()
    alone_s = time.monotonic() - started
    tally = chaos.tally
    while (left := arguments.kills - tally.kills.total()) > 0:
        out = chaos.disturbed(left)
        compare(out, undisturbed)
        shutil.rmtree(out)
        print(
            f"corpus {tally.corpora}: same bytes; {tally.kills.total()} kills so far "
            f"({', '.join(f'{kind} {count}' for kind, count in sorted(tally.kills.items()))})",
            flush=True,
        )
    print(f"kills            {tally.kills.total()}: {dict(tally.kills)}")
    print(
        f"corpora          {tally.corpora} of {arguments.clips} clips, all with the undisturbed one's bytes"
    )
    print(f"drivers' ends    {dict(sorted(tally.drivers.items()))} (status: times)")
    print(f"wall             {time.monotonic() - started:.0f} s; undisturbed {alone_s:.0f} s for one corpus")
    print(f"render time      {tally.finished_s:.0f} s in finished clips")
    print(f"                 {tally.killed_s:.0f} s in killed attempts")
    print(f"wasted           {tally.wasted_s:.1f} s, {tally.wasted:.1%} of the time of killed attempts")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
