"""The corpus check: everything that can be verified from the files alone, one line per problem.

It looks, from the outside in, at the files of the folder, each shard's bytes, its tar structure, its members
and what they mean, and at the index. A damaged layer is reported once and not looked into further. Memory
is bounded by one clip.

What it cannot see: whether the pixels show what the scene asks for.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from focuspull.dataset import optics
from focuspull.dataset.clip import (
    ClipMeta,
    DecodedClip,
    decode_clip,
    decode_meta,
    disparity_end_problem,
    frame_member,
    member_names,
)
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import TEMPORARY_PREFIX
from focuspull.dataset.index import INDEX_NAME, RECORD_COLUMNS, index_row, read_index
from focuspull.dataset.markers import (
    SHARD_NAME,
    ClipEntry,
    ShardMarker,
    committed_names,
    read_marker,
    read_members,
)

CORPUS_NAME = "corpus.json"
METADATA_TOLERANCE = 1e-5
"""Largest relative disagreement of two metadata values that optics ties together."""


def check_corpus(corpus: Path) -> list[str]:
    """Check a corpus.

    Args:
        corpus: Folder with shards, markers, ``index.parquet`` and ``corpus.json``.

    Returns:
        One line per problem, saying where, what is wrong, what was found and what to do; empty if sound.

    Raises:
        UserError: If there is no such folder.
    """
    if not corpus.is_dir():
        raise UserError(f"{corpus}: is not a folder. Give the folder of a corpus.")
    return list(_corpus_problems(corpus))


@dataclass
class _Seen:
    """What the shards hold, gathered on the way for the checks that need all of them.

    Args:
        rows: Key to the index row of every clip whose metadata could be read.
        num_shards: Key to the number of shards with this clip.
        unread_shards: File names of shards of which some clip's metadata could not be read.
    """

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_shards: Counter[str] = field(default_factory=Counter)
    unread_shards: set[str] = field(default_factory=set)


def _corpus_problems(corpus: Path) -> Iterator[str]:
    yield from _folder_problems(corpus)
    spec_sha256, problem = _spec_sha256(corpus)
    if problem:
        yield problem
    seen = _Seen()
    for name in committed_names(corpus):
        for problem in _shard_problems(corpus, name, spec_sha256, seen):
            yield f"{problem} {_render_again(corpus, name)}"
    for key, count in sorted(seen.num_shards.items()):
        if count > 1:
            yield f"{key}: must be in one shard, is in {count}. Remove all but one of them."
    yield from _index_problems(corpus, seen)


def _render_again(corpus: Path, name: str) -> str:
    return f"Render it again with: rm -f {corpus}/{name}.*; focuspull-render run SPEC --out {corpus}"


def _folder_problems(corpus: Path) -> Iterator[str]:
    """Files that lack their partner, and what killed writers left behind."""
    shards = {path.stem for path in corpus.glob("*.tar")}
    committed = set(committed_names(corpus))
    if not shards and not committed:
        yield f"{corpus}: has no shards. Make some with: focuspull-render run SPEC --out {corpus}"
    for name in sorted(shards - committed):
        if SHARD_NAME.fullmatch(name):
            yield f"{name}.tar: has no commit marker {name}.json. {_render_again(corpus, name)}"
        else:
            yield f"{name}.tar: is not the name of a shard, <split>-<6 digits>.tar. Move it elsewhere."
    for name in sorted(committed - shards):
        yield f"{name}.json: has no shard {name}.tar. {_render_again(corpus, name)}"
    for path in sorted(corpus.rglob(f"{TEMPORARY_PREFIX}*")):
        yield f"{path.relative_to(corpus)}: was left by an interrupted writer. Remove it if none is running."


def _spec_sha256(corpus: Path) -> tuple[str | None, str | None]:
    """The specification's hash in ``corpus.json``, and the problem with that file; one of them is None."""
    remedy = f"Write it again with: focuspull-render run SPEC --out {corpus}"
    try:
        found = json.loads((corpus / CORPUS_NAME).read_bytes())["spec_sha256"]
    except OSError as error:
        return None, f"{CORPUS_NAME}: cannot be read: {error.strerror}. {remedy}"
    except (ValueError, KeyError, TypeError):
        return None, f"{CORPUS_NAME}: is not a JSON object with 'spec_sha256'. {remedy}"
    return str(found), None


