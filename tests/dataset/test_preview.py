"""Previews: complete pictures of the right content, or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from focuspull.dataset.clip import Clip
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import write_index
from focuspull.dataset.preview import write_contact_sheet, write_side_by_side


def _sheet(corpus: Path, out: Path, **options: Any) -> np.ndarray:
    write_contact_sheet(corpus, out / "sheet.png", **options)
    return np.asarray(Image.open(out / "sheet.png"))


def test_contact_sheet_shows_the_stored_pixels(tmp_path: Path, make_clip: Callable[..., Clip], publish: Any):
    clip = make_clip(width=40, height=30, num_frames=2)
    publish(tmp_path, "train-000000", [clip])
    sheet = _sheet(tmp_path, tmp_path, max_clips=1, frames=2, tile_width=40)
    members = dict(clip.members)
    for name in ("aif.001.png", "bokeh0.000.png", "bokeh1.001.png"):
        (tmp_path / name).write_bytes(members[name])
        assert _contains(sheet, np.asarray(Image.open(tmp_path / name))), name


def _contains(sheet: np.ndarray, image: np.ndarray) -> bool:
    """Whether an image occurs in a sheet exactly; candidates are where its first row's first pixels are."""
    height, width, _ = image.shape
    starts = np.argwhere((sheet[: -height + 1, : -width + 1] == image[0, 0]).all(-1))
    return any((sheet[y : y + height, x : x + width] == image).all() for y, x in starts)


def test_contact_sheet_grows_with_clips_frames_and_targets(
    corpus: Path, tmp_path: Path, make_clip: Callable[..., Clip], publish: Any
):
    one = _sheet(corpus, tmp_path, max_clips=1, frames=1, tile_width=48)
    assert _sheet(corpus, tmp_path, max_clips=2, frames=1, tile_width=48).shape[0] == 2 * one.shape[0]
    assert _sheet(corpus, tmp_path, max_clips=9, frames=1, tile_width=48).shape[0] == 3 * one.shape[0]
    assert _sheet(corpus, tmp_path, max_clips=1, frames=2, tile_width=48).shape[0] > one.shape[0] + 32
    publish(tmp_path / "wide", "train-000000", [make_clip(k_at_1024=(9.0, 5.0, 1.0))])
    assert _sheet(tmp_path / "wide", tmp_path, frames=1, tile_width=48).shape[1] == one.shape[1] + 48 + 8


def test_contact_sheet_is_the_same_every_time(corpus: Path, tmp_path: Path):
    first = _sheet(corpus, tmp_path)
    np.testing.assert_array_equal(_sheet(corpus, tmp_path), first)


def test_video_plays_every_frame_of_every_clip_in_order(corpus: Path, tmp_path: Path):
    write_side_by_side(corpus, tmp_path / "side.mp4", tile_width=48)
    with av.open(str(tmp_path / "side.mp4")) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert codec.width % 2 == codec.height % 2 == 0
        assert codec.colorspace == 1  # BT.709, so that players do not shift the colours
    assert [frame.time for frame in frames] == pytest.approx([index / 24 for index in range(9)], abs=1e-4)


def test_video_colours_survive_the_codec(tmp_path: Path, make_clip: Callable[..., Clip], publish: Any):
    publish(tmp_path, "train-000000", [make_clip(width=96, height=64, num_frames=1, k_at_1024=(60.0,))])
    write_side_by_side(tmp_path, tmp_path / "side.mp4", tile_width=96)
    sheet = _sheet(tmp_path, tmp_path, tile_width=96)
    with av.open(str(tmp_path / "side.mp4")) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24", src_colorspace="ITU709")
    for left in (24, 24 + 96 + 8, 24 + 2 * (96 + 8)):  # AIF, bokeh0, disparity: where the sheet has them too
        tile = np.s_[48:112, left : left + 96]
        np.testing.assert_allclose(frame[tile].mean((0, 1)), sheet[tile].mean((0, 1)), atol=3)


def test_clips_of_different_sizes_share_one_video(
    corpus: Path, tmp_path: Path, make_clip: Callable[..., Clip], publish: Any
):
    publish(
        corpus, "train-000001", [make_clip("clip-000003", width=16, height=24, k_at_1024=(1.0, 2.0, 3.0))]
    )
    write_side_by_side(corpus, tmp_path / "side.mp4", tile_width=32)
    with av.open(str(tmp_path / "side.mp4")) as container:
        assert len(list(container.decode(video=0))) == 12


@pytest.mark.parametrize("write", [write_contact_sheet, write_side_by_side])
def test_damaged_corpus_leaves_no_picture(corpus: Path, tmp_path: Path, write: Callable[..., None]):
    os.truncate(corpus / "val-000000.tar", 3000)
    with pytest.raises(UserError, match=r"val-000000\.tar: is truncated"):
        write(corpus, tmp_path / "out" / "picture")
    assert list(tmp_path.glob("out/*")) == []


@pytest.mark.parametrize("write", [write_contact_sheet, write_side_by_side])
def test_corpus_without_clips_is_the_users_mistake(tmp_path: Path, write: Callable[..., None]):
    write_index(tmp_path, [])
    with pytest.raises(UserError, match="has no clips to show. Make some with"):
        write(tmp_path, tmp_path / "picture")
