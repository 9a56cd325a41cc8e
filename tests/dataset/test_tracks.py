"""Tracks of objects from masks."""

from __future__ import annotations

import numpy as np
import pytest

from focuspull.dataset.clip import decode_meta, encode_meta
from focuspull.dataset.tracks import object_tracks
from tests.dataset.conftest import make_clip


def test_a_track_says_what_the_masks_show() -> None:
    instance = np.zeros((2, 4, 8), np.uint16)
    instance[0, 1:3, 2:5] = 7
    disparity = np.zeros((2, 4, 8), np.float32)
    disparity[0, 1:3, 2:5] = [0.2, 0.4, 0.4]
    track = object_tracks(instance, disparity, {"ball": 7})["ball"]
    assert track.share == (6 / 32, 0.0)
    assert track.box == ((2, 1, 5, 3), None)
    assert track.centre == ((3.5, 2.0), None)
    assert track.disparity == (pytest.approx(0.4), None)


def test_metadata_carries_tracks_and_is_as_it_was_without() -> None:
    meta = make_clip("clip-000000", num_frames=2).meta
    assert b"tracks" not in encode_meta(meta)
    tracks = object_tracks(np.ones((2, 4, 8), np.uint16), np.full((2, 4, 8), 0.5, np.float32), {"a": 1})
    known = meta.model_copy(update={"tracks": tracks})
    assert decode_meta(encode_meta(known)).tracks == tracks


def test_a_track_of_another_length_is_refused() -> None:
    meta = make_clip("clip-000000", num_frames=3).meta
    tracks = object_tracks(np.ones((2, 4, 8), np.uint16), np.zeros((2, 4, 8), np.float32), {"a": 1})
    with pytest.raises(ValueError, match=r"tracks\.a needs one entry per frame, 3, got 2"):
        decode_meta(encode_meta(meta.model_copy(update={"tracks": tracks})))
