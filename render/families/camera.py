"""Camera moves as operators make them: a pure `camera_path(move, ...)`, and `random_camera`, which draws one.

The place that a family asks for is the middle of the move. A move that would come too near to a thing, or put
one before most of the lens, is made smaller, then drawn again, and gives way to a static shot in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from focuspull.render import motion
from focuspull.render.bounds import Boxes, ground_clearance, joined, object_boxes
from focuspull.render.families.layout import pick
from focuspull.render.pool import MeshAsset
from focuspull.render.rotations import axis_rotation
from focuspull.render.spec import (
    CameraPath,
    CameraSpec,
    CranePath,
    DollyPath,
    FilmSpec,
    Handheld,
    Keys,
    ObjectSpec,
    OrbitPath,
    PanPath,
    PushInPath,
    StaticPath,
    Terrain,
    TrackPath,
    Vec3,
)

MOVES = (
    "static", "pan", "tilt", "dolly", "truck", "crane", "orbit", "push-in", "pull-out", "arc", "handheld",
    "follow",
)  # fmt: skip
"""Dolly: forward and to the side, looking the same way. Truck: sideways. Arc: an orbit that also rises or
falls and comes nearer or goes away. Follow: beside a subject that travels, where there is one."""

CLEARANCE_M = 0.12
"""What a camera keeps away from surfaces, unless the family put it nearer."""
NEAR_PART = 0.3
"""Things at less than this part of the distance to the aim are before the lens, not in the picture."""
MAX_FILL = 0.35
"""Part of the picture that things before the lens may cover, unless they cover more to begin with."""
SHRINK = (1.0, 0.7, 0.45, 0.25)
DRAWS = 6
MAX_REACH = 0.35
"""Of the distance to the aim: the most that a move may cover."""
KNOTS = 13
"""Of a track: enough that the curve through them has no visible corners."""


@dataclass(frozen=True)
class Move:
    """A move and its variant.

    Attributes:
        kind: One of `MOVES`.
        side: 1: to the right, up, counter-clockwise; -1: the other way.
        slant: In [0, 1], how much of a dolly goes sideways, how far an arc comes nearer.
        rise: In [-1, 1], how far an arc climbs.
    """

    kind: str
    side: float
    slant: float
    rise: float


@dataclass(frozen=True)
class Surroundings:
    """What a camera may run into.

    Attributes:
        boxes: Of the things near enough, at all of the times looked at.
        margin_m: ``[B]``, what to keep away from each.
        fill: Part of the picture that is covered at the place the family asked for, or `MAX_FILL`.
        terrains: Ground.
        ground_m: What to keep above it.
        focal_length_mm: Of the camera.
        near_m: What is nearer than this is before the lens.
    """

    boxes: Boxes
    margin_m: NDArray[np.float64]
    fill: float
    terrains: tuple[ObjectSpec, ...]
    ground_m: float
    focal_length_mm: float
    near_m: float


def random_camera(
    rng: np.random.Generator,
    position: Vec3,
    aim: Vec3,
    reach_m: float,
    *,
    obstacles: Sequence[ObjectSpec] = (),
    moves: Sequence[str] = MOVES,
    focal_length_mm: float = 50.0,
    duration_s: float = 2.0,
    meshes: Mapping[str, MeshAsset] | None = None,
) -> tuple[CameraPath, Handheld | None]:
    """A camera move that is clear of things.

    Args:
        rng: Source of all that is drawn.
        position: Where the camera is in the middle of the move.
        aim: What it looks at then.
        reach_m: How far it travels in the clip; turns are as large as they look from that.
        obstacles: The things of the world; those that move are avoided wherever they are in ``duration_s``.
        moves: Kinds to draw from.
        focal_length_mm: Of the full-frame camera; pans and tilts keep the aim in view.
        duration_s: Length of the clip, or more; a subject is followed at the pace that fits it.
        meshes: Assets by the SHA-256 of their file, for the footprints of mesh files.
    """
    reach_m = min(reach_m, MAX_REACH * float(np.linalg.norm(np.subtract(position, aim))))
    target = _travelling_subject(obstacles, duration_s)
    kinds = [kind for kind in moves if kind != "follow" or target is not None] or ["static"]
    around = surroundings(position, aim, reach_m, obstacles, focal_length_mm, duration_s, meshes or {})
    seed = 0
    for _ in range(DRAWS):
        move = random_move(rng, kinds)
        shaking, seed = bool(rng.random() < 0.3), int(rng.integers(256))
        size, angle = float(rng.uniform(0.12, 0.3)), float(rng.uniform(0.4, 1.0))
        for shrink in SHRINK:
            reach = reach_m * shrink
            handheld = None
            if move.kind == "handheld":
                handheld = _handheld(size * reach, angle, seed)
            elif shaking and move.kind != "static":  # a steadied camera
                handheld = _handheld(0.1 * size * reach, 0.2 * angle, seed)
            path = camera_path(move, position, aim, reach, focal_length_mm, target, duration_s)
            if is_clear(path, handheld, around):
                return path, handheld
    still = _handheld(0.25 * min([0.1 * reach_m, *around.margin_m.tolist(), around.ground_m]), 0.3, seed)
    return StaticPath(type="static", position_m=position, look_at_m=aim), still


def random_move(rng: np.random.Generator, kinds: Sequence[str]) -> Move:
    """A kind and its variant, drawn."""
    return Move(
        kind=pick(rng, kinds),
        side=float(rng.choice([-1.0, 1.0])),
        slant=float(rng.uniform()),
        rise=float(rng.uniform(-1, 1)),
    )


def camera_path(
    move: Move,
    position: Vec3,
    aim: Vec3,
    reach_m: float,
    focal_length_mm: float = 50.0,
    target: ObjectSpec | None = None,
    duration_s: float = 2.0,
) -> CameraPath:
    """The path of a move, ``reach_m`` long, around a place; ``target`` is what a follow goes along with."""
    eye, at = np.asarray(position, np.float64), np.asarray(aim, np.float64)
    view = at - eye
    distance = float(np.linalg.norm(view))
    forward = view * [1, 1, 0] / np.linalg.norm(view[:2])
    right = np.array([forward[1], -forward[0], 0.0])
    way = move.side * reach_m
    match move.kind:
        case "pan" | "tilt":
            # About as large as things seem to move for a camera that travels, the aim well in the picture.
            field_deg = float(np.degrees(2 * np.arctan(18 / focal_length_mm)))
            share = 0.36 if move.kind == "pan" else 0.2
            turn = move.side * min(1.5 * float(np.degrees(reach_m / distance)), share * field_deg)
            if move.kind == "pan":
                start = axis_rotation((0, 0, 1), -turn / 2) @ view
                return PanPath(
                    type="pan", position_m=position, look_at_m=_point(eye + start), pan_deg=round(turn, 3)
                )
            start = axis_rotation(right, -turn / 2) @ view
            return PanPath(
                type="pan", position_m=position, look_at_m=_point(eye + start), tilt_deg=round(turn, 3)
            )
        case "dolly" | "truck":
            slant = 1.0 if move.kind == "truck" else 0.7 * move.slant
            # Sideways with the side; a slanted dolly forwards or backwards with it.
            direction = slant * right + (1 - slant) * forward
            offset = way * direction / np.linalg.norm(direction)
            return DollyPath(
                type="dolly",
                position_m=_point(eye - offset / 2),
                look_at_m=_point(at - offset / 2),
                offset_m=_point(offset),
            )
        case "crane":
            return CranePath(
                type="crane",
                position_m=_point(eye - [0, 0, way / 2]),
                look_at_m=aim,
                offset_m=(0.0, 0.0, round(way, 4)),
            )
        case "push-in" | "pull-out":
            way = reach_m if move.kind == "push-in" else -reach_m
            start = _point(eye - way / 2 * view / distance)
            return PushInPath(type="push-in", position_m=start, look_at_m=aim, distance_m=round(way, 4))
        case "orbit":
            radius = float(np.linalg.norm(view[:2]))
            sweep = float(np.degrees(way / radius))
            start = at - axis_rotation((0, 0, 1), -sweep / 2) @ view
            return OrbitPath(type="orbit", position_m=_point(start), look_at_m=aim, sweep_deg=round(sweep, 3))
        case "arc":
            part = np.linspace(-0.5, 0.5, KNOTS)
            sweep = np.degrees(0.8 * way / np.linalg.norm(view[:2]))
            nearer = 1 - 0.4 * (move.slant - 0.3) * reach_m / distance * part
            climb = np.array([0.0, 0.0, 0.4 * move.rise * reach_m])
            points = [
                at - scale * (axis_rotation((0, 0, 1), sweep * p) @ view) + climb * p
                for p, scale in zip(part, nearer, strict=True)
            ]
            aims = [at + 0.1 * way * p * right for p in part]
            return _track(points, aims)
        case "follow":
            assert target is not None
            # Eased as every path, the camera sets off a little late and is caught up with in the end.
            times = np.linspace(0, duration_s, KNOTS)
            along = np.array([motion.object_pose(target, float(t))[:3, 3] for t in times])
            along -= along[KNOTS // 2]
            length = float(np.linalg.norm(np.diff(along, axis=0), axis=1).sum())
            part = min(1.0, reach_m / max(length, 1e-9))
            # Beyond its reach the camera stays behind and turns after the subject instead.
            return _track(list(eye + part * along), list(at + along))
        case _:
            return StaticPath(type="static", position_m=position, look_at_m=aim)


def surroundings(
    position: Vec3,
    aim: Vec3,
    reach_m: float,
    obstacles: Sequence[ObjectSpec],
    focal_length_mm: float,
    duration_s: float,
    meshes: Mapping[str, MeshAsset],
) -> Surroundings:
    """What is near a camera. A thing around the given place, such as a room or a tree's crown, is hollow."""
    distance = float(np.linalg.norm(np.subtract(position, aim)))
    terrains = tuple(item for item in obstacles if isinstance(item.shape, Terrain))
    solid = [item for item in obstacles if not isinstance(item.shape, Terrain)]
    times = np.linspace(0, duration_s, 9).tolist()
    boxes = joined(
        object_boxes(item, time, meshes) for item in solid for time in (times if item.motion else times[:1])
    )
    away = boxes.distance([position])[0]
    near_m = NEAR_PART * distance
    keep = (away > 0) & (away < near_m + 2 * reach_m + 1)
    boxes, away = boxes.chosen(keep), away[keep]
    above = min([CLEARANCE_M, *(float(ground_clearance(item, [position])[0]) for item in terrains)])
    around = Surroundings(
        boxes=boxes,
        margin_m=np.minimum(CLEARANCE_M, 0.95 * away),
        fill=MAX_FILL,
        terrains=terrains,
        ground_m=0.95 * max(above, 0.0),
        focal_length_mm=focal_length_mm,
        near_m=near_m,
    )
    return replace(around, fill=max(MAX_FILL, _fill(motion.look_at(position, aim), around)))


