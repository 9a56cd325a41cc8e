"""A published system as a `focuspull.model.renderer.BokehRenderer`: arrays to a child process and back.

    checkout = Checkout(Path("BokehMe"), "BokehMe/.venv/bin/python")
    with Adapter(SYSTEMS["bokehme"], checkout) as render:
        bokeh = render(aif, disparity, k, focus_disparity)

One child per adapter (`focuspull.model.adapters.exchange`); it is started by the first call, loads its
network once and stays. After any failure the next call starts another.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.model.adapters.exchange import Child, ChildError
from focuspull.model.adapters.record import PublishedSystem, SystemInput
from focuspull.model.renderer import validate_inputs

OVERSHOOT = 0.05
"""By which a result may leave [0, 1], which it is clipped to; more means that conventions do not match."""


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
        if log is not None:
            try:
                log.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AdapterProblem(
                    f"{system.name}: log folder {log} cannot be made ({error.strerror}). Give another."
                ) from None
        self._log = log
        self._child: Child | None = None
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
        except ChildError as error:
            raise self._problem(str(error)) from None
        except OSError as error:
            raise self._problem(
                f"its arrays could not be exchanged ({error.strerror}). Make room in {gettempdir()}."
            ) from None
        except BaseException:
            self._drop()
            raise

    def _start(self) -> Child:
        script = str(self.system.child)
        try:
            self._child = Child([self._python, script], self.checkout.folder, self.system.name, self._log)
        except OSError as error:
            raise ChildError(
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
        raise ChildError(f"returned an array of {list(output.shape)}, not {list(shape)}. {what_to_do}")
    if bad := int((~np.isfinite(output)).sum()):
        raise ChildError(
            f"returned {bad} of {output.size} values that are not finite. "
            "Check weights, precision and device of its environment."
        )
    low, high = float(output.min()), float(output.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise ChildError(f"returned values in [{low:g}, {high:g}], not in [0, 1]. {what_to_do}")
    return output.clip(0, 1)
