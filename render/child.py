"""A child process under watch: its output kept, its limits kept, killed as a whole tree.

Nothing here knows about clips. Memory is what the process and all its descendants have resident, looked at
`POLL_S` apart: a limit on address space would stop the renderers at once, which reserve far more than they
use (Dr.Jit, GPU drivers). A time-out counts from the last sign of progress, not from the start: a busy
machine slows good clips down, and a limit on their whole time would give them up.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

POLL_S = 0.25
TREE_S = 5.0
"""How often descendants are looked for, which takes a look at all processes of the machine."""
MAX_LOG_BYTES = 1 << 20
"""Of a log; of more, the last half of this is kept."""
MAX_READS = 16
"""Of a pipe in one round: its writer may be fast, or, after the child's end, a descendant that lives on."""
FRAME_DONE, STILL_ALIVE = b"f", b"."
"""What a child writes to its progress pipe: a frame has all its images; some other step is done."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        returncode: Exit status; negative: the signal that killed it.
        last_line: The last line it printed that was not empty.
        exceeded: The limit for which it was killed, or None.
        peak_memory_bytes: The most memory that was seen.
    """

    returncode: int
    last_line: str
    exceeded: Literal["memory", "timeout"] | None
    peak_memory_bytes: int


@dataclass
class Watched:
    """A running child.

    Attributes:
        pid: Its process id.
        frames: Frames it has reported.
        memory_bytes: Resident memory of its tree, last look.
    """

    pid: int
    frames: int = 0
    memory_bytes: int = 0
    peak_memory_bytes: int = 0
    progress_at: float = field(default_factory=time.monotonic)


def run_child(
    command: Callable[[int], Sequence[str]],
    *,
    environment: dict[str, str],
    log: Path,
    memory_bytes: float | None = None,
    timeout_s: float | None = None,
    look: Callable[[Watched], None] = lambda _: None,
) -> Outcome:
    """Run a process and wait for it; it is killed with its descendants if this is left by an exception.

    Args:
        command: The command line, given the file descriptor that progress is to be written to.
        environment: Its environment.
        log: Existing file that all its output is added to.
        memory_bytes: Limit of resident memory of the process and its descendants.
        timeout_s: Limit of seconds without progress.
        look: Called at every look, `POLL_S` apart.
    """
    read_end, write_end = os.pipe()
    try:
        # No session and no process group of its own: those would outlive kill -9 of this process.
        with subprocess.Popen(
            command(write_end),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
        ) as child:
            os.close(write_end)
            write_end = -1
            try:
                return _watch(child, read_end, log, memory_bytes, timeout_s, look)
            except BaseException:
                kill_tree(child.pid)
                raise
    finally:
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)


def _watch(
    child: subprocess.Popen[bytes],
    progress: int,
    log: Path,
    memory_bytes: float | None,
    timeout_s: float | None,
    look: Callable[[Watched], None],
) -> Outcome:
    assert child.stdout is not None
    output = child.stdout.fileno()
    os.set_blocking(output, False)
    os.set_blocking(progress, False)
    watched, kept = Watched(child.pid), _Log(log)
    tree, tree_at = [child.pid], time.monotonic()
    exceeded: Literal["memory", "timeout"] | None = None
    is_open = {output: True, progress: True}
    next_look = 0.0
    ended = False
    while not ended:
        # Asked before reading: what it wrote before its end is then read below, and nobody else is waited
        # for who may hold the pipes open.
        ended = child.poll() is not None
        pipes = [pipe for pipe, open_ in is_open.items() if open_]
        ready, _, _ = select.select(pipes, [], [], 0 if ended else POLL_S)
        for pipe in ready:
            num_reads, chunk = 0, None
            while num_reads < MAX_READS and (chunk := _read(pipe)):
                num_reads += 1
                if pipe == output:
                    kept.add(chunk)
                else:
                    watched.frames += chunk.count(FRAME_DONE)
                    watched.progress_at = time.monotonic()
            is_open[pipe] = chunk != b""
        if not pipes and not ended:
            time.sleep(POLL_S / 5)  # It has closed all and goes on.
        if ended or time.monotonic() < next_look:
            continue
        next_look = time.monotonic() + POLL_S
        if time.monotonic() - tree_at >= TREE_S:
            tree, tree_at = process_tree(child.pid), time.monotonic()
        watched.memory_bytes = sum(_resident_bytes(pid) for pid in tree)
        watched.peak_memory_bytes = max(watched.peak_memory_bytes, watched.memory_bytes)
        look(watched)
        if memory_bytes is not None and watched.memory_bytes > memory_bytes:
            exceeded = "memory"
        elif timeout_s is not None and time.monotonic() - watched.progress_at > timeout_s:
            exceeded = "timeout"
        if exceeded is not None:
            kill_tree(child.pid)
            child.wait()
    return Outcome(child.returncode, kept.last_line(), exceeded, watched.peak_memory_bytes)


def _read(pipe: int) -> bytes | None:
    """What is in a pipe; nothing at its end, None if there is nothing yet."""
    try:
        return os.read(pipe, 1 << 16)
    except BlockingIOError:
        return None


class _Log:
    """A file that output is added to, cut from the front when it gets long."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.end = b""

    def add(self, chunk: bytes) -> None:
        self.end = (self.end + chunk)[-(MAX_LOG_BYTES // 2) :]
        # On a full disk the last line still gets to the user, by the return value.
        with suppress(OSError):
            if self.size + len(chunk) > MAX_LOG_BYTES:
                note = b"(what was printed before this is cut off)\n"
                self.path.write_bytes(note + self.end)
                self.size = len(note) + len(self.end)
            else:
                with self.path.open("ab", buffering=0) as file:
                    file.write(chunk)
                self.size += len(chunk)

    def last_line(self) -> str:
        lines = (line.strip() for line in reversed(self.end.decode(errors="replace").splitlines()))
        return next((line for line in lines if line), "")


def process_tree(root: int) -> list[int]:
    """Process ids of a process and all its descendants, parents first; empty if it is gone."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name of the program, in brackets, may have spaces and brackets; the parent is second after.
            parent = int(path.read_bytes().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [root] if Path(f"/proc/{root}").exists() else []
    for pid in found:
        found += children.get(pid, [])
    return found


def kill_tree(root: int) -> None:
    """Kill a process and all its descendants. They are stopped first, so that none can start another."""
    stopped: set[int] = set()
    while new := {*process_tree(root)} - stopped:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped or {root}:
        _send(pid, signal.SIGKILL)


def _send(pid: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
