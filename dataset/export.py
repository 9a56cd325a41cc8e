"""A corpus in the layouts of other programs, clip by clip; nothing is resized or compressed with loss.

``a2b``, for the published code of Any-to-Bokeh (its loader of training clips and its inference demo), which
finds everything by file names::

    out/
        training_<split>.csv    aif_folder, bokeh_folder, disp_folder, mask_folder, k, concept_i
        inference_<split>.csv   aif_folder, disp_folder, k
        <key>/
            aif/<f>.png                                   disp/<f>.png  (8 bits, 255 d)
            mask/<f>_<rank>.jpg                           visible pixels of an object; rank 0 is nearest
            bokeh/k=<K>/obj_<concept>/<f>_zf_<d_f>.jpg    K constant, in the CSV; d_f in the name
            bokeh/k=rand/obj_<concept>/<f>_zf_<d_f>_k_<K>.jpg
            disp_zf/bokeh<p>/<f>_zf_<d_f>[_k_<K>].png     the disparity again, for inference

* K is that of an image 1024 px wide, since the loader stretches everything to 1024x576.
* In the CSV k is ``rand`` (training) or ``change`` (inference) if it is in the names.
* A concept is the rank of the object in focus, or ``far2near`` or ``near2far``: then no object is looked at.
* The loader takes ``.jpg`` off the names of bokeh and looks for masks of that name, but opens files by their
  content: so those are PNG data, without loss, in files named ``.jpg``.
* The paths in the CSV are absolute.

``frames`` is for eyes and for compositing programs: one folder per clip with the PNG files of the corpus,
``meta.json``, and disparity as 32-bit OpenEXR, where ``Y`` is disparity and ``Z`` planar depth in metres.

Source of the layout: the behaviour of the published loader (github.com/vivoCameraResearch/any-to-bokeh),
described in our words; none of its code is used.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from focuspull.dataset import codec, optics
from focuspull.dataset.clip import ClipMeta, TargetMeta, decode_meta, frame_member, stream_names
from focuspull.dataset.copying import committed_clips, new_folder, proven_members, write_files
from focuspull.dataset.errors import UserError
from focuspull.dataset.exr import encode_exr
from focuspull.dataset.focus import FOCUS_TOLERANCE
from focuspull.dataset.markers import ClipEntry, ShardMarker
from focuspull.dataset.stats import pretty_json

TRAINING_COLUMNS = ("aif_folder", "bokeh_folder", "disp_folder", "mask_folder", "k", "concept_i")
INFERENCE_COLUMNS = ("aif_folder", "disp_folder", "k")
MIN_TRAINING_FRAMES = 8
"""The longest window of the published training; shorter clips stop it with an error."""
MIN_INFERENCE_FRAMES = 13
"""Two overlapping groups and one more frame; shorter clips stop the published inference with an error."""
SIZE = (1024, 576)
K_RANGE = (1.0, 32.0)

Files = Iterator[tuple[str, bytes]]


def export_a2b(corpus: Path, out: Path, *, split: str | None) -> int:
    """Write the layout of the published Any-to-Bokeh code (module docstring).

    Every clip is written. Rows that would stop the published code are left out of its CSV; these, and what it
    runs but was not trained for, are counted in lines on standard error and in ``README.md``.

    Args:
        corpus: Folder of the corpus.
        out: New folder.
        split: Only this one; None for all, each in CSV files of its own.

    Returns:
        Number of clips.

    Raises:
        UserError: If the corpus is damaged or has no such split, or ``out`` is not empty.
    """
    clips = committed_clips(corpus, split=split)
    training: dict[str, list[list[str]]] = {}
    inference: dict[str, list[list[str]]] = {}
    notes: Counter[str] = Counter()
    with new_folder(out) as folder:
        root = out.resolve()
        for marker, clip in clips:
            meta, members = _read(corpus, marker, clip)
            disparity, instance = _truth(meta, members)
            ranked = _ranked(meta, disparity, instance)
            write_files(
                folder / clip.key, _shared_files(meta, members, disparity, instance, [i for i, _ in ranked])
            )
            base = root / clip.key
            notes.update(_clip_notes(meta))
            taken: set[str] = set()
            for number, target in enumerate(meta.targets):
                concept = _concept(target, [medians for _, medians in ranked])
                notes.update(_video_notes(target, concept))
                k = _constant_k(target)
                bokeh = f"bokeh/k={k or 'rand'}/obj_{concept}"
                if bokeh in taken:  # another lens with the same K and focus
                    bokeh += f"_{target.name}"
                taken.add(bokeh)
                inputs = f"disp_zf/{target.name}"
                write_files(folder / clip.key, _target_files(meta, number, members, disparity, bokeh, inputs))
                aif = f"{base}/aif"
                if meta.num_frames >= MIN_TRAINING_FRAMES:
                    row = [aif, f"{base}/{bokeh}", f"{base}/disp", f"{base}/mask", k or "rand", concept]
                    training.setdefault(clip.split, []).append(row)
                if meta.num_frames >= MIN_INFERENCE_FRAMES:
                    row = [aif, f"{base}/{inputs}", k or "change"]
                    inference.setdefault(clip.split, []).append(row)
        tables = {f"training_{name}.csv": _csv(TRAINING_COLUMNS, rows) for name, rows in training.items()}
        tables |= {f"inference_{name}.csv": _csv(INFERENCE_COLUMNS, rows) for name, rows in inference.items()}
        lines = [f"{count} {text}" for text, count in sorted(notes.items())]
        readme = _README.format(
            num_clips=len(clips), root=root, notes="\n".join(f"* {line}" for line in lines) or "None."
        )
        write_files(folder, [*tables.items(), ("README.md", readme.encode())])
    for line in lines:
        print(f"{out}: {line}", file=sys.stderr)
    return len(clips)


def export_frames(corpus: Path, out: Path, *, split: str | None) -> int:
    """Write image files, a folder per clip and stream, and ``clips.csv`` (module docstring).

    Args:
        corpus: Folder of the corpus.
        out: New folder.
        split: Only this one; None for all.

    Returns:
        Number of clips.

    Raises:
        UserError: If the corpus is damaged or has no such split, or ``out`` is not empty.
    """
    clips = committed_clips(corpus, split=split)
    columns = ("key", "split", "width", "height", "num_frames", "fps", "num_targets")
    rows = []
    with new_folder(out) as folder:
        for marker, clip in clips:
            meta, members = _read(corpus, marker, clip)
            write_files(folder / clip.key, _frame_files(meta, members))
            values = [
                clip.key,
                clip.split,
                meta.width,
                meta.height,
                meta.num_frames,
                f"{meta.fps:g}",
                len(meta.targets),
            ]
            rows.append([str(value) for value in values])
        write_files(folder, [("clips.csv", _csv(columns, rows))])
    return len(clips)


def _read(corpus: Path, marker: ShardMarker, clip: ClipEntry) -> tuple[ClipMeta, dict[str, bytes]]:
    members = proven_members(corpus, marker, clip)
    try:
        return decode_meta(members.get("json", b"")), members
    except ValueError as error:
        raise UserError(f"{corpus / marker.shard}, {clip.key}: {error}.") from error


def _truth(meta: ClipMeta, members: dict[str, bytes]) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Disparity and instances ``[T, H, W]``."""
    size = (meta.width, meta.height)
    try:
        disparity = [codec.decode_disparity(members[name], size=size) for name in _names(meta, "disparity")]
        instance = [codec.decode_instance(members[name], size=size) for name in _names(meta, "instance")]
    except (ValueError, KeyError) as error:
        raise UserError(f"{meta.key}: cannot be decoded: {error}.") from error
    return np.stack(disparity), np.stack(instance)


