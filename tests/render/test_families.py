import numpy as np
import pytest

from focuspull.render import motion
from focuspull.render.corpus import load_corpus
from focuspull.render.geometry import make_mesh
from focuspull.render.randomize import randomize
from focuspull.render.spec import ObjectSpec, SceneSpec

NUM_SEEDS = 30


def scenes(family: str) -> list[SceneSpec]:
    overrides = {"scenes": f"[{{family: {family}}}]", "film.width": "448", "film.height": "252"}
    spec = load_corpus("tiny", overrides).spec
    return [randomize(spec.model_copy(update={"seed": seed}), 0) for seed in range(NUM_SEEDS)]


def share_in_view(scene: SceneSpec, item: ObjectSpec, frame: int) -> float:
    """Share of an object's vertices that project into the image."""
    film, camera = scene.film, scene.world.camera
    pose = motion.object_pose(item, frame / film.fps)
    vertices, _ = make_mesh(item.shape).scaled(item.scale).moved(pose)
    to_camera = np.linalg.inv(motion.camera_pose(camera, film, frame))
    x, y, z = (vertices @ to_camera[:3, :3].T + to_camera[:3, 3]).T
    half_width = camera.sensor_width_mm / camera.focal_length_mm / 2
    half_height = half_width * film.height / film.width
    return float(((z < 0) & (np.abs(x) < -z * half_width) & (np.abs(y) < -z * half_height)).mean())


@pytest.mark.parametrize("family", ["tabletop", "night"])
@pytest.mark.parametrize("role", ["subject", "foreground", "background"])
def test_something_of_every_role_is_in_view_in_all_frames(family: str, role: str) -> None:
    for seed, scene in enumerate(scenes(family)):
        items = [item for item in scene.world.objects if item.role == role]
        for frame in range(scene.film.num_frames):
            assert max(share_in_view(scene, item, frame) for item in items) > 0.2, (seed, frame)


@pytest.mark.parametrize("family", ["tabletop", "night"])
def test_highlights_are_in_view(family: str) -> None:
    for seed, scene in enumerate(scenes(family)):
        lights = [item for item in scene.world.objects if max(item.material.emission) > 0]
        assert sum(share_in_view(scene, item, 0) > 0.5 for item in lights) >= 3, seed


@pytest.mark.parametrize("family", ["tabletop", "night"])
def test_the_camera_or_something_moves(family: str) -> None:
    for seed, scene in enumerate(scenes(family)):
        first, last = (motion.camera_pose(scene.world.camera, scene.film, f) for f in (0, 3))
        moves = [item for item in scene.world.objects if item.motion]
        assert moves or not np.allclose(first, last, atol=1e-4), seed


def test_things_on_the_table_stand_on_it_and_apart() -> None:
    for scene in scenes("tabletop"):
        props = [item for item in scene.world.objects if item.role != "set"]
        for item in props:
            vertices, _ = make_mesh(item.shape).moved(motion.object_pose(item, 0.0))
            assert abs(vertices[:, 2].min()) < 0.02, item.name
        places = np.array([item.position_m[:2] for item in props])
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2)[np.triu_indices(len(props), 1)]
        assert gaps.min() > 0.03
