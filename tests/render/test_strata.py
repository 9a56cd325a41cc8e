"""Strata: runs of clips with scenes and targets of their own; and the shipped test sets, made of them."""

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
from focuspull.dataset.manifest import libraries_here, processor_kind, read_manifest
from focuspull.render.corpus import SPECS, CorpusSpec, load_corpus
from focuspull.render.ledger import clip_key, spec_sha256, versions_here
from focuspull.render.motion import camera_pose
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
    spec = load(
        tmp_path, stratified({"name": "a", "clips": 1}, {"name": "b", "clips": 3, "targets": [OTHER]})
    )
    scenes = [randomize(spec, i) for i in range(4)]
    assert [scene.labels for scene in scenes] == [
        {"family": "world", "stratum": name} for name in ("a", "b", "b", "b")
    ]
    assert [scene.targets[0].k_at_1024[0] for scene in scenes] == [16, 48, 48, 48]


GOLDEN = {
    "tiny": (
        "744a3fa061587dbfeb714a1741b11951c195f02b22abe8f9c4eac2a1668562ba",
        "916faa66a374af6e4a2e8c56578de4a961bb4da727e26766028fe0775a491512",
        "95d1ee001ca7103765be48a3cae497ab00332eff1fe87d88ae45b08f05dffb0a",
    ),
    "demo": (
        "3e55fb0cbf28b13522db67281e39b532c25aaa83093a64d932081b00bb04f94e",
        "8284a94eb94427bb635ce22a24ea9a7a6f72861fd0a82e93d0c1d38424d96d6f",
        "6e9e381497500d0f3cecf470893e4592bbd994ddd4bcfcb34172331edb75c5ea",
    ),
    "train-tiny": (
        "ee2e96f59f3a34bba1827ca8e5bb8ff07d3da5d3b1f3897b6a52460d3f57e3e8",
        "44acb8bc051e4a674aa7fd2f052227a37fb56c22d0d901374d8cbd81ed7f760c",
        "bcbe360f7daa86757bde374dfeadde355497e3c8abe9f2b0508b7ddbf0a72d20",
    ),
}
"""Of shipped specs without strata: hash of the spec, and of the scenes of clips 0 and 1. Another hash means
that corpora begun earlier cannot be continued: change these only together with a spec's own ranges."""


@pytest.mark.parametrize("name", GOLDEN)
def test_specs_and_scenes_without_strata_keep_their_hashes(name: str) -> None:
    spec = load_corpus(name).spec
    assert (spec_sha256(spec), *(randomize(spec, i).sha256() for i in range(2))) == GOLDEN[name]


def test_options_of_a_family_are_in_the_hash_where_they_are_used() -> None:
    plain = load_corpus("tiny").spec
    for option in ("stems: [3, 4]", "clear: 0.5", "spinning: 1.0", "spin_deg_s: [90, 180]"):
        changed = load_corpus("tiny", {"scenes": f"[{{family: tabletop, {option}}}, {{family: night}}]"}).spec
        assert spec_sha256(changed) != spec_sha256(plain)
        assert CorpusSpec.model_validate_json(changed.model_dump_json()) == changed


def test_a_stratum_changes_fields_of_film_and_quality(tmp_path: Path) -> None:
    changes = {"film": {"shutter": 0.5}, "quality": {"max_bounces": 12}}
    spec = load(tmp_path, stratified({"name": "a", "clips": 1}, {"name": "b", "clips": 3, **changes}))
    first, second = (randomize(spec, i) for i in range(2))
    assert (first.film, first.quality) == (spec.film, spec.quality)
    assert second.film == spec.film.model_copy(update={"shutter": 0.5})
    assert second.quality == spec.quality.model_copy(update={"max_bounces": 12})
    assert CorpusSpec.model_validate_json(spec.model_dump_json()) == spec


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
        # All clips have one size and length, or they do not fit into one batch.
        ([{"name": "a", "clips": 4, "film": {"width": 64}}], "unknown field 'strata.0.film.width'"),
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
        assert scene.targets[1].focus[0].subjects[0] in {stem.name for stem in thin}
    for scene in clips_of("test200", "glass-mirror"):
        clear = [
            o
            for o in scene.world.objects
            if o.role == "subject" and (o.material.transmission == 1 or o.material.metallic == 1)
        ]
        assert len(clear) >= 2
        assert len(clear) == sum(o.role == "subject" for o in scene.world.objects)
    for scene in clips_of("test200", "fast-motion"):
        if scene.labels["family"] == "tabletop":
            turning = [m for o in scene.world.objects for m in o.motion if isinstance(m, Spin)]
            assert turning and min(abs(m.rate_deg_s) for m in turning) >= 180
    reach = [_farthest_m(scene) for scene in clips_of("test200", "fast-motion")]
    usual = [_farthest_m(scene) for scene in clips_of("test200", "base")]
    assert np.median(reach) > 2 * np.median(usual)