def _names(meta: ClipMeta, stream: str) -> list[str]:
    return [frame_member(stream, frame, meta.num_frames) for frame in range(meta.num_frames)]


def _png(image: NDArray[np.uint8]) -> bytes:
    written, buffer = cv2.imencode(".png", image)
    assert written
    return buffer.tobytes()


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    return text.getvalue().encode()


# --- Any-to-Bokeh ----------------------------------------------------------------------------------


def _ranked(
    meta: ClipMeta, disparity: NDArray[np.float32], instance: NDArray[np.uint16]
) -> list[tuple[int, NDArray[np.float64]]]:
    """Objects, nearest first: id and, per frame, the median disparity of what is visible.

    What a scene calls its ``set`` (ground, walls, lamps) is none, as long as there is anything else; an
    object that is never seen neither. In frames where an object is hidden its median is NaN.
    """
    world = meta.scene.get("world")
    objects = world.get("objects", []) if isinstance(world, dict) else []
    roles = {item.get("name"): item.get("role", "set") for item in objects if isinstance(item, dict)}
    ids = [number for name, number in meta.instances.items() if roles.get(name, "set") != "set"]
    found = []
    for number in ids or meta.instances.values():
        masks = instance == number
        medians = np.array(
            [np.median(d[mask]) if mask.any() else np.nan for d, mask in zip(disparity, masks, strict=True)]
        )
        if np.isfinite(medians).any():
            found.append((number, medians))
    return sorted(found, key=lambda item: (-float(np.nanmedian(item[1])), item[0]))


def _concept(target: TargetMeta, medians: Sequence[NDArray[np.float64]]) -> str:
    """Rank of the object in focus in all frames where it is seen, at least half; else where focus goes."""
    focus = np.array(target.focus_disparity)
    distances = {}
    for rank, of_object in enumerate(medians):
        seen = np.isfinite(of_object)
        distance = np.abs(of_object - focus)[seen]
        if 2 * np.count_nonzero(seen) >= len(focus) and distance.max() <= FOCUS_TOLERANCE:
            distances[rank] = float(distance.mean())
    if distances:
        return str(min(distances, key=lambda rank: (distances[rank], rank)))
    return "far2near" if focus[-1] >= focus[0] else "near2far"


