"""`SceneSpec`: round trip, identity, and every mistake that it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from focuspull.render import spec


def scene_fields() -> dict[str, Any]:
    """A small scene with one of most things, as plain data."""
    sha = "0" * 63
    textures = {"type": "perlin", "color_a": (0, 0, 0), "color_b": (1, 1, 1)}
    return {
        "seed": 0,
        "film": {"width": 64, "height": 36, "num_frames": 3, "shutter": 0.5},
        "quality": {"aif_samples": 4},
        "world": {
            "objects": [
                {
                    "name": "floor",
                    "shape": {"type": "plane", "size_m": (9, 9)},
                    "material": {"base_color": textures},
                },
                {
                    "name": "ball-1",
                    "role": "subject",
                    "shape": {"type": "sphere"},
                    "material": {"metallic": 0.5, "roughness": textures},
                    "motion": [
                        {"type": "spin", "rate_deg_s": 20},
                        {"type": "keys", "times_s": (0, 1), "positions_m": ((0, 0, 0), (1, 0, 0))},
                    ],
                },
                {"name": "card", "shape": {"type": "card", "image": {"name": "a.png", "sha256": sha + "1"}}},
            ],
            "lights": [
                {"type": "sun", "direction": (1, 0, 1), "irradiance_w_m2": (1, 1, 1)},
                {"type": "point", "position_m": (0, 0, 3), "intensity_w_sr": (1, 1, 1)},
                {
                    "type": "area",
                    "position_m": (0, 0, 3),
                    "look_at_m": (0, 0, 0),
                    "size_m": (1, 1),
                    "radiance": (1, 1, 1),
                },
            ],
            "environment": {"type": "hdri", "file": {"name": "sky.exr", "sha256": sha + "2"}},
            "camera": {
                "path": {
                    "type": "push-in",
                    "position_m": (0, -5, 1),
                    "look_at_m": (0, 0, 1),
                    "distance_m": 1,
                },
                "handheld": {},
            },
        },
        "targets": [
            {
                "k_at_1024": (8, 16, 24),
                "focus": [{"frame": 0, "subject": "ball-1"}, {"frame": 2, "disparity": 0.1}],
            },
            {
                "k_at_1024": (0, 0, 0),
                "focus": [{"frame": 0, "disparity": 1}],
                "lens": {"blades": 6, "squeeze": 1.3},
            },
        ],
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    """The scene's fields with one of them replaced; a number in the dotted path is an index."""
    fields = json.loads(json.dumps(scene_fields()))
    place: Any = fields
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for part in parents:
        place = place[part]
    place[last] = value
    return fields


SCENE = spec.SceneSpec.model_validate(scene_fields())


def test_json_round_trip_is_exact():
    again = spec.SceneSpec.model_validate_json(SCENE.canonical_json())
    assert again == SCENE
    assert again.canonical_json() == SCENE.canonical_json()
    assert again.sha256() == SCENE.sha256()


def test_identity_does_not_depend_on_order_of_keys_or_way_of_writing():
    fields = scene_fields()
    backwards = dict(reversed(list(fields.items())))
    backwards["film"] = dict(reversed(list(fields["film"].items()))) | {"fps": 24}
    assert spec.SceneSpec.model_validate(backwards).sha256() == SCENE.sha256()


def test_identity_is_the_same_in_another_process():
    """No set order, no hash seed, no machine in it."""
    code = (
        "import sys; from focuspull.render.spec import SceneSpec; "
        "print(SceneSpec.model_validate_json(sys.stdin.read()).sha256())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=SCENE.canonical_json(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == SCENE.sha256()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("film.width", 65),
        ("quality.denoise", False),
        ("world.objects.1.position_m", [0, 0, 1e-9]),
        ("world.environment.file.sha256", "a" * 64),
        ("targets.0.k_at_1024", [8, 16, 24.001]),
    ],
)
def test_identity_changes_with_every_field(path, value):
    assert spec.SceneSpec.model_validate(changed(path, value)).sha256() != SCENE.sha256()


