"""New corpora of old ones: several in one, or the same clips in other splits.

Pixels are copied byte by byte; of the metadata nothing but key and split changes. A new corpus is a corpus
like any other: it has shards with markers, an index and a ``corpus.json``. In the place of the specification
that was rendered stands how it was made (``operation``, ``arguments``, the ``sources`` with their own
specifications); its hash is the ``spec_sha256``, so `focuspull-render run` refuses to add clips. ``origins``
has for every clip the source, split and key it had, as ``corpus/split/key``.

The new folder appears under its name only when it is complete (`focuspull.dataset.copying.new_folder`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from focuspull.dataset.check import CORPUS_NAME
from focuspull.dataset.clip import Clip, ClipMeta, canonical_json, decode_meta, encode_meta, member_names
from focuspull.dataset.copying import committed_clips, new_folder, proven_members
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.dataset.index import RECORD_COLUMNS, read_index
from focuspull.dataset.markers import ClipEntry, ShardMarker
from focuspull.dataset.scene_files import BUNDLED_PREFIX, scene_files
from focuspull.dataset.shards import publish_shard, read_staged, stage_clip

STAGE_NAME = "stage"
_SPLIT = re.compile(r"[A-Za-z0-9_]{1,64}")
"""Without a dash, which the Hugging Face Hub allows in no split."""


def merge_corpora(corpora: Sequence[Path], out: Path) -> int:
    """Make one corpus of several; every clip keeps its split and gets a new key.

    Keys are numbered through: by split in the order in which the corpora have them first, then by corpus in
    the order given, then by old key. That clips of one corpus' ``test`` share scenes or files with another's
    ``train`` is not looked into here; `focuspull.dataset.audit` reports it, `split_corpus` mends it.

    Args:
        corpora: Folders of two or more corpora.
        out: New folder.

    Returns:
        Number of clips.

    Raises:
        UserError: If two corpora have a clip of the same pixels, clips differ in the number of targets or
            frames, ``out`` is not empty, or a corpus is damaged.
    """
    if len(corpora) < 2:
        raise UserError("merge: needs two corpora or more, got one. Copy a single one with cp -r.")
    sources = _open_all(corpora)
    order: dict[str, int] = {}
    for source in sources:
        for _, clip in source.clips:
            order.setdefault(clip.split, len(order))
    _refuse_mixed_members(sources)
    _refuse_equal_pixels(sources)
    pairs = [(source, marker, clip) for source in sources for marker, clip in source.clips]
    pairs.sort(key=lambda pair: order[pair[2].split])  # stable: within a split by corpus, then by key
    moves = [
        _Move(source, marker, clip, key=f"clip-{number:06d}", split=clip.split)
        for number, (source, marker, clip) in enumerate(pairs)
    ]
    _write_corpus(out, moves, sources, operation="merge", arguments={})
    return len(moves)


def parse_fractions(text: str) -> dict[str, float]:
    """Fractions by split from ``train=0.9,val=0.1``, in this order.

    Raises:
        UserError: If it has another form, a name comes twice, or the sum is not 1.
    """
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            fraction = float(value)
        except ValueError:
            fraction = -1.0
        if not _SPLIT.fullmatch(name) or name in fractions or not 0 < fraction <= 1:
            raise UserError(
                f"--fractions: '{part}' must be a new name of letters and digits, =, and a fraction above 0 "
                "and up to 1. Write for example train=0.9,val=0.1."
            )
        fractions[name] = fraction
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise UserError(f"--fractions: must have the sum 1, '{text}' has {sum(fractions.values()):g}.")
    return fractions


def split_corpus(corpus: Path, out: Path, *, fractions: Mapping[str, float], seed: int) -> dict[str, int]:
    """Make a corpus of the same clips, with their keys, in new splits.

    Clips stay together that share a scene (``scene_sha256``, or the ``world`` in it), the pixels of all
    streams, the all-in-focus video, or a file by its SHA-256; files that come with Blender (``bpy:``) do not
    count, since every family lights its scenes with the same eight. Sets of such clips are taken, the large
    ones first, in the order of a hash of ``seed`` and their scenes, each into the split that is farthest
    below its fraction: nothing depends on keys, shards or what ran before.

    Args:
        corpus: Folder of the corpus.
        out: New folder.
        fractions: Of the clips, by split.
        seed: Of the hash.

    Returns:
        Number of clips by split.

    Raises:
        UserError: If a split would be empty, ``out`` is not empty, or the corpus is damaged.
    """
    (source,) = sources = _open_all([corpus])
    sets = _inseparable(source)
    splits: dict[str, str] = {}
    counts = dict.fromkeys(fractions, 0)
    for keys in sorted(sets, key=lambda keys: (-len(keys), _drawn(seed, keys.values()))):
        split = max(fractions, key=lambda name: fractions[name] * len(source.clips) - counts[name])
        counts[split] += len(keys)
        splits |= dict.fromkeys(keys, split)
    if empty := [name for name, count in counts.items() if count == 0]:
        raise UserError(
            f"--fractions: '{empty[0]}' with {fractions[empty[0]]:g} of {len(source.clips)} clips would be "
            f"empty. There are {len(sets)} sets of clips that share no scene or file with others, the "
            f"largest of {max(map(len, sets))}. Give it more, or add clips."
        )
    order = list(fractions)
    moves = [_Move(source, marker, clip, clip.key, splits[clip.key]) for marker, clip in source.clips]
    moves.sort(key=lambda move: (order.index(move.split), move.key))
    arguments = {"fractions": [[name, fraction] for name, fraction in fractions.items()], "seed": seed}
    _write_corpus(out, moves, sources, operation="split", arguments=arguments)
    return counts


# --- Sources ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A corpus to take clips from; ``records`` has what only its index knows, by key."""

    corpus: Path
    name: str
    document: Mapping[str, Any]
    clips: Sequence[tuple[ShardMarker, ClipEntry]]
    records: Mapping[str, Mapping[str, Any]] = field(repr=False)

    def meta(self, marker: ShardMarker, clip: ClipEntry) -> ClipMeta:
        """The metadata of one clip."""
        (content,) = proven_members(self.corpus, marker, clip, ["json"]).values()
        try:
            return decode_meta(content)
        except ValueError as error:
            raise UserError(f"{self.corpus / marker.shard}, {clip.key}: {error}.") from error

    def origin(self, clip: ClipEntry) -> str:
        """Where a clip was rendered, ``corpus/split/key``, through all corpora that were made here."""
        before = self.document.get("origins", {}).get(clip.key)
        return f"{self.name}/{before or f'{clip.split}/{clip.key}'}"

    def description(self) -> dict[str, Any]:
        """What a corpus made of this one keeps of it."""
        shards = sorted({(marker.shard, marker.sha256) for marker, _ in self.clips})
        content = hashlib.sha256(canonical_json(shards)).hexdigest()
        parts = {part: self.document[part] for part in ("spec", "spec_sha256", "versions")}
        return {"name": self.name, "num_clips": len(self.clips), "shards_sha256": content, **parts}


