"""Videos that were made elsewhere: layouts that are read, and mistakes that are named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.train.metrics.base import Truth
from focuspull.train.metrics.coded import mp4
from focuspull.train.predictions import open_predictions, predictions_fingerprint, read_prediction
from tests.train.metrics.examples import make_truth

torch.set_num_threads(1)

TRUTH = make_truth()


def pixels(truth: Truth) -> np.ndarray:
    """``[T, H, W, 3]`` uint8."""
    return (truth.bokeh * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def place(folder: Path, name: str) -> Path:
    path = folder / "clip-000000" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_frames(folder: Path, frames: np.ndarray) -> None:
    for number, frame in enumerate(frames):
        path = place(folder, f"bokeh0/{number}.png")
        path.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(path), frame[..., ::-1])


def test_frames_are_read_exactly(tmp_path: Path) -> None:
    write_frames(tmp_path, pixels(TRUTH))
    assert torch.equal((read_prediction(tmp_path, TRUTH) * 255).round(), (TRUTH.bokeh * 255).round())


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_arrays_are_read_exactly(tmp_path: Path, kind: str) -> None:
    array = pixels(TRUTH) if kind == "uint8" else (pixels(TRUTH) / 255).astype(np.float32)
    np.save(place(tmp_path, "bokeh0.npy"), array)
    torch.testing.assert_close(read_prediction(tmp_path, TRUTH), TRUTH.bokeh)


def test_videos_are_read_nearly(tmp_path: Path) -> None:
    place(tmp_path, "bokeh0.mp4").write_bytes(mp4(pixels(TRUTH), crf=4, fps=24))
    read = read_prediction(tmp_path, TRUTH)
    assert read.shape == TRUTH.bokeh.shape
    assert float((read - TRUTH.bokeh).abs().mean()) < 0.03


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (None, r"clip-000000/bokeh0: is missing. Predict it as bokeh0/000.png, bokeh0.mp4 or bokeh0.npy"),
        (np.zeros((2, 80, 128, 3), np.uint8), "bokeh0.npy: has 2 frames, the clip has 3"),
        (np.zeros((4, 80, 128, 3), np.uint8), "bokeh0.npy: has 4 frames, the clip has 3"),
        (np.zeros((3, 80, 64, 3), np.uint8), "bokeh0.npy: frames are 64x80, those of the clip 128x80"),
        (
            np.zeros((3, 80, 128), np.uint8),
            r"bokeh0.npy: must have shape \[3, 80, 128, 3\], has \[3, 80, 128\]",
        ),
        (
            np.full((3, 80, 128, 3), 1.5, np.float32),
            r"bokeh0.npy: values span \[1.5, 1.5\], must be in \[0, 1\]",
        ),
        (np.full((3, 80, 128, 3), np.nan, np.float32), r"bokeh0.npy: values span \[nan, nan\]"),
        (np.zeros((3, 80, 128, 3), np.int16), "bokeh0.npy: must be uint8 or floating point, is int16"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, array: np.ndarray | None, message: str) -> None:
    if array is not None:
        np.save(place(tmp_path, "bokeh0.npy"), array)
    with pytest.raises(UserError, match=message):
        read_prediction(tmp_path, TRUTH)


def test_a_video_of_another_length_is_not_cut(tmp_path: Path) -> None:
    write_frames(tmp_path, np.concatenate([pixels(TRUTH)] * 2))
    with pytest.raises(UserError, match="bokeh0: has 6 frames, the clip has 3. Predict all of them."):
        read_prediction(tmp_path, TRUTH)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    place(tmp_path, "bokeh0.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match="bokeh0.npy: cannot be read as an array"):
        read_prediction(tmp_path, TRUTH)
    with pytest.raises(UserError, match="nowhere: cannot be read"):
        open_predictions(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: is empty. It needs CLIP/bokeh0/000.png"):
        open_predictions(tmp_path / "empty")


def test_a_replaced_prediction_has_another_fingerprint(tmp_path: Path) -> None:
    np.save(place(tmp_path, "bokeh0.npy"), np.zeros(3))
    before = predictions_fingerprint(tmp_path, "clip-000000", 0)
    assert before == predictions_fingerprint(tmp_path, "clip-000000", 0)
    np.save(place(tmp_path, "bokeh0.npy"), np.zeros(4))
    assert before != predictions_fingerprint(tmp_path, "clip-000000", 0)
