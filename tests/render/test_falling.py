"""Tabletops on which things fell, or fall: on the table, in place, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from focuspull.render import motion, spec
from focuspull.render.corpus import load_corpus
from focuspull.render.families.falling import PLACES
from focuspull.render.families.tabletop import TabletopRanges, random_tabletop
from focuspull.render.geometry import make_mesh

SEEDS = range(6)


def worlds(**options) -> list[spec.World]:
    ranges = TabletopRanges(family="tabletop", **options)
    return [random_tabletop(np.random.default_rng([11, seed]), ranges) for seed in SEEDS]


def things(world: spec.World) -> list[spec.ObjectSpec]:
    return [item for item in world.objects if item.role in PLACES]


def lowest(item: spec.ObjectSpec, time_s: float) -> float:
    vertices, _ = make_mesh(item.shape).moved(motion.object_pose(item, time_s))
    return float(vertices[:, 2].min())


def test_settled_things_lie_on_the_table_or_each_other():
    tilted = on_table = total = 0
    for world in worlds(settled=True):
        assert {"subject", "foreground", "background"} <= {item.role for item in world.objects}
        for item in things(world):
            (left, right), (front, back) = PLACES[item.role]
            assert left < item.position_m[0] < right
            assert front < item.position_m[1] < back
            low = lowest(item, 0.0)
            # What stood uneven and was returned as drawn may be a little deeper.
            assert low > -0.002
            on_table += low < 0.004
            tilted += max(abs(item.rotation_deg[0]), abs(item.rotation_deg[1])) > 30
            total += 1
    assert on_table > 0.7 * total
    assert tilted > 0.4 * total


def test_dropped_things_come_from_above_the_picture_and_land():
    for world in worlds(dropped=(2, 4)):
        falling = [item for item in world.objects if item.name.startswith("falling")]
        assert 2 <= len(falling) <= 4
        landed = 0
        for item in falling:
            assert lowest(item, 0.0) > 0.36
            for time in np.arange(0, 2.5, 0.1):
                on_table = np.abs(motion.object_pose(item, time)[:2, 3] - [0, 0.1]).max() < 1.25
                assert not on_table or lowest(item, time) > -0.01
            landed += lowest(item, 2.5) < 0.3
        assert landed >= len(falling) - 1
        assert all(item.role != "subject" for item in falling)


def test_subjects_stay_where_nothing_hits_them():
    """Before anything has come down, nothing on the table moves."""
    for world in worlds(dropped=(1, 1)):
        for item in things(world):
            if any(isinstance(m, spec.Baked) for m in item.motion):
                start, soon = (motion.object_pose(item, time)[:3, 3] for time in (0.0, 0.1))
                assert np.linalg.norm(soon - start) < 1e-3


@pytest.mark.parametrize("options", [{"settled": True}, {"dropped": (2, 3)}])
def test_the_same_draw_gives_the_same_world(options):
    ranges = TabletopRanges(family="tabletop", **options)
    first, second = (random_tabletop(np.random.default_rng(4), ranges) for _ in range(2))
    assert first == second


def test_the_camera_keeps_away_from_what_falls():
    for world in worlds(dropped=(3, 4)):
        film = spec.FilmSpec(num_frames=25)
        for frame in range(0, 25, 4):
            eye = motion.camera_pose(world.camera, film, frame)[:3, 3]
            for item in world.objects:
                if item.name.startswith("falling"):
                    vertices, _ = make_mesh(item.shape).moved(motion.object_pose(item, frame / film.fps))
                    assert np.linalg.norm(vertices - eye, axis=1).min() > 0.08


def test_a_spec_that_asks_for_neither_has_neither_in_its_json():
    ranges = load_corpus("tiny").spec.scenes[0]
    assert not {"dropped", "settled"} & set(ranges.model_dump(mode="json"))
