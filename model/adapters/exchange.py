"""A running script of `focuspull.model.adapters.child`: requests to it, arrays from it, and its end.

Arrays go through .npy files in a temporary folder, requests as JSON lines on its standard input, replies on a
pipe that only `focuspull.model.adapters.child.loop` knows of, because systems print. The child is the leader
of a process group of its own, which is killed as a whole. POSIX only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.model.adapters.record import SystemRequest

POLL_S = 0.1
"""How often it is looked whether the child still runs: a process it left behind may hold the pipe open."""
GRACE_S = 5.0
"""For a child that is told to end, before it is killed."""
MAX_LINE = 300
"""Characters of the child's last line that a message repeats."""
# What would make the checkout's Python look for modules in ours.
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class ChildError(Exception):
    """What happened to the child and what to do; the adapter adds whose child it was."""


class Child:
    """A running script, its pipes and its folder for arrays.

    Args:
        command: The script and the Python that runs it; the number of the pipe is added.
        folder: That it runs in.
        name: Of the system, for the names of folders and logs.
        log: Existing folder for what it prints, or None.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, command: list[str], folder: Path, name: str, log: Path | None) -> None:
        self._exchange = TemporaryDirectory(prefix=f"focuspull-{name}-")
        logs = log or Path(self._exchange.name)
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
        read_end, write_end = os.pipe()
        try:
            self._errors = logs / f"{name}.err.log"
            with (logs / f"{name}.out.log").open("ab") as out, self._errors.open("ab") as errors:
                self._errors_from = errors.tell()
                self._process = subprocess.Popen(
                    [*command, str(write_end)],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=errors,
                    cwd=folder,
                    env=environment,
                    pass_fds=(write_end,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(read_end)
            self._exchange.cleanup()
            raise
        finally:
            os.close(write_end)
        self._replies = read_end
        self._unread = b""
        # Also if this process ends without closing its adapters.
        self._release = weakref.finalize(self, _release, self._process, read_end, self._exchange)

    def ask(self, number: int, request: SystemRequest, timeout_s: float) -> NDArray[np.float32]:
        """The child's answer to a request."""
        folder = Path(self._exchange.name)
        files = {name: folder / f"{number}-{name}.npy" for name in request.arrays}
        result = folder / f"{number}.npy"
        for name, path in files.items():
            np.save(path, request.arrays[name])
        message = {
            "number": number,
            "arrays": {name: str(path) for name, path in files.items()},
            "values": dict(request.values),
            "result": str(result),
        }
        self.tell(message, timeout_s, "gave no answer")
        output = np.load(result)
        for path in (*files.values(), result):
            path.unlink()
        return output

    def tell(self, message: Mapping[str, Any], timeout_s: float, otherwise: str) -> None:
        """Write a line and wait for the one that answers it.

        Raises:
            ChildError: If the child ends or ``timeout_s`` passes; ``otherwise`` says what it did not do.
        """
        deadline = time.monotonic() + timeout_s
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # It has ended; why is found out below.
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChildError(
                    f"{otherwise} within {timeout_s:g} s and was killed with its processes. "
                    "Raise timeout_s if it only needs longer."
                )
            # Asked before reading, so that what it wrote before its end is read.
            ended = self._has_ended()
            ready, _, _ = select.select([self._replies], [], [], 0 if ended else min(POLL_S, left))
            chunk = os.read(self._replies, 1 << 16) if ready else b""
            self._unread += chunk
            if ended and not chunk:
                raise ChildError(f"{self._ending()}. Run its own demo with that Python to see more.")
            if ready and not chunk:
                time.sleep(min(POLL_S, left))  # The pipe is closed; the process is about to end.
        self._unread = self._unread.split(b"\n", 1)[1]

    def end(self) -> None:
        """Let it end by itself, then kill what is left."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        deadline = time.monotonic() + GRACE_S
        while not self._has_ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.kill()

    def kill(self) -> None:
        """Kill it with its process group and remove its folder."""
        self._release()

    def _has_ended(self) -> bool:
        # Left as a zombie, so that its number stays that of its process group until the group is killed.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, options) is not None

    def _ending(self) -> str:
        """How it ended, with the last line it printed as an error."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        with self._errors.open("rb") as file:
            file.seek(max(self._errors_from, self._errors.stat().st_size - (1 << 16)))
            lines = file.read().decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "nothing on standard error")
        last = " ".join(last.split())
        last = last if len(last) <= MAX_LINE else f"{last[:MAX_LINE]}…"
        if code >= 0:
            return f"its process ended with exit code {code} ({last})"
        name = next((one.name for one in signal.Signals if one == -code), "unknown")
        return f"its process was ended by signal {-code}, {name} ({last})"


def _release(process: subprocess.Popen[bytes], pipe: int, exchange: TemporaryDirectory[str]) -> None:
    """Kill a child's process group, close its pipes and remove its folder."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    os.close(pipe)
    exchange.cleanup()
