"""A child under watch: its output, its limits, and that nothing of it is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from focuspull.render import child
from focuspull.render.child import Outcome, Watched, process_tree, run_child

GRANDCHILD = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
)


def run(code: str, log: Path, **options: Any) -> Outcome:
    """Run a few lines of Python; ``progress`` is where they report."""
    log.write_bytes(b"")
    head = "import os, sys, time\nprogress = int(sys.argv[1])\n"
    command = [sys.executable, "-c", head + code]
    return run_child(
        lambda progress: [*command, str(progress)], environment=dict(os.environ), log=log, **options
    )


def alive(pid: int) -> bool:
    """Whether a process is there, and not only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: set[int]) -> bool:
    """Whether all processes end within some seconds."""
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


def test_output_and_status_are_kept(tmp_path: Path):
    log = tmp_path / "log"
    outcome = run("print('one', flush=True); print('two\\n', file=sys.stderr); sys.exit(7)", log)
    assert (outcome.returncode, outcome.last_line, outcome.exceeded) == (7, "two", None)
    assert log.read_text() == "one\ntwo\n\n"


def test_of_endless_output_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "MAX_LOG_BYTES", 4000)
    log = tmp_path / "log"
    outcome = run("for i in range(100_000): print('line', i)", log)
    assert outcome.last_line == "line 99999"
    assert log.read_text().startswith("(what was printed before this is cut off)\n")
    assert log.read_text().endswith("line 99998\nline 99999\n")
    assert log.stat().st_size <= 4000


def test_frames_are_counted(tmp_path: Path):
    seen: list[int] = []
    code = "for step in (b'.', b'f', b'f'): os.write(progress, step)\ntime.sleep(1)"
    run(code, tmp_path / "log", look=lambda watched: seen.append(watched.frames))
    assert seen[-1] == 2


def test_too_much_memory_ends_it(tmp_path: Path):
    code = "held = bytearray(b'x') * (300 << 20)\ntime.sleep(60)"
    outcome = run(code, tmp_path / "log", memory_bytes=200 << 20)
    assert (outcome.returncode, outcome.exceeded) == (-9, "memory")
    assert 200 << 20 < outcome.peak_memory_bytes < 2000 << 20


def test_memory_of_descendants_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "TREE_S", 0.1)
    held = "import time; held = bytearray(b'x') * (300 << 20); time.sleep(60)"
    code = f"import subprocess; subprocess.run([sys.executable, '-c', {held!r}])"
    pids: set[int] = set()

    def look(watched: Watched) -> None:
        pids.update(process_tree(watched.pid))

    outcome = run(code, tmp_path / "log", memory_bytes=200 << 20, look=look)
    assert outcome.exceeded == "memory"
    assert len(pids) == 2 and gone(pids)


def test_a_child_that_hangs_is_ended_with_all_its_descendants(tmp_path: Path):
    pids: set[int] = set()
    started = time.monotonic()

    def look(watched: Watched) -> None:
        pids.update(process_tree(watched.pid))

    code = f"{GRANDCHILD}print('here', flush=True); time.sleep(99)"
    outcome = run(code, tmp_path / "log", timeout_s=4, look=look)
    assert (outcome.returncode, outcome.last_line, outcome.exceeded) == (-9, "here", "timeout")
    assert time.monotonic() - started < 60
    assert len(pids) == 2 and gone(pids)


def test_a_slow_child_that_gets_on_is_left_alone(tmp_path: Path):
    code = "for _ in range(12): time.sleep(0.5); os.write(progress, b'.')"
    outcome = run(code, tmp_path / "log", timeout_s=4)
    assert (outcome.returncode, outcome.exceeded) == (0, None)


def test_a_descendant_that_lives_on_is_not_waited_for(tmp_path: Path):
    started = time.monotonic()
    code = (
        "import subprocess\n"
        "orphan = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(orphan.pid)"
    )
    outcome = run(code, tmp_path / "log")
    os.kill(int(outcome.last_line), 9)
    assert outcome.returncode == 0
    assert time.monotonic() - started < 50


def test_an_exception_while_watching_ends_the_whole_tree(tmp_path: Path):
    pids: set[int] = set()

    def look(watched: Watched) -> None:
        pids.update(process_tree(watched.pid))
        if len(pids) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(f"{GRANDCHILD}time.sleep(99)", tmp_path / "log", look=look)
    assert gone(pids)
