"""Shards: deterministic WebDataset tars, staged clip by clip and published at once.

A finished clip is staged as a small tar of its own with a marker. Packing concatenates staged clips into a
shard, leaves its rows for the index beside them, and writes the shard's commit marker last: a shard with a
marker is complete, whatever was killed when. The bytes of a shard and of its marker depend on its clips
alone, not on who rendered them, when, or in how many attempts. Folders may lie on a local disk or in an
object store (`focuspull.dataset.storage`).

    corpus/
        train-000000.tar     members "clip-000000.json", "clip-000000.aif.000.png", ...
        train-000000.json    commit marker, `focuspull.dataset.markers`
        index.parquet        `focuspull.dataset.index`
        corpus.json          what was asked for; written by the farm

Tars are POSIX USTAR (https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html) without times and
owners; GNU tar, Python's tarfile, webdataset and Hugging Face datasets all read them.
"""

from __future__ import annotations

import hashlib
import itertools
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from focuspull.dataset.clip import Clip, canonical_json, decode_meta
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.index import ROWS_SUFFIX, fold_rows, index_row, rows_bytes
from focuspull.dataset.markers import (
    SHARD_NAME,
    TAR_BLOCK,
    ClipEntry,
    MemberEntry,
    ShardMarker,
    StagedMarker,
    parse_record,
    read_markers,
    read_members,
)
from focuspull.dataset.storage import Folder

__all__ = [
    "ShardMarker",
    "StagedClip",
    "UnsoundClipError",
    "find_staged",
    "pack_shard",
    "publish_shard",
    "read_markers",
    "read_members",
    "read_staged",
    "stage_clip",
    "write_atomic",
]

_COPY_CHUNK = 8 << 20
_MAX_MARKER_BYTES = 1 << 24


class UnsoundClipError(UserError):
    """A staged clip is gone or has changed, so that it has to be rendered again.

    Args:
        message: One line.
        key: Of the clip.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class StagedClip:
    """A finished clip that waits to be packed into a shard."""

    folder: Folder
    marker: StagedMarker

    @property
    def key(self) -> str:
        """Key of the clip."""
        return self.marker.key

    @property
    def tar(self) -> str:
        """Name of the clip's own tar."""
        return f"{self.key}.tar"


