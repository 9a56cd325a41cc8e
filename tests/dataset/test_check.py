"""The check finds every planted fault, says where, and finds nothing in a sound corpus."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focuspull.dataset import codec
from focuspull.dataset.check import check_corpus
from focuspull.dataset.clip import Clip
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import read_index, write_index
from focuspull.dataset.markers import read_markers

SHARD = "train-000000.tar"


def _flip_byte(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def _only_problem(corpus: Path) -> str:
    problems = check_corpus(corpus)
    assert len(problems) == 1, problems
    assert "\n" not in problems[0]
    return problems[0]


def test_sound_corpus_has_no_problems(corpus: Path):
    assert check_corpus(corpus) == []


def test_folder_that_is_not_there_is_the_users_mistake(tmp_path: Path):
    with pytest.raises(UserError, match=r"nothing: is not a folder\. Give the folder of a corpus"):
        check_corpus(tmp_path / "nothing")


def test_empty_folder_says_how_to_make_a_corpus(tmp_path: Path):
    assert any(
        "has no shards. Make some with: focuspull-render run" in line for line in check_corpus(tmp_path)
    )


def test_flipped_byte_names_shard_clip_and_member(corpus: Path):
    (member,) = [m for m in read_markers(corpus)[0].clips[1].members if m.name == "disparity.002.png"]
    _flip_byte(corpus / SHARD, member.offset + member.size // 2)
    assert _only_problem(corpus) == (
        f"{SHARD}, clip-000001: disparity.002.png: its bytes do not have the SHA-256 in train-000000.json. "
        f"Render it again with: rm -f {corpus}/train-000000.*; focuspull-render run SPEC --out {corpus}"
    )


def test_damage_between_members_is_found(corpus: Path):
    _flip_byte(corpus / SHARD, (corpus / SHARD).stat().st_size - 1)
    assert re.match(
        rf"{SHARD}: must have SHA-256 \w+, has \w+, though all members are sound", _only_problem(corpus)
    )


def test_damaged_tar_header_is_found(corpus: Path):
    _flip_byte(corpus / SHARD, read_markers(corpus)[0].clips[1].offset)
    problems = check_corpus(corpus)
    assert problems[0].startswith(f"{SHARD}: ") and "tar" in problems[0]


@pytest.mark.parametrize("size", [0, 700, 20_000])
def test_truncated_shard_is_found(corpus: Path, size: int):
    full_size = (corpus / SHARD).stat().st_size
    os.truncate(corpus / SHARD, size)
    assert f"{SHARD}: must have {full_size} bytes, has {size}." in _only_problem(corpus)


def test_shard_with_reordered_clips_is_found(
    corpus: Path, make_clip: Callable[..., Clip], publish: Any, tmp_path: Path
):
    publish(tmp_path / "other", "train-000000", [make_clip("clip-000001"), make_clip("clip-000000")])
    os.replace(tmp_path / "other" / SHARD, corpus / SHARD)
    problems = check_corpus(corpus)
    assert (
        f"{SHARD}: must hold clip-000000.json, " in problems[0]
        and "; holds clip-000001.json, " in problems[0]
    )


def test_shard_that_lost_a_member_is_found(corpus: Path):
    path = corpus / SHARD
    with tarfile.open(path) as tar:
        kept = [(info, tar.extractfile(info)) for info in tar.getmembers()[:-1]]
        with tarfile.open(corpus / "rewritten", "w", format=tarfile.USTAR_FORMAT) as rewritten:
            for info, file in kept:
                rewritten.addfile(info, file)
    os.replace(corpus / "rewritten", path)
    if (
        path.stat().st_size < read_markers(corpus)[0].size
    ):  # padded to the same size, the tar itself must tell
        os.truncate(path, read_markers(corpus)[0].size)
    assert f"{SHARD}: must hold 32 members, holds 31." in _only_problem(corpus)


def test_shard_on_a_failing_disk_is_found(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tarfile, "open", fail)
    problems = check_corpus(corpus)
    assert [line.split(". ")[0] for line in problems] == [
        "train-000000.tar: cannot be read: Input/output error",
        "val-000000.tar: cannot be read: Input/output error",
    ]


def test_shard_without_marker_and_marker_without_shard_are_found(corpus: Path):
    (corpus / "val-000000.json").unlink()
    (corpus / SHARD).unlink()
    problems = check_corpus(corpus)
    assert any(line.startswith("val-000000.tar: has no commit marker val-000000.json.") for line in problems)
    assert any(line.startswith(f"train-000000.json: has no shard {SHARD}.") for line in problems)
    assert any("index.parquet, clip-000002: is in no shard with a commit marker" in line for line in problems)
    assert len(problems) == 3


def test_corrupt_marker_is_found(corpus: Path):
    (corpus / "train-000000.json").write_text("{}")
    assert "train-000000.json: is not a valid marker: shard: Field required" in _only_problem(corpus)


def test_foreign_tar_and_leftovers_are_found(corpus: Path):
    (corpus / "photos.tar").write_bytes(b"")
    (corpus / "staging" / ".tmp-clip-000004.tar-1234").write_bytes(b"half")
    problems = check_corpus(corpus)
    assert problems[0].startswith("photos.tar: is not the name of a shard")
    assert problems[1].startswith("staging/.tmp-clip-000004.tar-1234: was left by an interrupted writer.")
    assert len(problems) == 2


def test_shards_of_another_specification_are_found(corpus: Path):
    (corpus / "corpus.json").write_text(json.dumps({"spec_sha256": "cd" * 32}))
    problems = check_corpus(corpus)
    assert len(problems) == 2
    assert problems[0].startswith(
        "train-000000.json: spec_sha256 must be cdcdcdcdcdcd as in corpus.json, is "
    )


@pytest.mark.parametrize("content", [None, b"[]", b"{}", b"not json"])
def test_missing_or_broken_corpus_file_is_found(corpus: Path, content: bytes | None):
    (corpus / "corpus.json").unlink()
    if content is not None:
        (corpus / "corpus.json").write_bytes(content)
    assert re.match(
        r"corpus\.json: (cannot be read|is not a JSON object with 'spec_sha256')", _only_problem(corpus)
    )


def test_clip_in_two_shards_is_found(corpus: Path, make_clip: Callable[..., Clip], publish: Any):
    publish(corpus, "train-000001", [make_clip("clip-000000")])
    problems = check_corpus(corpus)
    assert "clip-000000: must be in one shard, is in 2. Remove all but one of them." in problems
    assert any("index.parquet, clip-000000: must have one row, has 2." in line for line in problems)


def test_swapped_index_rows_are_found(corpus: Path):
    rows = read_index(corpus)
    rows[0]["key"], rows[1]["key"] = rows[1]["key"], rows[0]["key"]
    write_index(corpus, rows)
    problems = check_corpus(corpus)
    assert len(problems) == 2
    for key, problem in zip(("clip-000000", "clip-000001"), problems, strict=True):
        assert (
            problem.startswith(f"index.parquet, {key}: does not agree with {SHARD}: ")
            and "offset=" in problem
        )


def test_lost_doubled_and_unknown_index_rows_are_found(corpus: Path):
    rows = read_index(corpus)
    write_index(corpus, [rows[0], rows[0], rows[1], rows[1] | {"key": "clip-000077"}])
    problems = check_corpus(corpus)
    assert [line.split(". ")[0] for line in problems] == [
        "index.parquet, clip-000000: must have one row, has 2",
        "index.parquet, clip-000002: must have one row, has 0",
        "index.parquet, clip-000077: is in no shard with a commit marker",
    ]


def test_lost_index_is_found(corpus: Path):
    (corpus / "index.parquet").unlink()
    assert "index.parquet: is not there." in _only_problem(corpus)


def test_render_times_may_be_null(corpus: Path):
    write_index(corpus, [row | {"render_seconds": None} for row in read_index(corpus)])
    assert check_corpus(corpus) == []


# Faults inside a clip, under hashes that agree: what a wrong renderer or encoder would have published.

GREY = codec.encode_rgb(np.full((16, 24, 3), 90, np.uint8))
BLACK = codec.encode_rgb(np.zeros((16, 24, 3), np.uint8))
HALF = codec.encode_disparity(np.full((16, 24), 0.5))
STRANGER = codec.encode_instance(np.full((16, 24), 7, np.uint16))
SMALL = codec.encode_rgb(np.zeros((8, 12, 3), np.uint8))


def _metadata(edit: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def forge(members: dict[str, bytes]) -> dict[str, bytes]:
        meta = json.loads(members["json"])
        edit(meta)
        return members | {"json": json.dumps(meta).encode()}

    return forge


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda m: m | {"aif.001.png": BLACK}, "aif.001.png: is all black."),
        (lambda m: m | {"aif.001.png": GREY}, "aif.001.png: is all of one colour, RGB [90, 90, 90]."),
        (lambda m: m | {"aif.001.png": SMALL}, "aif.001.png: rgb: must be 24x16, got 12x8."),
        (lambda m: m | {"aif.001.png": b"junk"}, "aif.001.png: rgb: 4 bytes cannot be decoded as PNG."),
        (lambda m: m | {"aif.001.png": HALF}, "aif.001.png: rgb: must be a PNG of 3 channel(s) of uint8"),
        (
            lambda m: m | dict.fromkeys([n for n in m if "disparity" in n], HALF),
            "spans [0.500008, 0.500008].",
        ),
        (lambda m: m | {"instance.002.png": STRANGER}, "instance.002.png: ids [7] are not in the metadata"),
        (
            lambda m: {n: c for n, c in m.items() if n != "bokeh1.002.png"},
            "missing ['bokeh1.002.png'], unknown [].",
        ),
        (lambda m: m | {"flow.000.png": GREY}, "holds 17; missing [], unknown ['flow.000.png']."),
        (lambda m: dict(reversed(m.items())), "must hold 16 members in the documented order, holds 16;"),
        (lambda m: m | {"json": b"{}"}, "json: key: Field required"),
        (_metadata(lambda m: m.update(split="test")), "json: split is test, but train in train-000001.json."),
        (_metadata(lambda m: m["disparity"].update(scale=0.9)), "json: disparity.scale does not follow"),
        (
            _metadata(lambda m: m["disparity"].update(z_far_m=0.5)),
            "json: disparity.z_near_m must be below z_far_m",
        ),
        (_metadata(lambda m: m["targets"][0].update(k=[1, 2, 3])), "json: bokeh0.k does not follow"),
        (
            _metadata(lambda m: m["targets"][1].update(k_at_1024=[0, 0, 1])),
            "bokeh1.k_at_1024 does not follow",
        ),
        (
            _metadata(lambda m: m["targets"][0]["focus_distance_m"].reverse()),
            "bokeh0.focus_distance_m (inverted)",
        ),
        (
            _metadata(lambda m: m["targets"][1].update(f_number=[2, 2, 2])),
            "bokeh1.f_number (inverted) does not",
        ),
        (
            _metadata(lambda m: m["camera"].update(focal_length_px=30)),
            "json: camera.focal_length_px does not",
        ),
    ],
)
def test_fault_inside_a_clip_is_found(
    corpus: Path, make_clip: Callable[..., Clip], publish: Any, forge: Callable[..., Any], message: str
):
    clip = make_clip("clip-000003")
    publish(corpus, "train-000001", [clip])
    forged = Clip(clip.meta, tuple(forge(dict(clip.members)).items()))
    _replace_shard(corpus, forged, publish)
    problems = check_corpus(corpus)
    inside = [line for line in problems if line.startswith("train-000001.tar, clip-000003: ")]
    assert inside and message in inside[0], problems
    assert all(line in inside or line.startswith("index.parquet, clip-000003: ") for line in problems)


def _replace_shard(corpus: Path, forged: Clip, publish: Any) -> None:
    """Pack a forged clip beside the corpus (its index may refuse it) and move shard and marker in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("focuspull.dataset.shards._row", lambda *_: None)
        patch.setattr("focuspull.dataset.shards.rows_bytes", lambda *_: b"")
        patch.setattr("focuspull.dataset.shards.fold_rows", lambda *_: None)
        publish(corpus / "forge", "train-000001", [forged])
    for suffix in (".tar", ".json"):
        os.replace(corpus / "forge" / f"train-000001{suffix}", corpus / f"train-000001{suffix}")