def _shard_problems(corpus: Path, name: str, spec_sha256: str | None, seen: _Seen) -> Iterator[str]:
    shard = f"{name}.tar"
    try:
        marker = read_marker(corpus, name)
    except UserError as error:
        seen.unread_shards.add(shard)
        yield str(error)
        return
    seen.num_shards.update(clip.key for clip in marker.clips)
    if spec_sha256 and marker.spec_sha256 != spec_sha256:
        found = marker.spec_sha256[:12]
        yield f"{name}.json: spec_sha256 must be {spec_sha256[:12]} as in {CORPUS_NAME}, is {found}."
    if (corpus / shard).exists():  # otherwise reported with the folder
        try:
            yield from (f"{shard}{problem}" for problem in _content_problems(corpus, marker, seen))
        except OSError as error:
            yield f"{shard}: cannot be read: {error.strerror}."
    if any(clip.key not in seen.rows for clip in marker.clips):
        seen.unread_shards.add(shard)


def _content_problems(corpus: Path, marker: ShardMarker, seen: _Seen) -> Iterator[str]:
    """Problems of a shard's bytes, each starting right after the shard's name."""
    path = corpus / marker.shard
    if (size := path.stat().st_size) != marker.size:
        yield f": must have {marker.size} bytes, has {size}."
        return
    if problem := _tar_problem(path, marker):
        yield f": {problem}"
        return
    num_problems = 0
    for clip in marker.clips:
        for problem in _clip_problems(corpus, marker, clip, seen):
            num_problems += 1
            yield f", {clip.key}: {problem}"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    # Damage inside a member has been named above; what is left is damage between members.
    if found != marker.sha256 and not num_problems:
        yield f": must have SHA-256 {marker.sha256[:12]}, has {found[:12]}, though all members are sound."


def _tar_problem(path: Path, marker: ShardMarker) -> str | None:
    """Where the tar, as any reader sees it, first differs from the marker."""
    expected = [
        (f"{clip.key}.{member.name}", member.offset, member.size)
        for clip in marker.clips
        for member in clip.members
    ]
    try:
        with tarfile.open(path, "r:") as tar:
            found = [(member.name, member.offset_data, member.size) for member in tar]
    except tarfile.TarError as error:
        return f"is not a readable tar: {error}."
    if len(found) != len(expected):
        return f"must hold {len(expected)} members, holds {len(found)}."
    for (name, offset, size), wanted in zip(found, expected, strict=True):
        if (name, offset, size) != wanted:
            return (
                f"must hold {wanted[0]}, {wanted[2]} bytes at {wanted[1]}; holds {name}, {size} at {offset}."
            )
    return None


def _clip_problems(corpus: Path, marker: ShardMarker, clip: ClipEntry, seen: _Seen) -> Iterator[str]:
    members = read_members(corpus, marker, clip.key)
    damaged = [
        entry.name
        for entry in clip.members
        if hashlib.sha256(members[entry.name]).hexdigest() != entry.sha256
    ]
    if damaged:
        yield from (f"{name}: its bytes do not have the SHA-256 in {marker.name}.json." for name in damaged)
        return
    try:
        meta = decode_meta(members.get("json", b""))
    except ValueError as error:
        yield f"{error}."
        return
    names = [entry.name for entry in clip.members]
    expected = member_names(len(meta.targets), meta.num_frames)
    if names != expected:
        yield (
            f"must hold {len(expected)} members in the documented order, holds {len(names)}; "
            f"missing {sorted(set(expected) - set(names))}, unknown {sorted(set(names) - set(expected))}."
        )
        return
    seen.rows[clip.key] = index_row(marker.shard, clip, meta, record={})
    for name in ("key", "split", "scene_sha256"):
        if getattr(meta, name) != getattr(clip, name):
            yield f"json: {name} is {getattr(meta, name)}, but {getattr(clip, name)} in {marker.name}.json."
    yield from _metadata_problems(meta)
    try:
        decoded = decode_clip(members)
    except ValueError as error:
        yield f"{error}."
        return
    yield from _pixel_problems(decoded)


