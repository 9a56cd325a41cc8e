"""New corpora of old ones: what stays byte by byte, what changes, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from focuspull.dataset import rearrange
from focuspull.dataset.check import check_corpus
from focuspull.dataset.cli import main
from focuspull.dataset.clip import Clip, ClipMeta, encode_clip
from focuspull.dataset.copying import committed_clips
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import read_index
from focuspull.dataset.markers import read_members
from focuspull.dataset.rearrange import merge_corpora, parse_fractions, split_corpus

Publish = Callable[..., None]
HASH = "b" * 64


def _finish(corpus: Path) -> Path:
    """What the farm adds to the shards that `publish` writes."""
    (spec_sha256,) = {marker.spec_sha256 for marker, _ in committed_clips(corpus)}
    document = {"spec": {"name": corpus.name}, "spec_sha256": spec_sha256, "versions": {"discs": "1.0"}}
    (corpus / "corpus.json").write_text(json.dumps(document))
    shutil.rmtree(corpus / "staging", ignore_errors=True)
    return corpus


@pytest.fixture
def other(tmp_path: Path, make_clip: Callable[..., Clip], publish: Publish) -> Path:
    """A corpus with keys like those of `corpus`, other pixels, a split more, one clip per shard."""
    folder = tmp_path / "other"
    for number, split in enumerate(("train", "test")):
        # The key decides the pixels of the synthetic clips.
        clip = _renamed(make_clip(f"other-{number}", split=split), f"clip-{number:06d}")
        publish(folder, f"{split}-000000", [clip], seconds=7.0)
    return _finish(folder)


def _renamed(clip: Clip, key: str, **changes: Any) -> Clip:
    meta = clip.meta.model_copy(update={"key": key, **changes})
    return Clip(meta, (("json", rearrange.encode_meta(meta)), *clip.members[1:]))


@pytest.fixture
def scenes(
    tmp_path: Path,
    make_meta: Callable[..., ClipMeta],
    make_arrays: Callable[[ClipMeta], dict[str, Any]],
    publish: Publish,
) -> Callable[..., Path]:
    """Makes a corpus of given scenes, all in one split."""

    def make(name: str, *scenes: dict[str, Any], prefix: str = "clip") -> Path:
        clips = []
        for number, scene in enumerate(scenes):
            key = f"{prefix}-{number:06d}"
            meta = make_meta(key, k_at_1024=(16.0,), num_frames=1)
            sha256 = hashlib.sha256(json.dumps(scene).encode()).hexdigest()
            meta = meta.model_copy(update={"scene": scene, "scene_sha256": sha256})
            arrays = make_arrays(meta)
            arrays["aif"] = arrays["aif"] * (1 - number / 1000)
            arrays["bokeh"] = [arrays["bokeh"][0] * (1 - number / 1000)]
            clips.append(encode_clip(meta, **arrays))
        folder = tmp_path / name
        publish(folder, "train-000000", clips)
        return _finish(folder)

    return make


def _splits(corpus: Path) -> dict[str, str]:
    return {row["key"]: row["split"] for row in read_index(corpus)}


# --- Merge


def test_merged_corpus_is_sound(
    corpus: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "all"
    assert main(["merge", str(corpus), str(other), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 5 clips\n"
    assert check_corpus(out) == []
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["corpus.json", "index.parquet"]
        + [
            f"{name}.{kind}"
            for name in ("test-000000", "train-000000", "train-000001", "val-000000")
            for kind in ("json", "tar")
        ]
    )


def test_merged_clips_have_new_keys_and_the_pixels_they_had(corpus: Path, other: Path, tmp_path: Path):
    out = tmp_path / "all"
    merge_corpora([corpus, other], out)
    origins = json.loads((out / "corpus.json").read_bytes())["origins"]
    assert origins == {
        "clip-000000": "corpus/train/clip-000000",
        "clip-000001": "corpus/train/clip-000001",
        "clip-000002": "other/train/clip-000000",
        "clip-000003": "corpus/val/clip-000002",
        "clip-000004": "other/test/clip-000001",
    }
    sources = {
        f"{folder.name}/{clip.split}/{clip.key}": (folder, marker)
        for folder in (corpus, other)
        for marker, clip in committed_clips(folder)
    }
    for marker, clip in committed_clips(out):
        folder, old_marker = sources[origins[clip.key]]
        old = read_members(folder, old_marker, origins[clip.key].rpartition("/")[2])
        new = read_members(out, marker, clip.key)
        old_meta, new_meta = json.loads(old.pop("json")), json.loads(new.pop("json"))
        assert list(new.items()) == list(old.items())
        assert new_meta == old_meta | {"key": clip.key}


def test_merged_clips_keep_their_render_times(corpus: Path, other: Path, tmp_path: Path):
    merge_corpora([corpus, other], tmp_path / "all")
    times = {
        row["key"]: (row["render_seconds"], row["render_cpu_seconds"]) for row in read_index(tmp_path / "all")
    }
    assert times["clip-000001"] == (1.5, 3.0)
    assert times["clip-000002"] == (7.0, 14.0)


def test_same_sources_give_the_same_bytes(corpus: Path, other: Path, tmp_path: Path):
    for name in ("one", "two"):
        merge_corpora([corpus, other], tmp_path / name)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")
    )
    assert one == two


def test_the_hash_of_a_merged_corpus_covers_what_it_was_made_of(corpus: Path, other: Path, tmp_path: Path):
    merge_corpora([corpus, other], tmp_path / "one")
    merge_corpora([other, corpus], tmp_path / "two")
    one, two = (json.loads((tmp_path / name / "corpus.json").read_bytes()) for name in ("one", "two"))
    assert one["spec_sha256"] != two["spec_sha256"]
    assert [source["name"] for source in one["spec"]["sources"]] == ["corpus", "other"]
    assert one["spec"]["sources"][1]["spec"] == {"name": "other"}


def test_the_same_pixels_twice_are_refused_under_any_key(
    corpus: Path, tmp_path: Path, make_clip: Callable[..., Clip], publish: Publish
):
    folder = tmp_path / "again"
    publish(folder, "val-000000", [_renamed(make_clip("clip-000001"), "clip-000007", split="val")])
    with pytest.raises(
        UserError, match=r"again, clip-000007: has the same pixels as clip-000001 of .*/corpus\."
    ):
        merge_corpora([corpus, _finish(folder)], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_clips_of_other_members_are_refused(
    corpus: Path, tmp_path: Path, make_clip: Callable[..., Clip], publish: Publish
):
    folder = tmp_path / "longer"
    publish(folder, "train-000000", [make_clip("clip-000000", num_frames=4)])
    with pytest.raises(
        UserError, match=r"has 2 targets of 4 frames, clip-000000 of .* has 2 targets of 3 frames"
    ):
        merge_corpora([corpus, _finish(folder)], tmp_path / "all")


def test_one_corpus_cannot_be_merged(corpus: Path, tmp_path: Path):
    with pytest.raises(UserError, match="merge: needs two corpora or more"):
        merge_corpora([corpus], tmp_path / "all")


# --- Split


def test_split_corpus_is_sound_and_keeps_keys(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "new"
    arguments = [
        "split",
        str(corpus),
        "--out",
        str(out),
        "--fractions",
        "train=0.34,hold=0.66",
        "--seed",
        "3",
    ]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{out}: train 1, hold 2\n"
    assert check_corpus(out) == []
    assert sorted(_splits(out)) == sorted(_splits(corpus))
    origins = json.loads((out / "corpus.json").read_bytes())["origins"]
    assert origins["clip-000002"] == "corpus/val/clip-000002"


def test_clip_whose_split_stays_is_byte_identical(corpus: Path, tmp_path: Path):
    split_corpus(corpus, tmp_path / "new", fractions={"train": 1.0}, seed=0)
    before, after = (
        {clip.key: clip.members_sha256 for _, clip in committed_clips(folder)}
        for folder in (corpus, tmp_path / "new")
    )
    assert [key for key in before if before[key] != after[key]] == ["clip-000002"]


def test_counts_are_near_fractions(scenes: Callable[..., Path], tmp_path: Path):
    folder = scenes("many", *({"n": n} for n in range(40)))
    counts = split_corpus(folder, tmp_path / "new", fractions={"train": 0.8, "val": 0.1, "test": 0.1}, seed=0)
    assert counts == {"train": 32, "val": 4, "test": 4}


def test_split_depends_on_scenes_and_seed_alone(scenes: Callable[..., Path], tmp_path: Path):
    contents = [{"n": n} for n in range(12)]
    fractions = {"train": 0.5, "test": 0.5}
    one, two = scenes("one", *contents), scenes("two", *reversed(contents), prefix="other")
    for name, folder, seed in (("a", one, 1), ("b", two, 1), ("c", one, 2)):
        split_corpus(folder, tmp_path / name, fractions=fractions, seed=seed)
    by_scene = {
        name: {row["scene_sha256"]: row["split"] for row in read_index(tmp_path / name)}
        for name in ("a", "b", "c")
    }
    assert by_scene["a"] == by_scene["b"]
    assert by_scene["a"] != by_scene["c"]


@pytest.mark.parametrize("seed", range(4))
def test_clips_that_share_a_file_or_a_world_stay_together(
    scenes: Callable[..., Path], tmp_path: Path, seed: int
):
    mesh = {"file": {"name": "bunny.glb", "sha256": HASH}}
    image = {"file": {"name": "wall.png", "sha256": "c" * 64}}
    hdri = {"name": "bpy:studiolights/world/forest.exr", "sha256": "d" * 64}
    folder = scenes(
        "sharing",
        {"n": 0, "world": {"objects": [mesh]}},
        {"n": 1, "world": {"objects": [mesh, image]}},
        {"n": 2, "world": {"objects": [image]}},
        {"n": 3, "world": {"key": "the same"}},
        {"n": 4, "world": {"key": "the same"}},
        *({"n": n, "world": {"key": n, "environment": hdri}} for n in range(5, 10)),
    )
    split_corpus(folder, tmp_path / "new", fractions={"train": 0.5, "test": 0.5}, seed=seed)
    splits = _splits(tmp_path / "new")
    assert len({splits[f"clip-{n:06d}"] for n in range(3)}) == 1
    assert len({splits[f"clip-{n:06d}"] for n in (3, 4)}) == 1
    assert len({splits[f"clip-{n:06d}"] for n in range(5, 10)}) == 2, "bundled HDRIs tie nothing together"


def test_split_that_would_be_empty_is_refused(corpus: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"'b' with 0.01 of 3 clips would be empty"):
        split_corpus(corpus, tmp_path / "new", fractions={"a": 0.99, "b": 0.01}, seed=0)


def test_fractions_keep_their_order():
    assert list(parse_fractions("train=0.9, val=.05,test=5e-2").items()) == [
        ("train", 0.9),
        ("val", 0.05),
        ("test", 0.05),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train=0.9", "must have the sum 1, 'train=0.9' has 0.9"),
        ("train=0.5,train=0.5", "'train=0.5' must be a new name"),
        ("a-b=1", "'a-b=1' must be"),
        ("train", "'train' must be"),
        ("train=nan", "'train=nan' must be"),
        ("train=1,val=0", "'val=0' must be"),
        ("", "'' must be"),
    ],
)
def test_wrong_fractions_are_named(text: str, message: str):
    with pytest.raises(UserError, match=message):
        parse_fractions(text)


# --- Both


def test_corpora_made_here_can_be_taken_further(corpus: Path, other: Path, tmp_path: Path):
    merge_corpora([corpus, other], tmp_path / "all")
    split_corpus(tmp_path / "all", tmp_path / "final", fractions={"train": 0.6, "test": 0.4}, seed=0)
    document = json.loads((tmp_path / "final" / "corpus.json").read_bytes())
    assert check_corpus(tmp_path / "final") == []
    assert document["origins"]["clip-000002"] == "all/other/train/clip-000000"
    assert document["spec"]["sources"][0]["spec"]["operation"] == "merge"


def test_folder_with_something_in_it_is_left_alone(corpus: Path, other: Path, tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already and is not empty"):
        merge_corpora([corpus, other], out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_interrupted_run_leaves_nothing(
    corpus: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    published = []

    def interrupt(folder: Path, name: str, *_: Any, **__: Any) -> None:
        published.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(rearrange, "publish_shard", interrupt)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        merge_corpora([corpus, other], tmp_path / "all")
    assert published == ["train-000000"]
    assert sorted(tmp_path.iterdir()) == before


def test_damaged_pixels_are_not_given_a_new_hash(corpus: Path, tmp_path: Path):
    shard = corpus / "val-000000.tar"
    content = bytearray(shard.read_bytes())
    ((_, clip),) = committed_clips(corpus, split="val")
    content[clip.members[5].offset + 50] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"clip-000002: .*png does not have the SHA-256 in its marker"):
        split_corpus(corpus, tmp_path / "new", fractions={"train": 1.0}, seed=0)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"spec_sha256": 3}'])
def test_corpus_without_description_is_one_line(corpus: Path, tmp_path: Path, content: str | None):
    path = corpus / "corpus.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(
        UserError, match=r"corpus\.json: (cannot be read|is not a JSON object with 'spec_sha256')"
    ):
        split_corpus(corpus, tmp_path / "new", fractions={"train": 1.0}, seed=0)


@pytest.mark.mitsuba
def test_farm_refuses_to_render_into_such_a_corpus(corpus: Path, tmp_path: Path):
    pytest.importorskip("mitsuba")
    from focuspull.render.corpus import load_corpus
    from focuspull.render.ledger import read_ledger

    split_corpus(corpus, tmp_path / "new", fractions={"train": 1.0}, seed=0)
    with pytest.raises(
        UserError, match='was begun with another spec: operation: "split" there, nothing asked'
    ):
        read_ledger(load_corpus("tiny").spec, tmp_path / "new")
