"""Files of a corpus by name and byte range, on a local disk or wherever fsspec reaches (s3://, gs://, https://).

What is read is bounded by what is asked for, and a file shorter than that is an error, never a shorter
answer. What is written appears whole under its name or not at all: on a local disk by renaming
(`focuspull.dataset.files`), in an object store because a put is atomic there; its size is asked for
afterwards, so that a store that lost a part of it does not go unnoticed. Threads may share a `Folder`.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from focuspull.dataset.errors import UserError
from focuspull.dataset.files import create_atomic, remove_durably, write_atomic

ValueT = TypeVar("ValueT")

NUM_TRIES = 4
"""Attempts at a remote file, unless a folder is given more patience."""
FIRST_PAUSE_S = 0.5
"""Pause after the first failed attempt; each further one is twice as long."""
MAX_PAUSE_S = 30.0
# Tries are counted here; botocore's own five of a minute each would hold a stopped run for that long.
_S3 = {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 1}}
# What was listed a moment ago may have been replaced by another machine since.
_FRESH = {"use_listings_cache": False}
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {**_FRESH, "config_kwargs": _S3},
    "s3a": {**_FRESH, "config_kwargs": _S3},
    "gs": _FRESH,
    "gcs": _FRESH,
}
MERGED_GAP = 1 << 16
"""Ranges this close are read as one: between two frames of a stream lie a tar header and padding."""


class Folder:
    """A folder of files that are addressed by name.

    Args:
        address: A local path, or a URL of a protocol that fsspec knows.
        tries: Attempts at a remote file before it is given up; each waits twice as long as the one before.
        sleep: How to wait; may raise.

    Raises:
        UserError: If nothing here knows the protocol, or its package is not installed.
    """

    def __init__(
        self, address: str | Path, *, tries: int = NUM_TRIES, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.address = str(address).rstrip("/") or "/"
        self.tries = tries
        self.sleep = sleep
        try:
            filesystem, path = url_to_fs(self.address, **_OPTIONS.get(get_protocol(self.address), {}))
        except ImportError as error:
            raise UserError(
                f"{self.address}: {error}. Install it with: pip install 'focuspull[remote]'"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.address}: {error}. Give a folder, s3://, gs:// or https://.") from error
        self._filesystem: Any = filesystem
        if get_protocol(self.address) in ("s3", "s3a"):
            filesystem.retries = 1  # s3fs' own five would multiply with ours
        self._path = str(path).rstrip("/")

    @classmethod
    def of(cls, place: Folder | Path | str) -> Folder:
        """The folder itself, or the one at an address."""
        return place if isinstance(place, Folder) else cls(place)

    def below(self, name: str) -> Folder:
        """A folder in this one; it need not exist."""
        return Folder(f"{self.address}/{name}", tries=self.tries, sleep=self.sleep)

    @property
    def is_local(self) -> bool:
        """Whether the files lie on this machine's disks."""
        return get_protocol(self.address) in ("file", "local")

    @property
    def local(self) -> Path:
        """Path of a local folder."""
        assert self.is_local
        return Path(self._path)

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
        found = self._try(self.address, lambda: self._filesystem.ls(self._path, detail=False))
        return {PurePosixPath(str(name)).name for name in found}

    def sizes(self) -> dict[str, int]:
        """Names and bytes of the files in the folder, sorted, without those of folders in it.

        There are none in a folder that does not exist.

        Raises:
            UserError: If the storage refuses.
        """

        def list_files() -> list[dict[str, Any]]:
            try:
                return self._filesystem.ls(self._path, detail=True, refresh=True)
            except (FileNotFoundError, NotADirectoryError):
                return []

        if self.is_local:  # fsspec asks for much more of each file
            try:
                with os.scandir(self.local) as entries:
                    sizes = {entry.name: _size(entry) for entry in entries if entry.is_file()}
                return {name: size for name, size in sorted(sizes.items()) if size is not None}
            except (FileNotFoundError, NotADirectoryError):
                return {}
            except OSError as error:
                raise UserError(f"{self.address}: cannot be read: {_reason(error)}.") from error
        found = self._try(self.address, list_files)
        files = {
            PurePosixPath(item["name"]).name: int(item["size"]) for item in found if item["type"] == "file"
        }
        return dict(sorted(files.items()))

    def find(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there.

        Raises:
            UserError: If the storage refuses.
        """

        def look() -> int | None:
            try:
                self._filesystem.invalidate_cache(self._path)
                return int(self._filesystem.size(f"{self._path}/{name}") or 0)
            except FileNotFoundError:
                return None

        return self._try(self.path(name), look)

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
        # Whole, whatever its size is by now: it may have been replaced since.
        content = self._try(self.path(name), lambda: bytes(self._filesystem.cat_file(f"{self._path}/{name}")))
        if len(content) < size and get_protocol(self.address) in ("http", "https"):
            raise UserError(f"{self.path(name)}: {len(content)} of {size} bytes came. Try again.")
        return content

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
                what = "is truncated" if self.is_local else "is truncated, or not served by byte ranges"
                raise UserError(
                    f"{self.path(name)}: {what}: {end - start} bytes at {start} were asked for, "
                    f"{len(content)} came. Render it again, or copy it again."
                )
            views[start, end] = memoryview(content)
        return [_part(views, start, end) for start, end in ranges]

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Whole small files by name, those that are there; several at a time where the storage is remote.

        Raises:
            UserError: If the storage refuses.
        """
        paths = {f"{self._path}/{name}": name for name in names}

        def read() -> dict[str, bytes]:
            # With a list of one path some file systems answer with the content alone.
            contents = self._filesystem.cat_ranges(list(paths), 0, None, on_error="return") if paths else []
            for content in contents:
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
            found = zip(paths.values(), contents, strict=True)
            return {name: content for name, content in found if isinstance(content, bytes)}

        return self._try(self.address, read)

    def write(self, name: str, content: bytes | Callable[[BinaryIO], object]) -> None:
        """Write a file, or replace it: under its name there is the old one or the whole new one.

        Args:
            name: Of the file; the folder is made if missing.
            content: The bytes, or a function that writes them to an open file; called once.

        Raises:
            UserError: If the storage refuses; what ``content`` itself raises, other than OSError, passes.
        """
        if self.is_local:
            write_atomic(self.local / name, content)
            return
        path = f"{self._path}/{name}"
        if isinstance(content, bytes):
            size = len(content)
            self._put(name, size, lambda: self._filesystem.pipe_file(path, content))
            return
        # Through a file, since an upload may have to start over, and a shard is larger than memory may be.
        with tempfile.NamedTemporaryFile(prefix="focuspull-") as file:
            try:
                content(cast(BinaryIO, file))
                file.flush()
            except OSError as error:
                reason = f"{file.name}: {_reason(error)}. Free some space there."
                raise UserError(f"{self.path(name)}: cannot be written: {reason}") from error
            size = file.tell()
            self._put(name, size, lambda: self._filesystem.put_file(file.name, path))

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that is not there yet; of several who try at once, one succeeds.

        Returns:
            Whether it was written; False if there is one already, with other content.

        Raises:
            UserError: If the storage refuses, or cannot tell (it must know conditional puts).
        """
        if self.is_local:
            return create_atomic(self.local / name, content)
        path = f"{self._path}/{name}"

        def put() -> bool:
            try:
                self._filesystem.pipe_file(path, content, mode="create")
            except FileExistsError:
                # An earlier attempt whose answer was lost is a success.
                return bytes(self._filesystem.cat_file(path)) == content
            except OSError as error:
                if error.errno == errno.EBUSY:  # 409: somebody else's conditional put is under way
                    raise ConnectionError(str(error)) from error
                raise
            return True

        if not self._try(self.path(name), put, "written"):
            return False
        if self.find(name) != len(content):  # a part of it was lost on the way; it is ours to write again
            self.write(name, content)
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, those that are still there, for good.

        Raises:
            UserError: If the storage refuses.
        """
        names = list(names)
        if self.is_local:
            remove_durably([self.local / name for name in names])
            return

        def remove() -> None:
            for name in names:
                try:
                    self._filesystem.rm_file(f"{self._path}/{name}")
                except FileNotFoundError:
                    continue

        self._try(self.address, remove, "removed")

    def _put(self, name: str, size: int, put: Callable[[], object]) -> None:
        def put_and_look() -> None:
            put()
            self._filesystem.invalidate_cache(self._path)
            if (there := int(self._filesystem.size(f"{self._path}/{name}") or 0)) != size:
                raise ConnectionError(f"{size} bytes were sent, {there} arrived")

        self._try(self.path(name), put_and_look, "written")

    def _try(self, path: str, act: Callable[[], ValueT], what: str = "read") -> ValueT:
        pause = FIRST_PAUSE_S
        for attempt in range(1, self.tries + 1):
            try:
                return act()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
                raise UserError(f"{path}: cannot be {what}: {_reason(error)}.") from error
            except Exception as error:
                # What a client of an object store raises on a network error is its own business.
                if self.is_local or attempt == self.tries:
                    raise UserError(f"{path}: cannot be {what}: {_reason(error)}.") from error
            self.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_S)
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


def _size(entry: os.DirEntry[str]) -> int | None:
    """Bytes of a listed file; None if it was removed since."""
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return None


def _part(views: dict[tuple[int, int], memoryview], start: int, end: int) -> memoryview:
    for (first, last), view in views.items():
        if first <= start and end <= last:
            return view[start - first : end - first]
    raise AssertionError


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0].rstrip(".")
