"""Checkouts of published systems that can be run here: `stand_ins/`, with what else they have to have."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from focuspull.model.adapters.process import Checkout
from focuspull.model.adapters.systems import SYSTEMS

STAND_INS = Path(__file__).with_name("stand_ins")

_STATES: dict[str, dict[str, Any]] = {
    "bokehme": {f"{name}.pth": {"model": {"scale": torch.zeros(1)}} for name in ("arnet", "iunet")},
    # As published: two of the three were saved from within DataParallel.
    "mpib": {
        "mpinet.pth": {"model": {"module.scale": torch.zeros(1)}},
        "aupnet.pth": {"model": {"module.scale": torch.zeros(1)}},
        "inpnet.pth": {"model": {"scale": torch.zeros(1)}},
    },
    "bokehdiff": {"vae.ckpt": {"trained": torch.ones(1)}},
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "bokehme": {"device": "cpu"},
    "mpib": {"device": "cpu"},
    "bokehdiff": {"device": "cpu"},
    "any_to_bokeh_official": {"device": "cpu"},
}


def stand_in(name: str, folder: Path) -> Checkout:
    """A copy of a stand-in that runs, beside what all of them share."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(STAND_INS / name, folder, ignore=ignore)
    shutil.copy(STAND_INS / "scattering.py", folder.parent)
    checkout = complete(name, folder)
    for file, state in _STATES.get(name, {}).items():
        torch.save(state, folder / SYSTEMS[name].weights_folder / file)
    return replace(checkout, options=_OPTIONS.get(name, {}))


def complete(name: str, folder: Path) -> Checkout:
    """A checkout with every file that is asked for, all empty."""
    system = SYSTEMS[name]
    paths = [folder / file for file in system.files]
    for path in [*paths, *(folder / system.weights_folder / file for file in system.weights)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.touch()
        else:
            path.mkdir(exist_ok=True)
    return Checkout(folder, sys.executable)
