"""Difficulty labels against closed forms, and conditions on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focuspull.dataset.cli import main
from focuspull.dataset.clip import decode_meta, encode_meta
from focuspull.dataset.difficulty import DifficultyMeta, highlight_energy, occluded_fraction, thin_fraction
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import read_index
from focuspull.dataset.reader import CorpusReader
from focuspull.dataset.where import parse_where
from tests.dataset.conftest import make_clip, publish

EASY = DifficultyMeta(
    occluded_fraction=0.1,
    thin_fraction=0.0,
    highlight_energy=0.0,
    max_radius_px=4.0,
    mean_radius_px=1.0,
    motion_px=0.5,
    transparent_fraction=0.0,
    disparity_spread=0.5,
)


def test_blur_reaches_over_an_edge_by_its_radius() -> None:
    """A half plane nearer than the rest: a band of the radius of its blur on both sides of the edge."""
    disparity = np.zeros((1, 100, 200), np.float32)
    disparity[:, :, 100:] = 1.0
    found = occluded_fraction(disparity, np.array([20.0]), np.array([0.5]))
    assert found == pytest.approx(2 * 10 / 200, abs=2 / 200)
    assert occluded_fraction(disparity, np.array([20.0]), np.array([1.0])) == 0  # the near half is in focus


def test_thin_is_what_an_opening_takes_away() -> None:
    disparity = np.zeros((1, 90, 300), np.float32)
    disparity[:, :, 50] = 1.0  # one pixel wide, of which a disc of three takes all
    disparity[:, 20:60, 100:140] = 1.0
    assert thin_fraction(disparity) == pytest.approx(90 / (90 * 300), abs=1e-3)


def test_energy_of_highlights_is_what_is_beyond_white() -> None:
    light = np.full((1, 10, 10, 3), 0.5, np.float32)
    assert highlight_energy(light, 0.0) == 0
    light[0, 0, 0] = 21.0
    assert highlight_energy(light, 0.0) == pytest.approx(20 / (99 * 0.5 + 21))
    assert highlight_energy(np.full((1, 2, 2, 3), 0.5, np.float32), 2.0) == pytest.approx(0.5)


def test_metadata_without_labels_keeps_its_bytes() -> None:
    meta = make_clip("clip-000000").meta
    assert b"difficulty" not in encode_meta(meta)
    labelled = meta.model_copy(update={"difficulty": EASY})
    assert decode_meta(encode_meta(labelled)).difficulty == EASY


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three clips: radii of 4, 8 and unknown."""
    clips = []
    for number, radius in enumerate((4.0, 8.0, None)):
        clip = make_clip(f"clip-{number:06d}")
        label = None if radius is None else EASY.model_copy(update={"max_radius_px": radius})
        meta = clip.meta.model_copy(update={"difficulty": label})
        members = (("json", encode_meta(meta)), *clip.members[1:])
        clips.append(type(clip)(meta, members))
    publish(tmp_path, "train-000000", clips)
    return tmp_path


def test_labels_are_in_the_index_and_choose_clips(corpus: Path, capsys: pytest.CaptureFixture) -> None:
    assert [row["max_radius_px"] for row in read_index(corpus)] == [4.0, 8.0, None]
    rows = CorpusReader(corpus, where="max_radius_px > 5").rows
    assert [row.key for row in rows] == ["clip-000001"]
    assert main(["ls", str(corpus), "--where", "max_radius_px <= 4"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["key", "clip-000000"]
    assert main(["stats", str(corpus)]) == 0
    assert "4.0 to 8.0" in capsys.readouterr().out
    with pytest.raises(UserError, match="no clip with max_radius_px > 50"):
        CorpusReader(corpus, where="max_radius_px > 50")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_frames == 25", True),
        ("3 < num_frames < 30 and family == 'night'", True),
        ("not (family == 'night' or num_frames > 100)", False),
        ("z_far_m > 0", False),  # unknown
        ("not z_far_m > 0", True),
        ("motion_px > -1", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    row = {"num_frames": 25, "family": "night", "z_far_m": None, "motion_px": 0.0}
    assert parse_where(text)(row) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_radius > 3", "no column 'max_radius'. Did you mean 'max_radius_px'"),
        ("num_frames >", "cannot be read"),
        ("num_frames", "is no comparison"),
        ("num_frames in 3", "In is no comparison"),
        ("family > 3", "compares a text with a number"),
        ("__import__('os').system('true') == 0", "neither a column, a number nor a text"),
        ("num_frames + 1 == 2", "neither a column"),
    ],
)
def test_conditions_that_are_none_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as found:
        parse_where(text)
    assert message in str(found.value) and "\n" not in str(found.value)
