"""Bad scenes, signals, a full disk: each ends as stated, in plain lines, and the next run completes all."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from focuspull.dataset.check import check_corpus
from focuspull.render.child import process_tree
from tests.chaos.kills import compare
from tests.render.conftest import WEE

pytestmark = pytest.mark.mitsuba

# Read by every Python that has its folder on PYTHONPATH; acts in renderers of the clips that are named.
SABOTAGE = """
import os, re
from pathlib import Path

words = Path("/proc/self/cmdline").read_text().split("\\0")
named = dict(part.split(":") for part in os.environ.get("CHAOS_CLIPS", "").split(",") if part)
clip = next((match[1] for word in words if (match := re.search(r"clip-(\\d+)\\.job$", word))), None)
if "focuspull.render.worker" in words and clip in named:
    if named[clip] == "crash":
        import ctypes
        ctypes.string_at(0)
    if named[clip] == "hang":
        import time
        time.sleep(3600)
    if named[clip] == "memory":
        import time
        hoard = b"x" * (3 << 30)
        time.sleep(3600)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "wee.yaml"
    path.write_text(WEE)
    return path


@pytest.fixture(scope="module")
def undisturbed(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips, one in a shard."""
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    assert run(spec, out).returncode == 0
    return out


def command(spec: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "focuspull.render", "run", str(spec), "--out", str(out), "--workers", "2"]
    return [*words, "--splits", "{train: 5}"]


def run(spec: Path, out: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(spec, out), *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def last_lines(error: str, count: int) -> list[str]:
    return error.splitlines()[-count:]


def test_scenes_that_crash_hang_or_eat_memory_are_quarantined_and_can_be_tried_again(
    spec: Path, undisturbed: Path, tmp_path: Path
):
    (tmp_path / "sabotage").mkdir()
    (tmp_path / "sabotage" / "sitecustomize.py").write_text(SABOTAGE)
    out = tmp_path / "out"
    path = os.pathsep.join([str(tmp_path / "sabotage"), os.environ.get("PYTHONPATH", "")])
    bad = {"CHAOS_CLIPS": "000000:crash,000002:hang,000004:memory", "PYTHONPATH": path}
    # A good clip shows progress every second or two; one that hangs shows none at all.
    ended = run(spec, out, "--timeout-min", "0.2", "--memory-gib", "2", **bad)
    assert ended.returncode == 1, ended.stderr
    quarantined = [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]
    assert [(clip["key"], clip["class"], clip["attempts"]) for clip in quarantined] == [
        ("clip-000000", "crash", 3),
        ("clip-000002", "timeout", 2),
        ("clip-000004", "memory", 2),
    ]
    assert sorted(path.stem for path in out.glob("*.tar")) == ["train-000001", "train-000003"]
    assert check_corpus(out) == []
    *reasons, summary = last_lines(ended.stderr, 4)
    assert sorted(line.partition(":")[0] for line in reasons) == ["clip-000000", "clip-000002", "clip-000004"]
    assert summary == (
        f"{out}/quarantine.jsonl: 3 clips. Render them again with: focuspull-render retry {out}"
    )
    status = [sys.executable, "-m", "focuspull.render", "status", str(out)]
    said = subprocess.run(status, capture_output=True, text=True, check=True, timeout=60).stdout
    assert re.search(r"^quarantined  3;", said, re.MULTILINE), said
    retry = [sys.executable, "-m", "focuspull.render", "retry", str(out), "--workers", "2"]
    subprocess.run(retry, check=True, capture_output=True, timeout=180)
    compare(out, undisturbed)


def starting(out: Path, driver: int) -> bool:
    """Ray's processes are there, and no renderer yet."""
    return any(_is(pid, "gcs_server") for pid in process_tree(driver))


def rendering(out: Path, driver: int) -> bool:
    return any(_is(pid, "focuspull.render.worker") for pid in process_tree(driver))


def packing(out: Path, driver: int) -> bool:
    return any(out.glob("train-*.tar"))


def _is(pid: int, name: str) -> bool:
    try:
        return name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(starting, id="starting"),
        # Also in tests/end_to_end.
        pytest.param(rendering, id="rendering", marks=pytest.mark.slow),
        pytest.param(packing, id="packing"),
    ],
)
def test_sigterm_ends_a_run_in_ten_seconds_whatever_it_does(
    spec: Path, undisturbed: Path, tmp_path: Path, phase: Callable[[Path, int], bool]
):
    out = tmp_path / "out"
    with subprocess.Popen(command(spec, out), stderr=subprocess.PIPE, text=True) as driver:
        deadline = time.monotonic() + 120
        while not phase(out, driver.pid):
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        processes = process_tree(driver.pid)
        driver.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, error = driver.communicate(timeout=60)
        took_s = time.monotonic() - started
    assert (driver.returncode, took_s < 10) == (143, True), error
    assert last_lines(error, 1) == [
        "focuspull-render: stopped by SIGTERM; the same command continues the run"
    ]
    while any(_is(pid, "focuspull") or _is(pid, "ray") for pid in processes):
        assert time.monotonic() < started + 30, "a process of the run is left"
        time.sleep(0.05)
    assert run(spec, out).returncode == 0
    compare(out, undisturbed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "focuspull-test", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root and CAP_SYS_ADMIN")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_fills_up_in_mid_run_is_one_line(spec: Path, undisturbed: Path, small_disk: Path):
    out = small_disk / "out"
    with subprocess.Popen(command(spec, out), stderr=subprocess.PIPE, text=True) as driver:
        deadline = time.monotonic() + 120
        while not any((out / "stage").glob("clip-*.beat")):
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        with (small_disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
            while True:
                filler.write(bytes(1 << 12))
        _, error = driver.communicate(timeout=120)
    assert driver.returncode == 2, error
    assert "Traceback" not in error
    (line,) = last_lines(error, 1)
    assert re.match(rf"focuspull-render: {out}/\S+: cannot be written: No space left on device", line), line
    (small_disk / "filler").unlink()
    assert run(spec, out).returncode == 0
    compare(out, undisturbed)