def test_spec_is_frozen():
    with pytest.raises(ValidationError):
        SCENE.seed = 3  # type: ignore[misc]


def test_file_may_be_given_by_name():
    assert spec.FileRef.model_validate("a/b.png") == spec.FileRef(name="a/b.png", sha256="")


KEYS = {"type": "keys", "times_s": [0, 1], "positions_m": [[0, 0, 0], [1, 0, 0]]}
CARD = {"type": "card", "image": "a.png"}
FOCUS = [{"frame": 0, "disparity": 0.5}]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # Keys, types, ranges.
        ("film.widht", 64, "Extra inputs"),
        ("film.width", "wide", "valid integer"),
        ("film.width", 8, "greater than or equal to 16"),
        ("film.shutter", 1.5, "less than or equal to 1"),
        ("film.fps", 0, "greater than 0"),
        ("film.fps", float("nan"), "finite"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**32, "less than 4294967296"),
        ("version", 2, "Input should be 1"),
        ("quality.aif_samples", 0, "greater than or equal to 1"),
        ("world.objects.0.material.base_color", [0.5, 0.5, 1.5], "less than or equal to 1"),
        ("world.objects.0.material.roughness", -0.1, "greater than or equal to 0"),
        ("world.objects.0.material.ior", 1.0, "greater than or equal to 1.01"),
        ("world.objects.0.material.emission", [-1, 0, 0], "greater than or equal to 0"),
        ("world.objects.0.position_m", [float("inf"), 0, 0], "finite"),
        ("world.objects.0.scale", [1, 0, 1], "greater than 0"),
        ("world.objects.0.name", "Big Ball", "match pattern"),
        ("world.objects.0.shape", {"type": "cube"}, "does not match any of the expected tags"),
        ("world.objects.0.shape", {"type": "sphere", "segments": 4}, "greater than or equal to 8"),
        ("world.objects", [], "at least 1"),
        ("world.environment.file.sha256", "xyz", "match pattern"),
        ("targets", [], "at least 1"),
        ("targets.0.k_at_1024", [8, 16, 300], "less than or equal to 256"),
        ("targets.0.k_at_1024", [8, 16, -1], "greater than or equal to 0"),
        ("targets.0.focus", [], "at least 1"),
        ("targets.0.focus", [{"frame": 0, "disparity": 1.2}], "less than or equal to 1"),
        # Validators of our own.
        ("world.objects.0.name", "card", "object names must be unique, doubled: card"),
        ("world.objects.2.shape", {"type": "card"}, "exactly one of 'image', 'sequence' and 'drawing'"),
        (
            "world.objects.2.shape",
            CARD | {"sequence": {"pattern": "*.png"}},
            "exactly one of 'image', 'sequence' and 'drawing'",
        ),
        ("world.objects.1.motion", [KEYS | {"times_s": [1, 1]}], "times_s must increase"),
        ("world.objects.1.motion", [KEYS | {"positions_m": [[0, 0, 0]]}], "need 2 entries"),
        ("world.objects.1.motion", [KEYS | {"rotations_deg": [[0, 0, 0]]}], "need 2 entries"),
        ("world.lights.0.direction", [0, 0, 0], "direction must not be zero"),
        ("world.camera.path.look_at_m", [0, -5, 9], "must not look straight up or down"),
        ("targets.1.lens.blades", 2, "blades must be 0 .* got 2"),
        ("targets.1.lens", {"roundness": 0.5}, "roundness is for blades: set blades"),
        ("targets.1.lens", {"vignetting": True}, "vignetting is for a cat_eye: set cat_eye"),
        ("targets.1.lens", {"cat_eye_radius": 1.2}, "cat_eye_radius is for a cat_eye: set cat_eye"),
        ("targets.1.lens", {"cat_eye": 1.1}, "less than or equal to 1"),
        ("targets.1.lens", {"obstruction": 1}, "less than or equal to 0.9"),
        ("targets.1.lens", {"apodization_ev": -1}, "greater than or equal to 0"),
        ("targets.1.lens", {"spherical": -2}, "greater than or equal to -1"),
        ("targets.1.domain", "srgb", "'linear_hdr' or 'encoded8'"),
        ("targets.1.twin_of", 0, "targets.1.twin_of: must differ from an earlier target in nothing .* got 0"),
        ("targets.0.twin_of", 1, "targets.0.twin_of: must differ from an earlier target .* got 1"),
        ("targets.0.focus", [{"frame": 0}], "exactly one of 'disparity' and 'subject'"),
        (
            "targets.0.focus",
            [{"frame": 0, "disparity": 0.5, "subject": "card"}],
            "exactly one of 'disparity' and 'subject'",
        ),
        ("targets.0.focus", FOCUS * 2, "must be in order of frames"),
        ("targets.0.k_at_1024", [8, 16], "targets.0.k_at_1024 has 2 values for 3 frames"),
        ("targets.0.focus", [{"frame": 3, "disparity": 0.5}], "frame 3 is beyond 2"),
        ("targets.1.focus", [{"frame": 0, "subject": "nobody"}], "no object is named 'nobody'"),
    ],
)
def test_mistakes_are_refused(path, value, message):
    with pytest.raises(ValidationError, match=message):
        spec.SceneSpec.model_validate(changed(path, value))


