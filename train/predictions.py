"""Bokeh videos that were made elsewhere: any folder that follows one of these layouts can be scored.

    DIR/<clip>/bokeh0/000.png ...     frames in the order of the numbers in their names; .jpg, .tif, .webp too
    DIR/<clip>/bokeh0.mp4             or .mkv, .mov, .avi, .webm
    DIR/<clip>/bokeh0.npy             [T, H, W, 3], uint8 or float in [0, 1], sRGB

``bokeh0`` is the first target of the clip, as ``focuspull-dataset export --format frames`` names it. A video
of another length or size is an error, never cut, padded or resized: what was predicted would be compared
with other frames or other pixels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from focuspull.dataset.errors import UserError
from focuspull.model.video import open_video
from focuspull.train.metrics.base import Truth

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm")
ARRAY_SUFFIX = ".npy"


def open_predictions(folder: Path) -> Path:
    """A folder of predictions.

    Raises:
        UserError: If there is no such folder, or it is empty.
    """
    try:
        found = next(iter(folder.iterdir()), None)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read: {error.strerror}. Give a folder of predictions."
        ) from None
    if found is None:
        raise UserError(
            f"{folder}: is empty. It needs CLIP/bokeh0/000.png, CLIP/bokeh0.mp4 or CLIP/bokeh0.npy."
        )
    return folder


def read_prediction(folder: Path, truth: Truth) -> Tensor:
    """The prediction for one target of one clip.

    Args:
        folder: See the module docstring.
        truth: What it is to be compared with.

    Returns:
        ``[T, 3, H, W]`` float32 in [0, 1].

    Raises:
        UserError: If it is missing, or has another length, size or range.
    """
    place = folder / truth.item.clip / f"bokeh{truth.item.target}"
    path = _find(place)
    pixels = _array(path) if path.suffix == ARRAY_SUFFIX else _frames(path, len(truth.bokeh))
    expected = (len(truth.bokeh), *truth.bokeh.shape[2:], 3)
    if pixels.ndim != 4 or pixels.shape[3] != 3:
        raise UserError(f"{path}: must have shape {list(expected)}, has {list(pixels.shape)}.")
    if len(pixels) != expected[0]:
        raise UserError(f"{path}: has {len(pixels)} frames, the clip has {expected[0]}. Predict all of them.")
    if pixels.shape != expected:
        raise UserError(
            f"{path}: frames are {pixels.shape[2]}x{pixels.shape[1]}, those of the clip "
            f"{expected[2]}x{expected[1]}. Predict in the size of the clip."
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # also NaN
        raise UserError(
            f"{path}: values span [{low:g}, {high:g}], must be in [0, 1] (sRGB). Clip or rescale them."
        )
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32))


def predictions_fingerprint(folder: Path, clip: str, target: int) -> str:
    """Changes when a prediction is replaced: names, sizes and times of its files."""
    place = folder / clip / f"bokeh{target}"
    files = sorted(place.glob("*")) if place.is_dir() else sorted(place.parent.glob(f"{place.name}.*"))
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _find(place: Path) -> Path:
    if place.is_dir():
        return place
    for suffix in (*VIDEO_SUFFIXES, ARRAY_SUFFIX):
        path = place.with_name(f"{place.name}{suffix}")
        if path.is_file():
            return path
    raise UserError(
        f"{place}: is missing. Predict it as {place.name}/000.png, {place.name}.mp4 or {place.name}.npy."
    )


def _frames(path: Path, wanted: int) -> NDArray[np.float32]:
    frames: list[NDArray[np.float32]] = []
    for frame in open_video(path).frames():
        # One more than wanted is enough to know that it is too long; the message tells how many there are.
        if len(frames) <= wanted:
            frames.append(frame.rgb())
        else:
            frames.append(frames[-1])
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.float32)


def _array(path: Path) -> NDArray[np.float32]:
    try:
        pixels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as an array: {error}.") from error
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / 255
    if not np.issubdtype(pixels.dtype, np.floating):
        raise UserError(f"{path}: must be uint8 or floating point, is {pixels.dtype}.")
    return pixels.astype(np.float32)
