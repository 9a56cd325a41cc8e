"""The main job as a user does it: commands, real renderers, real kills; a shipped spec, made small."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from focuspull.dataset.check import check_corpus
from focuspull.dataset.preview import write_contact_sheet

SMALL = [
    *("--film.width", "64", "--film.height", "36", "--film.num_frames", "2"),
    *("--quality.aif_samples", "2", "--quality.bokeh_samples", "2", "--clips_per_shard", "1"),
]


def command(out: Path, *words: str) -> list[str]:
    """The command that renders two clips in two shards."""
    return [sys.executable, "-m", "focuspull.render", "run", "tiny", "--out", str(out), *SMALL, *words]


def shard_bytes(corpus: Path) -> dict[str, bytes]:
    """Everything of a corpus except the index, which has the render times."""
    return {
        path.relative_to(corpus).as_posix(): path.read_bytes()
        for path in corpus.rglob("*")
        if path.is_file() and path.name != "index.parquet"
    }


def renders_into(folder: Path) -> bool:
    """Whether there is a process with the folder's clips on its command line."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:
            continue  # it has ended since
        if "focuspull.render.worker" in words and any(word.startswith(f"{folder}/") for word in words):
            return True
    return False


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A corpus rendered by Mitsuba with two workers, and what the command printed."""
    out = tmp_path_factory.mktemp("undisturbed") / "corpus"
    done = subprocess.run(command(out, "--workers", "2"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out, done


@pytest.mark.mitsuba
def test_mitsuba_makes_a_sound_corpus(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
):
    out, done = undisturbed
    assert check_corpus(out) == []
    assert done.stdout == f"{out}: 2 of 2 clips in 2 shards, 2 rendered by this run, 0 failed\n"
    # Nothing of Ray's or the renderers' own talk.
    first, *between, last = done.stderr.splitlines()
    assert first == "0/2 done, 0 failed, 2 left"
    # On a busy machine the clips end far enough apart for a line of their own.
    assert all(line.startswith("1/2 done, 0 failed, 1 left, ") for line in between)
    assert last.startswith("2/2 done, 0 failed, 0 left, ") and last.endswith(" s/clip, 0 s left")
    write_contact_sheet(out, tmp_path / "preview.png", max_clips=2)
    assert (tmp_path / "preview.png").stat().st_size > 10_000


@pytest.mark.cycles
def test_cycles_makes_a_sound_corpus(tmp_path: Path):
    out = tmp_path / "corpus"
    done = subprocess.run(command(out, "--backend", "cycles"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert check_corpus(out) == []


@pytest.mark.mitsuba
def test_a_driver_killed_in_mid_run_is_continued_to_the_same_bytes(
    undisturbed: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
):
    out = tmp_path / "corpus"
    with subprocess.Popen(command(out, "--workers", "1"), stderr=subprocess.PIPE) as driver:
        # One shard is committed and the next clip is being rendered.
        assert wait_until(lambda: (out / "train-000000.json").exists() and renders_into(out), 120)
        driver.kill()
    assert driver.returncode == -signal.SIGKILL
    assert wait_until(lambda: not renders_into(out), 20), "a renderer has outlived its driver"
    assert not (out / "train-000001.json").exists()
    done = subprocess.run(command(out, "--workers", "1"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 clips in 2 shards, 1 rendered by this run" in done.stdout
    assert shard_bytes(out) == shard_bytes(undisturbed[0])
    assert check_corpus(out) == []


@pytest.mark.mitsuba
def test_ctrl_c_and_sigterm_stop_a_run_at_once_and_leave_no_process(tmp_path: Path):
    out = tmp_path / "corpus"
    words = command(out, "--workers", "1", "--quality.aif_samples", "65536")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as driver:
        assert wait_until(lambda: renders_into(out), 120)
        driver.terminate()
        _, error = driver.communicate(timeout=30)
    assert driver.returncode == 143
    assert (
        error.splitlines()[-1] == "focuspull-render: stopped by SIGTERM; the same command continues the run"
    )
    assert wait_until(lambda: not renders_into(out), 10)
    assert {path.name for path in out.iterdir()} - {"stage"} == {"corpus.json"}
