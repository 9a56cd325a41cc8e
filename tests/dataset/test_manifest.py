"""Manifests: a corpus compared with what it must be."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import numpy as np
import pytest

from focuspull.dataset import cli
from focuspull.dataset import manifest as manifest_module
from focuspull.dataset.errors import UserError
from focuspull.dataset.manifest import (
    MANIFESTS,
    Manifest,
    ManifestClip,
    check_manifest,
    contents_note,
    libraries_here,
    processor_kind,
    read_manifest,
    rendered_manifest,
    write_manifest,
)
from focuspull.dataset.markers import committed_names, read_marker


def scenes_of(corpus: Path) -> Manifest:
    markers = [read_marker(corpus, name) for name in committed_names(corpus)]
    clips = [
        ManifestClip(key=clip.key, scene_sha256=clip.scene_sha256)
        for marker in markers
        for clip in marker.clips
    ]
    return Manifest(name="discs", clips=tuple(sorted(clips, key=lambda clip: clip.key)))


def changed(manifest: Manifest, number: int, **fields: str) -> Manifest:
    clips = list(manifest.clips)
    clips[number] = clips[number].model_copy(update=fields)
    return manifest.model_copy(update={"clips": tuple(clips)})


def test_a_corpus_fits_the_manifest_that_was_made_of_it(corpus: Path, tmp_path: Path) -> None:
    manifest = rendered_manifest(scenes_of(corpus), corpus)
    assert all(clip.members_sha256 for clip in manifest.clips)
    assert manifest.processor == processor_kind()
    assert manifest.libraries == libraries_here()
    assert "numpy" in manifest.libraries
    path = tmp_path / "discs.json"
    write_manifest(path, manifest)
    assert read_manifest(str(path)) == manifest
    assert len(path.read_text().splitlines()) == 2 + len(manifest.clips)
    assert check_manifest(corpus, manifest) == []
    assert contents_note(corpus, manifest) is None


def test_what_differs_is_named(corpus: Path) -> None:
    manifest = rendered_manifest(scenes_of(corpus), corpus)
    other = changed(manifest, 0, scene_sha256="0" * 64)
    (problem,) = check_manifest(corpus, other)
    assert "train-000000.tar, clip-000000: is of scene" in problem and "discs has 000000000000" in problem
    other = changed(manifest, 1, members_sha256="0" * 64)
    (problem,) = check_manifest(corpus, other)
    assert "clip-000001: has contents" in problem and processor_kind() in problem
    assert f"numpy {np.__version__}" in problem
    shutil.move(corpus / "val-000000.json", corpus / "elsewhere")
    assert f"{corpus}: clip-000002 of discs is missing. Render it." in check_manifest(corpus, manifest)
    less = manifest.model_copy(update={"clips": manifest.clips[:1]})
    assert "clip-000001: is not in discs" in check_manifest(corpus, less)[0]


def test_contents_of_other_versions_are_not_compared_and_it_says_so(corpus: Path) -> None:
    manifest = changed(rendered_manifest(scenes_of(corpus), corpus), 1, members_sha256="0" * 64)
    assert manifest.renderer is not None
    renderer = manifest.renderer.model_copy(update={"backend_version": "2.0"})
    other = manifest.model_copy(update={"renderer": renderer})
    assert check_manifest(corpus, other) == []
    note = contents_note(corpus, other)
    assert note is not None and "discs 1.0 cpu" in note and "discs 2.0 cpu" in note
    assert contents_note(corpus, scenes_of(corpus)) == "discs: the manifest has scenes only, no contents."


def test_contents_of_other_processors_are_not_compared_and_it_says_so(corpus: Path) -> None:
    manifest = changed(rendered_manifest(scenes_of(corpus), corpus), 1, members_sha256="0" * 64)
    other = manifest.model_copy(update={"processor": "x86-64-v4 GenuineIntel 6-0"})
    assert check_manifest(corpus, other) == []
    note = contents_note(corpus, other)
    assert note is not None and "GenuineIntel 6-0" in note and processor_kind() in note


def test_the_kind_of_a_processor_is_its_level_and_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    lines = ["vendor_id\t: GenuineIntel", "cpu family\t: 6", "model\t\t: 143", "model name\t: Xeon"]
    path.write_text("\n".join([*lines, "flags\t\t: fpu avx2 fma"]))
    monkeypatch.setattr(manifest_module, "_CPUINFO", path)
    assert processor_kind() == "x86-64-v3 GenuineIntel 6-143"
    path.write_text("flags : avx512f avx512bw avx512vl\n")
    assert processor_kind() == "x86-64-v4"
    monkeypatch.setattr(manifest_module, "_CPUINFO", tmp_path / "none")
    assert processor_kind() == platform.machine()


def test_the_command_says_what_differs(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = rendered_manifest(scenes_of(corpus), corpus)
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    write_manifest(good, manifest)
    write_manifest(bad, changed(manifest, 0, scene_sha256="0" * 64))
    assert cli.main(["check", str(corpus), "--manifest", str(good)]) == 0
    assert cli.main(["check", str(corpus), "--manifest", str(bad)]) == 1
    assert "clip-000000: is of scene" in capsys.readouterr().out
    assert cli.main(["check", str(corpus), "--manifest", "test20"]) == 2
    assert "manifest: 'test20' is unknown. Did you mean 'test200'?" in capsys.readouterr().err


def test_a_manifest_is_not_made_of_a_corpus_that_lacks_a_clip(corpus: Path) -> None:
    more = ManifestClip(key="clip-000009", scene_sha256="0" * 64)
    scenes = scenes_of(corpus)
    with pytest.raises(UserError, match="clip-000009 of discs is missing"):
        rendered_manifest(scenes.model_copy(update={"clips": (*scenes.clips, more)}), corpus)


def test_files_that_are_no_manifest_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text('{"name": "x", "clips": []}')
    with pytest.raises(UserError, match="other.json: is no manifest: clips"):
        read_manifest(str(path))
    with pytest.raises(UserError, match="cannot be read"):
        read_manifest(str(tmp_path / "nowhere.json"))


@pytest.mark.parametrize("name", ["test200", "test200-mini"])
def test_shipped_manifests_load(name: str) -> None:
    manifest = read_manifest(name)
    assert manifest.name == name
    keys = [clip.key for clip in manifest.clips]
    assert keys == sorted(set(keys))
    assert (MANIFESTS / f"{name}.json").is_file()
