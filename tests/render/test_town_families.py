"""Streets, squares and glass, and what `night` has on request."""

import numpy as np
import pytest

from focuspull.render.corpus import load_corpus
from focuspull.render.families import glassware, vehicles
from focuspull.render.families.lettering import WORDS, flat_letters, tube_letters, word_width
from focuspull.render.families.pieces import placed
from focuspull.render.geometry import make_mesh
from focuspull.render.randomize import randomize
from focuspull.render.spec import Compound, Lathe, ObjectSpec, SceneSpec
from tests.render.test_families import share_in_view


def scenes(family: str, count: int) -> list[SceneSpec]:
    overrides = {"scenes": f"[{family}]", "film.width": "448", "film.height": "252"}
    spec = load_corpus("tiny", overrides).spec
    return [randomize(spec.model_copy(update={"seed": seed}), 0) for seed in range(count)]


@pytest.mark.parametrize("family", ["{family: street}", "{family: glass}"])
def test_something_of_every_role_is_in_view_in_all_frames(family: str) -> None:
    for seed, scene in enumerate(scenes(family, 6)):
        for role, least in (("subject", 0.3), ("background", 0.1), ("foreground", 0.01)):
            items = [item for item in scene.world.objects if item.role == role]
            for frame in (0, scene.film.num_frames - 1):
                assert max(share_in_view(scene, item, frame) for item in items) > least, (seed, role, frame)


def test_nothing_of_a_street_is_below_ground_or_stands_on_the_camera() -> None:
    for scene in scenes("{family: street}", 4):
        eye = np.array(scene.world.camera.path.position_m)
        for item in scene.world.objects:
            vertices = make_mesh(item.shape).vertices
            if item.role == "subject":
                assert vertices[:, 2].min() + item.position_m[2] > -0.05, item.name
            if item.name.startswith(("car", "thing", "tree", "lamp")):
                assert np.linalg.norm(np.array(item.position_m[:2]) - eye[:2]) > 1.5, item.name


@pytest.mark.parametrize("view", ["along", "across", "square"])
@pytest.mark.parametrize("day", ["day", "golden", "overcast", "rain", "dusk"])
def test_views_and_days_can_be_asked_for(view: str, day: str) -> None:
    family = f"{{family: street, views: {{{view}: 1}}, days: {{{day}: 1}}}}"
    (scene,) = scenes(family, 1)
    names = {item.name for item in scene.world.objects}
    assert ("kerbs" in names) == (view != "square")
    assert bool(scene.world.lights) == (day in ("day", "golden"))


def test_glass_scenes_have_glass_or_mirrors_and_light_all_around() -> None:
    for seed, scene in enumerate(scenes("{family: glass}", 12)):
        clear = [o for o in scene.world.objects if o.material.transmission == 1]
        mirrors = [o for o in scene.world.objects if o.material.metallic == 1]
        assert clear or mirrors, seed
        assert any(o.role == "subject" for o in (*clear, *mirrors)), seed
        assert scene.world.environment.type == "sky"
        assert min(scene.world.environment.zenith) > 0.2


@pytest.mark.parametrize("kind", glassware.FILLED)
def test_a_drink_stays_inside_its_glass(kind: str) -> None:
    def profile(piece: glassware.Piece) -> np.ndarray:
        shape = piece.parts[0].shape
        assert isinstance(shape, Lathe)
        mesh = make_mesh(shape.model_copy(update={"segments": 8}))
        return np.stack([np.linalg.norm(mesh.vertices[:, :2], axis=1), mesh.vertices[:, 2]], axis=1)

    glass = profile(glassware.vessel(kind, glassware.CHROME, segments=8))
    drink = profile(glassware.filling(kind, 0.6, (0.9, 0.2, 0.2), segments=8))
    top = glass[:, 1].argmax()
    inside = glass[top:]
    order = np.argsort(inside[:, 1])
    for r, z in drink[drink[:, 0] > 1e-3]:
        assert r < np.interp(z, inside[order, 1], inside[order, 0]) + 1e-5, (r, z)


@pytest.mark.parametrize("kind", sorted(vehicles.BODIES))
def test_cars_stand_on_their_wheels_and_have_a_cars_size(kind: str) -> None:
    pieces = vehicles.car(kind, glassware.CHROME, 5.0)
    objects = placed("car", pieces)
    assert objects[0].name == "car"
    points = np.concatenate([make_mesh(o.shape).vertices for o in objects])
    assert abs(points[:, 2].min()) < 0.01
    length, width, height = vehicles.car_size(kind)
    assert np.ptp(points[:, 0]) == pytest.approx(length, abs=0.12)
    assert width < np.ptp(points[:, 1]) < width + 0.5
    assert points[:, 2].max() == pytest.approx(height, abs=0.06)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_can_be_written_within_its_width(word: str) -> None:
    for parts in (tube_letters(word, 0.4, 0.01), flat_letters(word, 0.4, 0.05)):
        x = make_mesh(Compound(type="compound", parts=tuple(parts))).vertices[:, 0]
        assert np.ptp(x) == pytest.approx(word_width(word, 0.4), abs=0.15)


def test_night_has_more_on_request_and_else_stays_as_it_was() -> None:
    def names(items: tuple[ObjectSpec, ...]) -> set[str]:
        return {item.name.rstrip("0123456789-") for item in items}

    (plain,) = scenes("{family: night}", 1)
    (rich,) = scenes("{family: night, neon: [2, 3], shops: [2, 2], car_bodies: 1, wet: 1}", 1)
    assert not {"neon", "shop"} & names(plain.world.objects)
    assert {"neon", "shop"} <= names(rich.world.objects)
    assert any("paint" in o.name or o.name == "car-0" for o in rich.world.objects)
    assert plain.world.objects[0] != rich.world.objects[0]
