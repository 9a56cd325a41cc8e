"""What a folder has of a spec, and the folders that a run refuses."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from focuspull.dataset.errors import UserError
from focuspull.dataset.storage import Folder
from focuspull.render import ledger
from focuspull.render.corpus import CorpusSpec, LoadedCorpus, load_corpus
from focuspull.render.failures import Quarantined
from focuspull.render.heartbeat import RunBeat, write_beat


def begin(out: Path, spec: str, **overrides: str) -> None:
    """Make the folder of a corpus with a shard that was being written."""
    out.mkdir(exist_ok=True)
    (out / "train-000000.tar").write_bytes(b"")
    (out / "corpus.json").write_bytes(ledger.describe_corpus(load_corpus(spec, overrides).spec))


def test_of_an_empty_or_missing_folder_everything_is_left(wee: str, tmp_path: Path):
    spec = load_corpus(wee).spec
    for folder in (tmp_path, tmp_path / "missing"):
        assert ledger.read_ledger(spec, folder) == ledger.Ledger(frozenset(), frozenset(), (0, 1, 2))
    assert not (tmp_path / "missing").exists()


def test_the_same_spec_is_taken(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    assert ledger.read_ledger(load_corpus(wee).spec, tmp_path).left == (0, 1, 2)


def test_the_description_says_what_was_asked_for(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    document = json.loads((tmp_path / "corpus.json").read_bytes())
    assert document["format"] == "focuspull-corpus-1"
    assert document["spec"]["film"]["width"] == 64
    assert document["spec_sha256"] == ledger.spec_sha256(load_corpus(wee).spec)
    assert document["versions"].keys() == {"mitsuba", "variant", "focuspull"}


def test_another_spec_is_refused_with_the_fields_that_differ(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    asked = load_corpus(wee, {"film.width": "256", "seed": "3", "targets.1.focus": "[0.0, subject]"}).spec
    with pytest.raises(UserError) as caught:
        ledger.read_ledger(asked, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: was begun with another spec: seed: 0 there, 3 asked; film.width: 64 there, 256 asked; "
        'targets.1.focus.1: nothing there, "subject" asked. Choose another --out.'
    )


def test_another_spec_is_taken_while_nothing_is_rendered(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    (tmp_path / "train-000000.tar").unlink()
    spec = load_corpus(wee, {"film.width": "256"}).spec
    assert ledger.read_ledger(spec, tmp_path).left == (0, 1, 2)
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "clip-000001.tar").write_bytes(b"")
    with pytest.raises(UserError, match=r"film\.width: 64 there, 256 asked"):
        ledger.read_ledger(spec, tmp_path)


def test_a_long_list_of_differences_is_cut(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    with pytest.raises(UserError, match=r"and \d+ more\. Choose another --out\.$") as caught:
        ledger.read_ledger(load_corpus("demo").spec, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(" there, ") == ledger.MAX_DIFFERENCES


def test_splits_in_another_order_number_the_clips_in_another_way(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    with pytest.raises(UserError, match="another spec: splits: in another order"):
        ledger.read_ledger(load_corpus(wee, {"splits": "{val: 1, train: 2}"}).spec, tmp_path)


def test_other_versions_are_refused(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    path = tmp_path / "corpus.json"
    document = json.loads(path.read_bytes())
    document["versions"]["mitsuba"] = "3.0.0"
    path.write_text(json.dumps(document))
    spec = load_corpus(wee).spec
    with pytest.raises(
        UserError, match=r'other versions, .*: mitsuba: "3.0.0" there, "3\.\d+\.\d+" asked. .* --any-versions'
    ):
        ledger.read_ledger(spec, tmp_path)
    # By option they are recorded, once, and the next run with them is nothing new.
    found = ledger.read_ledger(spec, tmp_path, any_versions=True)
    assert [versions["mitsuba"] for versions in found.other_versions] == ["3.0.0"]
    path.write_bytes(ledger.describe_corpus(spec, found.other_versions))
    document = json.loads(path.read_bytes())
    assert document["versions"]["mitsuba"] == "3.0.0"
    assert document["other_versions"] == [ledger.versions_here(spec)]
    again = ledger.read_ledger(spec, tmp_path)
    assert ledger.describe_corpus(spec, again.other_versions) == path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"spec": 1}', b"\xff"])
def test_a_file_that_describes_no_corpus_is_refused(wee: str, tmp_path: Path, content: bytes):
    begin(tmp_path, wee)
    (tmp_path / "corpus.json").write_bytes(content)
    with pytest.raises(UserError, match=r"corpus\.json: is not the description of a corpus"):
        ledger.read_ledger(load_corpus(wee).spec, tmp_path)


def test_a_disk_that_is_too_small_is_refused_with_both_sizes(
    wee: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    spec = load_corpus(wee, {"film.width": "1024", "film.height": "1024", "film.num_frames": "100"}).spec
    # 100 frames, 3 colour streams and 4 bytes more per pixel; 3 clips and a shard of one that is packed.
    assert 4 * ledger.clip_bytes(spec) == pytest.approx(4 * 0.6 * 100 * 1024**2 * 13, rel=0.01)
    monkeypatch.setattr(ledger, "free_bytes", lambda folder: 10**9)
    with pytest.raises(UserError, match=r"3 clips need up to 3\.3 GB, but 1\.0 GB are free"):
        ledger.refuse_full_disk(spec, tmp_path, 3)
    ledger.refuse_full_disk(spec, tmp_path, 0)
    monkeypatch.setattr(ledger, "free_bytes", lambda folder: 10**10)
    ledger.refuse_full_disk(spec, tmp_path, 3)


def test_free_space_is_asked_of_the_nearest_folder_that_exists(tmp_path: Path):
    assert ledger.free_bytes(tmp_path / "a" / "b") > 0


def test_two_runs_in_one_folder_are_refused(tmp_path: Path):
    second = ledger.only_run(tmp_path)
    with ledger.only_run(tmp_path), pytest.raises(UserError, match="another run is writing there"):
        second.__enter__()
    with ledger.only_run(tmp_path):
        pass


def test_what_killed_runs_left_is_swept(wee: str, tmp_path: Path):
    stage = tmp_path / "stage"
    stage.mkdir()
    leftovers = [tmp_path / ".tmp-train-000000.tar-1a"]
    leftovers += [
        stage / name for name in (".tmp-a", "clip-000000.tar", "clip-000001.log", "clip-000001.job")
    ]
    kept = [tmp_path / "notes.txt", stage / "clip-000002.tar", stage / "clip-000002.json"]
    for path in (*leftovers, *kept):
        path.write_text("")
    ledger.sweep(tmp_path, ledger.Ledger(frozenset(), frozenset({2}), (0, 1)))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_description_that_cannot_be_read_is_one_line(wee: str, tmp_path: Path):
    begin(tmp_path, wee)
    (tmp_path / "corpus.json").chmod(0)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        ledger.read_ledger(load_corpus(wee).spec, tmp_path)


def test_what_a_folder_was_begun_with_is_read_back_with_its_files(tmp_path: Path):
    spec, image = spec_with_a_file(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "corpus.json").write_bytes(ledger.describe_corpus(spec))
    with pytest.raises(UserError, match=r"corpus\.json: no run has left word where 'bricks\.png' lies\. Run"):
        ledger.load_begun(out)
    (out / "stage").mkdir()
    files = {hashlib.sha256(image.read_bytes()).hexdigest(): image}
    beat = RunBeat(host="a", pid=1, started_s=0, beat_s=0, workers=1, num_before=0, files=files)
    write_beat(Folder(out / "stage"), "run.beat", beat)
    assert ledger.load_begun(out) == LoadedCorpus(spec, files)
    image.write_bytes(b"another")
    with pytest.raises(UserError, match=r"bricks\.png: has changed since the corpus was begun\. Put"):
        ledger.load_begun(out)
    image.unlink()
    with pytest.raises(UserError, match=r"bricks\.png: cannot be read: No such file or directory\. Put"):
        ledger.load_begun(out)


def spec_with_a_file(folder: Path) -> tuple[CorpusSpec, Path]:
    """A spec that names an image, and the image."""
    image = folder / "bricks.png"
    image.write_bytes(b"not looked into")
    material = f"{{base_color: {{type: image, file: {image}}}}}"
    box = f"{{name: box, role: subject, shape: {{type: sphere, radius_m: 1}}, material: {material}}}"
    camera = "{path: {type: dolly, position_m: [0, -4, 1], look_at_m: [0, 0, 0], offset_m: [0.1, 0, 0]}}"
    world = f"{{objects: [{box}], camera: {camera}}}"
    path = folder / "spec.yaml"
    path.write_text(
        "{name: one, seed: 0, splits: {train: 1}, targets: [{k_at_1024: 8, focus: [subject]}], "
        f"scenes: [{{family: world, world: {world}}}]}}"
    )
    return load_corpus(str(path)).spec, image


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not the description of a corpus. Give the folder"),
        ('{"spec": {}}', "spec: name: Field required"),
        (None, "the field 'spec' has another hash than 'spec_sha256' says. Restore"),
    ],
)
def test_a_description_that_is_not_what_a_run_wrote_is_one_line(
    wee: str, tmp_path: Path, content: str | None, message: str
):
    begin(tmp_path, wee)
    path = tmp_path / "corpus.json"
    path.write_text(content or path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError) as caught:
        ledger.read_spec(tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}") and "\n" not in str(caught.value)


def test_reports_of_quarantined_clips_are_kept(tmp_path: Path):
    stage = tmp_path / "stage"
    stage.mkdir()
    for name in ("clip-000000.log", "clip-000000.job", "clip-000001.log", "clip-000001.beat", "run.beat"):
        (stage / name).write_text("")
    clip = Quarantined(key="clip-000000", scene_sha256=None, failure="error", reason="", attempts=2, log=None)
    ledger.sweep(tmp_path, ledger.Ledger(frozenset(), frozenset(), (1,), {0: clip}))
    assert sorted(path.name for path in stage.iterdir()) == ["clip-000000.job", "clip-000000.log", "run.beat"]
