"""Commit markers and reading by byte range.

A shard ``train-000000.tar`` counts only with its marker ``train-000000.json``, which is written last and
holds name, offset, size and SHA-256 of every member. With it a reader fetches single frames without
parsing the tar. Offsets count from the start of the file to the member's content, past its tar header.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from focuspull.dataset.clip import FrozenModel, Name, Sha256, first_problem
from focuspull.dataset.errors import UserError
from focuspull.dataset.storage import Folder

TAR_BLOCK = 512
MAX_MEMBER_BYTES = 1 << 28
"""Of one member: more than an image of `codec.MAX_PIXELS` takes. A marker that declares more is refused."""
MAX_MARKER_BYTES = 1 << 28
RecordT = TypeVar("RecordT", bound=FrozenModel)
SHARD_NAME = re.compile(r"[A-Za-z0-9_-]+-\d{6,}")
"""Shards are named ``<split>-<number>``; other JSON files of a corpus (``corpus.json``) are not markers."""


class MemberEntry(FrozenModel):
    """Where one member's content lies: name without the key, byte range, SHA-256 of the content."""

    name: str
    offset: Annotated[int, Field(ge=TAR_BLOCK)]
    size: Annotated[int, Field(ge=0, le=MAX_MEMBER_BYTES)]
    sha256: Sha256

    @property
    def end(self) -> int:
        """First byte after the member's last tar block."""
        return self.offset + -(-self.size // TAR_BLOCK) * TAR_BLOCK


class ClipEntry(FrozenModel):
    """One clip of a shard; the members are in file order."""

    key: Name
    split: Name
    scene_sha256: Sha256
    members: tuple[MemberEntry, ...] = Field(min_length=1)

    @property
    def offset(self) -> int:
        """First byte of the clip in the shard, the tar header of its first member."""
        return self.members[0].offset - TAR_BLOCK

    @property
    def size(self) -> int:
        """Bytes of the clip in the shard, tar headers and padding included."""
        return self.members[-1].end - self.offset

    @property
    def members_sha256(self) -> str:
        """SHA-256 over the members' hashes (as raw bytes) in order: equal for clips of equal content."""
        return hashlib.sha256(b"".join(bytes.fromhex(member.sha256) for member in self.members)).hexdigest()


class ShardMarker(FrozenModel):
    """The commit marker of a shard; its bytes depend on the clips alone.

    Args:
        format: Changes when an old reader would misread a new shard.
        shard: File name of the shard.
        size: Bytes of the whole file.
        sha256: Hash of the whole file.
        spec_sha256: Hash of the corpus specification the clips come from.
        clips: The clips in file order.
    """

    format: Literal["focuspull-shard-1"] = "focuspull-shard-1"
    shard: str = Field(pattern=rf"^{SHARD_NAME.pattern}\.tar$")
    size: int = Field(gt=0)
    sha256: Sha256
    spec_sha256: Sha256
    clips: tuple[ClipEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _keys_are_unique(self) -> ShardMarker:
        keys = [clip.key for clip in self.clips]
        if len(set(keys)) != len(keys):
            raise ValueError(f"keys must be unique, got {keys}")
        return self

    @property
    def name(self) -> str:
        """Name of the shard without suffix, for example ``train-000000``."""
        return self.shard.removesuffix(".tar")

    def clip(self, key: str) -> ClipEntry:
        """The entry of one clip.

        Raises:
            ValueError: If the shard has no such clip.
        """
        for entry in self.clips:
            if entry.key == key:
                return entry
        raise ValueError(f"{self.shard}: has no clip '{key}'")


class StagedMarker(ClipEntry):
    """The marker of a finished clip that waits to be packed; the clip is a tar of its own.

    Args:
        format: Changes when an old reader would misread a new staged clip.
        payload_size: Bytes before the end-of-archive blocks.
        sha256: Hash of the whole staged tar.
        record: Facts for the index alone (``render_seconds``, ``render_cpu_seconds``); they differ from run
            to run and so never reach the shard or its marker.
    """

    format: Literal["focuspull-staged-1"] = "focuspull-staged-1"
    payload_size: int = Field(gt=0)
    sha256: Sha256
    record: dict[str, Any]


def marker_path(corpus: Path, name: str) -> Path:
    """Where the commit marker of shard ``name`` lies."""
    return corpus / f"{name}.json"


def committed_names(corpus: Path | Folder | Iterable[str]) -> list[str]:
    """Names of all shards with a commit marker, sorted; reads no marker.

    Args:
        corpus: The folder, or the names of the files in it.
    """
    names = Folder.of(corpus).sizes() if isinstance(corpus, (Path, Folder)) else corpus
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return sorted(stem for stem in stems if SHARD_NAME.fullmatch(stem))


def read_marker(corpus: Path | Folder, name: str) -> ShardMarker:
    """The commit marker of one shard.

    Raises:
        UserError: If it is unreadable, invalid, or names another shard.
    """
    folder = Folder.of(corpus)
    path = folder.path(f"{name}.json")
    marker = parse_record(folder.read(f"{name}.json", limit=MAX_MARKER_BYTES), path, ShardMarker)
    if marker.name != name:
        raise UserError(
            f"{path}: is the marker of {marker.shard}, not of {name}.tar. Restore the file's name."
        )
    return marker


def read_markers(corpus: Path) -> list[ShardMarker]:
    """The commit markers of a corpus, sorted by shard name.

    Raises:
        UserError: If one is unreadable or invalid.
    """
    return [read_marker(corpus, name) for name in committed_names(corpus)]


def read_members(
    corpus: Path | Folder, marker: ShardMarker, key: str, names: Iterable[str] | None = None
) -> dict[str, bytes]:
    """Read members of one clip by their byte ranges; nothing else of the shard is read.

    Args:
        corpus: Folder of the corpus.
        marker: The shard's marker.
        key: The clip.
        names: Member names without the key; None for all.

    Returns:
        Name to content, in the order asked for. The hashes are not checked here (`focuspull.dataset.check`).

    Raises:
        ValueError: If the clip or a member is not in the marker.
        UserError: If the shard cannot be read, or ends before a member does.
    """
    entries = {entry.name: entry for entry in marker.clip(key).members}
    wanted = list(entries) if names is None else list(names)
    if unknown := [name for name in wanted if name not in entries]:
        raise ValueError(f"{marker.shard}, {key}: has no member '{unknown[0]}'")
    ranges = [(entry.offset, entry.offset + entry.size) for entry in (entries[name] for name in wanted)]
    contents = Folder.of(corpus).read_ranges(marker.shard, ranges)
    return {name: bytes(content) for name, content in zip(wanted, contents, strict=True)}


def parse_record(content: bytes, path: Path | str, kind: type[RecordT]) -> RecordT:
    """A stored JSON record from its bytes; ``path`` is for the message.

    Raises:
        UserError: If it is invalid; one line with the path and the first wrong field.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{path}: is not a valid marker: {first_problem(error)}") from error