def stage_clip(clip: Clip, folder: Path | Folder, *, record: Mapping[str, Any]) -> None:
    """Write a finished clip and then its marker into a staging folder; replaces an earlier attempt.

    Args:
        clip: The encoded clip.
        folder: Staging folder, made if missing.
        record: JSON-ready facts for the index alone; ``render_seconds`` and ``render_cpu_seconds`` are used.

    Raises:
        UserError: If the storage refuses.
    """
    folder, key = Folder.of(folder), clip.meta.key
    entries = []
    digest = hashlib.sha256()
    payload_size = 0

    def write(file: BinaryIO) -> None:
        nonlocal payload_size
        for name, content in clip.members:
            header = _tar_header(f"{clip.meta.key}.{name}", len(content))
            entry = MemberEntry(
                name=name,
                offset=payload_size + len(header),
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
            entries.append(entry)
            payload_size = entry.end
            for part in (header, content, bytes(entry.end - entry.offset - entry.size)):
                digest.update(part)
                file.write(part)
        end = _end_of_archive(payload_size)
        digest.update(end)
        file.write(end)

    # An earlier attempt's marker must not vouch for this attempt's tar.
    folder.remove([f"{key}.json"])
    folder.write(f"{key}.tar", write)
    marker = StagedMarker(
        key=key,
        split=clip.meta.split,
        scene_sha256=clip.meta.scene_sha256,
        members=tuple(entries),
        payload_size=payload_size,
        sha256=digest.hexdigest(),
        record=dict(record),
    )
    folder.write(f"{key}.json", canonical_json(marker.model_dump(mode="json")))


def read_staged(folder: Path | Folder, *, sizes: Mapping[str, int] | None = None) -> dict[str, StagedClip]:
    """The finished clips of a staging folder by key, sorted.

    A clip without marker, or whose tar is not as long as its marker says, is not finished.

    Args:
        folder: Staging folder; none is finished if it is not there.
        sizes: What `Folder.sizes` of it says; None to ask.

    Raises:
        UserError: If a marker is invalid.
    """
    folder = Folder.of(folder)
    sizes = folder.sizes() if sizes is None else sizes
    keys = sorted(name.removesuffix(".json") for name in sizes if name.endswith(".json"))
    found = find_staged(folder, [key for key in keys if f"{key}.tar" in sizes])
    return {
        key: clip for key, clip in found.items() if sizes[clip.tar] == shard_size(clip.marker.payload_size)
    }


def find_staged(folder: Path | Folder, keys: Iterable[str]) -> dict[str, StagedClip]:
    """Some clips of a staging folder by key, those with a marker.

    The folder is not listed, since it may be as large as all that waits for quarantined clips. Whether a
    clip's tar is there and whole is left to `pack_shard`.

    Args:
        folder: Staging folder.
        keys: Clips to look for.

    Raises:
        UserError: If a marker is invalid.
    """
    folder = Folder.of(folder)
    markers = folder.read_all([f"{key}.json" for key in keys])
    clips = [
        StagedClip(folder, parse_record(content, folder.path(name), StagedMarker))
        for name, content in markers.items()
    ]
    return {clip.key: clip for clip in clips}


def publish_shard(
    corpus: Path | Folder, name: str, staged: Sequence[StagedClip], *, spec_sha256: str
) -> None:
    """Pack staged clips into a shard and take its rows into the index.

    Args and errors are those of `pack_shard`. One process at a time may write the index of a corpus.
    """
    pack_shard(corpus, name, staged, spec_sha256=spec_sha256)
    fold_rows(corpus, staged[0].folder)


def pack_shard(
    corpus: Path | Folder,
    name: str,
    staged: Sequence[StagedClip],
    *,
    spec_sha256: str,
    may_commit: Callable[[], bool] = lambda: True,
) -> bool:
    """Pack staged clips into a shard, leave its rows, commit it, remove the staged files, in this order.

    Interrupted anywhere, it can be called again with the same arguments as long as the commit marker is
    not there. Several processes may pack different shards at once. The rows lie in the staging folder until
    `focuspull.dataset.index.fold_rows` takes them.

    Args:
        corpus: Folder of the corpus, made if missing.
        name: Name of the shard, ``<split>-<6 digits>``.
        staged: The clips, all of one staging folder, in the order they get in the shard; keys differ.
        spec_sha256: Hash of the corpus specification.
        may_commit: Asked just before the commit; if it says no, the shard is left uncommitted.

    Returns:
        Whether it is committed.

    Raises:
        ValueError: If the name is of another form or there are no clips or a key is there twice.
        UnsoundClipError: If a staged clip is gone or damaged.
        UserError: If the storage refuses.
    """
    if not SHARD_NAME.fullmatch(name):
        raise ValueError(f"shard name must look like 'train-000000', got '{name}'")
    keys = [clip.key for clip in staged]
    if not keys or len(set(keys)) != len(keys):
        raise ValueError(f"{name}: needs at least one clip and every clip once, got {keys}")
    corpus, stage, shard = Folder.of(corpus), staged[0].folder, f"{name}.tar"
    digest = hashlib.sha256()
    size = 0
    clips: list[ClipEntry] = []

    def write(file: BinaryIO) -> None:
        nonlocal size
        for clip in staged:
            clips.append(_entry_at(clip, size))
            for chunk in _verified_payload(clip):
                digest.update(chunk)
                file.write(chunk)
            size += clip.marker.payload_size
        end = _end_of_archive(size)
        digest.update(end)
        file.write(end)
        size += len(end)

    corpus.write(shard, write)
    marker = ShardMarker(
        shard=shard, size=size, sha256=digest.hexdigest(), spec_sha256=spec_sha256, clips=tuple(clips)
    )
    rows = [_row(shard, clip, entry) for clip, entry in zip(staged, clips, strict=True)]
    stage.write(f"{name}{ROWS_SUFFIX}", rows_bytes(rows))
    if not may_commit():
        return False
    corpus.write(f"{name}.json", canonical_json(marker.model_dump(mode="json")))
    # Markers first: a clip whose marker is gone is not staged, whatever else is left of it.
    stage.remove(f"{clip.key}.json" for clip in staged)
    stage.remove(clip.tar for clip in staged)
    return True


def _tar_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)  # mtime, uid and gid 0, mode 0644, no owner names: tarfile's defaults
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def _end_of_archive(payload_size: int) -> bytes:
    """Two zero blocks, then zeros up to a full tar record, as tarfile and GNU tar write it."""
    end = payload_size + 2 * TAR_BLOCK
    return bytes(-(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE - payload_size)


def shard_size(payload_size: int) -> int:
    """Bytes of a tar whose last clip ends after ``payload_size`` bytes."""
    return payload_size + len(_end_of_archive(payload_size))


def _entry_at(clip: StagedClip, offset: int) -> ClipEntry:
    """The entry of a staged clip whose payload starts at ``offset`` of a shard."""
    marker = clip.marker
    members = tuple(member.model_copy(update={"offset": member.offset + offset}) for member in marker.members)
    return ClipEntry(key=marker.key, split=marker.split, scene_sha256=marker.scene_sha256, members=members)


def _verified_payload(clip: StagedClip) -> Iterator[bytes]:
    """The bytes of a staged clip up to its end of archive; raises after them if they have changed."""
    digest = hashlib.sha256()
    path, marker = clip.folder.path(clip.tar), clip.folder.path(f"{clip.key}.json")
    payload_size = clip.marker.payload_size
    size = shard_size(payload_size)
    if clip.folder.find(clip.tar) != size:
        raise UnsoundClipError(f"{path}: is gone, or not as long as it was. Remove {marker}.", clip.key)
    bounds = [*range(0, payload_size, _COPY_CHUNK), payload_size, size]
    for start, end in itertools.pairwise(bounds):
        (chunk,) = clip.folder.read_ranges(clip.tar, [(start, end)])
        digest.update(chunk)
        if start < payload_size:
            yield bytes(chunk)
    if digest.hexdigest() != clip.marker.sha256:
        message = f"{path}: has changed since it was staged. Remove {marker} to render it again."
        raise UnsoundClipError(message, clip.key)


def _row(shard: str, clip: StagedClip, entry: ClipEntry) -> dict[str, Any]:
    """The index row of a clip about to be published, from its staged metadata."""
    member = clip.marker.members[0]
    (content,) = clip.folder.read_ranges(clip.tar, [(member.offset, member.offset + member.size)])
    return index_row(shard, entry, decode_meta(bytes(content)), clip.marker.record)
