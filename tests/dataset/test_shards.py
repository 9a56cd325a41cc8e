"""Shards: byte stability, atomic publishing, and reading by range."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from focuspull.dataset import shards
from focuspull.dataset.clip import Clip, member_names
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import fold_rows, read_index
from focuspull.dataset.shards import (
    publish_shard,
    read_markers,
    read_members,
    read_staged,
    stage_clip,
    write_atomic,
)
from focuspull.dataset.storage import Folder

SPEC_SHA256 = "ab" * 32


def _plain_tar(clips: list[Clip]) -> bytes:
    """The same shard, written by the standard library alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for clip in clips:
            for name, content in clip.members:
                info = tarfile.TarInfo(f"{clip.meta.key}.{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_shard_equals_a_tar_written_directly(tmp_path: Path, make_clip: Callable[..., Clip], publish: Any):
    clips = [make_clip(f"clip-{index:06d}") for index in range(3)]
    publish(tmp_path, "train-000000", clips)
    assert (tmp_path / "train-000000.tar").read_bytes() == _plain_tar(clips)


def test_staged_clip_is_a_tar_of_its_own(tmp_path: Path, make_clip: Callable[..., Clip]):
    clip = make_clip()
    stage_clip(clip, tmp_path / "staging", record={})
    staged = read_staged(tmp_path / "staging")["clip-000000"]
    assert (tmp_path / "staging" / staged.tar).read_bytes() == _plain_tar([clip])


def test_bytes_depend_on_clips_alone(tmp_path: Path, make_clip: Callable[..., Clip], publish: Any):
    """Not on render times, staging order, or time of day."""
    a, b = make_clip("clip-000000"), make_clip("clip-000001")
    publish(tmp_path / "first", "train-000000", [a, b], seconds=1.0)
    stage_clip(b, tmp_path / "elsewhere", record={"render_seconds": 9.0, "attempts": 3})
    stage_clip(a, tmp_path / "elsewhere", record={"render_seconds": 7.0})
    staged = read_staged(tmp_path / "elsewhere")
    (spec_sha256,) = {marker.spec_sha256 for marker in read_markers(tmp_path / "first")}
    publish_shard(tmp_path / "second", "train-000000", list(staged.values()), spec_sha256=spec_sha256)
    for name in ("train-000000.tar", "train-000000.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert b"seconds" not in (tmp_path / "first" / "train-000000.json").read_bytes()


def test_publishing_leaves_only_shard_marker_and_index(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Any
):
    publish(tmp_path, "train-000000", [make_clip()])
    assert _files(tmp_path) == ["index.parquet", "train-000000.json", "train-000000.tar"]


def test_members_are_read_back_by_range(corpus: Path, make_clip: Callable[..., Clip]):
    expected = dict(make_clip("clip-000001").members)
    marker = read_markers(corpus)[0]
    assert read_members(corpus, marker, "clip-000001") == expected
    wanted = ["disparity.002.png", "json"]
    found = read_members(corpus, marker, "clip-000001", wanted)
    assert list(found) == wanted and found["json"] == expected["json"]


def test_window_of_one_stream_is_one_byte_range(corpus: Path):
    """Between the members of a window lie only the next one's header and padding."""
    members = {member.name: member for member in read_markers(corpus)[0].clips[1].members}
    for stream in ("aif", "bokeh0", "bokeh1", "disparity", "instance"):
        window = [members[f"{stream}.{frame:03d}.png"] for frame in range(3)]
        for before, after in zip(window, window[1:], strict=False):
            assert after.offset == before.end + 512


def test_markers_come_sorted_and_other_json_files_are_not_markers(corpus: Path):
    assert [marker.name for marker in read_markers(corpus)] == ["train-000000", "val-000000"]
    assert (corpus / "corpus.json").exists()


def test_clip_or_member_that_is_not_there_is_named(corpus: Path):
    marker = read_markers(corpus)[0]
    with pytest.raises(ValueError, match=r"train-000000\.tar: has no clip 'clip-9'"):
        read_members(corpus, marker, "clip-9")
    with pytest.raises(ValueError, match=r"clip-000000: has no member 'aif\.007\.png'"):
        read_members(corpus, marker, "clip-000000", ["aif.007.png"])


def test_reading_past_the_end_says_truncated(corpus: Path):
    marker = read_markers(corpus)[0]
    os.truncate(corpus / marker.shard, 2000)
    with pytest.raises(UserError, match=r"train-000000\.tar: is truncated: \d+ bytes at \d+ were asked for"):
        read_members(corpus, marker, "clip-000001")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not a valid marker: Invalid JSON"),
        (b"{}", "is not a valid marker: shard: Field required"),
        (None, "is the marker of train-000000.tar, not of train-000007.tar"),
    ],
)
def test_corrupt_marker_is_one_line(corpus: Path, content: bytes | None, message: str):
    path = corpus / "train-000007.json"
    path.write_bytes((corpus / "train-000000.json").read_bytes() if content is None else content)
    with pytest.raises(UserError, match=message) as caught:
        read_markers(corpus)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_clip_with_marker_but_wrong_size_is_not_staged(tmp_path: Path, make_clip: Callable[..., Clip]):
    for key in ("clip-000000", "clip-000001", "clip-000002"):
        stage_clip(make_clip(key), tmp_path, record={})
    os.truncate(tmp_path / "clip-000000.tar", 1000)
    (tmp_path / "clip-000001.json").unlink()
    assert list(read_staged(tmp_path)) == ["clip-000002"]
    assert read_staged(tmp_path / "nothing") == {}