def _open_all(corpora: Sequence[Path]) -> list[_Source]:
    names: list[str] = []
    for corpus in corpora:
        name = corpus.resolve().name
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return [_open(corpus, name) for corpus, name in zip(corpora, names, strict=True)]


def _open(corpus: Path, name: str) -> _Source:
    clips = committed_clips(corpus)
    path = corpus / CORPUS_NAME
    try:
        document = json.loads(path.read_bytes())
        document = {"spec": None, "versions": None, **document}
        if not isinstance(document["spec_sha256"], str):
            raise TypeError
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Copy the corpus again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is not a JSON object with 'spec_sha256'. Copy the corpus again.") from error
    for marker, _ in clips:
        if marker.spec_sha256 != document["spec_sha256"]:
            raise UserError(
                f"{corpus / marker.shard}: belongs to another spec than {path}. "
                f"Find out more with: focuspull-dataset check {corpus}"
            )
    keys = [clip.key for _, clip in clips]
    if len(set(keys)) != len(keys):
        doubled = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f"{corpus}: {doubled} is in two shards. Remove one of the two.")
    records = {row["key"]: {column: row[column] for column in RECORD_COLUMNS} for row in read_index(corpus)}
    return _Source(corpus, name, document, clips, records)


def _refuse_mixed_members(sources: Sequence[_Source]) -> None:
    """Raise unless all clips have the same members, which readers of WebDataset take for granted."""
    first: tuple[_Source, ClipEntry] | None = None
    for source in sources:
        for _, clip in source.clips:
            first = first or (source, clip)
            if [m.name for m in clip.members] != [m.name for m in first[1].members]:
                raise UserError(
                    f"{source.corpus}, {clip.key}: has {_members_text(clip)}, {first[1].key} of "
                    f"{first[0].corpus} has {_members_text(first[1])}; in one corpus all have the same. "
                    "Keep them apart."
                )


def _members_text(clip: ClipEntry) -> str:
    streams = [member.name.partition(".")[0] for member in clip.members]
    num_targets = len({stream for stream in streams if stream.startswith("bokeh")})
    return f"{num_targets} targets of {streams.count('aif')} frames"


