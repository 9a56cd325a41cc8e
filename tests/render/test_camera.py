"""Camera moves: clear of things, smooth, of every kind; walks of objects."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from focuspull.render import motion, spec
from focuspull.render.families import camera
from focuspull.render.families.camera import MOVES, Move, camera_path, random_camera, random_trajectory

EYE, AIM = (0.0, -3.0, 1.2), (0.0, 0.2, 0.8)
FILM = spec.FilmSpec(num_frames=24, fps=12.0)


def thing(name: str, shape: dict, **fields) -> spec.ObjectSpec:
    return spec.ObjectSpec.model_validate({"name": name, "shape": shape, **fields})


def crowd(rng: np.random.Generator) -> tuple[spec.ObjectSpec, ...]:
    """A floor, a wall behind the camera, and balls all around it, some on their way."""
    things = [
        thing("floor", {"type": "plane", "size_m": (20, 20)}),
        thing("wall", {"type": "box", "size_m": (8, 0.2, 3)}, position_m=(0, -3.6, 1.5)),
    ]
    while len(things) < 16:
        place = np.array([rng.uniform(-1.6, 1.6), rng.uniform(-4, 1), rng.uniform(0.3, 2)])
        radius = float(rng.uniform(0.05, 0.3))
        motions = ({"type": "linear", "velocity_m_s": (float(rng.uniform(-0.3, 0.3)), 0.0, 0.0)},)
        if (
            min(np.linalg.norm(place + [d, 0, 0] - EYE) for d in np.linspace(-0.6, 0.6, 13))
            > radius * 1.8 + 0.15
        ):
            things.append(
                thing(
                    f"ball-{len(things)}",
                    {"type": "sphere", "radius_m": radius},
                    position_m=tuple(place),
                    motion=motions if rng.random() < 0.4 else (),
                )
            )
    return tuple(things)


def poses_of(path, handheld, step: int = 1) -> np.ndarray:
    record = spec.CameraSpec(path=path, handheld=handheld)
    frames = range(24) if step == 1 else (0, 11, 23)
    return np.array([motion.camera_pose(record, FILM, frame) for frame in frames])


def test_no_draw_enters_a_thing_or_comes_too_near():
    """1500 draws among moving balls: an own check with spheres and planes, frame by frame."""
    kinds: Counter[str] = Counter()
    for world in range(30):
        things = crowd(np.random.default_rng([1, world]))
        frames = (0, 11, 23)
        balls = [(item, item.shape.radius_m) for item in things if isinstance(item.shape, spec.Sphere)]
        centres = np.array([[motion.object_pose(b, f / FILM.fps)[:3, 3] for b, _ in balls] for f in frames])
        for draw in range(50):
            rng = np.random.default_rng([2, world, draw])
            path, handheld = random_camera(rng, EYE, AIM, 0.9, obstacles=things)
            kinds[path.type] += 1
            eyes = poses_of(path, handheld, step=1 if draw % 5 == 0 else 11)[:, :3, 3]
            assert eyes[:, 2].min() > 0.1, "the floor"
            assert eyes[:, 1].min() > -3.5 + 0.1, "the wall"
            eyes = eyes[list(frames)] if len(eyes) == FILM.num_frames else eyes
            away = np.linalg.norm(eyes[:, None] - centres, axis=2) - [radius for _, radius in balls]
            assert away.min() > 0.05
    assert kinds["static"] < 1000, "moves must be found between the things"
    assert set(kinds) == {"static", "dolly", "push-in", "orbit", "pan", "crane", "track"}


def test_in_the_open_every_kind_occurs_and_keeps_its_aim_in_view():
    seen = Counter[str]()
    subject = thing(
        "walker",
        {"type": "sphere", "radius_m": 0.2},
        role="subject",
        position_m=AIM,
        motion=({"type": "linear", "velocity_m_s": (0.4, 0.1, 0.0)},),
    )
    for draw in range(1500):
        rng = np.random.default_rng([3, draw])
        kind = camera.random_move(np.random.default_rng([3, draw]), MOVES).kind
        seen[kind] += 1
        if draw % 5:
            continue
        path, handheld = random_camera(rng, EYE, AIM, 0.6, obstacles=(subject,))
        for frame, pose in enumerate(poses_of(path, handheld)):
            at = AIM if path.type != "track" else motion.object_pose(subject, frame / FILM.fps)[:3, 3]
            x, y, z = pose[:3, :3].T @ (np.asarray(at) - pose[:3, 3])
            assert z < 0
            assert abs(x / z) < 0.36 * (1.6 if path.type == "track" else 1), (kind, frame)
            assert abs(y / z) < 0.36 * 9 / 16
    assert set(seen) == set(MOVES)
    assert min(seen.values()) > 80


@pytest.mark.parametrize("kind", MOVES)
def test_moves_are_continuous(kind):
    """From frame to frame the speed changes by no more than an eased move of that length needs."""
    keys = {"type": "keys", "times_s": (0, 1, 2), "positions_m": ((0, 0, 0), (0.3, 0, 0), (0.6, 0.2, 0))}
    subject = thing("walker", {"type": "sphere"}, motion=(keys,))
    for side in (-1.0, 1.0):
        path = camera_path(Move(kind, side, 0.8, 0.7), EYE, AIM, 0.8, 50.0, subject)
        poses = poses_of(path, None)
        travelled = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1).sum()
        assert travelled <= 0.9
        assert (travelled > 0.3) == (kind not in ("static", "pan", "tilt", "handheld"))
        for track, size in ((poses[:, :3, 3], 0.9), (poses[:, :3, 2], 0.6)):
            change = np.linalg.norm(np.diff(track, n=2, axis=0), axis=1).max()
            assert change < 12 * size / FILM.num_frames**2, "an eased move needs 6"


def test_a_walking_subject_is_followed():
    walk = thing(
        "walker",
        {"type": "sphere", "radius_m": 0.2},
        role="subject",
        position_m=AIM,
        motion=({"type": "linear", "velocity_m_s": (0.4, 0.0, 0.0)},),
    )
    path, _ = random_camera(np.random.default_rng(0), EYE, AIM, 2.0, obstacles=(walk,), moves=("follow",))
    assert path.type == "track"
    record = spec.CameraSpec(path=path)
    for frame in range(0, 24, 3):
        pose = motion.camera_pose(record, FILM, frame)
        ahead = motion.object_pose(walk, frame / FILM.fps)[:3, 3] - pose[:3, 3]
        toward = -pose[:3, 2]
        assert np.degrees(np.arccos(toward @ ahead / np.linalg.norm(ahead))) < 9
    still, _ = random_camera(np.random.default_rng(0), EYE, AIM, 2.0, moves=("follow",))
    assert still.type == "static"


def test_where_there_is_no_room_the_camera_stays():
    boxes = [
        thing(f"b{i}", {"type": "box", "size_m": (0.2, 0.2, 4)}, position_m=(x, y, 1))
        for i, (x, y) in enumerate(((-0.15, -3.0), (0.15, -3.0), (0.0, -3.15), (0.0, -2.85)))
    ]
    for draw in range(20):
        path, handheld = random_camera(np.random.default_rng(draw), EYE, AIM, 1.0, obstacles=boxes)
        eyes = poses_of(path, handheld)[:, :3, 3]
        assert np.abs(eyes[:, :2] - EYE[:2]).max() < 0.045
        assert path.position_m[:2] == EYE[:2]


def test_terrain_is_not_entered():
    ground = spec.ObjectSpec(
        name="ground", shape=spec.Terrain(type="terrain", size_m=(20.0, 20.0), amplitude_m=0.8, seed=3)
    )
    from focuspull.render.bounds import ground_clearance

    height = 0.4 - float(ground_clearance(ground, [(EYE[0], EYE[1], 0.0)])[0])
    eye, aim = (EYE[0], EYE[1], height), (AIM[0], AIM[1], height)
    for draw in range(200):
        path, handheld = random_camera(np.random.default_rng(draw), eye, aim, 1.0, obstacles=(ground,))
        assert ground_clearance(ground, poses_of(path, handheld)[:, :3, 3]).min() > 0.1


def test_nothing_comes_before_most_of_the_lens():
    """A board at the side: moves that would bring it before the lens are not taken."""
    board = thing("board", {"type": "box", "size_m": (0.6, 0.02, 3)}, position_m=(0.75, -2.5, 1.0))
    reached = 0
    for draw in range(300):
        path, _ = random_camera(np.random.default_rng(draw), EYE, AIM, 1.1, obstacles=(board,))
        free, _ = random_camera(np.random.default_rng(draw), EYE, AIM, 1.1)
        right = poses_of(path, None)[:, 0, 3].max()
        assert right < 0.5
        reached = max(reached, poses_of(free, None)[:, 0, 3].max())
    assert reached > 0.5, "without the board the camera goes there"


def test_the_same_generator_gives_the_same_move():
    things = crowd(np.random.default_rng(5))
    first, second = (
        random_camera(np.random.default_rng(7), EYE, AIM, 0.5, obstacles=things) for _ in range(2)
    )
    assert first == second


def test_walks_start_at_rest_place_and_keep_their_pace():
    for draw in range(50):
        keys = random_trajectory(np.random.default_rng(draw), 1.5, duration_s=2.0)
        walker = spec.ObjectSpec(name="w", shape=spec.Sphere(type="sphere"), motion=(keys,))
        poses = np.array([motion.object_pose(walker, t) for t in np.linspace(0, 2, 97)])
        np.testing.assert_allclose(poses[0, :3, 3], 0, atol=2e-3)
        steps = np.diff(poses[:, :2, 3], axis=0)
        speed = np.linalg.norm(steps, axis=1) * 48
        np.testing.assert_allclose(speed, 0.75, rtol=0.15)
        # It turns as its way does.
        way = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        turn = np.unwrap(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
        assert np.degrees(np.abs((way - way[0]) - (turn[:-1] - turn[0])).max()) < 8
