"""Camera paths, shake, rigid motion and the curves under them, as pure functions of time."""

from __future__ import annotations

import numpy as np
import pytest

from focuspull.render import spec
from focuspull.render.curves import monotone_cubic
from focuspull.render.motion import (
    SHAKE_CORNER_HZ,
    SHAKE_POWER,
    camera_pose,
    look_at,
    object_pose,
    shake_tracks,
)
from focuspull.render.rotations import euler_rotation

FILM = spec.FilmSpec(num_frames=25, fps=24.0)
EYE, AIM = (1.0, -6.0, 2.0), (0.0, 0.5, 0.5)


def camera(kind: str, *, ease: bool = False, handheld: dict | None = None, **fields) -> spec.CameraSpec:
    path = {"type": kind, "position_m": EYE, "look_at_m": AIM, **fields}
    return spec.CameraSpec.model_validate({"path": path, "ease": ease, "handheld": handheld})


def assert_rigid(pose: np.ndarray) -> None:
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    np.testing.assert_array_equal(pose[3], [0, 0, 0, 1])


def assert_looks_at(pose: np.ndarray, aim) -> None:
    toward = np.asarray(aim) - pose[:3, 3]
    np.testing.assert_allclose(-pose[:3, 2], toward / np.linalg.norm(toward), atol=1e-9)
    assert pose[2, 0] == pytest.approx(0, abs=1e-12), "the horizon must be level"
    assert pose[2, 1] > 0, "up must be up"


# --- Curves ------------------------------------------------------------------------------------------


def test_monotone_cubic_goes_through_its_keys_and_holds_the_ends():
    knots, values = [0.0, 0.3, 1.0, 2.5], [[0.0, 1.0], [2.0, 1.0], [2.5, -1.0], [9.0, 0.0]]
    np.testing.assert_allclose(monotone_cubic(knots, values, knots), values, atol=1e-12)
    np.testing.assert_allclose(monotone_cubic(knots, values, [-5, 99]), [values[0], values[-1]])


def test_monotone_cubic_never_overshoots():
    rng = np.random.default_rng(1)
    knots = np.cumsum(rng.uniform(0.1, 2, 12))
    values = rng.normal(size=(12, 3))
    at = np.linspace(knots[0], knots[-1], 2000)
    found = monotone_cubic(knots, values, at)
    i = np.clip(np.searchsorted(knots, at, "right") - 1, 0, 10)
    low, high = np.minimum(values[i], values[i + 1]), np.maximum(values[i], values[i + 1])
    assert (found >= low - 1e-9).all()
    assert (found <= high + 1e-9).all()


def test_monotone_cubic_is_monotone_and_smooth():
    at = np.linspace(0, 4, 4001)
    found = monotone_cubic(range(5), [[0], [1], [1.2], [5], [5.5]], at)[:, 0]
    assert (np.diff(found) >= -1e-12).all()
    slope = np.diff(found) / np.diff(at)
    assert np.abs(np.diff(slope)).max() < 0.05, "the slope must have no jumps"


# --- Cameras -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("aim", [(0, 0, 0), (3, 2, -1), (1, -6, 9), (1, -6, -9)])
def test_look_at_points_minus_z_at_the_aim(aim):
    pose = look_at(EYE, aim)
    assert_rigid(pose)
    toward = np.subtract(aim, EYE)
    np.testing.assert_allclose(-pose[:3, 2], toward / np.linalg.norm(toward), atol=1e-9)
    np.testing.assert_array_equal(pose[:3, 3], EYE)


def test_static_camera_stays():
    poses = [camera_pose(camera("static"), FILM, frame) for frame in (0, 7.5, 24)]
    for pose in poses:
        assert_looks_at(pose, AIM)
        np.testing.assert_array_equal(pose, poses[0])


def test_dolly_keeps_its_direction():
    path = camera("dolly", offset_m=(2.0, 1.0, -0.5))
    first, middle, last = (camera_pose(path, FILM, frame) for frame in (0, 12, 24))
    np.testing.assert_allclose(middle[:3, 3] - first[:3, 3], (1, 0.5, -0.25), atol=1e-12)
    np.testing.assert_allclose(last[:3, 3] - first[:3, 3], (2, 1, -0.5), atol=1e-12)
    np.testing.assert_allclose(last[:3, :3], first[:3, :3], atol=1e-12)


