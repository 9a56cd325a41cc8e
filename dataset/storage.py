"""Files of a corpus by name and byte range, on a local disk or wherever fsspec reaches (s3://, gs://, https://).

Reads only. What is read is bounded by what is asked for, and a file shorter than that is an error, never a
shorter answer. Threads may share a `Folder`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from focuspull.dataset.errors import UserError

ValueT = TypeVar("ValueT")

NUM_TRIES = 4
"""Attempts at a remote read: a server that is overloaded for seconds should not end a training run."""
FIRST_PAUSE_S = 0.5
"""Pause after the first failed attempt; each further one is twice as long."""
MERGED_GAP = 1 << 16
"""Ranges this close are read as one: between two frames of a stream lie a tar header and padding."""


class Folder:
    """A folder of files that are addressed by name.

    Args:
        address: A local path, or a URL of a protocol that fsspec knows.

    Raises:
        UserError: If nothing here knows the protocol, or its package is not installed.
    """

    def __init__(self, address: str | Path) -> None:
        self.address = str(address).rstrip("/") or "/"
        try:
            filesystem, path = url_to_fs(self.address)
        except ImportError as error:
            raise UserError(
                f"{self.address}: {error}. Install it with: pip install 'focuspull[remote]'"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.address}: {error}. Give a folder, s3://, gs:// or https://.") from error
        self._filesystem: Any = filesystem
        self._path = str(path).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether the files lie on this machine's disks."""
        return get_protocol(self.address) in ("file", "local")

    def path(self, name: str) -> str:
        """Address of one file, for messages."""
        return f"{self.address}/{name}"

    def names(self) -> set[str] | None:
        """Names of what lies in the folder; None where that cannot be asked (most https servers).

        Raises:
            UserError: If there is no such folder, or the storage refuses.
        """
        if get_protocol(self.address) in ("http", "https"):
            return None
        found = self._try(self._path, lambda: self._filesystem.ls(self._path, detail=False))
        return {PurePosixPath(str(name)).name for name in found}

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            UserError: If there is no such file, or the storage refuses.
        """
        return int(self._try(self.path(name), lambda: self._filesystem.size(f"{self._path}/{name}")) or 0)

    def read(self, name: str, *, limit: int) -> bytes:
        """A whole file.

        Args:
            name: Of the file.
            limit: Bytes it may have at most.

        Raises:
            UserError: If it is not there, larger, or the storage refuses.
        """
        if (size := self.size(name)) > limit:
            raise UserError(f"{self.path(name)}: has {size} bytes, more than {limit}. It is not one of ours.")
        return bytes(self.read_ranges(name, [(0, size)])[0]) if size else b""

    def read_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Byte ranges ``(start, end)`` of one file, in the order asked for; neighbours are read together.

        Raises:
            UserError: If the file is not there, ends before a range does, or the storage refuses.
        """
        path = f"{self._path}/{name}"
        merged = merge_ranges(ranges)
        starts, ends = [start for start, _ in merged], [end for _, end in merged]
        contents = self._try(
            self.path(name),
            lambda: self._filesystem.cat_ranges([path] * len(merged), starts, ends, on_error="raise"),
        )
        views: dict[tuple[int, int], memoryview] = {}
        for (start, end), content in zip(merged, contents, strict=True):
            if len(content) != end - start:
                raise UserError(
                    f"{self.path(name)}: is truncated, or not served by byte ranges: {end - start} bytes at "
                    f"{start} were asked for, {len(content)} came. Copy it again."
                )
            views[start, end] = memoryview(content)
        return [_part(views, start, end) for start, end in ranges]

    def _try(self, path: str, read: Callable[[], ValueT]) -> ValueT:
        pause = FIRST_PAUSE_S
        for attempt in range(1, NUM_TRIES + 1):
            try:
                return read()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
                raise UserError(f"{path}: cannot be read: {_reason(error)}.") from error
            except Exception as error:
                # What a client of an object store raises on a network error is its own business.
                if self.is_local or attempt == NUM_TRIES:
                    raise UserError(f"{path}: cannot be read: {_reason(error)}.") from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError


def merge_ranges(ranges: Sequence[tuple[int, int]], *, gap: int = MERGED_GAP) -> list[tuple[int, int]]:
    """Ranges ``(start, end)`` that cover the given ones, sorted; those at most ``gap`` apart become one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _part(views: dict[tuple[int, int], memoryview], start: int, end: int) -> memoryview:
    for (first, last), view in views.items():
        if first <= start and end <= last:
            return view[start - first : end - first]
    raise AssertionError


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0]
