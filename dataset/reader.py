"""Windows of clips, read from shards by byte range: only the frames and streams that are asked for.

What to read comes from the index (a folder) or from the commit markers (tars named one by one); where it
lies from the markers, which are fetched when a clip of their shard is first needed and kept for a while.
Every content is compared with its SHA-256 when it is first read (PNG's own checksums guard it from then on),
every PNG header with the clip's size before it is decoded, and only members that a clip must have are ever
looked at: nothing of a shard is executed or unpickled, and nothing can ask for more memory than one of our
clips may have.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import codec
from focuspull.dataset.clip import frame_member, member_names, stream_names
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import INDEX_NAME, MAX_INDEX_BYTES, read_index_bytes
from focuspull.dataset.markers import MAX_MARKER_BYTES, SHARD_NAME, ClipEntry, ShardMarker, parse_record
from focuspull.dataset.storage import Folder
from focuspull.dataset.where import parse_where

MARKERS_KEPT = 192
"""Markers in memory at most: three groups of `focuspull.dataset.order`, about 0.4 MB for 50 clips each."""
METAS_KEPT = 4096
_SHA256_BYTES = 32


@dataclass(frozen=True)
class ClipRow:
    """A clip that can be read.

    Args:
        key: Its name.
        split: ``train``, ``val``, ...
        shard: File name of its shard.
        num_frames: T.
        num_targets: P.
        members_sha256: Hash over the hashes of its members.
        index: Its row of the index; empty if there was none to read.
    """

    key: str
    split: str
    shard: str
    num_frames: int
    num_targets: int
    members_sha256: str
    index: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Sample:
    """A decoded window of one target of one clip; T frames, in the pixels of the clip.

    Args:
        key: Name of the clip.
        target: Number of the target.
        frames: Frame numbers ``[T]``.
        aif: ``[T, H, W, 3]`` uint8 sRGB.
        bokeh: Likewise.
        disparity: ``[T, H, W]`` float32 in [0, 1], 1 is nearest.
        instance: ``[T, H, W]`` uint16, 0 is none; None if not asked for.
        k: ``[T]`` float32, blur radius in pixels of this width per unit of disparity.
        focus_disparity: ``[T]`` float32.
    """

    key: str
    target: int
    frames: tuple[int, ...]
    aif: NDArray[np.uint8]
    bokeh: NDArray[np.uint8]
    disparity: NDArray[np.float32]
    instance: NDArray[np.uint16] | None
    k: NDArray[np.float32]
    focus_disparity: NDArray[np.float32]


@dataclass(frozen=True)
class _Layout:
    """Where the members of a clip lie, in the order of `member_names`; small, since thousands are kept."""

    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    sha256: bytes
    proven: bytearray
    """Not 0 for each member whose hash was compared."""


@dataclass(frozen=True)
class _Meta:
    """What of a clip's metadata a window needs; K and focus are ``[P, T]``."""

    width: int
    height: int
    k: NDArray[np.float32]
    focus_disparity: NDArray[np.float32]


