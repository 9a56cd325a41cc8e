import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
import yaml
from pydantic import ValidationError

from focuspull.dataset.errors import UserError
from focuspull.render.backends import cycles
from focuspull.render.build import build
from focuspull.render.corpus import CorpusSpec, load_corpus, shipped_specs
from focuspull.render.families import FAMILIES
from focuspull.render.randomize import randomize
from focuspull.render.spec import (
    AreaLight,
    Card,
    HdriEnvironment,
    LensSpec,
    Model,
    PushInPath,
    SceneSpec,
)

WORLD = {
    "objects": [
        {"name": "ground", "shape": {"type": "plane", "size_m": [4, 4]}},
        {"name": "ball", "role": "subject", "shape": {"type": "sphere"}, "position_m": [0, 0, 0.5]},
    ],
    "camera": {"path": {"type": "static", "position_m": [0, -4, 1], "look_at_m": [0, 0, 0.5]}},
}


def document(**changes: object) -> dict:
    """A small valid corpus with a given world."""
    base = {
        "name": "mine",
        "seed": 3,
        "splits": {"train": 2},
        "film": {"width": 32, "height": 18, "num_frames": 2},
        "scenes": [{"family": "world", "world": WORLD}],
        "targets": [{"k_at_1024": 16, "focus": ["subject"]}],
    }
    return base | changes


def write(folder: Path, content: dict | str) -> str:
    path = folder / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def with_object(**fields: object) -> dict:
    extra = {"name": "extra", **fields}
    return document(scenes=[{"family": "world", "world": WORLD | {"objects": [*WORLD["objects"], extra]}}])


def test_shipped_specs_load_and_describe_themselves() -> None:
    specs = shipped_specs()
    assert {"tiny", "demo"} <= set(specs)
    for name, description in specs.items():
        assert description
        assert load_corpus(name).spec.name == name


def test_every_family_is_shipped_or_given_by_the_user() -> None:
    used = {scene.family for name in shipped_specs() for scene in load_corpus(name).spec.scenes}
    assert used | {"world"} == set(FAMILIES)


