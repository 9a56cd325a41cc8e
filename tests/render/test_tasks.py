"""What the farm's machines do: shards packed from staged clips, and the files that scenes need."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from focuspull.dataset.errors import UserError
from focuspull.dataset.index import fold_rows, read_index
from focuspull.dataset.shards import read_staged, stage_clip
from focuspull.dataset.storage import Folder
from focuspull.render import tasks
from focuspull.render.heartbeat import RUN_BEAT, RunBeat
from focuspull.render.tasks import PackJob, fetch_files, pack_staged
from tests.dataset.conftest import make_clip

KEYS = ("clip-000000", "clip-000001")
RUN = RunBeat(host="a", pid=1, started_s=0, beat_s=0, workers=1, num_before=0, files={})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A corpus with two staged clips."""
    for key in KEYS:
        stage_clip(make_clip(key), tmp_path / "stage", record={"attempts": 1})
    return tmp_path


def job(out: Path, run: RunBeat = RUN) -> str:
    packing = PackJob(
        corpus=str(out),
        stage=str(out / "stage"),
        name="train-000000",
        keys=KEYS,
        spec_sha256="0" * 64,
        run=run,
    )
    return packing.model_dump_json()


def test_a_shard_is_packed_and_leaves_its_rows(out: Path):
    assert pack_staged(job(out)) == {"done": True, "unsound": (), "reason": ""}
    assert {path.name for path in out.iterdir()} == {"stage", "train-000000.tar", "train-000000.json"}
    assert [path.name for path in (out / "stage").iterdir()] == ["train-000000.rows"]
    fold_rows(out, out / "stage")
    assert [(row["key"], row["attempts"]) for row in read_index(out)] == [(key, 1) for key in KEYS]
    assert list((out / "stage").iterdir()) == []


def test_a_clip_that_is_gone_or_changed_is_named_and_not_staged_any_more(out: Path):
    (out / "stage" / "clip-000001.json").unlink()
    gone = pack_staged(job(out))
    assert (gone["done"], gone["unsound"]) == (False, ("clip-000001",))
    stage_again = out / "stage" / "clip-000001.json"
    marker = json.loads((out / "stage" / "clip-000000.json").read_text())
    stage_again.write_text(json.dumps(marker | {"key": "clip-000001"}))
    changed = pack_staged(job(out))
    assert (changed["done"], changed["unsound"]) == (False, ("clip-000001",))
    assert "clip-000001.tar: has changed since it was staged" in changed["reason"]
    assert list(read_staged(out / "stage")) == ["clip-000000"]
    assert not (out / "train-000000.json").exists()


def test_a_packer_of_a_run_that_was_taken_over_does_not_commit(out: Path):
    other = RUN.model_copy(update={"host": "b"})
    (out / "stage" / RUN_BEAT).write_text(other.model_dump_json())
    packed = pack_staged(job(out))
    assert packed["reason"] == "train-000000: another run has taken over. Leave it to that one."
    assert not packed["done"] and not (out / "train-000000.json").exists()
    assert list(read_staged(out / "stage")) == list(KEYS)
    assert pack_staged(job(out, other))["done"]


def test_files_of_scenes_come_from_where_they_are_or_from_the_staging_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tasks.tempfile, "gettempdir", lambda: str(tmp_path / "scratch"))
    stage, image = Folder(tmp_path / "stage"), tmp_path / "bricks.png"
    sha256 = hashlib.sha256(b"bricks").hexdigest()
    image.write_bytes(b"bricks")
    assert fetch_files(stage, {sha256: image}) == {sha256: image}
    # Another machine has another file there, or none.
    image.write_bytes(b"others")
    with pytest.raises(UserError, match=rf"{sha256}\.file: cannot be read"):
        fetch_files(stage, {sha256: image})
    stage.write(f"{sha256}.file", b"bricks")
    copy = fetch_files(stage, {sha256: image})[sha256]
    assert copy != image and copy.suffix == ".png" and copy.read_bytes() == b"bricks"
    stage.remove([f"{sha256}.file"])
    assert fetch_files(stage, {sha256: image}) == {sha256: copy}
    copy.write_bytes(b"changed")
    stage.write(f"{sha256}.file", b"damaged")
    with pytest.raises(UserError, match=r"\.file: has changed\. Run the same"):
        fetch_files(stage, {sha256: image})