def test_push_in_moves_along_the_view():
    first, last = (camera_pose(camera("push-in", distance_m=1.5), FILM, frame) for frame in (0, 24))
    np.testing.assert_allclose(last[:3, 3] - first[:3, 3], -1.5 * first[:3, 2], atol=1e-9)
    assert_looks_at(last, AIM)


def test_orbit_keeps_distance_and_height_and_turns_counter_clockwise():
    path = camera("orbit", sweep_deg=90.0)
    poses = [camera_pose(path, FILM, frame) for frame in range(25)]
    distance = [np.linalg.norm(pose[:3, 3] - AIM) for pose in poses]
    np.testing.assert_allclose(distance, distance[0], rtol=1e-12)
    np.testing.assert_allclose([pose[2, 3] for pose in poses], EYE[2])
    for pose in poses:
        assert_looks_at(pose, AIM)
    start, end = poses[0][:2, 3] - AIM[:2], poses[-1][:2, 3] - AIM[:2]
    np.testing.assert_allclose(end, (-start[1], start[0]), atol=1e-9)


def test_ease_starts_and_stops_softly_at_the_same_ends():
    plain, eased = camera("dolly", offset_m=(1, 0, 0)), camera("dolly", offset_m=(1, 0, 0), ease=True)
    x = np.array([camera_pose(eased, FILM, frame)[0, 3] for frame in range(25)])
    for frame in (0, 12, 24):
        np.testing.assert_allclose(
            camera_pose(eased, FILM, frame), camera_pose(plain, FILM, frame), atol=1e-12
        )
    steps = np.diff(x)
    assert (steps > 0).all()
    assert max(steps[0], steps[-1]) < 0.2 * steps[12]


def test_ends_of_the_shutter_may_lie_outside_the_clip():
    for path in (camera("orbit", sweep_deg=40.0, ease=True), camera("dolly", offset_m=(1, 0, 0))):
        for frame in (-0.5, 24.5):
            assert_rigid(camera_pose(path, FILM, frame))
    assert_rigid(camera_pose(camera("orbit", sweep_deg=40.0), spec.FilmSpec(num_frames=1), 0.25))


def test_handheld_shake_is_smooth_bounded_and_repeatable():
    """Ten seconds: no jump from frame to frame, excursions about as large as asked, never twice that."""
    shake = {"translation_m": 0.02, "rotation_deg": 0.5, "frequency_hz": 0.8, "seed": 3}
    film = spec.FilmSpec(num_frames=240, fps=24.0)
    still = camera_pose(camera("static"), film, 0)
    poses = np.array([camera_pose(camera("static", handheld=shake), film, frame) for frame in range(240)])
    again = np.array([camera_pose(camera("static", handheld=shake), film, frame) for frame in range(240)])
    np.testing.assert_array_equal(poses, again)
    for pose in poses:
        assert_rigid(pose)
    offset = (poses[:, :3, 3] - still[:3, 3]) @ still[:3, :3]
    assert 0.005 < np.abs(offset).max() < 0.04
    angle = np.degrees(np.arccos(np.clip((poses[:, :3, 2] @ still[:3, 2]), -1, 1)))
    assert 0.1 < angle.max() < 1.4
    assert np.abs(np.diff(offset, axis=0)).max() < 0.1 * 0.02 * 2
    other = camera_pose(camera("static", handheld=shake | {"seed": 4}), film, 10)
    assert not np.allclose(other, poses[10], atol=1e-5)


def test_handheld_zero_is_a_tripod():
    shake = {"translation_m": 0.0, "rotation_deg": 0.0}
    np.testing.assert_allclose(
        camera_pose(camera("static", handheld=shake), FILM, 5),
        camera_pose(camera("static"), FILM, 5),
        atol=1e-15,
    )


# --- Objects -----------------------------------------------------------------------------------------


def thing(*motion: dict, **fields) -> spec.ObjectSpec:
    shape = {"type": "sphere"}
    return spec.ObjectSpec.model_validate({"name": "thing", "shape": shape, "motion": motion, **fields})


