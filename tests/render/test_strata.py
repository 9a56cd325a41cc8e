"""Strata: runs of clips with scenes and targets of their own; and the shipped test sets, which are made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from focuspull.dataset.errors import UserError
from focuspull.dataset.index import read_index
from focuspull.dataset.manifest import processor_kind, read_manifest
from focuspull.render.corpus import SPECS, CorpusSpec, load_corpus
from focuspull.render.randomize import randomize
from focuspull.render.spec import Cylinder, SceneSpec, Spin
from tests.render.test_corpus import document, write

TARGET = {"k_at_1024": 16, "focus": ["subject"]}
OTHER = {"k_at_1024": 48, "focus": ["subject:0"]}


def stratified(*strata: dict, clips: int = 4) -> dict:
    return document(splits={"train": 1, "test": clips - 1}, strata=list(strata))


def load(folder: Path, content: dict) -> CorpusSpec:
    return load_corpus(write(folder, content)).spec


def clips_of(name: str, stratum: str) -> list[SceneSpec]:
    spec = load_corpus(name).spec
    numbers = [i for i in range(spec.num_clips) if (s := spec.stratum_of(i)) and s.name == stratum]
    return [randomize(spec, i) for i in numbers]


def test_strata_follow_each_other_through_the_splits(tmp_path: Path) -> None:
    spec = load(tmp_path, stratified({"name": "a", "clips": 1}, {"name": "b", "clips": 3, "targets": [OTHER]}))
    scenes = [randomize(spec, i) for i in range(4)]
    assert [scene.labels for scene in scenes] == [
        {"family": "world", "stratum": name} for name in ("a", "b", "b", "b")
    ]
    assert [scene.targets[0].k_at_1024[0] for scene in scenes] == [16, 48, 48, 48]


def test_scenes_without_labels_have_the_json_that_they_had_before_there_were_any(tmp_path: Path) -> None:
    plain = load(tmp_path, document())
    scene = randomize(plain, 0)
    assert "labels" not in json.loads(scene.canonical_json())
    labelled = load(tmp_path, stratified({"name": "a", "clips": 2}, clips=2))
    other = randomize(labelled, 0)
    assert other.model_copy(update={"labels": {}}) == scene
    assert other.sha256() != scene.sha256()
    assert SceneSpec.model_validate_json(other.canonical_json()) == other


@pytest.mark.parametrize(
    ("strata", "message"),
    [
        ([{"name": "a", "clips": 3}], "strata: have 3 clips, the splits 4"),
        (
            [{"name": "a", "clips": 4, "targets": [TARGET, TARGET]}],
            "strata.0.targets: are 2 with their twins, those of the corpus 1",
        ),
        (
            [{"name": "a", "clips": 4, "targets": [{"k_at_1024": 1, "focus": ["nothing"]}]}],
            "strata.0.targets.0.focus: 'nothing' is neither a role",
        ),
        ([{"name": "a", "clip": 4}], "Did you mean 'clips'"),
    ],
)
def test_strata_that_do_not_fit_are_refused(tmp_path: Path, strata: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(tmp_path, stratified(*strata))


def test_numbered_roles_count_round(tmp_path: Path) -> None:
    world = document()["scenes"][0]["world"]
    extra = {"name": "cone", "role": "subject", "shape": {"type": "cylinder"}}
    scenes = [{"family": "world", "world": world | {"objects": [*world["objects"], extra]}}]
    targets = [{"k_at_1024": 8, "focus": [f"subject:{n}"]} for n in range(3)]
    scene = randomize(load(tmp_path, document(scenes=scenes, targets=targets)), 0)
    first = [target.focus[0].subjects for target in scene.targets]
    assert first == [("ball", "cone"), ("cone", "ball"), ("ball", "cone")]


@pytest.mark.parametrize("name", ["test200", "test200-mini"])
def test_the_test_sets_ask_for_what_the_paper_asks_for(name: str) -> None:
    spec = load_corpus(name).spec
    assert list(spec.splits) == ["test"]
    strata = {s.name for s in spec.strata}
    assert strata == {
        "base", "thin-structure", "highlights", "glass-mirror", "fast-motion", "focus-pull", "aperture-ramp",
        "large-k",
    }  # fmt: skip
    ks = {target.k_at_1024[0] for scene in clips_of(name, "base") for target in scene.targets}
    assert ks == {4, 8, 16, 32}
    assert {t.k_at_1024[0] for s in clips_of(name, "large-k") for t in s.targets} == {48, 64}
    for scene in clips_of(name, "aperture-ramp"):
        assert all(target.k_at_1024[0] != target.k_at_1024[-1] for target in scene.targets)
    for scene in clips_of(name, "focus-pull"):
        assert all(len(target.focus) == 2 for target in scene.targets)


def test_test200_has_the_size_of_the_papers() -> None:
    spec = load_corpus("test200").spec
    assert (spec.num_clips, spec.film.num_frames, spec.film.width, spec.film.height) == (200, 25, 1024, 576)


def test_every_place_of_focus_has_every_k_equally_often() -> None:
    """Or what depends on K could be told from what depends on the subject by nobody."""
    counts = np.zeros((4, 4))
    for scene in clips_of("test200", "base"):
        for place, target in enumerate(scene.targets):
            counts[place, [4, 8, 16, 32].index(int(target.k_at_1024[0]))] += 1
    assert counts.max() - counts.min() <= 1


def test_strata_show_what_they_are_called_by() -> None:
    for scene in clips_of("test200", "thin-structure"):
        thin = [o for o in scene.world.objects if isinstance(o.shape, Cylinder) and o.shape.radius_m <= 0.002]
        assert len(thin) >= 24
    for scene in clips_of("test200", "glass-mirror"):
        clear = [
            o
            for o in scene.world.objects
            if o.role == "subject" and (o.material.transmission == 1 or o.material.metallic == 1)
        ]
        assert len(clear) >= 2
        assert len(clear) == sum(o.role == "subject" for o in scene.world.objects)
    for scene in clips_of("test200", "fast-motion"):
        turning = [m for o in scene.world.objects for m in o.motion if isinstance(m, Spin)]
        assert turning and min(abs(m.rate_deg_s) for m in turning) >= 180


def test_five_clips_by_number_have_the_scenes_of_the_manifest_in_another_process() -> None:
    numbers = [0, 7, 63, 140, 199]
    script = (
        "import sys\nfrom focuspull.render.corpus import load_corpus\n"
        "from focuspull.render.randomize import randomize\n"
        "spec = load_corpus('test200').spec\n"
        "print(*(randomize(spec, int(n)).sha256() for n in sys.argv[1:]))"
    )
    words = [sys.executable, "-c", script, *map(str, numbers)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    clips = read_manifest("test200").clips
    assert done.stdout.split() == [clips[n].scene_sha256 for n in numbers]


def mini(folder: Path, clips: int) -> str:
    """The first clips of test200-mini as a spec of its own; the same clips, since each has its own numbers."""
    content = yaml.safe_load((SPECS / "test200-mini.yaml").read_text())
    content["strata"] = content["strata"][:1]
    content["strata"][0]["clips"] = clips
    content["splits"] = {"test": clips}
    return write(folder, content)


def rendered(spec: str, out: Path, workers: int) -> dict[str, str]:
    """Content hashes by clip."""
    words = [sys.executable, "-m", "focuspull.render", "run", spec, "--out", str(out), "--workers", str(workers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {row["key"]: row["members_sha256"] for row in read_index(out)}


def expected() -> dict[str, str | None]:
    manifest = read_manifest("test200-mini")
    if manifest.processor != processor_kind():
        pytest.skip(f"the contents in the manifest are of {manifest.processor}, this is {processor_kind()}")
    return {clip.key: clip.members_sha256 for clip in manifest.clips}


@pytest.mark.mitsuba
def test_a_clip_of_the_test_set_comes_out_as_the_manifest_says(tmp_path: Path) -> None:
    known = expected()
    found = rendered(mini(tmp_path, 1), tmp_path / "corpus", workers=1)
    assert found == {"clip-000000": known["clip-000000"]}
    row = read_index(tmp_path / "corpus")[0]
    assert (row["family"] in ("tabletop", "night"), row["stratum"]) == (True, "base")


@pytest.mark.slow
@pytest.mark.mitsuba
@pytest.mark.parametrize("workers", [1, 2])
def test_all_of_the_small_test_set_comes_out_as_the_manifest_says(tmp_path: Path, workers: int) -> None:
    known = expected()
    assert rendered("test200-mini", tmp_path / "corpus", workers) == known