def _farthest_m(scene: SceneSpec) -> float:
    """How far the camera gets from where it starts, in parts of its distance to what it looks at."""
    poses = [camera_pose(scene.world.camera, scene.film, frame) for frame in range(scene.film.num_frames)]
    places = np.array([pose[:3, 3] for pose in poses])
    path = scene.world.camera.path
    distance = np.linalg.norm(np.subtract(path.position_m, path.look_at_m))
    return float(np.linalg.norm(places - places[0], axis=1).max() / distance)


def test_motion_is_continuous() -> None:
    """What any frame moves is about what the frames around it do: nothing jumps."""
    for number in (0, 70, 131, 160, 165, 199):
        scene = randomize(load_corpus("test200").spec, number)
        poses = [camera_pose(scene.world.camera, scene.film, f) for f in np.arange(0, 24.01, 0.25)]
        steps = np.linalg.norm(np.diff([pose[:3, 3] for pose in poses], axis=0), axis=1)
        assert steps.max() < 0.1
        assert np.abs(np.diff(steps)).max() < 0.25 * steps.max() + 1e-9


@pytest.mark.parametrize("name", ["test200", "test200-mini"])
def test_the_shipped_manifest_is_of_the_shipped_spec(name: str) -> None:
    """Otherwise make it again: focuspull-render manifest NAME, for the small one with a corpus."""
    spec, manifest = load_corpus(name).spec, read_manifest(name)
    assert manifest.spec_sha256 == spec_sha256(spec)
    assert [clip.key for clip in manifest.clips] == [clip_key(i) for i in range(spec.num_clips)]
    assert [clip.scene_sha256 for clip in manifest.clips] == [
        randomize(spec, i).sha256() for i in range(spec.num_clips)
    ]


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
    """The first clips of test200-mini as a spec of its own: the same, since each has its own numbers."""
    content = yaml.safe_load((SPECS / "test200-mini.yaml").read_text())
    content["strata"] = content["strata"][:1]
    content["strata"][0]["clips"] = clips
    content["splits"] = {"test": clips}
    return write(folder, content)


def rendered(spec: str, out: Path, workers: int) -> dict[str, str]:
    """Content hashes by clip."""
    words = [
        sys.executable,
        "-m",
        "focuspull.render",
        "run",
        spec,
        "--out",
        str(out),
        "--workers",
        str(workers),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {row["key"]: row["members_sha256"] for row in read_index(out)}


def expected() -> dict[str, str | None]:
    manifest = read_manifest("test200-mini")
    assert manifest.renderer is not None
    here = (
        versions_here(load_corpus("test200-mini").spec) | libraries_here() | {"processor": processor_kind()}
    )
    there = {
        "mitsuba": manifest.renderer.backend_version,
        "variant": manifest.renderer.variant,
        "focuspull": manifest.renderer.focuspull_version,
        **manifest.libraries,
        "processor": manifest.processor,
    }
    if other := {name: (there.get(name), here[name]) for name in here if there.get(name) != here[name]}:
        pytest.skip(f"contents in the manifest were made otherwise than here (there, here): {other}")
    return {clip.key: clip.members_sha256 for clip in manifest.clips}


@pytest.mark.slow
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
