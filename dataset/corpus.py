"""What `focuspull.dataset.loader.Loader` needs of a corpus, in shards or made on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from focuspull.dataset.reader import ClipRow, Sample


class Place(Protocol):
    """Where a corpus is, for messages."""

    address: str

    def path(self, name: str) -> str:
        """Address of one file."""
        ...


class Corpus(Protocol):
    """Clips by name, and windows of them; threads share it.

    Args:
        rows: The clips, in a fixed order.
    """

    rows: list[ClipRow]

    @property
    def folder(self) -> Place:
        """Where it is."""
        ...

    def sample(self, row: ClipRow, *, target: int, frames: Sequence[int], instance: bool = False) -> Sample:
        """A window of a clip, see `focuspull.dataset.reader.CorpusReader.sample`."""
        ...