def test_overrides_set_dotted_fields() -> None:
    spec = load_corpus("tiny", {"film.width": "128", "targets.1.k_at_1024": "[4, 8]", "seed": "0"}).spec
    assert (spec.film.width, spec.targets[1].k_at_1024, spec.seed) == (128, (4, 8), 0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"film": {"widht": 64}}, "mine.yaml: unknown field 'film.widht'. Did you mean 'width'?"),
        ({"film": {"width": "wide"}}, "field 'film.width': Input should be a valid integer"),
        ({"film": {"width": 3}}, "field 'film.width': Input should be greater than or equal to 16, got 3"),
        ({"targets": [{"k_at_1024": 1000, "focus": [0.5]}]}, "targets.0.k_at_1024"),
        ({"targets": [{"k_at_1024": -1, "focus": [0.5]}]}, "targets.0.k_at_1024"),
        (
            {"targets": [{"k_at_1024": [8, 4], "focus": [0.5]}]},
            "a range of K needs 0 < low <= high, got [8.0, 4.0]",
        ),
        ({"targets": [{"k_at_1024": 8, "focus": [1.5]}]}, "targets.0.focus"),
        ({"targets": [{"k_at_1024": 8, "focus": ["bal"]}]}, "'bal' is neither a role"),
        ({"targets": [{"k_at_1024": 8, "focus": [0.5], "lens": {"blades": 2}}]}, "blades must be 0"),
        (
            {"targets": [{"k_at_1024": 8, "focus": [0.5], "twin": True}]},
            "targets.0: twin is for a lens that is not ideal: set lens, or take twin away",
        ),
        (
            {"targets": [{"k_at_1024": 8, "focus": [0.5], "lens": {"blades": 6}, "twin": True}] * 33},
            "targets: 66 with their twins, at most 64 are possible",
        ),
        (
            {"backend": "cycles", "targets": [{"k_at_1024": 8, "focus": [0.5], "lens": {"cat_eye": 1}}]},
            "targets.0.lens.cat_eye: Cycles has no such lens. Use backend: mitsuba.",
        ),
        (
            {"backend": "cycles", "targets": [{"k_at_1024": 8, "focus": [0.5], "domain": "encoded8"}]},
            "targets.0.domain: Cycles blurs light only, not encoded8. Use backend: mitsuba.",
        ),
        (
            {"backend": "cycles", "quality": {"noise_floor_db": 40}},
            "quality.noise_floor_db: Cycles does not measure its noise. Use backend: mitsuba.",
        ),
        ({"backend": "blender"}, "field 'backend': Input should be 'mitsuba' or 'cycles', got 'blender'"),
        ({"scenes": [{"family": "forest"}]}, "'forest'"),
        ({"seed": -1}, "field 'seed'"),
        ({"seed": float("nan")}, "field 'seed'"),
        ({"splits": {}}, "field 'splits'"),
        ({"splits": {"Train-1": 2}}, "splits"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(tmp_path: Path, changes: dict, expected: str) -> None:
    with pytest.raises(UserError) as error:
        load_corpus(write(tmp_path, document(**changes)))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_mistakes_inside_a_given_world_name_the_object(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown field 'scenes.0.world.objects.2.shape.radius'.*radius_m"):
        load_corpus(write(tmp_path, with_object(shape={"type": "sphere", "radius": 1})))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    content = document()
    del content["targets"]
    with pytest.raises(UserError, match="field 'targets' is missing"):
        load_corpus(write(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("name: [", "line 1: is not valid YAML"), ("- a\n", "is not a mapping"), ("", "is not a mapping")],
)
def test_a_file_that_is_no_spec_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_corpus(write(tmp_path, text))


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="'tinny' is unknown. Did you mean 'tiny'"):
        load_corpus("tinny")
    with pytest.raises(UserError, match="nowhere/spec.yaml: cannot be read"):
        load_corpus("nowhere/spec.yaml")


@pytest.mark.parametrize("field", ["film.width.deep", "targets.7.k_at_1024", "targets.x"])
def test_an_override_that_leads_nowhere_is_refused(field: str) -> None:
    with pytest.raises(UserError, match=f"--{field}: there is no"):
        load_corpus("tiny", {field: "1"})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"shape": {"type": "mesh", "file": "gone.obj"}}, "file 'gone.obj' does not exist"),
        ({"shape": {"type": "card", "image": "gone.png"}}, "file 'gone.png' does not exist"),
        (
            {"shape": {"type": "card", "sequence": {"pattern": "walk/*.png"}}},
            r"no file matches 'walk/\*.png'",
        ),
        (
            {"shape": {"type": "sphere"}, "material": {"base_color": {"type": "image", "file": "gone.png"}}},
            "file 'gone.png' does not exist",
        ),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, fields: dict, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_corpus(write(tmp_path, with_object(**fields)))


def test_a_missing_hdri_is_named(tmp_path: Path) -> None:
    world = WORLD | {"environment": {"type": "hdri", "file": "gone.exr"}}
    with pytest.raises(UserError, match="file 'gone.exr' does not exist"):
        load_corpus(write(tmp_path, document(scenes=[{"family": "world", "world": world}])))


def test_hdris_of_the_bpy_wheel_are_found_by_name(tmp_path: Path) -> None:
    world = WORLD | {"environment": {"type": "hdri", "file": "bpy:studiolights/world/forest.exr"}}
    loaded = load_corpus(write(tmp_path, document(scenes=[{"family": "world", "world": world}])))
    scene = randomize(loaded.spec, 0)
    assert isinstance(scene.world.environment, HdriEnvironment)
    assert scene.world.environment.file.name == "bpy:studiolights/world/forest.exr"
    environment = build(scene, loaded.files).environment
    assert environment is not None
    assert environment.shape == (512, 1024, 3)
    assert environment.max() > 10


def test_files_are_identified_by_content_not_by_place(tmp_path: Path) -> None:
    specs = []
    for place, stated in (("a", "ball.obj"), ("b", "ball.obj")):
        folder = tmp_path / place
        folder.mkdir()
        trimesh.creation.icosphere(subdivisions=1).export(folder / "ball.obj")
        specs.append(load_corpus(write(folder, with_object(shape={"type": "mesh", "file": stated}))))
    first, second = (randomize(loaded.spec, 0) for loaded in specs)
    assert first.sha256() == second.sha256()
    assert str(tmp_path) not in first.canonical_json()
    assert build(first, specs[0].files).items[2].mesh.triangles.shape == (80, 3)


