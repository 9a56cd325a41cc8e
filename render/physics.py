"""Things that fall, bump into each other and come to rest: simulated by MuJoCo, kept as `Baked` poses.

What collides are simple bodies: spheres, boxes and cylinders as they are, rings, cups and bowls in wedges,
everything else as its convex hull, parts of a compound one by one, files by their boxes.
Surfaces at rest are `GAP_M` apart, which no renderer takes for one.

The same scene gives the same bytes every time, on x86-64 processors old and new as far as can be tried: what
is handed to the engine is rounded, because a bounce makes much of a last bit, and within it there is nothing
that depends on the processor. Another build of it, as for ARM, may let things tumble another way.
Poses are rounded to `DIGITS` places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focuspull.render import motion, spec
from focuspull.render.bounds import bounds
from focuspull.render.curves import monotone_cubic
from focuspull.render.geometry import make_mesh
from focuspull.render.rotations import axis_rotation, euler_rotation

GAP_M = 0.001
STEP_S = 0.001
DIGITS = 5
STILL_M_S = 2e-3
"""Nothing faster than this anywhere on a body, and it is at rest."""
ROLLING_M = 0.002
"""Rolling resistance: what rolls stands still on slopes below this over its radius."""
HULL_SEGMENTS = 24
WEDGES = 16
MIN_MOUTH, MIN_WALL = 0.3, 0.06
"""A vessel is hollow if its mouth's radius is this part of its height; walls are this part of its radius."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Start:
    """How a body sets off at time 0, and what it is of.

    Attributes:
        velocity_m_s: Of its origin.
        spin_deg_s: About the world's axes.
        density_kg_m3: Wood 700, ceramics 2000.
        friction: Sliding.
        bounce: 0 to 0.9: about how much of its speed a sphere keeps when it hits the ground.
    """

    velocity_m_s: spec.Vec3 = (0.0, 0.0, 0.0)
    spin_deg_s: spec.Vec3 = (0.0, 0.0, 0.0)
    density_kg_m3: float = 800.0
    friction: float = 0.6
    bounce: float = 0.3


def simulate(
    bodies: Sequence[spec.ObjectSpec],
    starts: Sequence[Start],
    fixed: Sequence[spec.ObjectSpec] = (),
    *,
    duration_s: float = 2.5,
    rate_hz: float = 60.0,
) -> tuple[spec.Baked, ...]:
    """The motion of bodies that begin at their rest poses, one for each.

    Args:
        bodies: Things without motion of their own.
        starts: How each sets off.
        fixed: What they may run into and what does not give way; planes are the ground and go on forever.
        duration_s: How long; what lies still earlier gets fewer samples.
        rate_hz: Of the samples.
    """
    import mujoco

    engine: Any = mujoco  # what it offers is not annotated
    model = engine.MjModel.from_xml_string(_document(bodies, starts, fixed))
    state = engine.MjData(model)
    for i, (item, start) in enumerate(zip(bodies, starts, strict=True)):
        turn = motion.rest_pose(item)[:3, :3]
        state.qvel[6 * i : 6 * i + 3] = start.velocity_m_s
        # Of a free body, MuJoCo counts turns in the body's own frame.
        state.qvel[6 * i + 3 : 6 * i + 6] = (turn.T @ np.radians(start.spin_deg_s)).round(9)
    per_sample = max(1, round(1 / (rate_hz * STEP_S)))
    model.opt.timestep = 1 / (rate_hz * per_sample)
    engine.mj_forward(model, state)
    poses = [_poses(state, len(bodies))]
    for _ in range(math.ceil(duration_s * rate_hz)):
        for _ in range(per_sample):
            engine.mj_step(model, state)
        poses.append(_poses(state, len(bodies)))
    return tuple(_baked(item, [pose[i] for pose in poses], rate_hz) for i, item in enumerate(bodies))


def settled(item: spec.ObjectSpec, fall: spec.Baked) -> spec.ObjectSpec:
    """A thing as it lies after its fall."""
    pose = motion.object_pose(item.model_copy(update={"motion": (fall,)}), math.inf)
    x, y, z = (round(float(v), DIGITS) for v in pose[:3, 3])
    return item.model_copy(update={"position_m": (x, y, z), "rotation_deg": _euler_deg(pose[:3, :3])})


def at_rest(fall: spec.Baked) -> bool:
    """Whether the thing had come to rest when the simulation ended."""
    first, last = (np.array(fall.positions_m[i]) for i in (-2, -1))
    turned = abs(float(np.dot(fall.quaternions[-2], fall.quaternions[-1])))
    speed = max(float(np.linalg.norm(last - first)), 0.1 * 2 * math.acos(min(turned, 1.0))) * fall.rate_hz
    return speed < 20 * STILL_M_S


def _poses(state: Any, count: int) -> Array:
    """``[count, 7]``: place and quaternion (w, x, y, z) of the free bodies."""
    return np.array(state.qpos, np.float64).reshape(count, 7)