def test_a_twin_differs_in_its_lens_alone():
    of = SCENE.targets[1]
    scene = SCENE.model_copy(update={"targets": (*SCENE.targets, of.twin(1))})
    assert spec.SceneSpec.model_validate_json(scene.canonical_json()) == scene
    twin = scene.targets[2]
    assert twin.lens.is_ideal
    assert (twin.k_at_1024, twin.focus, twin.domain) == (of.k_at_1024, of.focus, of.domain)


@pytest.mark.parametrize(
    ("fields", "label", "is_ideal", "is_native"),
    [
        ({}, "disc", True, True),
        ({"rotation_deg": 30}, "disc", True, True),
        ({"blades": 6}, "6 blades", False, True),
        ({"squeeze": 1.8}, "disc, squeeze 1.8", False, True),
        ({"blades": 6, "cat_eye": 0.5}, "6 blades, cat-eye 0.5", False, False),
        ({"blades": 9, "roundness": 0.7}, "9 blades, roundness 0.7", False, False),
        ({"cat_eye": 1, "vignetting": True}, "disc, cat-eye 1, vignetting", False, False),
        ({"obstruction": 0.4}, "disc, ring 0.4", False, False),
        ({"apodization_ev": 6}, "disc, apodization EV 6", False, False),
        (
            {"spherical": -0.05, "axial_chromatic": 0.01},
            "disc, spherical -0.05, axial chromatic 0.01",
            False,
            False,
        ),
    ],
)
def test_a_lens_knows_its_name_and_who_can_render_it(fields, label, is_ideal, is_native):
    lens = spec.LensSpec(**fields)
    assert (lens.label, lens.is_ideal, lens.is_native_in_cycles) == (label, is_ideal, is_native)
    assert (spec.cycles_problem([(lens, "linear_hdr")], spec.QualitySpec()) is None) == is_native


def test_noise_seeds_differ_by_scene_frame_target_and_pass():
    other = SCENE.model_copy(update={"seed": 1})
    seeds = [
        scene.noise_seed(frame, stream, part)
        for scene in (SCENE, other)
        for frame in range(20)
        for stream in range(5)
        for part in range(8)
    ]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0
    assert max(seeds) < 2**31
    assert SCENE.noise_seed(1, 2, 3) == SCENE.noise_seed(1, 2, 3)
    # Numbers do not run together: 1, 23 is not 12, 3.
    assert SCENE.noise_seed(1, 23) != SCENE.noise_seed(12, 3)
    # Spread over the range, so that no renderer sees neighbours.
    assert np.std(seeds) == pytest.approx(2**31 / np.sqrt(12), rel=0.1)
