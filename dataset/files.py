"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from focuspull.dataset.errors import UserError

TEMPORARY_PREFIX = ".tmp-"
"""Start of the name of a file still being written; one that stays behind belongs to a killed process."""

_REMEDIES = {
    errno.ENOSPC: "Free some space, or choose another disk",
    errno.EDQUOT: "Free some space, or choose another disk",
    errno.EACCES: "Choose a folder you may write to",
    errno.EPERM: "Choose a folder you may write to",
    errno.EROFS: "Choose a folder you may write to",
    errno.ENOTDIR: "Choose a path whose parents are folders",
    errno.EEXIST: "Choose a path whose parents are folders",
    errno.EISDIR: "Choose a path that is not a folder",
}


def write_atomic(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file durably: under its final name there is the old file or the whole new one, never a part.

    Args:
        path: The final name; missing parent folders are made.
        content: The bytes, or a function that writes them to an open file (which can seek).

    Raises:
        UserError: If the operating system refuses (no space, no permission, ...); what ``content`` itself
            raises, other than OSError, passes through.
    """
    with staged(path) as temporary, temporary.open("xb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


@contextmanager
def staged(path: Path) -> Generator[Path]:
    """A new name in the same folder to write a file under, which then replaces what is at ``path``.

    Missing parent folders are made. After the block the bytes are synced and renamed over ``path``, and the
    rename is synced too. If anything fails, in the block or after it, the temporary file is gone and what
    was at ``path`` is still there.

    Raises:
        UserError: If the operating system refuses (no space, no permission, ...); what the block raises,
            other than OSError, passes through.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Check the disk, then try again")
        # What failed may be another file, such as one that the block copies from.
        culprit = "" if error.filename in (None, str(temporary), str(path)) else f" ({error.filename})"
        raise UserError(f"{path}: cannot be written: {error.strerror}{culprit}. {remedy}.") from error


def create_atomic(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet, durably and whole; of several who try at once, one succeeds.

    Returns:
        Whether it was written; False if there is one already.

    Raises:
        UserError: If the operating system refuses.
    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}"
    write_atomic(temporary, content)
    try:
        # Unlike a rename, a link does not replace what is there.
        os.link(temporary, path)
        _sync(path.parent)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system without links
            return _create_exclusively(path, content)
        remedy = _REMEDIES.get(error.errno or 0, "Check the disk, then try again")
        raise UserError(f"{path}: cannot be written: {error.strerror}. {remedy}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_exclusively(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
            os.fsync(file.fileno())
    except FileExistsError:
        return False
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "Check the disk, then try again")
        raise UserError(f"{path}: cannot be written: {error.strerror}. {remedy}.") from error
    return True


def remove_durably(paths: list[Path]) -> None:
    """Remove files, those that are still there, so that they stay removed after a power cut.

    Raises:
        UserError: If the operating system refuses.
    """
    try:
        existing = [path for path in paths if path.exists()]
        for path in existing:
            path.unlink()
        for folder in {path.parent for path in existing}:
            _sync(folder)
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be removed: {error.strerror}. Remove it by hand."
        ) from error


def _sync(path: Path) -> None:
    """Make the bytes of a file, or the renames in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
