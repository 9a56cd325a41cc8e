"""What copying clips of a corpus takes: bytes that are proven, and a folder that is whole or not there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX
from focuspull.dataset.markers import ClipEntry, ShardMarker, read_markers, read_members


@contextmanager
def new_folder(out: Path) -> Generator[Path, None, None]:
    """A folder to fill; under its final name it appears when the block ends without an exception.

    Until then it lies beside it as ``.tmp-<name>-...``, which a killed process leaves behind.

    Args:
        out: The final name; may be an empty folder.

    Raises:
        UserError: If there is something already, or the operating system refuses, also within the block.
    """
    final = out.resolve()
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise UserError(f"{out}: is there already and is not empty. Choose another --out, or remove it.")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(
            prefix=f"{TEMPORARY_PREFIX}{final.name}-", dir=final.parent, ignore_cleanup_errors=True
        ) as holder:
            # A folder in it, since the temporary one is for its owner alone.
            part = Path(holder) / final.name
            part.mkdir()
            yield part
            part.replace(final)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written: {error.strerror}. Free some space, or choose another --out."
        ) from error


def committed_clips(corpus: Path, *, split: str | None = None) -> list[tuple[ShardMarker, ClipEntry]]:
    """The clips of all committed shards, by split and key, each with the marker of its shard.

    Args:
        corpus: Folder of the corpus.
        split: Only this one; None for all.

    Raises:
        UserError: If there are none, or a marker is invalid.
    """
    clips = [(marker, clip) for marker in read_markers(corpus) for clip in marker.clips]
    if not clips:
        raise UserError(f"{corpus}: has no committed shard. Give the folder of a corpus.")
    splits = sorted({clip.split for _, clip in clips})
    if split is not None and split not in splits:
        raise UserError(f"{corpus}: has no split '{split}'. Its splits are {', '.join(splits)}.")
    wanted = [pair for pair in clips if split in (None, pair[1].split)]
    return sorted(wanted, key=lambda pair: (pair[1].split, pair[1].key, pair[0].shard))


def proven_members(
    corpus: Path, marker: ShardMarker, clip: ClipEntry, names: Iterable[str] | None = None
) -> dict[str, bytes]:
    """Members of one clip, as `focuspull.dataset.markers.read_members`, each compared with its SHA-256.

    Raises:
        UserError: If the shard cannot be read, lacks a member, or one has other bytes than its marker says.
    """
    where = f"{corpus / marker.shard}, {clip.key}"
    remedy = f"Find out more with: focuspull-dataset check {corpus}"
    try:
        members = read_members(corpus, marker, clip.key, names)
    except ValueError as error:
        raise UserError(f"{error}. {remedy}") from error
    for entry in clip.members:
        if entry.name in members and hashlib.sha256(members[entry.name]).hexdigest() != entry.sha256:
            raise UserError(f"{where}: {entry.name} does not have the SHA-256 in its marker. {remedy}")
    return members


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files by their paths within a folder.

    Raises:
        OSError: If the operating system refuses.
    """
    made: set[Path] = set()
    for name, content in files:
        path = folder / name
        if path.parent not in made:
            os.makedirs(path.parent, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(content)
