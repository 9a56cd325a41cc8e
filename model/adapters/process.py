"""A published system as a `focuspull.model.renderer.BokehRenderer`: arrays to a child process and back.

    checkout = Checkout(Path("BokehMe"), "BokehMe/.venv/bin/python")
    with Adapter(SYSTEMS["bokehme"], checkout) as render:
        bokeh = render(aif, disparity, k, focus_disparity)

One child per adapter; it is started by the first call, loads its network once and stays. Arrays go through
.npy files in a temporary folder, requests as JSON lines on its standard input, replies on a pipe that only
`focuspull.model.adapters.child.loop` knows of, because systems print. The child is the leader of a process
group of its own, which is killed as a whole. After any failure the next call starts another. POSIX only.
"""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import signal
import subprocess
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.model.adapters.record import PublishedSystem, SystemInput, SystemRequest
from focuspull.model.renderer import validate_inputs

POLL_S = 0.1
"""How often it is looked whether the child still runs: a process it left behind may hold the pipe open."""
GRACE_S = 5.0
"""For a child that is told to end, before it is killed."""
OVERSHOOT = 0.05
"""By which a result may leave [0, 1], which it is clipped to; more means that conventions do not match."""
MAX_LINE = 300
"""Characters of the child's last line that a message repeats."""
# What would make the checkout's Python look for modules in ours.
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class AdapterProblem(UserError):  # noqa: N818 (most often a problem of the machine, not of the program)
    """A published system could not be run; one line: which, what happened and what to do."""


@dataclass(frozen=True)
class Checkout:
    """A system on this machine.

    Attributes:
        folder: The checkout.
        python: Of the environment that it is installed in, from Python 3.7 on; a path or a name in ``PATH``.
        weights: Folder of its weights; None for where its own instructions put them.
        timeout_s: For loading it, and for each request after that.
        options: Of the system, see `focuspull.model.adapters.record.PublishedSystem.options`.
    """

    folder: Path
    python: Path | str
    weights: Path | None = None
    timeout_s: float = 600.0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Adapter:
    """A `BokehRenderer` that is somebody else's program.

    Args:
        system: What it is.
        checkout: Where it is.
        log: Folder for what the child prints, ``<name>.out.log`` and ``<name>.err.log``, added to what is
            there. None keeps nothing.

    Raises:
        AdapterProblem: If checkout, Python, weights or an option are missing or wrong; nothing is started.
    """

    def __init__(self, system: PublishedSystem, checkout: Checkout, *, log: Path | None = None) -> None:
        self.system = system
        self.checkout = checkout
        self._options = _options(system, checkout.options)
        self._weights = (checkout.weights or checkout.folder / system.weights_folder).absolute()
        self._python = _find(system, checkout, self._weights)
        self._log = log
        self._child: _Child | None = None
        self._number = 0

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one; the next call would start another."""
        child, self._child = self._child, None
        if child is not None:
            child.end()

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`; computed in float32, and wherever the child computes.

        Raises:
            ValueError: If the arguments are no valid input, or the system cannot take them; one line.
            AdapterProblem: If the child fails, answers nothing in time, or what it answers is no image.
        """
        validate_inputs(aif, disparity, k, focus_disparity)
        bokeh = torch.empty_like(aif)
        for clip in range(aif.shape[0]):
            frames = SystemInput(
                aif=aif[clip].detach().movedim(1, -1).float().cpu().numpy(),
                disparity=disparity[clip, :, 0].detach().float().cpu().numpy(),
                k=k[clip].detach().double().cpu().numpy(),
                focus_disparity=focus_disparity[clip].detach().double().cpu().numpy(),
            )
            if self.system.takes_clips:
                result = self._render(frames)
            else:
                result = np.concatenate([self._render(_frame(frames, i)) for i in range(len(frames.k))])
            bokeh[clip] = torch.from_numpy(result).movedim(-1, 1).to(bokeh)
        return bokeh

    def _render(self, frames: SystemInput) -> NDArray[np.float32]:
        request = self.system.prepare(frames, self._options)
        try:
            child = self._child or self._start()
            self._number += 1
            output = child.ask(self._number, request, self.checkout.timeout_s)
            return self.system.restore(_checked(output, (len(frames.k), *request.size, 3)), frames)
        except _ChildError as error:
            raise self._problem(str(error)) from None
        except BaseException:
            self._drop()
            raise

    def _start(self) -> _Child:
        script = str(self.system.child)
        try:
            self._child = _Child([self._python, script], self.checkout.folder, self.system.name, self._log)
        except OSError as error:
            raise _ChildError(
                f"python '{self.checkout.python}' does not run ({error.strerror}). "
                "Give the Python of the environment that the system is installed in."
            ) from None
        setup = {
            "checkout": str(self.checkout.folder.absolute()),
            "weights": str(self._weights),
            "options": dict(self._options),
        }
        self._child.tell(setup, self.checkout.timeout_s, "did not load")
        return self._child

    def _drop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _problem(self, what: str) -> AdapterProblem:
        self._drop()
        log = f" What it printed is in {self._log / self.system.name}.err.log." if self._log else ""
        return AdapterProblem(f"{self.system.name}: {what}{log}")


