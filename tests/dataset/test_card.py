"""The card and the Croissant document: what others' software makes of them, and what they say."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from focuspull.dataset.card import write_card
from focuspull.dataset.check import check_corpus
from focuspull.dataset.cli import main
from focuspull.dataset.clip import Clip, ClipMeta, encode_clip, member_names
from focuspull.dataset.copying import committed_clips
from focuspull.dataset.croissant import COLUMNS
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import SCHEMA, read_index, rebuild_index
from focuspull.dataset.shards import publish_shard, read_staged, stage_clip

FILES = [
    {"name": "bpy:studiolights/world/forest.exr", "sha256": "a" * 64},
    {"name": "bpy:fonts/some.ttf", "sha256": "b" * 64},
    {"name": "bunny|2.glb", "sha256": "c" * 64},
]


def _head(corpus: Path) -> dict[str, Any]:
    """The YAML front matter, as the Hub reads it."""
    _, head, _ = (corpus / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head)


def _body(corpus: Path) -> str:
    return (corpus / "README.md").read_text().split("---\n", 2)[2]


@pytest.fixture
def mixed(
    tmp_path: Path, make_meta: Callable[..., ClipMeta], make_arrays: Callable[[ClipMeta], dict[str, Any]]
) -> Path:
    """A corpus as it is rendered: scenes differ in type, ids in name, and one split has no usual name."""
    colors: list[Any] = [[0.1, 0.2, 0.3], {"type": "wood", "color_a": [1, 0, 0]}, 0.5]
    folder = tmp_path / "mixed"
    spec_sha256 = hashlib.sha256(b"mixed").hexdigest()
    for number, (color, split) in enumerate(zip(colors, ("train", "train", "extra"), strict=True)):
        meta = make_meta(f"clip-{number:06d}", split=split)
        scene = {"world": {"base_color": color, "files": FILES[: number + 1]}, "film": {"shutter": 0.5}}
        meta = meta.model_copy(update={"scene": scene, "instances": {f"thing-{number}": 1}})
        stage_clip(
            encode_clip(meta, **make_arrays(meta)), folder / "stage", record={"render_cpu_seconds": 3600}
        )
    staged = read_staged(folder / "stage")
    for name, clips in (("train-000000", ("clip-000000", "clip-000001")), ("extra-000000", ("clip-000002",))):
        publish_shard(folder, name, [staged[key] for key in clips], spec_sha256=spec_sha256)
    spec = {"name": "mixed", "text": "{{licences}}"}
    (folder / "corpus.json").write_text(json.dumps({"spec": spec, "spec_sha256": spec_sha256}))
    return folder


# --- Others' software


@pytest.mark.parametrize("streaming", [True, False])
def test_hugging_face_datasets_loads_the_folder(
    mixed: Path, tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    write_card(mixed, name=None, license_id="other")
    splits: Any = datasets.load_dataset(str(mixed), streaming=streaming, cache_dir=str(tmp_path / "cache"))
    assert sorted(splits) == ["extra", "train"]
    assert list(splits["train"].features) == [*member_names(2, 3), "__key__", "__url__"]
    clips = list(splits["train"])
    assert [clip["__key__"] for clip in clips] == ["clip-000000", "clip-000001"]
    assert clips[1]["json"]["scene"]["world"]["base_color"]["type"] == "wood"
    assert clips[1]["json"]["instances"] == {"thing-1": 1}
    assert np.asarray(clips[0]["bokeh1.002.png"]).shape == (16, 24, 3)
    assert np.asarray(clips[0]["disparity.000.png"]).max() == 65535


def test_every_code_block_of_the_card_runs_in_its_folder(mixed: Path, tmp_path: Path):
    write_card(mixed, name=None, license_id="other")
    blocks = re.findall(r"```python\n(.*?)```", _body(mixed), re.DOTALL)
    assert len(blocks) == 3
    assert "focuspull" not in "".join(blocks)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    code = "print('---')\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=mixed, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with_webdataset, with_datasets, with_index = done.stdout.split("---\n")
    assert [line.split()[0] for line in with_webdataset.splitlines()] == ["clip-000000", "clip-000001"]
    assert [line.split()[0] for line in with_datasets.splitlines()] == ["clip-000000", "clip-000001"]
    assert with_index.count("'shard': 'train-000000.tar'") == 2 and with_index.count("extra-000000.tar") == 1


@pytest.mark.parametrize("rebuilt", [False, True], ids=["", "without render times"])
def test_croissant_validates_and_streams_every_clip(mixed: Path, rebuilt: bool):
    import mlcroissant

    if rebuilt:
        rebuild_index(mixed)
    write_card(mixed, name="mixed bokeh", license_id="cc-by-4.0")
    dataset = mlcroissant.Dataset(jsonld=str(mixed / "croissant.json"))
    assert not dataset.metadata.issues.errors
    assert {warning.split('"')[1].rpartition("/")[2] for warning in dataset.metadata.issues.warnings} == {
        "citeAs",
        "datePublished",
    }
    records = list(dataset.records("clips"))
    rows = read_index(mixed)
    assert [record["clips/key"] for record in records] == [row["key"].encode() for row in rows]
    assert [record["clips/shard"] for record in records] == [row["shard"].encode() for row in rows]
    assert [record["clips/k_at_1024_max"] for record in records] == [row["k_at_1024_max"] for row in rows]
    assert [record["splits/name"] for record in dataset.records("splits")] == ["extra", "train"]


def test_croissant_names_every_file_with_its_hash(mixed: Path):
    write_card(mixed, name=None, license_id="other")
    document = json.loads((mixed / "croissant.json").read_bytes())
    files = {
        part["contentUrl"]: part for part in document["distribution"] if part["@type"] == "cr:FileObject"
    }
    assert sorted(files) == ["extra-000000.tar", "index.parquet", "train-000000.tar"]
    for name, part in files.items():
        content = (mixed / name).read_bytes()
        assert part["sha256"] == hashlib.sha256(content).hexdigest()
        assert part["contentSize"] == f"{len(content)} B"
    assert list(COLUMNS) == SCHEMA.names


# --- What it says


def test_front_matter_describes_the_data_set(corpus: Path):
    assert main(["card", str(corpus), "--name", "Small: bokeh", "--license", "CC-BY-4.0"]) == 0
    head = _head(corpus)
    assert head["pretty_name"] == "Small: bokeh"
    assert head["license"] == "cc-by-4.0"
    assert head["size_categories"] == ["n<1K"]
    assert head["configs"][0]["data_files"] == [
        {"split": "train", "path": "train-[0-9]*.tar"},
        {"split": "val", "path": "val-[0-9]*.tar"},
    ]


def test_table_of_members_has_every_stream(corpus: Path):
    write_card(corpus, name=None, license_id="other")
    for line in (
        "| `aif.000.png` ... `aif.002.png` | [16, 24, 3] | uint8 |",
        "| `bokeh1.000.png` ... `bokeh1.002.png` | [16, 24, 3] | uint8 |",
        "| `disparity.000.png` ... `disparity.002.png` | [16, 24] | uint16 |",
        "| `instance.000.png` ... `instance.002.png` | [16, 24] | uint16 |",
    ):
        assert line in _body(corpus)


def test_coverage_counts_videos(corpus: Path):
    write_card(corpus, name=None, license_id="other")
    body = _body(corpus)
    # Two targets per clip, K of 0 and of 100, both pulled from disparity 1 to 0.
    assert "| 0 to 1 | 2 | 1 |" in body and "| 96 to 128 | 2 | 1 |" in body and "| 12 to 16 | 0 | 0 |" in body
    assert body.count("| 4 | 2 |\n") >= 10


def test_noise_and_its_limits_are_told(corpus: Path):
    write_card(corpus, name=None, license_id="other")
    assert "| AIF | 3 | 45.0 | 45.0 | 45.0 | 0 | 0 |" in _body(corpus)
    assert "| bokeh | 6 | 40.0 | 40.5 | 41.0 | 0 | 0 |" in _body(corpus)
    assert "below 35 dB, the noisiest" not in _body(corpus)


def test_licences_of_files_are_summed_up(mixed: Path):
    write_card(mixed, name=None, license_id="other")
    body = _body(mixed)
    assert "1 HDRIs that come with Blender, by Poly Haven, CC0: `forest.exr`." in body
    assert "1 other files that come with Blender, licence not stated here: `bpy:fonts/some.ttf`." in body
    assert f"| `bunny\\|2.glb` | `{'c' * 64}` | not stated |" in body
    assert "has not stated a licence" in body
    assert "The shutter is open for 0.50 of the frame interval." in body
    assert "3.00 CPU hours" in body
    assert "text: '{{licences}}'" in body, "nothing in the specification is taken for a placeholder"


def test_sharing_between_splits_is_told(mixed: Path):
    write_card(mixed, name=None, license_id="other")
    assert "Splits share no scenes, no files given by users, 2 files that come with Blender" in _body(mixed)


def test_same_corpus_gives_the_same_bytes(corpus: Path):
    contents = []
    for _ in range(2):
        contents.append([path.read_bytes() for path in write_card(corpus, name=None, license_id="other")])
    assert contents[0] == contents[1]


def test_card_is_no_problem_for_the_check(corpus: Path):
    write_card(corpus, name=None, license_id="other")
    assert check_corpus(corpus) == []


def test_card_of_clips_in_shards_with_gaps_names_them_all(
    corpus: Path, make_clip: Callable[..., Clip], publish: Callable[..., None]
):
    publish(corpus, "train-000003", [make_clip("clip-000009")])
    write_card(corpus, name=None, license_id="other")
    assert 'WebDataset("train-{000000,000003}.tar"' in _body(corpus)
    publish(corpus, "train-000001", [make_clip("clip-000007")])
    publish(corpus, "train-000002", [make_clip("clip-000008")])
    write_card(corpus, name=None, license_id="other")
    assert 'WebDataset("train-{000000..000003}.tar"' in _body(corpus)


# --- What it refuses


@pytest.mark.parametrize("edit", ["mine", "edited"])
def test_readme_by_hand_is_not_overwritten(corpus: Path, edit: str):
    path = corpus / "README.md"
    if edit == "edited":
        write_card(corpus, name=None, license_id="other")
    text = path.read_text().replace("## Limits", "## Limits, by me") if edit == "edited" else "# mine"
    path.write_text(text)
    with pytest.raises(UserError, match=r"README\.md: was written or edited by hand\. Move it away"):
        write_card(corpus, name=None, license_id="other")
    assert path.read_text() == text


def test_index_that_lags_behind_is_refused(corpus: Path):
    stale = (corpus / "index.parquet").read_bytes()
    ((marker, _),) = committed_clips(corpus, split="val")
    (corpus / marker.shard).unlink()
    (corpus / f"{marker.name}.json").unlink()
    (corpus / "index.parquet").write_bytes(stale)
    with pytest.raises(UserError, match=r"index\.parquet: and the shards differ in clip-000002\. Rebuild it"):
        write_card(corpus, name=None, license_id="other")


def test_clips_of_different_members_are_refused(
    corpus: Path, make_clip: Callable[..., Clip], publish: Callable[..., None]
):
    publish(corpus, "test-000000", [make_clip("clip-000009", split="test", num_frames=2)])
    with pytest.raises(UserError, match="clips must have the same members"):
        write_card(corpus, name=None, license_id="other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--license", "my own"], "--license: 'my own' is not the name of a licence"),
        (["--name", "two\nlines"], "--name: 'two\\nlines' must be one line"),
    ],
)
def test_wrong_arguments_are_one_line(
    corpus: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["card", str(corpus), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (corpus / "README.md").exists()


def test_strata_are_counted_where_there_are_any(
    tmp_path: Path,
    mixed: Path,
    make_meta: Callable[..., ClipMeta],
    make_arrays: Callable[[ClipMeta], dict[str, Any]],
):
    folder = tmp_path / "strata"
    spec_sha256 = hashlib.sha256(b"strata").hexdigest()
    for number, stratum in enumerate(("thin-structure", "base", "base")):
        meta = make_meta(f"clip-{number:06d}", split="test")
        meta = meta.model_copy(update={"scene": {"labels": {"family": "disc", "stratum": stratum}}})
        assert meta.labels == {"family": "disc", "stratum": stratum}
        stage_clip(encode_clip(meta, **make_arrays(meta)), folder / "stage", record={})
    staged = read_staged(folder / "stage")
    publish_shard(folder, "test-000000", [staged[key] for key in sorted(staged)], spec_sha256=spec_sha256)
    (folder / "corpus.json").write_text(json.dumps({"spec": {}, "spec_sha256": spec_sha256}))
    assert [(row["family"], row["stratum"]) for row in read_index(folder)] == [
        ("disc", "thin-structure"),
        ("disc", "base"),
        ("disc", "base"),
    ]
    assert check_corpus(folder) == []
    for corpus in (folder, mixed):
        write_card(corpus, name=None, license_id="other")
    assert "| strata | thin-structure (1), base (2) |" in _body(folder)
    assert "| strata |" not in _body(mixed)
