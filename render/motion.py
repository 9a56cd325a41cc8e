"""Where things are at a time: camera paths and rigid object motion, as pure functions of the spec.

Poses are ``[4, 4]`` float64, local to world. A camera looks along its -Z, +Y is up, +X right.
"""

from __future__ import annotations

import math
from functools import lru_cache

import noise
import numpy as np
from numpy.typing import ArrayLike, NDArray

from focuspull.render import spec
from focuspull.render.curves import monotone_cubic
from focuspull.render.rotations import axis_rotation, euler_rotation

SHAKE_CORNER_HZ = 1.2
SHAKE_POWER = 1.7
"""The measured shake: its velocity has the power density ``1 / (1 + (f / corner)^2)^power``.

`tests/benchmarks/shake.py` measures both, and says on which footage.
"""
SHAKE_BAND_HZ = (0.1, 12.0)
SHAKE_LINES = 64
SHAKE_PERIOD_S = 20.0
"""The amplitude of a measured shake is its largest excursion within this time."""
MEASURED_AT_HZ = 0.8
"""The `Handheld.frequency_hz` at which a measured shake is as fast as it was measured."""


def camera_pose(camera: spec.CameraSpec, film: spec.FilmSpec, frame: float) -> NDArray[np.float64]:
    """Camera to world at a frame number, which may be fractional (for passes within the shutter)."""
    path = camera.path
    progress = frame / (film.num_frames - 1) if film.num_frames > 1 else 0.0
    if camera.ease:
        inside = min(max(progress, 0.0), 1.0)
        progress = inside * inside * (3 - 2 * inside)
    position, aim = np.asarray(path.position_m), np.asarray(path.look_at_m)
    match path:
        case spec.StaticPath():
            pass
        case spec.DollyPath():
            position, aim = (p + progress * np.asarray(path.offset_m) for p in (position, aim))
        case spec.PushInPath():
            toward = aim - position
            position = position + progress * path.distance_m * toward / np.linalg.norm(toward)
        case spec.OrbitPath():
            position = aim + axis_rotation((0, 0, 1), path.sweep_deg * progress) @ (position - aim)
        case spec.CranePath():
            position = position + progress * np.asarray(path.offset_m)
        case spec.PanPath():
            view = aim - position
            right = np.cross(view, (0.0, 0.0, 1.0))
            view = axis_rotation(right, path.tilt_deg * progress) @ view
            aim = position + axis_rotation((0, 0, 1), path.pan_deg * progress) @ view
        case spec.TrackPath():
            knots = np.linspace(0, 1, len(path.positions_m))
            position, aim = (
                monotone_cubic(knots, points, [progress])[0]
                for points in (path.positions_m, path.look_at_points_m)
            )
    pose = look_at(position, aim)
    if camera.handheld is not None:
        pose = pose @ _shake(camera.handheld, frame / film.fps)
    return pose


def look_at(position: ArrayLike, aim: ArrayLike) -> NDArray[np.float64]:
    """Pose whose -Z points at ``aim`` and whose +Y is as near to world up (+Z) as can be."""
    position = np.asarray(position, np.float64)
    back = position - np.asarray(aim, np.float64)
    back = back / np.linalg.norm(back)
    up = (0.0, 0.0, 1.0) if abs(back[2]) < 0.999999 else (0.0, 1.0, 0.0)
    right = np.cross(up, back)
    right = right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(back, right), back], axis=1)
    pose[:3, 3] = position
    return pose


def _shake(shake: spec.Handheld, time_s: float) -> NDArray[np.float64]:
    """Small rigid motion in camera space, six independent tracks."""
    tracks = shake_tracks(shake, time_s)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = euler_rotation(tracks[:3]), tracks[3:]
    return pose


