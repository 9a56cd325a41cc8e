"""Where published systems are on this machine, from a YAML file.

    systems:
      bokehme:
        checkout: /home/me/BokehMe
        python: /home/me/BokehMe/.venv/bin/python
      any_to_bokeh_official:
        checkout: any-to-bokeh
        python: any-to-bokeh/.venv/bin/python
        weights: any-to-bokeh/checkpoints
        timeout_s: 3600
        options: {round_k: true}

Relative paths start at the file's folder; ``python`` without a slash is looked for in ``PATH``. What is left
out is as in `focuspull.model.adapters.process.Checkout`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from focuspull.dataset.documents import read_document, validated
from focuspull.dataset.errors import UserError
from focuspull.model.adapters.process import Adapter, Checkout
from focuspull.model.adapters.systems import SYSTEMS


class SystemEntry(BaseModel):
    """One system; see `focuspull.model.adapters.process.Checkout`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    checkout: Path
    python: str
    weights: Path | None = None
    timeout_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


class Systems(BaseModel):
    """The systems that there are adapters for; those that are left out are not run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deeplens: SystemEntry | None = None
    bokehme: SystemEntry | None = None
    mpib: SystemEntry | None = None
    drbokeh: SystemEntry | None = None
    bokehdiff: SystemEntry | None = None
    any_to_bokeh_official: SystemEntry | None = None


class AdaptersFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    systems: Systems


def adapter_names(path: Path) -> list[str]:
    """Names of the systems in a file, in order of publication; nothing of them is looked at.

    Args:
        path: Of the YAML file.

    Raises:
        UserError: If the file cannot be read or does not follow the schema, or names no system.
    """
    return list(_entries(path))


def load_adapter(path: Path, name: str, *, log: Path | None = None) -> Adapter:
    """Adapter to one system of a file; its process is not started.

    Args:
        path: Of the YAML file.
        name: One of `adapter_names`.
        log: Folder for what the system prints.

    Raises:
        UserError: As `adapter_names` does.
        AdapterProblem: If checkout, Python, weights or an option are missing or wrong.
    """
    entry = _entries(path)[name]
    folder = path.parent
    checkout = Checkout(
        folder=folder / entry.checkout,
        python=folder / entry.python if "/" in entry.python else entry.python,
        weights=None if entry.weights is None else folder / entry.weights,
        timeout_s=entry.timeout_s,
        options=entry.options,
    )
    return Adapter(SYSTEMS[name], checkout, log=log)


def load_adapters(path: Path, *, log: Path | None = None) -> dict[str, Adapter]:
    """Adapters to all systems of a file, by name; arguments and errors are those of `load_adapter`."""
    return {name: load_adapter(path, name, log=log) for name in adapter_names(path)}


def _entries(path: Path) -> dict[str, SystemEntry]:
    document = read_document(path, "Start it with systems:, see focuspull.model.adapters.config.")
    systems = validated(AdaptersFile, document, path.name).systems
    entries = {name: entry for name in SYSTEMS if (entry := getattr(systems, name)) is not None}
    if not entries:
        raise UserError(f"{path.name}: names no system. Add one of: {', '.join(SYSTEMS)}.")
    return entries