def _metadata_problems(meta: ClipMeta) -> Iterator[str]:
    """Values that `focuspull.dataset.optics` ties together but that disagree."""
    depth, camera = meta.disparity, meta.camera
    far_m = np.inf if depth.z_far_m is None else depth.z_far_m
    if not depth.z_near_m < far_m:
        yield f"json: disparity.z_near_m must be below z_far_m, got {depth.z_near_m} and {depth.z_far_m}."
        return
    mapping = optics.DisparityMap(depth.z_near_m, far_m)
    focal_px = optics.focal_length_px(camera.focal_length_mm, camera.sensor_width_mm, meta.width)
    pairs: dict[str, tuple[Any, Any]] = {
        "disparity.scale": (depth.scale, mapping.scale),
        "disparity.offset": (depth.offset, mapping.offset),
        "camera.focal_length_px": (camera.focal_length_px, focal_px),
    }
    for target in meta.targets:
        inverse_focus = [0.0 if distance is None else 1.0 / distance for distance in target.focus_distance_m]
        inverse_f_number = [0.0 if number is None else 1.0 / number for number in target.f_number]
        radius_m = np.array(target.lens_radius_m)
        pairs |= {
            f"{target.name}.k": (target.k, optics.k_from_lens_radius(radius_m, focal_px, mapping)),
            f"{target.name}.k_at_1024": (target.k_at_1024, optics.k_at_1024(target.k, meta.width)),
            f"{target.name}.focus_distance_m (inverted)": (
                inverse_focus,
                1.0 / optics.focus_distance_m(target.focus_disparity, mapping),
            ),
            f"{target.name}.f_number (inverted)": (
                inverse_f_number,
                1.0 / optics.f_number(camera.focal_length_mm, radius_m),
            ),
        }
    for name, values in pairs.items():
        found, expected = (np.atleast_1d(np.asarray(value, np.float64)) for value in values)
        wrong = ~np.isclose(found, expected, rtol=METADATA_TOLERANCE, atol=1e-9)
        if wrong.any():
            frame = int(np.argmax(wrong))
            yield (
                f"json: {name} does not follow from lens, camera and depth range: must be "
                f"{expected[frame]:.6g}, is {found[frame]:.6g} (entry {frame})."
            )


def _pixel_problems(clip: DecodedClip) -> Iterator[str]:
    """Decoded pixels that no sound render has."""
    meta = clip.meta
    for frame, image in enumerate(clip.aif):
        if (image == image[0, 0]).all():
            colour = "black" if not image.any() else f"of one colour, RGB {image[0, 0].tolist()}"
            yield f"{frame_member('aif', frame, meta.num_frames)}: is all {colour}."
    if problem := disparity_end_problem(float(clip.disparity.min()), float(clip.disparity.max())):
        yield f"disparity: {problem}."
    known = {0, *meta.instances.values()}
    for frame, image in enumerate(clip.instance):
        if unknown := sorted(set(np.unique(image).tolist()) - known):
            name = frame_member("instance", frame, meta.num_frames)
            yield f"{name}: ids {unknown} are not in the metadata, which has {sorted(known)}."


def _index_problems(corpus: Path, seen: _Seen) -> Iterator[str]:
    """Where the index differs from the rows that the clips should have."""
    remedy = f"Rebuild it with: focuspull-dataset index {corpus}"
    try:
        rows = read_index(corpus)
    except UserError as error:
        yield str(error)
        return
    counts = Counter(row["key"] for row in rows)
    for key in sorted(seen.rows):
        if counts[key] != 1:
            yield f"{INDEX_NAME}, {key}: must have one row, has {counts[key]}. {remedy}"
    for row in rows:
        key = row["key"]
        if key in seen.rows:
            derived = seen.rows[key].keys() - set(RECORD_COLUMNS)
            wrong = sorted(column for column in derived if row[column] != seen.rows[key][column])
            if wrong:
                found = ", ".join(f"{column}={row[column]}" for column in wrong)
                yield f"{INDEX_NAME}, {key}: does not agree with {seen.rows[key]['shard']}: {found}. {remedy}"
        elif row["shard"] not in seen.unread_shards:
            yield f"{INDEX_NAME}, {key}: is in no shard with a commit marker. {remedy}"
