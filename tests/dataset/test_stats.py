"""Tables and metadata for eyes: what they count and what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from focuspull.dataset.cli import main
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import rebuild_index
from focuspull.dataset.scene_files import scene_files
from focuspull.dataset.stats import (
    FOCUS_EDGES,
    K_EDGES,
    corpus_stats,
    focus_videos,
    head,
    k_videos,
    pretty_json,
)

HASH = "a" * 64


def test_table_has_a_column_for_all_and_for_every_split(corpus: Path):
    lines = {line[:30].strip(): line[30:].split() for line in corpus_stats(corpus).splitlines()}
    assert lines[""] == ["all", "train", "val"]
    assert lines["clips"] == ["3", "2", "1"]
    assert lines["bokeh videos"] == ["6", "4", "2"]
    assert lines["frames of all-in-focus video"] == ["9", "6", "3"]
    assert lines["size"] == ["24x16"] * 3
    assert " ".join(lines["K at 1024 px"]).startswith("0.0 to 100.0, median 50.0")
    assert lines["render time on CPUs"][:6] == ["9", "s,", "3", "s", "a", "clip"]


def test_values_that_are_not_known_are_a_dash(corpus: Path):
    rebuild_index(corpus)
    (line,) = (line for line in corpus_stats(corpus).splitlines() if line.startswith("render time"))
    assert line.split()[4:] == ["-"] * 3


def test_a_ramp_counts_in_every_bin_that_it_passes():
    row = {
        "k_at_1024_min": [0.0, 5.0, 300.0],
        "k_at_1024_max": [0.0, 20.0, 300.0],
        "focus_disparity_min": [0.0, 0.25, 1.0],
        "focus_disparity_max": [0.0, 0.41, 1.0],
    }
    edges = [low for low, count in zip(K_EDGES[:-1], k_videos([row]), strict=True) if count]
    assert edges == [0, 4, 6, 8, 12, 16, 192]
    edges = [low for low, count in zip(FOCUS_EDGES[:-1], focus_videos([row]), strict=True) if count]
    assert edges == [0, 0.2, 0.3, 0.4, 0.9]


def test_head_prints_json_of_as_many_clips_as_asked_for(corpus: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["head", str(corpus), "-n", "2"]) == 0
    decoder, text, keys = json.JSONDecoder(), capsys.readouterr().out.strip(), []
    while text:
        document, end = decoder.raw_decode(text)
        keys.append(document["key"])
        assert document["scene"].endswith("shown with --scene)")
        text = text[end:].strip()
    assert keys == ["clip-000000", "clip-000001"]


def test_head_with_scene_holds_everything(corpus: Path):
    document = json.loads(head(corpus, num_clips=1, with_scene=True))
    assert document["scene"] == {"family": "disc", "key": "clip-000000"}
    assert document["camera"]["camera_to_world"][2][3] == [0, 0, 0, 1]


def test_lines_of_pretty_json_are_short_and_mean_the_same():
    value = {
        "numbers": list(range(200)),
        "names": {f"name-{i}": i for i in range(30)},
        "deep": [{"a": [1, "x" * 90]}],
    }
    text = pretty_json(value)
    assert json.loads(text) == value
    assert max(map(len, text.splitlines())) <= 110


def test_files_are_found_at_any_depth():
    scene = {
        "world": {"environment": {"file": {"name": "bpy:a.exr", "sha256": HASH}}},
        "objects": [
            {"name": "x"},
            {"frames": [{"name": "b.png", "sha256": HASH}, {"name": "c", "sha256": ""}]},
        ],
    }
    assert list(scene_files(scene)) == [("bpy:a.exr", HASH), ("b.png", HASH)]


@pytest.mark.parametrize("verb", ["stats", "head"])
def test_folder_that_is_no_corpus_is_one_line(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]):
    assert main([verb, str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_damaged_metadata_is_one_line(corpus: Path):
    shard = corpus / "train-000000.tar"
    content = bytearray(shard.read_bytes())
    content[600] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match="clip-000000: json does not have the SHA-256 in its marker"):
        head(corpus, num_clips=1, with_scene=False)