def shake_tracks(shake: spec.Handheld, time_s: float) -> NDArray[np.float64]:
    """Tilt, pan and roll in degrees, then shifts right, up and back in metres: ``[6]``."""
    amplitude = np.array([shake.rotation_deg] * 3 + [shake.translation_m] * 3, np.float64)
    if shake.spectrum == "measured":
        rate, size, phase = _shake_lines(shake.seed)
        at = time_s * shake.frequency_hz / MEASURED_AT_HZ
        return amplitude * (size * np.sin(rate * at + phase)).sum(axis=1)
    # Doubled: Perlin noise stays mostly within +-0.5. Offsets keep the tracks off the zeros at integers.
    at = shake.frequency_hz * time_s + 0.37
    tracks = [2 * noise.pnoise2(at, 17.31 * i + 0.53, octaves=3, base=shake.seed) for i in range(6)]
    return amplitude * np.array(tracks)


@lru_cache(maxsize=256)
def _shake_lines(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sines that add up to six tracks of the measured spectrum, with the largest excursion 1.

    Angular frequencies (rad/s), amplitudes, phases, ``[6, lines]`` each. Frequencies are spread evenly in
    octaves, each within a band of its own, so that tracks do not repeat within any clip.
    """
    rng = np.random.default_rng([seed, 0x5AE])
    low, high = np.log(SHAKE_BAND_HZ)
    width = (high - low) / SHAKE_LINES
    octave = low + width * (np.arange(SHAKE_LINES) + rng.uniform(0, 1, (6, SHAKE_LINES)))
    hertz = np.exp(octave)
    # Power of the displacement in a line's band: that of the velocity over (2 pi f)^2, times the bandwidth.
    power = (1 + (hertz / SHAKE_CORNER_HZ) ** 2) ** -SHAKE_POWER / hertz**2 * (hertz * width)
    size = np.sqrt(power)
    phase = rng.uniform(0, 2 * np.pi, size.shape)
    rate = 2 * np.pi * hertz
    at = np.arange(0, SHAKE_PERIOD_S, 1 / 60)
    tracks = (size[:, None] * np.sin(rate[:, None] * at[:, None] + phase[:, None])).sum(axis=2)
    return rate, size / np.abs(tracks).max(axis=1, keepdims=True), phase


def object_pose(item: spec.ObjectSpec, time_s: float) -> NDArray[np.float64]:
    """Object to world at a time; moves add up, turns are applied in order after the rest rotation."""
    rotation = euler_rotation(item.rotation_deg)
    offset = np.asarray(item.position_m, np.float64)
    for motion in item.motion:
        match motion:
            case spec.Linear():
                offset = offset + time_s * np.asarray(motion.velocity_m_s)
            case spec.Spin():
                rotation = axis_rotation(motion.axis, motion.rate_deg_s * time_s) @ rotation
            case spec.Sway():
                wave = math.sin(2 * math.pi * (motion.frequency_hz * time_s + motion.phase))
                offset = offset + wave * np.asarray(motion.amplitude_m)
            case spec.Keys():
                offset = offset + monotone_cubic(motion.times_s, motion.positions_m, [time_s])[0]
                if motion.rotations_deg is not None:
                    turn = monotone_cubic(motion.times_s, motion.rotations_deg, [time_s])[0]
                    rotation = euler_rotation(turn) @ rotation
            case spec.Baked():
                moved, turned = _baked(motion, time_s)
                offset, rotation = offset + moved, turned @ rotation
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, offset
    return pose


def rest_pose(item: spec.ObjectSpec) -> NDArray[np.float64]:
    """Object to world without its motion."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = euler_rotation(item.rotation_deg), item.position_m
    return pose


def _baked(motion: spec.Baked, time_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offset and rotation between two samples; turns by normalised interpolation along the shorter arc."""
    at = min(max(time_s * motion.rate_hz, 0.0), len(motion.positions_m) - 1.0)
    i = min(int(at), len(motion.positions_m) - 2)
    part = at - i
    before, after = (np.asarray(motion.positions_m[n], np.float64) for n in (i, i + 1))
    first, second = (np.asarray(motion.quaternions[n], np.float64) for n in (i, i + 1))
    turn = (1 - part) * first + part * (second if first @ second >= 0 else -second)
    w, x, y, z = turn / np.linalg.norm(turn)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return (1 - part) * before + part * after, rotation