def test_euler_rotation_turns_x_first_then_y_then_z():
    np.testing.assert_allclose(euler_rotation((90, 0, 0)) @ [0, 0, 1], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(euler_rotation((90, 0, 90)) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(euler_rotation((0, 90, 90)) @ [1, 0, 0], [0, 0, -1], atol=1e-12)


def test_resting_object_is_at_its_place():
    pose = object_pose(thing(position_m=(1, 2, 3), rotation_deg=(0, 0, 90)), 5.0)
    np.testing.assert_array_equal(pose[:3, 3], (1, 2, 3))
    np.testing.assert_allclose(pose[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_motions_add_up():
    item = thing(
        {"type": "linear", "velocity_m_s": (1, 0, 0)},
        {"type": "sway", "amplitude_m": (0, 2, 0), "frequency_hz": 0.5, "phase": 0.25},
        {"type": "spin", "rate_deg_s": 90},
        position_m=(0, 0, 1),
        rotation_deg=(90, 0, 0),
    )
    for time in (0.0, 1.0, 2.0):
        pose = object_pose(item, time)
        assert_rigid(pose)
        np.testing.assert_allclose(pose[:3, 3], (time, 2 * np.cos(np.pi * time), 1), atol=1e-12)
    # Turned up about x at rest, then a quarter about the world's z.
    np.testing.assert_allclose(object_pose(item, 1.0)[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=1e-12)


def test_keys_are_offsets_to_the_rest_pose():
    keys = {
        "type": "keys",
        "times_s": (0, 1, 2),
        "positions_m": ((0, 0, 0), (1, 0, 0), (1, 0, 2)),
        "rotations_deg": ((0, 0, 0), (0, 0, 90), (0, 0, 90)),
    }
    item = thing(keys, position_m=(5, 5, 5))
    np.testing.assert_allclose(object_pose(item, 1.0)[:3, 3], (6, 5, 5))
    np.testing.assert_allclose(object_pose(item, 9.0)[:3, 3], (6, 5, 7))
    np.testing.assert_allclose(object_pose(item, 1.0)[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


# --- Paths and poses of whole scenes ------------------------------------------------------------------


def test_pan_turns_to_the_left_and_up_on_the_spot():
    first, last = (camera_pose(camera("pan", pan_deg=30, tilt_deg=10), FILM, f) for f in (0, 24))
    np.testing.assert_array_equal(first[:3, 3], last[:3, 3])
    assert_looks_at(first, AIM)
    before, after = -first[:3, 2], -last[:3, 2]
    turn = np.degrees(np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0]))
    assert turn == pytest.approx(30)
    assert np.degrees(np.arcsin(after[2]) - np.arcsin(before[2])) == pytest.approx(10)


def test_crane_moves_and_keeps_its_aim():
    pose = camera_pose(camera("crane", offset_m=(0.5, 0, 1.5)), FILM, 24)
    np.testing.assert_allclose(pose[:3, 3], np.add(EYE, (0.5, 0, 1.5)))
    assert_looks_at(pose, AIM)


def test_track_goes_through_its_points():
    points = (EYE, (0.0, -5.0, 1.5), (-1.0, -5.0, 2.5))
    aims = (AIM, (0.2, 0.5, 0.5), (0.4, 0.5, 0.6))
    path = {"type": "track", "positions_m": points, "look_at_points_m": aims}
    track = spec.CameraSpec.model_validate({"path": path, "ease": False})
    for frame, point, aim in zip((0, 12, 24), points, aims, strict=True):
        pose = camera_pose(track, FILM, frame)
        np.testing.assert_allclose(pose[:3, 3], point)
        assert_looks_at(pose, aim)
        assert_rigid(camera_pose(track, FILM, frame + 0.4))


def test_baked_poses_are_met_and_turns_take_the_shorter_way():
    half = np.sqrt(0.5)
    quaternions = ((1.0, 0.0, 0.0, 0.0), (half, 0.0, 0.0, half), (-1.0, 0.0, 0.0, 0.0))
    motion = {
        "type": "baked",
        "rate_hz": 10.0,
        "positions_m": ((0, 0, 1), (0, 0, 0.5), (0, 0, 0)),
        "quaternions": quaternions,
    }
    item = spec.ObjectSpec.model_validate(
        {"name": "thing", "shape": {"type": "box"}, "position_m": (1, 2, 0), "motion": [motion]}
    )
    at = object_pose(item, 0.1)
    np.testing.assert_allclose(at[:3, 3], (1, 2, 0.5))
    np.testing.assert_allclose(at[:3, :3], euler_rotation((0, 0, 90)), atol=1e-12)
    np.testing.assert_allclose(object_pose(item, 0.05)[:3, :3], euler_rotation((0, 0, 45)), atol=1e-12)
    # -1 is 1: back by 90 degrees, not on by 270.
    np.testing.assert_allclose(object_pose(item, 0.15)[:3, :3], euler_rotation((0, 0, 45)), atol=1e-12)
    np.testing.assert_array_equal(object_pose(item, 9.0), object_pose(item, 0.2))


# --- Measured shake -----------------------------------------------------------------------------------


def tracks_of(seed: int, seconds: float, rate: float, **fields) -> np.ndarray:
    shake = spec.Handheld.model_validate({"seed": seed, "spectrum": "measured"} | fields)
    return np.array([shake_tracks(shake, t) for t in np.arange(round(seconds * rate)) / rate])


@pytest.mark.parametrize("seed", [0, 7, 255])
def test_measured_shake_reaches_its_amplitude_around_the_rest_pose(seed):
    tracks = tracks_of(seed, 20.0, 60.0, rotation_deg=0.5, translation_m=0.02)
    np.testing.assert_allclose(np.abs(tracks).max(axis=0), [0.5] * 3 + [0.02] * 3, rtol=1e-9)
    assert (np.abs(tracks.mean(axis=0)) < 0.2 * np.abs(tracks).max(axis=0)).all()
    assert not np.allclose(tracks, tracks_of(seed // 2 + 1, 20.0, 60.0, rotation_deg=0.5, translation_m=0.02))


def test_measured_shake_has_the_spectrum_that_was_measured():
    """The velocity's power over 24 seeds follows the model within 2 dB from 0.5 to 8 Hz."""
    rate, n = 30.0, 300
    total = np.zeros(n // 2 + 1)
    for seed in range(24):
        v = np.diff(tracks_of(seed, (n + 1) / rate, rate), axis=0) * np.hanning(n)[:, None]
        total += (np.abs(np.fft.rfft(v, axis=0)) ** 2 / (v**2).sum(axis=0)).sum(axis=1)
    f = np.fft.rfftfreq(n, 1 / rate)
    edges = np.array([0.5, 0.8, 1.25, 2.0, 3.2, 5.0, 8.0])
    bands = list(zip(edges, edges[1:], strict=False))
    found = np.array([total[(f >= a) & (f < b)].mean() for a, b in bands])
    model = (1 + (f / SHAKE_CORNER_HZ) ** 2) ** -SHAKE_POWER
    asked = np.array([model[(f >= a) & (f < b)].mean() for a, b in bands])
    difference = 10 * np.log10(found / asked)
    assert np.ptp(difference) < 4, difference


def test_measured_shake_is_smooth_and_the_frequency_speeds_it_up():
    tracks = tracks_of(3, 10.0, 240.0)
    steps = np.diff(tracks, axis=0)
    # Twice the number of samples per second halves the steps' changes twice over: no jumps at any scale.
    coarse, fine = np.diff(tracks[::2], n=2, axis=0), np.diff(steps, axis=0)
    np.testing.assert_allclose(np.abs(coarse).max(axis=0) / np.abs(fine).max(axis=0), 4, rtol=0.1)
    faster = tracks_of(3, 5.0, 240.0, frequency_hz=1.6)
    np.testing.assert_allclose(faster, tracks[::2], atol=1e-12)


def test_perlin_shake_is_what_it_was():
    """Scenes of shipped corpora have it: no number of it may change."""
    shake = spec.Handheld(seed=3, translation_m=0.02, rotation_deg=0.5)
    expected = [
        0.0311797522008,
        0.16164304316,
        0.139443948865,
        -0.0143894767761,
        0.00156143084168,
        -0.000268441606313,
    ]
    np.testing.assert_allclose(shake_tracks(shake, 0.7), expected, rtol=1e-8)