def test_an_absolute_path_does_not_get_into_the_corpus(tmp_path: Path) -> None:
    mesh = tmp_path / "ball.obj"
    trimesh.creation.icosphere(subdivisions=1).export(mesh)
    loaded = load_corpus(write(tmp_path, with_object(shape={"type": "mesh", "file": str(mesh)})))
    assert str(tmp_path) not in loaded.spec.model_dump_json()
    assert list(loaded.files.values()) == [mesh]


def test_a_sequence_is_expanded_in_order(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    for i in (2, 0, 1):
        image = np.full((8, 8, 4), 255 - i, np.uint8)
        cv2.imwrite(str(tmp_path / "walk" / f"{i}.png"), image)
    card = {"type": "card", "sequence": {"pattern": "walk/*.png"}}
    loaded = load_corpus(write(tmp_path, with_object(shape=card)))
    shape = randomize(loaded.spec, 0).world.objects[2].shape
    assert isinstance(shape, Card)
    assert shape.sequence is not None
    frames = shape.sequence.frames
    assert [frame.name for frame in frames] == ["walk/0.png", "walk/1.png", "walk/2.png"]
    assert len(build(randomize(loaded.spec, 0), loaded.files).items[2].surfaces) == 3


def test_an_unreadable_image_or_mesh_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG not really")
    (tmp_path / "bad.glb").write_bytes(b"glTF not really")
    for shape, name in (
        ({"type": "card", "image": "bad.png"}, "bad.png"),
        ({"type": "mesh", "file": "bad.glb"}, "bad.glb"),
    ):
        loaded = load_corpus(write(tmp_path, with_object(shape=shape)))
        with pytest.raises(UserError, match=f"{name}: cannot be read"):
            build(randomize(loaded.spec, 0), loaded.files)


def test_randomize_is_pure_and_clips_differ() -> None:
    spec = load_corpus("demo").spec
    again = [randomize(spec, i).sha256() for i in range(4)]
    assert again == [randomize(spec, i).sha256() for i in range(4)]
    assert len(set(again)) == 4


def test_randomize_gives_the_same_scene_in_another_process() -> None:
    program = (
        "from focuspull.render.corpus import load_corpus; from focuspull.render.randomize import randomize;"
        "print(randomize(load_corpus('tiny').spec, 1).sha256())"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == randomize(load_corpus("tiny").spec, 1).sha256()


def test_seed_zero_is_a_seed() -> None:
    zero, one = (load_corpus("tiny", {"seed": seed}).spec for seed in ("0", "1"))
    assert randomize(zero, 0).sha256() == randomize(zero, 0).sha256()
    assert randomize(zero, 0).sha256() != randomize(one, 0).sha256()


def test_a_changed_target_leaves_the_world_alone() -> None:
    plain, changed = (
        load_corpus("tiny", overrides).spec for overrides in ({}, {"targets.0.k_at_1024": "[4, 5]"})
    )
    assert randomize(plain, 0).world == randomize(changed, 0).world
    assert randomize(plain, 0).targets != randomize(changed, 0).targets


@pytest.mark.parametrize("family", ["tabletop", "night"])
def test_families_draw_valid_scenes_within_their_ranges(family: str) -> None:
    spec = load_corpus("tiny", {"scenes": f"[{{family: {family}}}]"}).spec
    for index in range(25):
        scene = randomize(spec.model_copy(update={"seed": index}), 0)
        assert SceneSpec.model_validate_json(scene.canonical_json()) == scene
        roles = {item.role for item in scene.world.objects}
        assert {"subject", "foreground", "background"} <= roles
        for target in scene.targets:
            assert all(16 <= k <= 32 for k in target.k_at_1024)


def test_k_ramps_and_focus_pulls_are_per_frame() -> None:
    overrides = {
        "film.num_frames": "5",
        "targets": "[{k_at_1024: 8, k_end_at_1024: 16, focus: [0.25, 0.5, 1.0]}]",
    }
    (target,) = randomize(load_corpus("tiny", overrides).spec, 0).targets
    assert target.k_at_1024 == (8, 10, 12, 14, 16)
    assert [(key.frame, key.disparity) for key in target.focus] == [(0, 0.25), (2, 0.5), (4, 1.0)]


def test_a_twin_follows_its_target_and_changes_no_other() -> None:
    ranges = "{{k_at_1024: [8, 32], focus: [subject, background], lens: {{blades: 6}}, twin: {}}}"
    plain, twins = (
        randomize(load_corpus("demo", {"targets": f"[{text}, {text}]"}).spec, 0).targets
        for text in (ranges.format("false"), ranges.format("true"))
    )
    assert [target.twin_of for target in twins] == [None, 0, None, 2]
    assert twins[::2] == plain
    for target, twin in zip(twins[::2], twins[1::2], strict=True):
        assert twin.lens.is_ideal
        assert (twin.k_at_1024, twin.focus) == (target.k_at_1024, target.focus)


def test_cycles_refuses_what_only_mitsuba_has_before_it_loads_anything() -> None:
    changes = {"backend": "cycles", "targets": [{"k_at_1024": 8, "focus": [0.5]}]}
    scene = randomize(CorpusSpec.model_validate(document(**changes)), 0)
    faulty = scene.targets[0].model_copy(update={"lens": LensSpec(obstruction=0.5)})
    built = build(scene.model_copy(update={"targets": (*scene.targets, faulty)}), {})
    with pytest.raises(UserError, match=r"^targets\.1\.lens\.obstruction: .* Use backend: mitsuba\.$"):
        cycles.open_session(built, threads=1)


def test_more_focus_places_than_frames_are_refused() -> None:
    with pytest.raises(UserError, match=r"targets.1.focus has 2 places for 1 frames"):
        load_corpus("tiny", {"film.num_frames": "1"})


def test_a_given_hash_must_be_that_of_the_file(tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions=1).export(tmp_path / "ball.obj")
    file = {"name": "ball.obj", "sha256": "0" * 64}
    with pytest.raises(UserError, match="file 'ball.obj' has sha256 .*, not the one that is given"):
        load_corpus(write(tmp_path, with_object(shape={"type": "mesh", "file": file})))


def test_a_date_in_place_of_a_name_is_a_line_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not valid YAML"):
        load_corpus(write(tmp_path, "name: 2024-13-45"))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"shape": {"type": "card", "image": "a.png"}, "material": {"emission": [1, 1, 1]}},
            "a card cannot emit",
        ),
        (
            {"shape": {"type": "sphere"}, "motion": [{"type": "spin", "axis": [0, 0, 0], "rate_deg_s": 5}]},
            "axis",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path: Path, fields: dict, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_corpus(write(tmp_path, with_object(**fields)))


def test_a_table_without_subjects_is_still_a_table() -> None:
    overrides = {
        "scenes": "[{family: tabletop, subjects: [0, 0]}]",
        "targets": "[{k_at_1024: 8, focus: [0.5]}]",
    }
    scene = randomize(load_corpus("tiny", overrides).spec, 0)
    assert not [item for item in scene.world.objects if item.role == "subject"]


def test_shards_hold_every_clip_once_and_keep_splits_apart() -> None:
    spec = CorpusSpec.model_validate(document(splits={"train": 5, "val": 3}, clips_per_shard=2))
    shards = spec.shards()
    assert [shard.name for shard in shards] == [
        "train-000000", "train-000001", "train-000002", "val-000000", "val-000001",
    ]  # fmt: skip
    assert [i for shard in shards for i in shard.indices] == list(range(8))
    assert all(spec.split_of(i) == shard.split for shard in shards for i in shard.indices)
    with pytest.raises(IndexError):
        spec.split_of(8)


def test_an_object_may_be_called_like_a_light_was() -> None:
    objects = [*WORLD["objects"], {"name": "light-0", "shape": {"type": "box"}}]
    place = {"position_m": [0, 0, 3], "look_at_m": [0, 0, 0], "size_m": [1, 1]}
    light = {"type": "area", **place, "radiance": [1, 1, 1]}
    world = WORLD | {"objects": objects, "lights": [light]}
    spec = CorpusSpec.model_validate(document(scenes=[{"family": "world", "world": world}]))
    names = [item.name for item in build(randomize(spec, 0), {}).items]
    assert len(set(names)) == len(names) == 4


@pytest.mark.parametrize(
    ("record", "fields", "expected"),
    [
        (
            AreaLight,
            dict(type="area", position_m=(1, 1, 1), look_at_m=(1, 1, 1), size_m=(1, 1), radiance=(1, 1, 1)),
            "must differ",
        ),
        (
            PushInPath,
            dict(type="push-in", position_m=(0, -2, 0), look_at_m=(0, 0, 0), distance_m=2.5),
            "in front of its aim",
        ),
    ],
)
def test_geometry_that_degenerates_is_refused(record: type[Model], fields: dict, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        record.model_validate(fields)