def test_staging_again_replaces_the_first_attempt(tmp_path: Path, make_clip: Callable[..., Clip]):
    stage_clip(make_clip(), tmp_path, record={"render_seconds": 1})
    stage_clip(make_clip(num_frames=2), tmp_path, record={"render_seconds": 2})
    staged = read_staged(tmp_path)["clip-000000"]
    assert staged.marker.record == {"render_seconds": 2}
    assert [member.name for member in staged.marker.members] == member_names(2, 2)


def test_second_attempt_cut_short_is_not_vouched_for_by_the_first(
    tmp_path: Path, make_clip: Callable[..., Clip], monkeypatch: pytest.MonkeyPatch
):
    stage_clip(make_clip(), tmp_path, record={})

    def stop(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "StagedMarker", stop)
    with pytest.raises(KeyboardInterrupt):
        stage_clip(make_clip(), tmp_path, record={})
    monkeypatch.undo()
    assert (tmp_path / "clip-000000.tar").exists()
    assert read_staged(tmp_path) == {}


def test_staged_clip_that_changed_is_not_published(tmp_path: Path, make_clip: Callable[..., Clip]):
    stage_clip(make_clip(), tmp_path / "staging", record={})
    staged = read_staged(tmp_path / "staging")["clip-000000"]
    path = tmp_path / "staging" / staged.tar
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"clip-000000\.tar: has changed since it was staged"):
        publish_shard(tmp_path / "corpus", "train-000000", [staged], spec_sha256=SPEC_SHA256)
    assert _files(tmp_path / "corpus") == []


@pytest.mark.parametrize(
    ("name", "copies"), [("train", 1), ("train.000000", 1), ("train-000000", 2), ("train-000000", 0)]
)
def test_shards_that_could_not_be_read_are_refused(
    tmp_path: Path, make_clip: Callable[..., Clip], name: str, copies: int
):
    stage_clip(make_clip(), tmp_path / "staging", record={})
    staged = list(read_staged(tmp_path / "staging").values()) * copies
    with pytest.raises(ValueError, match="must look like|every clip once"):
        publish_shard(tmp_path / "corpus", name, staged, spec_sha256=SPEC_SHA256)
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize("step", ["write .tar", "write .rows", "write .json", "remove .json", "remove .tar"])
def test_publishing_interrupted_at_any_step_can_be_repeated(
    tmp_path: Path, make_clip: Callable[..., Clip], publish: Any, monkeypatch: pytest.MonkeyPatch, step: str
):
    clip = make_clip("clip-000001")
    publish(tmp_path / "sound", "train-000000", [make_clip()])
    publish(tmp_path / "sound", "train-000001", [clip])
    publish(tmp_path / "corpus", "train-000000", [make_clip()])
    stage_clip(clip, tmp_path / "staging", record={"render_seconds": 1.5, "render_cpu_seconds": 3.0})
    staged = list(read_staged(tmp_path / "staging").values())
    (spec_sha256,) = {marker.spec_sha256 for marker in read_markers(tmp_path / "corpus")}

    verb, suffix = step.split()
    act = getattr(Folder, verb)

    def stop(folder: Folder, names: Any, *rest: Any) -> Any:
        names = names if isinstance(names, str) else list(names)
        if (names if isinstance(names, str) else names[0]).endswith(suffix):
            raise KeyboardInterrupt
        return act(folder, names, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Folder, verb, stop)
        publish_shard(tmp_path / "corpus", "train-000001", staged, spec_sha256=spec_sha256)
    committed = (tmp_path / "corpus" / "train-000001.json").exists()
    assert committed == (verb == "remove")
    if step != "remove .tar":
        assert list(read_staged(tmp_path / "staging")) == ["clip-000001"]
        publish_shard(tmp_path / "corpus", "train-000001", staged, spec_sha256=spec_sha256)
    else:  # what a run does that finds the shard committed
        fold_rows(tmp_path / "corpus", tmp_path / "staging")
        (tmp_path / "staging" / "clip-000001.tar").unlink()
    assert _files(tmp_path / "corpus") == _files(tmp_path / "sound")
    assert _files(tmp_path / "staging") == []
    assert read_index(tmp_path / "corpus") == read_index(tmp_path / "sound")


def test_writer_that_fails_halfway_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the new")
        raise RuntimeError("the writer broke")

    with pytest.raises(RuntimeError, match="the writer broke"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert _files(tmp_path) == ["file"]
    write_atomic(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_full_disk_is_one_line_with_path_and_remedy(tmp_path: Path):
    def fill(file: BinaryIO) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(
        UserError, match=r"clip\.tar: cannot be written: No space left on device\. Free some space"
    ):
        write_atomic(tmp_path / "clip.tar", fill)
    assert _files(tmp_path) == []


def test_path_below_a_file_is_one_line_with_remedy(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written: .* Choose a path whose parents are folders"):
        write_atomic(tmp_path / "file" / "below", b"")


def test_folder_in_the_way_is_one_line_with_remedy(tmp_path: Path):
    (tmp_path / "name").mkdir()
    with pytest.raises(
        UserError, match=r"cannot be written: Is a directory\. Choose a path that is not a folder"
    ):
        write_atomic(tmp_path / "name", b"")
    assert _files(tmp_path) == []


def test_marker_offsets_point_at_contents(corpus: Path):
    shard = (corpus / "val-000000.tar").read_bytes()
    marker = json.loads((corpus / "val-000000.json").read_bytes())
    with tarfile.open(corpus / "val-000000.tar") as tar:
        for info, member in zip(tar, marker["clips"][0]["members"], strict=True):
            assert (info.offset_data, info.size) == (member["offset"], member["size"])
            file = tar.extractfile(info)
            assert file is not None
            assert file.read() == shard[member["offset"] : member["offset"] + member["size"]]
