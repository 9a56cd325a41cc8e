"""Shards: deterministic WebDataset tars, staged clip by clip and published at once.

A finished clip is staged as a small tar of its own with a marker. Publishing concatenates staged clips
into a shard, updates the index, and writes the shard's commit marker last: a shard with a marker is
complete, whatever was killed when. The bytes of a shard and of its marker depend on its clips alone, not on
who rendered them, when, or in how many attempts.

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
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from focuspull.dataset.clip import Clip, canonical_json, decode_meta
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import remove_durably, write_atomic
from focuspull.dataset.index import add_to_index, index_row
from focuspull.dataset.markers import (
    SHARD_NAME,
    TAR_BLOCK,
    ClipEntry,
    MemberEntry,
    ShardMarker,
    StagedMarker,
    load_record,
    marker_path,
    read_markers,
    read_members,
    read_ranges,
)

__all__ = [
    "ShardMarker",
    "StagedClip",
    "publish_shard",
    "read_markers",
    "read_members",
    "read_staged",
    "stage_clip",
    "write_atomic",
]

_COPY_CHUNK = 1 << 20


@dataclass(frozen=True)
class StagedClip:
    """A finished clip that waits to be packed into a shard."""

    folder: Path
    marker: StagedMarker

    @property
    def key(self) -> str:
        """Key of the clip."""
        return self.marker.key

    @property
    def tar_path(self) -> Path:
        """The clip's own tar."""
        return self.folder / f"{self.key}.tar"

    @property
    def marker_path(self) -> Path:
        """The clip's marker."""
        return self.folder / f"{self.key}.json"


def stage_clip(clip: Clip, folder: Path, *, record: Mapping[str, Any]) -> None:
    """Write a finished clip and then its marker into a staging folder; replaces an earlier attempt.

    Args:
        clip: The encoded clip.
        folder: Staging folder, made if missing.
        record: JSON-ready facts for the index alone; ``render_seconds`` and ``render_cpu_seconds`` are used.

    Raises:
        UserError: If the operating system refuses.
    """
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
    remove_durably([folder / f"{clip.meta.key}.json"])
    write_atomic(folder / f"{clip.meta.key}.tar", write)
    marker = StagedMarker(
        key=clip.meta.key,
        split=clip.meta.split,
        scene_sha256=clip.meta.scene_sha256,
        members=tuple(entries),
        payload_size=payload_size,
        sha256=digest.hexdigest(),
        record=dict(record),
    )
    write_atomic(folder / f"{clip.meta.key}.json", canonical_json(marker.model_dump(mode="json")))


def read_staged(folder: Path) -> dict[str, StagedClip]:
    """The finished clips of a staging folder by key, sorted.

    A clip without marker, or whose tar is not as long as its marker says, is not finished.

    Raises:
        UserError: If a marker is invalid.
    """
    staged = {}
    for path in sorted(folder.glob("*.json")):
        clip = StagedClip(folder, load_record(path, StagedMarker))
        payload_size = clip.marker.payload_size
        expected_size = payload_size + len(_end_of_archive(payload_size))
        if clip.tar_path.exists() and clip.tar_path.stat().st_size == expected_size:
            staged[clip.key] = clip
    return staged


def publish_shard(corpus: Path, name: str, staged: Sequence[StagedClip], *, spec_sha256: str) -> None:
    """Pack staged clips into a shard, index them, commit the shard, remove the staged files, in this order.

    Interrupted anywhere, it can be called again with the same arguments as long as the commit marker is
    not there. One process at a time may publish into a corpus.

    Args:
        corpus: Folder of the corpus, made if missing.
        name: Name of the shard, ``<split>-<6 digits>``.
        staged: The clips, in the order they get in the shard; keys differ.
        spec_sha256: Hash of the corpus specification.

    Raises:
        ValueError: If the name is of another form or there are no clips or a key is there twice.
        UserError: If a staged clip is damaged, or the operating system refuses.
    """
    if not SHARD_NAME.fullmatch(name):
        raise ValueError(f"shard name must look like 'train-000000', got '{name}'")
    keys = [clip.key for clip in staged]
    if not keys or len(set(keys)) != len(keys):
        raise ValueError(f"{name}: needs at least one clip and every clip once, got {keys}")
    shard = f"{name}.tar"
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

    write_atomic(corpus / shard, write)
    marker = ShardMarker(
        shard=shard, size=size, sha256=digest.hexdigest(), spec_sha256=spec_sha256, clips=tuple(clips)
    )
    add_to_index(corpus, shard, [_row(shard, clip, entry) for clip, entry in zip(staged, clips, strict=True)])
    write_atomic(marker_path(corpus, name), canonical_json(marker.model_dump(mode="json")))
    # Markers first: a clip whose marker is gone is not staged, whatever else is left of it.
    remove_durably([clip.marker_path for clip in staged])
    remove_durably([clip.tar_path for clip in staged])


def _tar_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)  # mtime, uid and gid 0, mode 0644, no owner names: tarfile's defaults
    member.size = size
    return member.tobuf(tarfile.USTAR_FORMAT)


def _end_of_archive(payload_size: int) -> bytes:
    """Two zero blocks, then zeros up to a full tar record, as tarfile and GNU tar write it."""
    end = payload_size + 2 * TAR_BLOCK
    return bytes(-(-end // tarfile.RECORDSIZE) * tarfile.RECORDSIZE - payload_size)


def _entry_at(clip: StagedClip, offset: int) -> ClipEntry:
    """The entry of a staged clip whose payload starts at ``offset`` of a shard."""
    marker = clip.marker
    members = tuple(member.model_copy(update={"offset": member.offset + offset}) for member in marker.members)
    return ClipEntry(key=marker.key, split=marker.split, scene_sha256=marker.scene_sha256, members=members)


def _verified_payload(clip: StagedClip) -> Iterator[bytes]:
    """The bytes of a staged clip up to its end of archive; raises after them if they have changed."""
    digest = hashlib.sha256()
    remaining = clip.marker.payload_size
    with clip.tar_path.open("rb") as file:
        while chunk := file.read(min(_COPY_CHUNK, remaining)):
            digest.update(chunk)
            remaining -= len(chunk)
            yield chunk
        digest.update(file.read())
    if digest.hexdigest() != clip.marker.sha256:
        raise UserError(
            f"{clip.tar_path}: has changed since it was staged. Remove {clip.marker_path} to render it again."
        )


def _row(shard: str, clip: StagedClip, entry: ClipEntry) -> dict[str, Any]:
    """The index row of a clip about to be published, from its staged metadata."""
    (content,) = read_ranges(clip.tar_path, [clip.marker.members[0]])
    return index_row(shard, entry, decode_meta(content), clip.marker.record)
