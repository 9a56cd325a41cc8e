"""Where things are at a time: camera paths and rigid object motion, as pure functions of the spec.

Poses are ``[4, 4]`` float64, local to world. A camera looks along its -Z, +Y is up, +X right.
"""

from __future__ import annotations

import math

import noise
import numpy as np
from numpy.typing import ArrayLike, NDArray

from focuspull.render import spec
from focuspull.render.curves import monotone_cubic


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
            position = aim + _axis_rotation((0, 0, 1), path.sweep_deg * progress) @ (position - aim)
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
    """Small rigid motion in camera space, six independent Perlin tracks."""

    def track(i: int) -> float:
        # Doubled: Perlin noise stays mostly within +-0.5. Offsets keep the tracks off the zeros at integers.
        return 2 * noise.pnoise2(
            shake.frequency_hz * time_s + 0.37, 17.31 * i + 0.53, octaves=3, base=shake.seed
        )

    pose = np.eye(4)
    pose[:3, :3] = euler_rotation([shake.rotation_deg * track(i) for i in range(3)])
    pose[:3, 3] = [shake.translation_m * track(i) for i in range(3, 6)]
    return pose


def object_pose(item: spec.ObjectSpec, time_s: float) -> NDArray[np.float64]:
    """Object to world at a time; moves add up, turns are applied in order after the rest rotation."""
    rotation = euler_rotation(item.rotation_deg)
    offset = np.asarray(item.position_m, np.float64)
    for motion in item.motion:
        match motion:
            case spec.Linear():
                offset = offset + time_s * np.asarray(motion.velocity_m_s)
            case spec.Spin():
                rotation = _axis_rotation(motion.axis, motion.rate_deg_s * time_s) @ rotation
            case spec.Sway():
                wave = math.sin(2 * math.pi * (motion.frequency_hz * time_s + motion.phase))
                offset = offset + wave * np.asarray(motion.amplitude_m)
            case spec.Keys():
                offset = offset + monotone_cubic(motion.times_s, motion.positions_m, [time_s])[0]
                if motion.rotations_deg is not None:
                    turn = monotone_cubic(motion.times_s, motion.rotations_deg, [time_s])[0]
                    rotation = euler_rotation(turn) @ rotation
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, offset
    return pose


def euler_rotation(degrees: ArrayLike) -> NDArray[np.float64]:
    """Rotation about x, then y, then z."""
    x, y, z = np.asarray(degrees, np.float64)
    return _axis_rotation((0, 0, 1), z) @ _axis_rotation((0, 1, 0), y) @ _axis_rotation((1, 0, 0), x)


def _axis_rotation(axis: ArrayLike, degrees: float) -> NDArray[np.float64]:
    """Rodrigues' rotation."""
    a = np.asarray(axis, np.float64)
    a = a / np.linalg.norm(a)
    cross = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
    angle = math.radians(degrees)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