def is_clear(path: CameraPath, handheld: Handheld | None, around: Surroundings) -> bool:
    """Whether a camera keeps its distance all along a path, however it shakes."""
    camera = CameraSpec(path=path, ease=False)
    length = float(np.linalg.norm(np.diff(_poses(camera, 9)[:, :3, 3], axis=0), axis=1).sum())
    # Steps shorter than the margin, so that no thin thing is passed between two of them.
    poses = _poses(camera, min(200, max(9, 2 + int(length / (0.5 * CLEARANCE_M)))))
    points = poses[:, :3, 3]
    # Shaken, a camera is within a box of this; Perlin and measured tracks stay within their amplitudes or so.
    shake = 1.8 * handheld.translation_m if handheld is not None else 0.0
    if (around.boxes.distance(points) < around.margin_m + shake - 1e-9).any():
        return False
    for item in around.terrains:
        if ground_clearance(item, points).min() < around.ground_m + shake - 1e-9:
            return False
    every = max(1, len(poses) // 8)
    return all(_fill(pose, around) <= around.fill for pose in poses[::every])


def random_trajectory(
    rng: np.random.Generator, reach_m: float, *, duration_s: float = 2.0, turn_deg: float = 60.0
) -> Keys:
    """A walk on level ground: it is under way before the clip begins and after it ends, and looks ahead.

    Offsets are against the rest pose, where it is at time 0; a thing that faces -y or any other way at rest
    turns by as much as its way does.

    Args:
        rng: Source of all that is drawn.
        reach_m: Length of the way within ``duration_s``.
        duration_s: Length of the clip.
        turn_deg: By how much the way turns within it, at most, to either side.
    """
    heading, bend = float(rng.uniform(0, 360)), float(rng.uniform(-turn_deg, turn_deg))
    return trajectory(heading, bend, reach_m, duration_s)


def trajectory(heading_deg: float, bend_deg: float, reach_m: float, duration_s: float) -> Keys:
    """The walk of `random_trajectory`: heading at time 0, 0 is along +x, 90 along +y."""
    lead = 0.5 * duration_s
    times = np.linspace(-lead, duration_s + lead, 25)
    angle = np.radians(heading_deg + bend_deg * times / duration_s)
    speed = reach_m / duration_s
    if abs(bend_deg) > 1e-6:
        radius = reach_m / np.radians(bend_deg)
        x, y = radius * np.sin(angle), -radius * np.cos(angle)
        start = radius * np.array([np.sin(np.radians(heading_deg)), -np.cos(np.radians(heading_deg))])
    else:
        x, y = speed * times * np.cos(angle), speed * times * np.sin(angle)
        start = np.zeros(2)
    return Keys(
        type="keys",
        times_s=tuple(times.round(5).tolist()),
        positions_m=tuple(_point(p) for p in np.stack([x - start[0], y - start[1], 0 * x], axis=1)),
        rotations_deg=tuple((0.0, 0.0, round(float(bend_deg * t / duration_s), 4)) for t in times),
    )


def _handheld(translation_m: float, rotation_deg: float, seed: int) -> Handheld:
    return Handheld(
        translation_m=round(translation_m, 5),
        rotation_deg=round(rotation_deg, 3),
        seed=seed,
        spectrum="measured",
    )


def _travelling_subject(obstacles: Sequence[ObjectSpec], duration_s: float) -> ObjectSpec | None:
    """The first subject that gets somewhere."""
    for item in obstacles:
        if item.role == "subject" and item.motion:
            ends = [motion.object_pose(item, time)[:2, 3] for time in (0.0, duration_s)]
            if np.linalg.norm(ends[1] - ends[0]) > 0.1:
                return item
    return None


def _fill(pose: NDArray[np.float64], around: Surroundings) -> float:
    """Part of the picture that opaque things before the lens cover, by 9 x 5 rays to their boxes."""
    boxes = around.boxes.chosen(around.boxes.opaque)
    if not len(boxes.half):
        return 0.0
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 5) * 9 / 16)
    side = 18 / around.focal_length_mm
    rays = np.stack([x * side, y * side, -np.ones_like(x)], axis=-1).reshape(-1, 3) @ pose[:3, :3].T
    return float((boxes.hit_distance(pose[:3, 3], rays).min(axis=1) < around.near_m).mean())


def _poses(camera: CameraSpec, count: int) -> NDArray[np.float64]:
    film = FilmSpec(num_frames=count)
    return np.array([motion.camera_pose(camera, film, frame) for frame in range(count)])


def _track(points: Sequence[ArrayLike], aims: Sequence[ArrayLike]) -> TrackPath:
    return TrackPath(
        type="track",
        positions_m=tuple(_point(p) for p in points),
        look_at_points_m=tuple(_point(a) for a in aims),
    )


def _point(p: ArrayLike) -> Vec3:
    x, y, z = (round(float(v), 4) for v in np.asarray(p))
    return x, y, z
