"""Some frames of some clips, for those who look at a corpus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from focuspull.dataset.clip import DecodedClip, decode_clip, frame_member, stream_names
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import read_index
from focuspull.dataset.markers import ShardMarker, read_marker, read_members

ItemT = TypeVar("ItemT")


def clip_rows(corpus: Path) -> list[dict[str, Any]]:
    """The rows of the index, at least one.

    Raises:
        UserError: If there is no index, or no clip.
    """
    rows = read_index(corpus)
    if not rows:
        raise UserError(
            f"{corpus}: has no clips to show. Make some with: focuspull-render run SPEC --out {corpus}"
        )
    return rows


def spread(items: Sequence[ItemT], count: int) -> list[ItemT]:
    """At most ``count`` of the items, evenly spaced, first and last included."""
    positions = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[round(position)] for position in positions]


def row_marker(corpus: Path, row: dict[str, Any]) -> ShardMarker:
    """The commit marker of the shard of an index row."""
    return read_marker(corpus, row["shard"].removesuffix(".tar"))


def load_frames(corpus: Path, marker: ShardMarker, row: dict[str, Any], frames: Sequence[int]) -> DecodedClip:
    """Read and decode some frames of the clip of an index row; nothing else is read.

    Raises:
        UserError: If they cannot be read or decoded.
    """
    streams = stream_names(row["num_targets"])
    names = [frame_member(stream, frame, row["num_frames"]) for stream in streams for frame in frames]
    try:
        return decode_clip(read_members(corpus, marker, row["key"], ["json", *names]), frames=frames)
    except ValueError as error:
        where = f"{row['shard']}, {row['key']}"
        raise UserError(f"{where}: {error}. Look closer with: focuspull-dataset check {corpus}") from error