def _baked(item: spec.ObjectSpec, poses: list[Array], rate_hz: float) -> spec.Baked:
    """Poses in the world as offsets and turns against the rest pose."""
    rest = np.concatenate([[0.0], -poses[0][4:7]])
    rest[0] = poses[0][3]
    positions, turns = [], []
    before = np.array([1.0, 0.0, 0.0, 0.0])
    for pose in poses:
        turn = _product(pose[3:], rest)
        turn = turn if turn @ before >= 0 else -turn
        before = turn
        positions.append(tuple(round(float(v), DIGITS) + 0.0 for v in pose[:3] - item.position_m))
        turns.append(tuple(round(float(v), DIGITS + 1) + 0.0 for v in turn))
    last = len(poses) - 1
    while last > 1 and _same(positions, last) and _same(turns, last):
        last -= 1
    return spec.Baked(
        type="baked",
        rate_hz=rate_hz,
        positions_m=tuple(positions[: last + 1]),
        quaternions=tuple(turns[: last + 1]),
    )


def _same(rows: list[tuple[float, ...]], i: int) -> bool:
    return max(abs(a - b) for a, b in zip(rows[i], rows[i - 1], strict=True)) < 1.5 * 10**-DIGITS


def _product(a: Array, b: Array) -> Array:
    """Of quaternions (w, x, y, z): first the turn b, then a."""
    w = a[0] * b[0] - a[1:] @ b[1:]
    return np.concatenate([[w], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])])


def _euler_deg(rotation: Array) -> spec.Vec3:
    """Angles about x, then y, then z."""
    y = math.asin(min(max(-float(rotation[2, 0]), -1.0), 1.0))
    if abs(rotation[2, 0]) > 1 - 1e-9:  # straight up or down: all of the rest is about z
        x, z = 0.0, math.atan2(-float(rotation[0, 1]), float(rotation[1, 1]))
    else:
        x = math.atan2(float(rotation[2, 1]), float(rotation[2, 2]))
        z = math.atan2(float(rotation[1, 0]), float(rotation[0, 0]))
    return (round(math.degrees(x), 4), round(math.degrees(y), 4), round(math.degrees(z), 4))


# --- The model, as MuJoCo reads it ----------------------------------------------------------------


def _document(
    bodies: Sequence[spec.ObjectSpec], starts: Sequence[Start], fixed: Sequence[spec.ObjectSpec]
) -> str:
    meshes: list[str] = []
    parts: list[str] = []
    for item in fixed:
        pose = motion.object_pose(item, 0.0)
        parts.append(f"<body {_place(pose)}>{''.join(_geoms(item, meshes, None))}</body>")
    for item, start in zip(bodies, starts, strict=True):
        geoms = "".join(_geoms(item, meshes, start))
        parts.append(f"<body {_place(motion.rest_pose(item))}><freejoint/>{geoms}</body>")
    # Elliptic cones and a high ratio keep things from creeping down slopes.
    return (
        f'<mujoco><option timestep="{STEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>'
        f'<compiler angle="radian"/><asset>{"".join(meshes)}</asset>'
        f"<worldbody>{''.join(parts)}</worldbody></mujoco>"
    )


def _geoms(item: spec.ObjectSpec, meshes: list[str], start: Start | None) -> list[str]:
    """Collision bodies of a thing in its own frame; hulls are added to ``meshes``."""
    # What falls says how it slides and bounces; two that fall meet in the middle.
    priority, start = int(start is not None), start or Start()
    # The damping ratio that returns this part of the speed, of a mass on a spring.
    loss = -math.log(max(start.bounce, 0.02))
    damping = round(loss / math.hypot(math.pi, loss), 9)
    common = (
        f'density="{start.density_kg_m3!r}" condim="6" friction="{start.friction!r} 0.003 {ROLLING_M!r}" '
        f'margin="{GAP_M / 2}" priority="{priority}" solref="0.008 {damping!r}" solimp="0.95 0.99 0.001"'
    )
    if isinstance(item.shape, spec.Compound):
        shapes = [(part.shape, part.scale, _part_pose(part)) for part in item.shape.parts]
    else:
        shapes = [(item.shape, (1.0, 1.0, 1.0), np.eye(4))]
    geoms: list[str] = []
    for shape, part_scale, pose in shapes:
        scale = np.multiply(item.scale, part_scale)
        placed = pose.copy()
        placed[:3, 3] *= item.scale
        uniform = np.ptp(scale) < 1e-9
        match shape:
            case spec.Plane():
                geoms.append(f'<geom type="plane" size="0 0 1" {_place(placed)} {common}/>')
            case spec.Sphere() if uniform:
                radius = _numbers(shape.radius_m * scale[:1])
                geoms.append(f'<geom type="sphere" size="{radius}" {_place(placed)} {common}/>')
            case spec.Box():
                half = _numbers(np.asarray(shape.size_m) * scale / 2)
                geoms.append(f'<geom type="box" size="{half}" {_place(placed)} {common}/>')
            case spec.Cylinder() if uniform and shape.top_radius_m in (None, shape.radius_m):
                size = _numbers(np.array([shape.radius_m, shape.height_m / 2]) * scale[0])
                placed = placed @ _raised(shape.height_m / 2 * float(scale[0]))
                geoms.append(f'<geom type="cylinder" size="{size}" {_place(placed)} {common}/>')
            case _:
                for piece in _pieces(shape):
                    name, points = f"hull-{len(meshes)}", _numbers((piece * scale).reshape(-1))
                    meshes.append(f'<mesh name="{name}" inertia="convex" vertex="{points}"/>')
                    geoms.append(f'<geom type="mesh" mesh="{name}" {_place(placed)} {common}/>')
    return geoms


