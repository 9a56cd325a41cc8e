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
from focuspull.render.rotations import axis_rotation, euler_rotation


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