class _ChildError(Exception):
    """What happened to the child and what to do; the adapter adds whose child it was."""


class _Child:
    """A running script of `focuspull.model.adapters.child`, its pipes and its folder for arrays."""

    def __init__(self, command: list[str], folder: Path, name: str, log: Path | None) -> None:
        self._exchange = TemporaryDirectory(prefix=f"focuspull-{name}-")
        logs = log or Path(self._exchange.name)
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_PASSED_ON}
        read_end, write_end = os.pipe()
        try:
            logs.mkdir(parents=True, exist_ok=True)
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
            _ChildError: If the child ends or ``timeout_s`` passes; ``otherwise`` says what it did not do.
        """
        deadline = time.monotonic() + timeout_s
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # It has ended; why is found out below.
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _ChildError(
                    f"{otherwise} within {timeout_s:g} s and was killed with its processes. "
                    "Raise timeout_s if it only needs longer."
                )
            # Asked before reading, so that what it wrote before its end is read.
            ended = self._has_ended()
            ready, _, _ = select.select([self._replies], [], [], 0 if ended else min(POLL_S, left))
            chunk = os.read(self._replies, 1 << 16) if ready else b""
            self._unread += chunk
            if ended and not chunk:
                raise _ChildError(f"{self._ending()}. Run its own demo with that Python to see more.")
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


def _options(system: PublishedSystem, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a system, with what is given."""
    for name in given:
        if name not in system.options:
            near = get_close_matches(name, system.options, 1)
            known = ", ".join(sorted(system.options)) or "none"
            hint = f"Did you mean '{near[0]}'?" if near else f"Known: {known}."
            raise AdapterProblem(f"{system.name}: unknown option '{name}'. {hint}")
    return {**system.options, **given}


def _find(system: PublishedSystem, checkout: Checkout, weights: Path) -> str:
    """The interpreter, once everything is known to be there."""
    name, folder = system.name, checkout.folder
    if not (math.isfinite(checkout.timeout_s) and checkout.timeout_s > 0):
        raise AdapterProblem(f"{name}: timeout_s is {checkout.timeout_s}. Give seconds above 0.")
    if not folder.is_dir():
        raise AdapterProblem(f"{name}: checkout {folder} is missing. Clone {system.repository} there.")
    for file in system.files:
        if not (folder / file).exists():
            raise AdapterProblem(
                f"{name}: checkout {folder} has no {file}. Clone {system.repository} there, all of it."
            )
    if system.weights_stay and checkout.weights is not None:
        raise AdapterProblem(
            f"{name}: its code opens weights in {system.weights_folder} of the checkout only. "
            "Put them there and leave weights out."
        )
    for file in system.weights:
        if not (weights / file).exists():
            raise AdapterProblem(
                f"{name}: weights {weights} have no {file}. "
                f"Get it as {system.repository} says, or set weights."
            )
    # Not resolved: the interpreter of a virtual environment is a link that says which one it is.
    found = shutil.which(str(checkout.python))
    if found is None:
        raise AdapterProblem(
            f"{name}: python '{checkout.python}' is missing or not executable. "
            "Give the Python of the environment that the system is installed in."
        )
    return os.path.abspath(found)


def _frame(frames: SystemInput, i: int) -> SystemInput:
    one = slice(i, i + 1)
    return SystemInput(frames.aif[one], frames.disparity[one], frames.k[one], frames.focus_disparity[one])


def _checked(output: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """What a child gave, if it is the images that were asked for; clipped to [0, 1]."""
    what_to_do = "Check that the checkout is the published version."
    if output.shape != shape:
        raise _ChildError(f"returned an array of {list(output.shape)}, not {list(shape)}. {what_to_do}")
    if bad := int((~np.isfinite(output)).sum()):
        raise _ChildError(
            f"returned {bad} of {output.size} values that are not finite. "
            "Check weights, precision and device of its environment."
        )
    low, high = float(output.min()), float(output.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise _ChildError(f"returned values in [{low:g}, {high:g}], not in [0, 1]. {what_to_do}")
    return output.clip(0, 1)
