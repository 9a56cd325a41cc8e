"""A killed raylet; SIGTERM and a full disk in phases that are hard to hit, held open until they are.

Each ends as it is said to, in one clear line, and the next run makes the bytes of one that nobody disturbed.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from focuspull.dataset.check import check_corpus
from focuspull.render.child import process_tree
from tests.render.conftest import WEE
from tests.render.test_farm import shard_bytes

pytestmark = pytest.mark.mitsuba

LIMIT_S = 120
"""For what takes seconds on an idle machine."""
FIELDS = ["--splits", "{train: 4, val: 1}", "--clips_per_shard", "2"]
STOPPED = "focuspull-render: stopped by SIGTERM; the same command continues the run"

# Found on PYTHONPATH by every Python process of a run. The functions named in the file that FOCUSPULL_PHASES
# names, by module, wait while there is a file of their name beside it; that they do, another file says.
SITECUSTOMIZE = """
import importlib.util, json, os, sys, time

path = os.environ.get("FOCUSPULL_PHASES", "")
functions = json.load(open(path)) if os.path.exists(path) else {}

class Finder:
    def find_spec(self, name, path_=None, target=None):
        if name not in functions:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            function = functions[name]
            call = getattr(module, function)
            def waiting(*args, **kwargs):
                gate = os.path.join(os.path.dirname(path), function)
                if os.path.exists(gate):
                    open(gate + ".reached", "w").close()
                end = time.monotonic() + 60
                while os.path.exists(gate) and time.monotonic() < end:
                    time.sleep(0.02)
                return call(*args, **kwargs)
            setattr(module, function, waiting)
        spec.loader.exec_module = exec_module
        return spec

if functions:
    sys.meta_path.insert(0, Finder())
"""


class Runs:
    """Runs of the command, one after the other, whose phases can be held open.

    Args:
        folder: For the spec, the files above, and the output of the last run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = folder / "wee.yaml"
        self.spec.write_text(WEE)
        self.log = folder / "log"
        self.phases = folder / "phases.json"
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the command; the words come after its name."""
        paths = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "FOCUSPULL_PHASES": str(self.phases),
        }
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "focuspull.render", *words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that its processes can be told from others
            )

    def render(self, out: Path, *options: str) -> subprocess.Popen[bytes]:
        """Start to render the corpus."""
        return self.start("run", str(self.spec), "--out", str(out), "--workers", "2", *FIELDS, *options)

    def lines(self) -> list[str]:
        """What the last one has printed so far; never a traceback."""
        text = self.log.read_text()
        assert "Traceback" not in text, text
        return text.splitlines()

    def complete(self, out: Path) -> None:
        """Render what is left, and nothing may go wrong."""
        assert self.render(out).wait(LIMIT_S) == 0, self.lines()


def wait_until(condition: Callable[[], object], run: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until something is so, while a run runs.

    Raises:
        AssertionError: If it has ended, or the time is over.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert run.poll() is None, f"ended with status {run.returncode}"
        assert time.monotonic() < end, "too late"
        time.sleep(0.01)


def processes(run: subprocess.Popen[bytes], *words: str) -> list[int]:
    """Processes of a run's tree with one of these words in a part of their command line."""
    found: list[int] = []
    for pid in process_tree(run.pid):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(word in part for part in command[:4] for word in words):
                found.append(pid)
    return found


def session(run: subprocess.Popen[bytes]) -> list[int]:
    """Processes that a run has started, also those that have outlived it; zombies are none."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, leader = path.read_bytes().rpartition(b")")[2].split()[:4]
            if int(leader) == run.pid and state != b"Z":
                found.append(int(path.parent.name))
    return found


def assert_nothing_is_left(run: subprocess.Popen[bytes]) -> None:
    """That all processes of a run end; agents of a raylet that was hardly there notice that late."""
    end = time.monotonic() + 90
    while left := session(run):
        assert time.monotonic() < end, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The corpus of a run that nobody disturbs: five clips in three shards."""
    folder = tmp_path_factory.mktemp("undisturbed")
    Runs(folder).complete(folder / "corpus")
    return shard_bytes(folder / "corpus")


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


# --- raylet -------------------------------------------------------------------------------------


def test_a_run_starts_its_own_ray_again_when_the_raylet_is_killed(
    runs: Runs, tmp_path: Path, undisturbed: dict[str, bytes]
):
    out = tmp_path / "out"
    run = runs.render(out)
    wait_until(lambda: processes(run, "focuspull.render.worker"), run)
    (raylet,) = processes(run, "/raylet/raylet")
    os.kill(raylet, signal.SIGKILL)
    assert run.wait(LIMIT_S) == 0, runs.lines()
    notes = [line for line in runs.lines() if "trying again" in line or "packing it again" in line]
    assert notes and all("; " in note for note in notes)
    assert set(runs.lines()[-1:]) == {f"{out}: 5 of 5 clips in 3 shards, 5 rendered by this run, 0 failed"}
    # Ray's own words about it, among them the last lines of its log, are not the user's.
    assert all(line[0].isdigit() or line in notes for line in runs.lines()[:-1]), runs.lines()
    assert shard_bytes(out) == undisturbed
    assert_nothing_is_left(run)


