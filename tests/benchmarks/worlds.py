"""Corpora of one scene family each, for the gallery, the probes and the comparison with real clips.

Families come from the specs themselves, so that a new one is in all three without a word here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, get_args

from focuspull.dataset.errors import UserError
from focuspull.render.corpus import CorpusSpec, load_corpus
from focuspull.render.families import FamilySpec, GivenWorld
from focuspull.render.spec import SceneSpec
from tests.rendering import ROOT, in_child

SEED = 2024
"""Of all corpora here. Clips with a number of their own come from it in every program."""
FILM = {"num_frames": 25, "fps": 24.0}
"""As in the paper; how fast a camera is depends on the length of the clip, since its reach does not."""
TARGETS = (
    {"k_at_1024": (24, 40), "focus": ("subject",)},
    {"k_at_1024": (24, 40), "focus": ("foreground", "background")},
)
MAX_CHARS = 200


def family_names() -> tuple[str, ...]:
    """Every family that draws worlds, in the order of `FamilySpec`."""
    kinds = get_args(get_args(FamilySpec)[0])
    return tuple(get_args(k.model_fields["family"].annotation)[0] for k in kinds if k is not GivenWorld)


def chosen_families(text: str) -> tuple[str, ...]:
    """Names from ``a,b``; for options of the command line."""
    names, known = tuple(text.split(",")), family_names()
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"'{name}' is no family. Use some of: {','.join(known)}.")
    return names


def size(text: str) -> tuple[int, int]:
    """Pixels from ``320x180``; for options of the command line."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 16):
        raise argparse.ArgumentTypeError(f"'{text}' is no size. Give width x height, such as 320x180.")
    return int(width), int(height)


@dataclass(frozen=True)
class Worlds:
    """A corpus of one family, and where the files that it may use lie, by SHA-256."""

    family: str
    spec: CorpusSpec
    files: Mapping[str, Path]

    @property
    def id(self) -> str:
        """Name of what is made of it: another spec, another name."""
        text = json.dumps(self.spec.model_dump(mode="json"), sort_keys=True)
        return f"{self.family}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def worlds_of(
    family: str, clips: int, film: Mapping[str, Any], quality: Mapping[str, Any], assets_of: str | None
) -> Worlds:
    """A corpus of a family.

    Args:
        family: Its name.
        clips: How many.
        film: Fields besides those in `FILM`.
        quality: Fields of `QualitySpec`.
        assets_of: Spec, by name or path, whose assets the family may use; None: no assets.
    """
    loaded = None if assets_of is None else load_corpus(assets_of)
    document = {
        "name": family,
        "seed": SEED,
        "splits": {"train": clips},
        "film": FILM | dict(film),
        "quality": quality,
        "scenes": [{"family": family}],
        "targets": TARGETS,
    }
    spec = CorpusSpec.model_validate(document)
    if loaded is not None:
        spec = spec.model_copy(update={"assets": loaded.spec.assets})
    return Worlds(family, spec, {} if loaded is None else loaded.files)


def in_view(scene: SceneSpec, frames: Iterable[int]) -> tuple[int, ...]:
    """Frame numbers that the clip has, each once, in order."""
    return tuple(sorted({min(frame, scene.film.num_frames - 1) for frame in frames}))


def cpu_seconds() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- In child processes ---------------------------------------------------------------------------


def probe_all(
    function: Any, worlds: Worlds, numbers: Iterable[int], folder: Path, *arguments: Any, batch: int = 10
) -> Iterator[dict[str, Any]]:
    """Calls ``function(worlds, number, *arguments)`` for clips of a corpus, in child processes.

    A child does some clips and writes a line for each; ``is_first`` marks the one that pays for imports. One
    that dies costs the clip it was at, whose line is ``{"number": ..., "crash": ...}``; the next child goes
    on behind it. Lines are kept, so that the same call continues where it was stopped; remove the folder
    after changing what is measured.

    Args:
        function: At the top level of its module; returns what JSON can hold.
        worlds: The corpus.
        numbers: Clips of it.
        folder: Where the lines are kept.
        arguments: More of the function's arguments.
        batch: Clips of one child.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{worlds.id}.jsonl"
    wanted = list(numbers)
    while left := [number for number in wanted if number not in {r["number"] for r in read_lines(path)}]:
        some = left[:batch]
        try:
            in_child(_probe_some, _name(function), worlds, some, str(path), arguments, env=_environment())
        except (RuntimeError, TimeoutExpired) as error:
            done = {row["number"] for row in read_lines(path)}
            at = next((number for number in some if number not in done), None)
            if at is not None:
                _add_line(path, {"number": at, "crash": _last_line(str(error))})
    found = {row["number"]: row for row in read_lines(path)}
    yield from (found[number] for number in wanted)


def _name(function: Any) -> tuple[str, str]:
    """Module and name of a function; a module that was run by ``python -m`` has another name here."""
    main = sys.modules["__main__"].__spec__
    module = main.name if function.__module__ == "__main__" and main is not None else function.__module__
    return module, function.__qualname__


def _environment() -> dict[str, str]:
    """Lets a child find the classes of its arguments, and use one thread."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def _last_line(text: str) -> str:
    """How a child ended and the last thing it said."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    status = lines[0].partition(": ")[2]
    return f"{status} {lines[-1][:MAX_CHARS]}" if len(lines) > 1 else status


def _probe_some(
    call: tuple[str, str], worlds: Worlds, numbers: list[int], path: str, arguments: tuple[Any, ...]
) -> None:
    function = getattr(import_module(call[0]), call[1])
    for i, number in enumerate(numbers):
        try:
            row = function(worlds, number, *arguments)
        except UserError as error:
            row = {"refused": str(error)}
        _add_line(Path(path), {"number": number, "is_first": i == 0} | row)


def _add_line(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, none if there is no file; a last one that was cut off does not count."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def in_threads(function: Any, items: Iterable[Any], workers: int) -> list[Any]:
    """Calls a function that waits for child processes on several items at a time."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))
