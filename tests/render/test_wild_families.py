"""Nature, stress, cards: what every scene of them has."""

import numpy as np
import pytest

from focuspull.render import motion
from focuspull.render.build import build
from focuspull.render.corpus import load_corpus
from focuspull.render.pool import AssetPool, CutoutAsset
from focuspull.render.randomize import randomize
from focuspull.render.records import FileRef
from focuspull.render.spec import SceneSpec, Wind
from tests.rendering import BACKENDS, render

FAMILIES = ("nature", "stress", "cards")


def scene(family: str, seed: int, **overrides: str) -> SceneSpec:
    fields = {"scenes": f"[{{family: {family}}}]", "film.width": "64", "film.height": "36"}
    spec = load_corpus("tiny", fields | overrides).spec
    return randomize(spec.model_copy(update={"seed": seed}), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_scene_has_all_roles_and_is_the_same_again(family: str) -> None:
    for seed in range(30):
        world = scene(family, seed).world
        assert {"subject", "foreground", "background"} <= {item.role for item in world.objects}, seed
        assert world == scene(family, seed).world


@pytest.mark.parametrize("family", FAMILIES)
def test_subjects_stay_in_view_and_scenes_stay_small(family: str) -> None:
    for seed in range(4):
        one = scene(family, seed)
        film, camera = one.film, one.world.camera
        built = build(one, {})
        assert sum(len(item.mesh.triangles) for item in built.items) < 1_500_000
        half_width = camera.sensor_width_mm / camera.focal_length_mm / 2
        roles = {item.name: item.role for item in one.world.objects}
        for frame in (0, film.num_frames - 1):
            to_camera = np.linalg.inv(motion.camera_pose(camera, film, frame))
            shares = []
            for item in built.items:
                if roles.get(item.owner) != "subject":
                    continue
                vertices, _ = item.placed(frame)
                x, y, z = (vertices @ to_camera[:3, :3].T + to_camera[:3, 3]).T
                half_height = half_width * film.height / film.width
                shares.append(
                    ((z < 0) & (np.abs(x) < -z * half_width) & (np.abs(y) < -z * half_height)).mean()
                )
            assert max(shares) > 0.3, (family, seed, frame)


def test_plants_move_in_the_wind() -> None:
    for seed in range(5):
        assert any(isinstance(item.deform, Wind) for item in scene("nature", seed).world.objects), seed


def test_panoramas_and_photographs_of_the_pool_are_used() -> None:
    pool = AssetPool(
        hdris=(FileRef(name="sky.exr", sha256="a" * 64),),
        photos=(FileRef(name="wall.jpg", sha256="b" * 64),),
        cutouts=(CutoutAsset(id="cat", image=FileRef(name="cat.png", sha256="c" * 64)),),
    )
    found = set()
    for family in ("nature", "cards"):
        spec = load_corpus("tiny", {"scenes": f"[{{family: {family}}}]"}).spec
        for seed in range(12):
            text = randomize(spec.model_copy(update={"seed": seed, "assets": pool}), 0).canonical_json()
            found |= {name for name in ("sky.exr", "wall.jpg", "cat.png") if name in text}
    assert found == {"sky.exr", "wall.jpg", "cat.png"}


@pytest.mark.parametrize("backend", [pytest.param(b, marks=getattr(pytest.mark, b)) for b in BACKENDS])
def test_both_renderers_draw_cards(backend: str) -> None:
    one = scene(
        "cards",
        1,
        **{
            "film.width": "48",
            "film.height": "27",
            "targets": "[{k_at_1024: 0, focus: [0.5]}]",
            "quality.aif_samples": "4",
            "quality.bokeh_samples": "4",
            "quality.denoise": "false",
        },
    )
    (frames,) = render(backend, one, frames=[0])
    image = np.asarray(frames.aif[0])
    assert 0.02 < image.mean() < 1.5 and image.std() > 0.02