def _constant_k(target: TargetMeta) -> str | None:
    """K at 1024 px as text, None if it changes."""
    values = {_number(k) for k in target.k_at_1024}
    return values.pop() if len(values) == 1 else None


def _number(value: float) -> str:
    """Without exponent, which the published parsers take, but eyes do not."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _shared_files(
    meta: ClipMeta,
    members: dict[str, bytes],
    disparity: NDArray[np.float32],
    instance: NDArray[np.uint16],
    ids: Sequence[int],
) -> Files:
    """What the targets of a clip have in common."""
    for frame, name in enumerate(_names(meta, "aif")):
        yield f"aif/{frame}.png", members[name]
        yield f"disp/{frame}.png", _png(_grey(disparity[frame]))
        for rank, number in enumerate(ids):
            yield f"mask/{frame}_{rank}.jpg", _png((instance[frame] == number) * np.uint8(255))


def _target_files(
    meta: ClipMeta,
    number: int,
    members: dict[str, bytes],
    disparity: NDArray[np.float32],
    bokeh: str,
    inputs: str,
) -> Files:
    target = meta.targets[number]
    is_constant = _constant_k(target) is not None
    for frame, name in enumerate(_names(meta, target.name)):
        suffix = "" if is_constant else f"_k_{_number(target.k_at_1024[frame])}"
        stem = f"{frame}_zf_{target.focus_disparity[frame]:.5f}{suffix}"
        yield f"{bokeh}/{stem}.jpg", members[name]
        yield f"{inputs}/{stem}.png", _png(_grey(disparity[frame]))


def _grey(disparity: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.floor(disparity.astype(np.float64) * 255 + 0.5).astype(np.uint8)


def _clip_notes(meta: ClipMeta) -> Iterator[str]:
    if meta.num_frames < MIN_TRAINING_FRAMES:
        yield f"clips of less than {MIN_TRAINING_FRAMES} frames, which stop training: not in its CSV."
    if meta.num_frames < MIN_INFERENCE_FRAMES:
        yield f"clips of less than {MIN_INFERENCE_FRAMES} frames, which stop inference: not in its CSV."
    if (meta.width, meta.height) != SIZE:
        yield (
            "clips that are not 1024x576: stretched to that when they are loaded; training with perturbed "
            "disparity (the second stage) takes no other size."
        )


def _video_notes(target: TargetMeta, concept: str) -> Iterator[str]:
    low, high = K_RANGE
    if not all(low <= k <= high for k in target.k_at_1024):
        yield f"videos with K at 1024 px outside {low:g} to {high:g}, new to the published weights."
    elif any(_number(k) != f"{round(k)}" for k in target.k_at_1024):
        yield "videos with a K that is no whole number, new to the published weights."
    if target.lens_label != "disc" or target.domain != "linear_hdr":
        yield "videos through another lens than the round thin one, or blurred in display values."
    if concept in ("far2near", "near2far") and len(set(target.focus_disparity)) == 1:
        yield f"videos with constant focus on no object, listed as {concept}."


_README = """# A corpus of focuspull for the published Any-to-Bokeh code

{num_clips} clips. Written by `focuspull-dataset export --format a2b`; the layout is explained in its source,
`dataset/export.py`.

* Training: `training_<split>.csv` is the CSV of the training scripts.
* Inference: `python test/inference_demo.py --val_csv_path .../inference_<split>.csv`; its
  `N.mp4` is row N, counted from 0.
* Files under `bokeh/` and `mask/` are PNG data, without loss, though their names end in `.jpg`: the code asks
  for these names, and opens files by content.
* Masks have the visible pixels of an object, not those behind others; K is that of 1024 px width.
* Paths in the CSV are absolute. After a move: `sed -i 's|{root}|/new/place|g' *.csv`

To look out for:

{notes}
"""


# --- Image files -----------------------------------------------------------------------------------


def _frame_files(meta: ClipMeta, members: dict[str, bytes]) -> Files:
    yield "meta.json", (pretty_json(json.loads(members["json"])) + "\n").encode()
    for stream in stream_names(len(meta.targets)):
        for name in _names(meta, stream):
            yield f"{stream}/{name.removeprefix(f'{stream}.')}", members[name]
    far_m = np.inf if meta.disparity.z_far_m is None else meta.disparity.z_far_m
    mapping = optics.DisparityMap(meta.disparity.z_near_m, far_m)
    disparity, _ = _truth(meta, members)
    for image, name in zip(disparity, _names(meta, "disparity"), strict=True):
        content = encode_exr({"Y": image, "Z": mapping.depth_m(image).astype(np.float32)})
        yield f"disparity_exr/{name.removeprefix('disparity.').replace('.png', '.exr')}", content