class CorpusReader:
    """The clips of a corpus, and windows of them; threads may share it.

    Args:
        source: Folder of a corpus; or tars of it, as one pattern (``/data/c/train-*.tar``) or a list, all in
            one folder. Local, or an address that fsspec knows (``s3://``, ``gs://``, ``https://``; the last
            cannot list, so it takes a folder with an index, or tars one by one).
        split: Only clips of this split; None for all.
        select: Keeps the clips for which it returns True; gets the row of the index, or for tars named one by
            one a dictionary of the fields of `ClipRow`.
        where: Keeps the clips that fulfil a condition on the columns of the index, such as ``max_radius_px >
            8``, see `focuspull.dataset.where`.

    Raises:
        UserError: If it cannot be read, is not a corpus, or no clip is left.
    """

    def __init__(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        split: str | None = None,
        select: Callable[[Mapping[str, Any]], bool] | None = None,
        where: str = "",
    ) -> None:
        tars = _tars(source)
        if tars is None:
            assert isinstance(source, (str, Path))
            self.folder = Folder(source)
            rows = self._indexed()
        else:
            folders = {str(tar).rpartition("/")[0] or "." for tar in tars}
            if len(folders) != 1:
                raise UserError(f"shards must lie in one folder, got {sorted(folders)}. Read them apart.")
            self.folder = Folder(folders.pop())
            rows = [
                row
                for tar in sorted({str(tar).rpartition("/")[2] for tar in tars})
                for row in self._marked(tar)
            ]
        self._lock = Lock()
        self._markers: OrderedDict[str, dict[str, _Layout]] = OrderedDict()
        self._metas: OrderedDict[str, _Meta] = OrderedDict()
        self._by_shard: dict[str, list[ClipRow]] = {}
        for row in rows:
            self._by_shard.setdefault(row.shard, []).append(row)
        splits = sorted({row.split for row in rows})
        if split is not None:
            rows = [row for row in rows if row.split == split]
        if select is not None:
            rows = [row for row in rows if select(row.index or vars(row))]
        if where:
            if tars is not None:
                raise UserError(f"where '{where}': tars have no index to ask. Give the corpus' folder.")
            fulfils = parse_where(where)
            rows = [row for row in rows if fulfils(row.index)]
        if not rows:
            wanted = (f" of the split '{split}'" if split else "") + (f" with {where}" if where else "")
            raise UserError(
                f"{self.folder.address}: has no clip{wanted} to read; its splits are {', '.join(splits)}."
            )
        self.rows: list[ClipRow] = rows
        """The clips, sorted by shard and key."""

    def sample(self, row: ClipRow, *, target: int, frames: Sequence[int], instance: bool = False) -> Sample:
        """Read and decode a window.

        Args:
            row: One of `rows`.
            target: Number of the target.
            frames: Frame numbers, any.
            instance: Whether instance ids are wanted.

        Raises:
            UserError: If anything of it is missing, damaged, or not what one of our clips may hold.
            ValueError: If the clip has no such target or frame.
        """
        if not 0 <= target < row.num_targets or not all(0 <= f < row.num_frames for f in frames):
            raise ValueError(
                f"{row.key}: has targets 0 to {row.num_targets - 1} and frames 0 to {row.num_frames - 1}, "
                f"asked for target {target} and frames {list(frames)}"
            )
        layout = self._layout(row)
        meta = self._meta(row, layout)
        streams = ["aif", f"bokeh{target}", "disparity", *(["instance"] if instance else [])]
        order = stream_names(row.num_targets)
        numbers = [1 + order.index(stream) * row.num_frames + frame for stream in streams for frame in frames]
        contents = self._contents(row, layout, numbers)
        size = (meta.width, meta.height)

        shape = (len(frames), meta.height, meta.width)
        # Planes behind the usual order of axes: networks take planes, and decoding straight there is free.
        aif, bokeh = (np.empty((shape[0], 3, *shape[1:]), np.uint8).transpose(0, 2, 3, 1) for _ in range(2))
        disparity = np.empty(shape, np.float32)
        ids = np.empty(shape, np.uint16) if instance else None
        decoders = (codec.decode_rgb, codec.decode_rgb, codec.decode_disparity, codec.decode_instance)
        for i, (decode, arrays) in enumerate(zip(decoders, (aif, bokeh, disparity, ids), strict=True)):
            for j, array in enumerate(() if arrays is None else arrays):
                try:
                    decode(contents[i * len(frames) + j], size=size, out=array)
                except ValueError as error:
                    member = frame_member(streams[i], frames[j], row.num_frames)
                    raise UserError(f"{self._where(row)}: {member}: {error}.") from error
        return Sample(
            key=row.key,
            target=target,
            frames=tuple(frames),
            aif=aif,
            bokeh=bokeh,
            disparity=disparity,
            instance=ids,
            k=meta.k[target, list(frames)],
            focus_disparity=meta.focus_disparity[target, list(frames)],
        )

    def _where(self, row: ClipRow) -> str:
        return f"{self.folder.path(row.shard)}, {row.key}"

    # --- What there is

    def _indexed(self) -> list[ClipRow]:
        path = self.folder.path(INDEX_NAME)
        names = self.folder.names()
        if names is not None and INDEX_NAME not in names:
            raise UserError(
                f"{path}: is not there. Give the folder of a corpus; if this is one, rebuild its index with: "
                f"focuspull-dataset index {self.folder.address}"
            )
        rows = read_index_bytes(self.folder.read(INDEX_NAME, limit=MAX_INDEX_BYTES), path)
        shards = {row["shard"] for row in rows}
        if names is not None:
            # A shard is indexed just before it is committed, so a row alone does not prove one.
            committed = {
                f"{n[:-5]}.tar" for n in names if n.endswith(".json") and SHARD_NAME.fullmatch(n[:-5])
            }
            if lost := sorted(committed - shards):
                raise UserError(
                    f"{path}: lacks the clips of {lost[0]}. Rebuild it with: "
                    f"focuspull-dataset index {self.folder.address}"
                )
            rows = [row for row in rows if row["shard"] in committed]
        for row in rows:
            if not SHARD_NAME.fullmatch(str(row["shard"]).removesuffix(".tar")):
                raise UserError(f"{path}, {row['key']}: '{row['shard']}' is not the name of a shard.")
        found = [
            ClipRow(
                row["key"],
                row["split"],
                row["shard"],
                row["num_frames"],
                row["num_targets"],
                row["members_sha256"],
                row,
            )
            for row in rows
        ]
        return sorted(found, key=lambda row: (row.shard, row.key))

    def _marked(self, shard: str) -> list[ClipRow]:
        marker = self._marker(shard)
        rows = []
        for clip in marker.clips:
            num_targets, num_frames = self._shape(shard, clip)
            rows.append(ClipRow(clip.key, clip.split, shard, num_frames, num_targets, clip.members_sha256))
        return sorted(rows, key=lambda row: row.key)

    # --- Where it lies

    def _marker(self, shard: str) -> ShardMarker:
        name = shard.removesuffix(".tar")
        if not (shard.endswith(".tar") and SHARD_NAME.fullmatch(name)):
            raise UserError(f"{self.folder.path(shard)}: is not the name of a shard, <split>-<6 digits>.tar.")
        path = self.folder.path(f"{name}.json")
        content = self.folder.read(f"{name}.json", limit=MAX_MARKER_BYTES)
        marker = parse_record(content, path, ShardMarker)
        if marker.shard != shard:
            raise UserError(f"{path}: is the marker of {marker.shard}, not of {shard}. Restore its name.")
        return marker

    def _shape(self, shard: str, clip: ClipEntry) -> tuple[int, int]:
        """Targets and frames of a clip, from the names of its members, which must be exactly those."""
        names = [member.name for member in clip.members]
        num_frames = sum(name.startswith("aif.") for name in names)
        num_targets = len({name.partition(".")[0] for name in names if name.startswith("bokeh")})
        if num_frames == 0 or num_targets == 0 or names != member_names(num_targets, num_frames):
            path = self.folder.path(shard.removesuffix(".tar"))
            raise UserError(
                f"{path}.json, {clip.key}: must list the members of a clip in their order. Copy it again."
            )
        return num_targets, num_frames

    def _layout(self, row: ClipRow) -> _Layout:
        # Held while reading: other threads most likely need the same marker.
        with self._lock:
            if row.shard not in self._markers:
                self._markers[row.shard] = self._layouts(row.shard)
                while len(self._markers) > MARKERS_KEPT:
                    self._markers.popitem(last=False)
            self._markers.move_to_end(row.shard)
            return self._markers[row.shard][row.key]

    def _layouts(self, shard: str) -> dict[str, _Layout]:
        marker = self._marker(shard)
        expected = {row.key: row for row in self._by_shard[shard]}
        found = {clip.key: clip for clip in marker.clips}
        remedy = f"Find out what is wrong with: focuspull-dataset check {self.folder.address}"
        if found.keys() != expected.keys():
            raise UserError(
                f"{self.folder.path(shard)}: its clips are not those of {INDEX_NAME}: "
                f"{sorted(found.keys() ^ expected.keys())[:3]}. {remedy}"
            )
        layouts = {}
        for key, clip in found.items():
            row = expected[key]
            targets, frames = self._shape(shard, clip)
            facts = (clip.split, clip.members_sha256, frames, targets)
            if facts != (row.split, row.members_sha256, row.num_frames, row.num_targets):
                raise UserError(
                    f"{self._where(row)}: index and marker disagree on its split, length or content. {remedy}"
                )
            layouts[key] = _Layout(
                np.array([member.offset for member in clip.members]),
                np.array([member.size for member in clip.members]),
                b"".join(bytes.fromhex(member.sha256) for member in clip.members),
                bytearray(len(clip.members)),
            )
        return layouts

    # --- What is in it

    def _contents(self, row: ClipRow, layout: _Layout, numbers: Sequence[int]) -> list[memoryview]:
        ranges = [(int(layout.offsets[n]), int(layout.offsets[n] + layout.sizes[n])) for n in numbers]
        contents = self.folder.read_ranges(row.shard, ranges)
        for number, content in zip(numbers, contents, strict=True):
            if layout.proven[number]:
                continue
            start = number * _SHA256_BYTES
            if hashlib.sha256(content).digest() != layout.sha256[start : start + _SHA256_BYTES]:
                member = member_names(row.num_targets, row.num_frames)[number]
                raise UserError(
                    f"{self._where(row)}: {member}: its bytes do not have the SHA-256 in the marker. "
                    f"Copy or render the shard again."
                )
            layout.proven[number] = 1
        return contents

    def _meta(self, row: ClipRow, layout: _Layout) -> _Meta:
        meta = self._metas.get(row.key)
        if meta is None:
            (content,) = self._contents(row, layout, [0])
            try:
                meta = _window_meta(bytes(content), row)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"{self._where(row)}: json: is not the metadata of a clip: {error}."
                ) from error
            with self._lock:
                self._metas[row.key] = meta
                while len(self._metas) > METAS_KEPT:
                    self._metas.popitem(last=False)
        return meta