def _refuse_equal_pixels(sources: Sequence[_Source]) -> None:
    seen: dict[str, tuple[_Source, ClipEntry]] = {}
    for source in sources:
        for _, clip in source.clips:
            other, twin = seen.setdefault(_pixels(clip), (source, clip))
            # Twice in one corpus is the audit's to report: nobody could leave one of the two out here.
            if other is not source:
                raise UserError(
                    f"{source.corpus}, {clip.key}: has the same pixels as {twin.key} of {other.corpus}. "
                    "Leave one of the two out."
                )


def _pixels(clip: ClipEntry, stream: str = "") -> str:
    """Identity of the pixels of a clip, or of one stream, whatever its metadata say."""
    parts = [m.sha256 for m in clip.members if m.name != "json" and m.name.startswith(stream)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


# --- Sets of clips that belong together -------------------------------------------------------------


def _inseparable(source: _Source) -> list[dict[str, str]]:
    """The clips in sets that share nothing with each other: key to ``scene_sha256``."""
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while parents[key] != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    owners: dict[str, str] = {}
    for marker, clip in source.clips:
        parents[clip.key] = clip.key
        for identity in _identities(clip, source.meta(marker, clip)):
            parents[root(owners.setdefault(identity, clip.key))] = root(clip.key)
    sets: dict[str, dict[str, str]] = {}
    for _, clip in source.clips:
        sets.setdefault(root(clip.key), {})[clip.key] = clip.scene_sha256
    return list(sets.values())


def _identities(clip: ClipEntry, meta: ClipMeta) -> set[str]:
    """What no two splits may have in common."""
    world = meta.scene.get("world", meta.scene)
    return {
        f"scene {clip.scene_sha256}",
        f"world {hashlib.sha256(canonical_json(world)).hexdigest()}",
        f"pixels {_pixels(clip)}",
        f"aif {_pixels(clip, 'aif.')}",
        *(
            f"file {sha256}"
            for name, sha256 in scene_files(meta.scene)
            if not name.startswith(BUNDLED_PREFIX)
        ),
    }


def _drawn(seed: int, scenes: Iterable[str]) -> str:
    return hashlib.sha256(f"{seed} {' '.join(sorted(scenes))}".encode()).hexdigest()


# --- The new corpus ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Move:
    """One clip, and its key and split in the new corpus."""

    source: _Source
    marker: ShardMarker
    clip: ClipEntry
    key: str
    split: str


def _write_corpus(
    out: Path,
    moves: Sequence[_Move],
    sources: Sequence[_Source],
    *,
    operation: str,
    arguments: Mapping[str, Any],
) -> None:
    """Publish the clips, one in memory, in shards of one split each, as large as the largest there was."""
    spec = {
        "operation": operation,
        "arguments": dict(arguments),
        "sources": [source.description() for source in sources],
    }
    spec_sha256 = hashlib.sha256(canonical_json(spec)).hexdigest()
    document = {
        "format": "focuspull-corpus-1",
        "spec": spec,
        "spec_sha256": spec_sha256,
        "versions": {"focuspull": metadata.version("focuspull")},
        "origins": {move.key: move.source.origin(move.clip) for move in moves},
    }
    clips_per_shard = max(len(move.marker.clips) for move in moves)
    by_split: dict[str, list[_Move]] = {}
    for move in moves:
        by_split.setdefault(move.split, []).append(move)
    with new_folder(out) as folder:
        stage = folder / STAGE_NAME
        for split, group in by_split.items():
            for number, first in enumerate(range(0, len(group), clips_per_shard)):
                part = group[first : first + clips_per_shard]
                for move in part:
                    stage_clip(_moved(move), stage, record=move.source.records.get(move.clip.key, {}))
                staged = read_staged(stage)
                shard = f"{split}-{number:06d}"
                publish_shard(folder, shard, [staged[move.key] for move in part], spec_sha256=spec_sha256)
        stage.rmdir()
        write_atomic(folder / CORPUS_NAME, json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")


def _moved(move: _Move) -> Clip:
    """The clip with its new key and split; all other bytes are those of its source."""
    where = f"{move.source.corpus / move.marker.shard}, {move.clip.key}"
    members = proven_members(move.source.corpus, move.marker, move.clip)
    try:
        meta = decode_meta(members.get("json", b""))
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error
    if list(members) != member_names(len(meta.targets), meta.num_frames):
        raise UserError(
            f"{where}: does not have the members of a clip in their order. "
            f"Find out more with: focuspull-dataset check {move.source.corpus}"
        )
    if (meta.key, meta.split) != (move.key, move.split):
        meta = meta.model_copy(update={"key": move.key, "split": move.split})
        members["json"] = encode_meta(meta)
    return Clip(meta=meta, members=tuple(members.items()))