# --- signals ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_in_every_phase_ends_a_run_within_seconds_and_the_next_one_goes_on(
    runs: Runs, tmp_path: Path, undisturbed: dict[str, bytes]
):
    out = tmp_path / "out"
    gates = {"focuspull.dataset.shards": "pack_shard", "focuspull.dataset.index": "fold_rows"}
    runs.phases.write_text(json.dumps(gates))
    for phase in ("starting", "rendering", "packing", "indexing"):
        gate = {"packing": tmp_path / "pack_shard", "indexing": tmp_path / "fold_rows"}.get(phase)
        if gate is not None:
            gate.touch()
        run = runs.render(out)
        if gate is not None:
            wait_until(gate.with_suffix(".reached").exists, run)
        else:
            there = "gcs_server" if phase == "starting" else "focuspull.render.worker"
            wait_until(lambda run=run, there=there: processes(run, there), run)
        run.terminate()
        if phase == "indexing":  # by the driver itself, which looks for signals before and after
            time.sleep(0.5)
            (tmp_path / "fold_rows").unlink()
        assert run.wait(10) == 143, runs.lines()
        assert [line for line in runs.lines() if line.startswith("focuspull-render: ")] == [STOPPED]
        assert runs.lines()[-1] == STOPPED
        assert_nothing_is_left(run)
        if phase == "packing":
            (tmp_path / "pack_shard").unlink()
            assert not any(out.glob("*.tar")), "the first shard was being packed"
    runs.complete(out)
    assert shard_bytes(out) == undisturbed
    assert check_corpus(out) == []


def test_sigterm_before_ray_starts_does_not_wait_for_it(runs: Runs, tmp_path: Path):
    runs.phases.write_text(json.dumps({"focuspull.render.cluster": "ray_session"}))
    (tmp_path / "ray_session").touch()
    run = runs.render(tmp_path / "out")
    wait_until((tmp_path / "ray_session.reached").exists, run)
    run.terminate()
    assert run.wait(10) == 143, runs.lines()
    assert runs.lines() == [STOPPED]
    assert (tmp_path / "ray_session").exists(), "Ray was to be started only now"


@pytest.mark.slow
def test_sigterm_at_random_moments(runs: Runs, tmp_path: Path, undisturbed: dict[str, bytes]):
    moments = np.random.default_rng(0)
    out = tmp_path / "out"
    for number in range(12):
        run = runs.render(out)
        with suppress(subprocess.TimeoutExpired):
            assert run.wait(moments.uniform(0.0, 15.0)) == 0, runs.lines()
            assert shard_bytes(out) == undisturbed
            out = tmp_path / f"out-{number}"
            continue
        run.terminate()
        # Python itself ends by the signal as long as our code is not loaded; a shell says 143 then, too.
        assert run.wait(10) in (143, -signal.SIGTERM, 0), runs.lines()
        assert run.returncode != 143 or runs.lines()[-1] == STOPPED
        assert_nothing_is_left(run)
    runs.complete(out)
    assert shard_bytes(out) == undisturbed


# --- full disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "focuspull-test", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no disk of a test's own: {error}")
    if done.returncode:
        pytest.skip(f"no disk of a test's own: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; returns the file that fills it."""
    path = disk / "filler"
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(os.statvfs(disk).f_frsize))
    return path


@pytest.mark.slow
def test_a_disk_that_is_full_before_a_run_or_when_it_packs_ends_it_in_one_line(
    runs: Runs, small_disk: Path, undisturbed: dict[str, bytes]
):
    out = small_disk / "out"
    no_space = os.strerror(errno.ENOSPC)

    def assert_one_line(run: subprocess.Popen[bytes]) -> str:
        assert run.wait(LIMIT_S) == 2, runs.lines()
        found = [line for line in runs.lines() if line.startswith("focuspull-render: ")]
        assert found == runs.lines()[-1:], runs.lines()
        assert_nothing_is_left(run)
        return found[0]

    filler = fill(small_disk)
    line = assert_one_line(runs.render(out))
    assert line.startswith(f"focuspull-render: {out}: 5 clips need up to 0."), line
    filler.unlink()
    gate = runs.folder / "pack_shard"
    runs.phases.write_text(json.dumps({"focuspull.dataset.shards": gate.name}))
    gate.touch()
    run = runs.render(out)
    wait_until(gate.with_suffix(".reached").exists, run)
    filler = fill(small_disk)
    gate.unlink()
    line = assert_one_line(run)
    assert f": cannot be written: {no_space}. Free some space" in line, line
    filler.unlink()
    runs.complete(out)
    assert shard_bytes(out) == undisturbed
    assert check_corpus(out) == []
