"""The index: one row per clip, rebuilt when lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from focuspull.dataset.check import check_corpus
from focuspull.dataset.clip import Clip
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import RECORD_COLUMNS, SCHEMA, read_index, rebuild_index, write_index
from focuspull.dataset.shards import read_markers

NO_TIMES = dict.fromkeys(RECORD_COLUMNS)


def test_rows_describe_the_clips(corpus: Path):
    rows = read_index(corpus)
    assert [row["key"] for row in rows] == ["clip-000000", "clip-000001", "clip-000002"]
    row = rows[2]
    assert list(row) == SCHEMA.names
    assert (row["split"], row["shard"]) == ("val", "val-000000.tar")
    assert (row["width"], row["height"], row["num_frames"], row["fps"]) == (24, 16, 3, 24.0)
    assert row["num_targets"] == 2
    assert row["k_at_1024_min"] == row["k_at_1024_max"] == [100.0, 0.0]
    assert row["focus_disparity_min"] == [0.0, 0.0] and row["focus_disparity_max"] == [1.0, 1.0]
    assert (row["z_near_m"], row["z_far_m"]) == (1.0, None)
    assert (row["backend"], row["backend_version"], row["variant"]) == ("discs", "1.0", "cpu")
    assert (row["render_seconds"], row["render_cpu_seconds"]) == (1.5, 3.0)


def test_byte_range_holds_the_clip_and_nothing_else(corpus: Path, make_clip: Callable[..., Clip]):
    row = read_index(corpus)[1]
    clip = make_clip("clip-000001")
    payload = (corpus / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
    assert payload.startswith(b"clip-000001.json\0")
    assert len(payload) == sum(512 + -(-len(content) // 512) * 512 for _, content in clip.members)
    assert row["bytes"] == sum(len(content) for _, content in clip.members)


def test_rebuilt_index_lacks_only_render_times(corpus: Path):
    before = read_index(corpus)
    (corpus / "index.parquet").unlink()
    rebuild_index(corpus)
    assert read_index(corpus) == [row | NO_TIMES for row in before]


def test_publishing_restores_rows_of_a_lost_index(corpus: Path, make_clip: Callable[..., Clip], publish: Any):
    before = read_index(corpus)
    (corpus / "index.parquet").unlink()
    publish(corpus, "train-000001", [make_clip("clip-000009")])
    after = read_index(corpus)
    assert after[:3] == [row | NO_TIMES for row in before]
    assert (after[3]["key"], after[3]["render_seconds"]) == ("clip-000009", 1.5)


def test_publishing_drops_rows_of_shards_never_committed(
    corpus: Path, make_clip: Callable[..., Clip], publish: Any
):
    (corpus / "val-000000.json").unlink()
    publish(corpus, "train-000001", [make_clip("clip-000009")])
    assert [row["key"] for row in read_index(corpus)] == ["clip-000000", "clip-000001", "clip-000009"]


def test_rows_are_stored_sorted_by_key(corpus: Path):
    rows = read_index(corpus)
    write_index(corpus, reversed(rows))
    assert read_index(corpus) == rows


def test_equal_content_has_equal_members_hash(corpus: Path, tmp_path: Path, make_clip: Any, publish: Any):
    publish(tmp_path / "other", "train-000000", [make_clip("clip-000001")])
    assert read_index(tmp_path / "other")[0]["members_sha256"] == read_index(corpus)[1]["members_sha256"]
    hashes = {entry.members_sha256 for marker in read_markers(corpus) for entry in marker.clips}
    assert len(hashes) == 3


def test_missing_and_foreign_indexes_are_one_line(corpus: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"nothing/index\.parquet: is not there\. .*focuspull-dataset index"):
        read_index(tmp_path / "nothing")
    (corpus / "index.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"index\.parquet: cannot be read: .* Rebuild it with") as caught:
        read_index(corpus)
    assert "\n" not in str(caught.value)


def test_a_folder_without_shards_gets_no_index(tmp_path: Path):
    with pytest.raises(UserError, match="has no committed shard"):
        rebuild_index(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_an_index_from_before_some_cost_or_labels_were_recorded_is_read(corpus: Path):
    rows = read_index(corpus)
    path = corpus / "index.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["attempts"]), path, write_page_checksum=True)
    assert read_index(corpus) == [{**row, "attempts": None} for row in rows]
    labels = ["family", "stratum"]
    pq.write_table(pq.read_table(path).drop_columns(labels), path, write_page_checksum=True)
    assert read_index(corpus) == [{**row, "attempts": None} for row in rows]
    assert check_corpus(corpus) == []
    pq.write_table(pq.read_table(path).drop_columns(["split"]), path, write_page_checksum=True)
    with pytest.raises(UserError, match=r"has no column \['split'\]"):
        read_index(corpus)
