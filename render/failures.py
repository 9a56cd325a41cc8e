"""How clips fail, how often each way is tried again, and ``quarantine.jsonl``, the clips given up.

A quarantined clip is left out by later runs; ``focuspull-render retry`` renders it again, and takes it out of
the list once that is done. Its shard waits, with the shard's other clips staged: published without it, the
shard's bytes would depend on whether a machine had a bad day.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError

from focuspull.dataset.clip import first_problem
from focuspull.dataset.errors import UserError
from focuspull.dataset.storage import Folder
from focuspull.render.spec import Model

QUARANTINE_NAME = "quarantine.jsonl"

FailureClass = Literal["scene", "error", "crash", "memory", "timeout", "machine"]
"""``scene``: our checks refuse it, in one line; ``error``: an exception in the renderer or our code;
``crash``: killed by a signal; ``memory``: out of memory, or past its limit; ``timeout``: no progress for too
long; ``machine``: the clip's process was lost with what it ran in."""

TRIES: dict[FailureClass, int] = {
    "scene": 1,  # The checks are pure functions of the scene, so it would be refused again.
    "error": 2,
    "crash": 3,
    "memory": 2,
    "timeout": 2,
    "machine": 10,  # Not the clip's fault, unless it takes machine after machine down.
}
"""How often a clip may fail in each way, counted apart and in one run, before it is quarantined."""
BACKOFF_S = 1.0
"""Wait after the first machine fault of a clip; every further one doubles it."""
MAX_BACKOFF_S = 60.0


def backoff_s(failure: FailureClass, count: int) -> float:
    """Seconds to wait before a clip is tried again that has failed in this way ``count`` times."""
    return min(BACKOFF_S * 2.0 ** (count - 1), MAX_BACKOFF_S) if failure == "machine" else 0.0


class Quarantined(Model):
    """A clip given up, a line of ``quarantine.jsonl``.

    Args:
        key: Name of the clip.
        scene_sha256: Its scene; None if none could be made of the spec.
        failure: How it failed last; the field is ``class`` in the file.
        reason: Why, in one line.
        attempts: Times it was tried in the run that gave it up.
        log: What its renderer printed, relative to the corpus; None if it did not get as far.
    """

    key: str
    scene_sha256: str | None
    failure: FailureClass = Field(
        validation_alias=AliasChoices("class", "failure"), serialization_alias="class"
    )
    reason: str
    attempts: int = Field(ge=0)
    log: str | None


def read_quarantine(corpus: Path | Folder) -> dict[str, Quarantined]:
    """The quarantined clips of a corpus by key.

    Raises:
        UserError: If the list cannot be read; one line with the number of the line and what is wrong.
    """
    folder = Folder.of(corpus)
    path = folder.path(QUARANTINE_NAME)
    if (size := folder.find(QUARANTINE_NAME)) is None:
        return {}
    lines = folder.read(QUARANTINE_NAME, limit=size).splitlines()
    found: dict[str, Quarantined] = {}
    for number, line in enumerate(lines, 1):
        try:
            clip = Quarantined.model_validate_json(line)
        except ValidationError as error:
            raise UserError(
                f"{path}, line {number}: {first_problem(error)}. Remove the line to render its clip again."
            ) from error
        found[clip.key] = clip
    return found


def write_quarantine(corpus: Path | Folder, clips: Iterable[Quarantined]) -> None:
    """Write the list anew, sorted by key, or remove it if there are no such clips.

    Raises:
        UserError: If the storage refuses.
    """
    folder = Folder.of(corpus)
    lines = [
        json.dumps(clip.model_dump(mode="json", by_alias=True)) + "\n"
        for clip in sorted(clips, key=lambda clip: clip.key)
    ]
    if lines:
        folder.write(QUARANTINE_NAME, "".join(lines).encode())
    else:
        folder.remove([QUARANTINE_NAME])