def _tars(source: str | Path | Sequence[str | Path]) -> list[str] | None:
    """The tars that are meant; None if it is a folder."""
    if not isinstance(source, (str, Path)):
        if not source:
            raise UserError("no shards were given.")
        return [str(tar) for tar in source]
    text = str(source)
    if text.endswith(".tar") and "*" not in text and "?" not in text:
        return [text]
    if not any(sign in text.rpartition("/")[2] for sign in "*?["):
        return None
    filesystem, path = fsspec.core.url_to_fs(text)
    found = [str(filesystem.unstrip_protocol(name)) for name in filesystem.glob(path)]
    if not found:
        raise UserError(f"{text}: matches no file.")
    return found


def _window_meta(content: bytes, row: ClipRow) -> _Meta:
    """From the ``json`` member; its full validation is `focuspull.dataset.check`'s, this is the hot path."""
    meta = json.loads(content)
    if meta["format"] != "focuspull-clip-1":
        raise ValueError(f"format '{meta['format']}' is unknown; update focuspull")
    if meta["key"] != row.key:
        raise ValueError(f"key is {meta['key']}")
    k, focus = (
        np.array([target[name] for target in meta["targets"]], np.float32)
        for name in ("k", "focus_disparity")
    )
    shape = (row.num_targets, row.num_frames)
    if k.shape != shape or focus.shape != shape or not (np.isfinite(k).all() and np.isfinite(focus).all()):
        raise ValueError(f"k and focus_disparity need {shape[0]} x {shape[1]} finite numbers")
    return _Meta(int(meta["width"]), int(meta["height"]), k, focus)