def _pieces(shape: spec.Shape) -> list[Array]:
    """Points ``[N, 3]`` whose convex hulls make up a shape."""
    if isinstance(shape, spec.Torus):
        angle = 2 * np.pi * np.arange(12) / 12
        ring = shape.minor_radius_m * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        corners = _wedge(ring[:, 0] + shape.major_radius_m, ring[:, 1])
        return [_turned(corners, i) for i in range(WEDGES)]
    if isinstance(shape, spec.Lathe):
        return _vessel(shape) or [_hull_points(shape)]
    return [_hull_points(shape)]


def _vessel(shape: spec.Lathe) -> list[Array] | None:
    """A bowl or cup as its base and a wall of wedges; None: it has no mouth, or a narrow one."""
    spans = len(shape.profile_m) - 1
    profile = monotone_cubic(np.arange(spans + 1), shape.profile_m, np.linspace(0, spans, 10 * spans + 1))
    top = int(np.argmax(profile[:, 1]))
    outside, inside = profile[: top + 1], profile[top:][::-1]
    height, depth = np.ptp(profile[:, 1]), np.ptp(inside[:, 1])
    if profile[top, 0] < MIN_MOUTH * height or depth < 0.3 * height:
        return None
    levels = inside[0, 1] + depth * np.array([0.0, 0.05, 0.2, 0.5, 1.0])
    outer, inner = (np.interp(levels, curve[:, 1], curve[:, 0]) for curve in (outside, inside))
    # Thin walls are made thicker inwards, or fast things would pass through them.
    inner = np.maximum(np.minimum(inner, outer - MIN_WALL * outer.max()), 0.0)
    base = outside[outside[:, 1] < levels[0]]
    angle = 2 * np.pi * np.arange(HULL_SEGMENTS) / HULL_SEGMENTS
    rings = [
        np.stack([r * np.cos(angle), r * np.sin(angle), np.full_like(angle, z)], axis=1)
        for r, z in [*base.tolist(), (outer[0], levels[0])]
    ]
    pieces = [np.concatenate(rings)]
    for i in range(len(levels) - 1):
        radii = np.array([inner[i], outer[i], inner[i + 1], outer[i + 1]])
        corners = _wedge(radii, np.array([levels[i], levels[i], levels[i + 1], levels[i + 1]]))
        pieces += [_turned(corners, n) for n in range(WEDGES)]
    return pieces


def _wedge(radii: Array, heights: Array) -> Array:
    """Points at some distances from the z axis, at both sides of one of `WEDGES` equal slices."""
    half = math.pi / WEDGES
    sides = [
        np.stack([radii * math.cos(half), sign * radii * math.sin(half), heights], axis=1) for sign in (-1, 1)
    ]
    return np.concatenate(sides)


def _turned(points: Array, number: int) -> Array:
    """A wedge turned to its place."""
    return points @ axis_rotation((0, 0, 1), 360 * number / WEDGES).T


def _hull_points(shape: spec.Shape) -> Array:
    """Points whose convex hull is that of the shape, ``[N, 3]``; of a file, those of its box."""
    match shape:
        case spec.MeshFile() | spec.Card():
            limits = bounds(shape)
            if limits is None:
                raise ValueError("a mesh file in units of its own cannot fall: give it height_m")
            low, high = limits
            grid = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(-1, 3)
            return low + grid * np.maximum(high - low, 0.004)
        case spec.Sphere() | spec.Cylinder() | spec.Torus() | spec.Lathe() | spec.Blob():
            coarse = shape.model_copy(update={"segments": HULL_SEGMENTS})
            return np.unique(make_mesh(coarse).vertices.astype(np.float64).round(7), axis=0)
        case _:
            return np.unique(make_mesh(shape).vertices.astype(np.float64).round(7), axis=0)


def _part_pose(part: spec.Part) -> Array:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = euler_rotation(part.rotation_deg), part.position_m
    return pose


def _raised(height_m: float) -> Array:
    pose = np.eye(4)
    pose[2, 3] = height_m
    return pose


def _place(pose: Array) -> str:
    return f'pos="{_numbers(pose[:3, 3])}" xyaxes="{_numbers(pose[:3, :2].T.reshape(-1))}"'


def _numbers(values: Array) -> str:
    """Rounded: matrix products differ in their last bits between processors."""
    return " ".join(repr(round(float(v), 9) + 0.0) for v in values)
