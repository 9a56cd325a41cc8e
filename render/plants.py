"""Meshes of grass, plants, strewn things and fibres: many copies of little pieces, all at once in arrays.

Texture coordinates give every blade, leaf and strand a place of its own in the texture and so a tint: u and v
start anywhere and run over `TINT_SPAN` of the texture. Wood has u around and v along the branch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from focuspull.render import spec
from focuspull.render.geometry import Mesh, terrain_height, unit_vectors

Array = NDArray[np.float64]
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
UP = np.array([0.0, 0.0, 1.0])
TINT_SPAN = 0.12
WOOD_STEPS = 6
"""Pieces of each branch, and of each stem; half as many in branches without detail."""


def grown(shape: spec.Grass | spec.Strewn | spec.Plant | spec.Fibres) -> Mesh:
    """The mesh of a grown thing."""
    match shape:
        case spec.Grass():
            return _grass(shape)
        case spec.Strewn():
            return _strewn(shape)
        case spec.Plant():
            return _plants(shape)
        case spec.Fibres():
            return _fibres(shape)


# --- Places -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Places:
    """Where copies stand: ``points`` ``[N, 3]``, ``turn`` in radians and ``scale`` ``[N]``."""

    points: Array
    turn: Array
    scale: Array


def scattered(scatter: spec.Scatter) -> Places:
    """The places of a `spec.Scatter`; ``scale`` is above 1 where one stands for several."""
    rng = np.random.default_rng([scatter.seed, 1])
    half = np.asarray(scatter.size_m) / 2
    waves = rng.normal(0.0, 1.0, (8, 2)) * (2 * math.pi / 1.6) * np.linspace(0.35, 1.6, 8)[:, None]
    phases = rng.uniform(0, 2 * math.pi, 8)
    found, count = [], 0
    for _ in range(12):
        tries = 2 * scatter.count
        if scatter.dense_at is None:
            xy = rng.uniform(-half, half, (tries, 2))
        else:
            # Density 1 / (r^2 + a^2): its share within r goes with log(1 + r^2 / a^2).
            a, farthest = scatter.dense_radius_m, float(np.hypot(*(half + np.abs(scatter.dense_at))))
            r = a * np.sqrt(np.expm1(rng.random(tries) * math.log1p((farthest / a) ** 2)))
            angle = math.pi / 2 + math.radians(scatter.fan_deg) * (rng.random(tries) - 0.5)
            xy = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1) + scatter.dense_at
        patch = np.sin(xy @ waves.T + phases).sum(axis=1) / 4 + rng.normal(0, 0.35, tries)
        keep = (np.abs(xy) <= half).all(axis=1) & (patch > scatter.patchiness * 2.4 - 1.8)
        for x, y, radius in scatter.bare:
            soft = radius * (0.85 + 0.3 * rng.random(tries))
            keep &= (xy[:, 0] - x) ** 2 + (xy[:, 1] - y) ** 2 > soft**2
        if scatter.ground is not None and scatter.above_m is not None:
            keep &= terrain_height(scatter.ground, xy) > scatter.above_m
        found.append(xy[keep])
        count += int(keep.sum())
        if count >= scatter.count:
            break
    xy = np.concatenate(found)[: scatter.count]
    z = np.zeros(len(xy)) if scatter.ground is None else terrain_height(scatter.ground, xy)
    scale = np.ones(len(xy))
    if scatter.dense_at is not None:
        distance = np.hypot(*(xy - scatter.dense_at).T)
        scale = np.minimum(np.sqrt(1 + (distance / (2 * scatter.dense_radius_m)) ** 2), scatter.largest)
    return Places(np.column_stack([xy, z]), rng.uniform(0, 2 * math.pi, len(xy)), scale)


def _copies(mesh: Mesh, places: Places, heights: Array | None = None) -> Mesh:
    """A mesh standing at every place, turned about the vertical."""
    n, v = len(places.points), len(mesh.vertices)
    c, s = np.cos(places.turn)[:, None], np.sin(places.turn)[:, None]

    def turned(vectors: NDArray) -> Array:
        x, y, z = vectors.astype(np.float64).T
        return np.stack([c * x - s * y, s * x + c * y, np.broadcast_to(z, (n, v))], axis=-1)

    points = turned(mesh.vertices) * places.scale[:, None, None]
    above = points[..., 2] if heights is None else heights
    shift = np.modf(np.arange(n) * 0.6180339887)[0][:, None, None]
    return _mesh(
        points + places.points[:, None],
        turned(mesh.normals),
        mesh.uvs[None] + shift,
        mesh.triangles[None] + (np.arange(n) * v)[:, None, None],
        above,
    )


def _mesh(
    points: Array, normals: Array, uvs: Array, triangles: NDArray, heights: Array | None = None
) -> Mesh:
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        unit_vectors(normals.reshape(-1, 3)).astype(np.float32),
        uvs.reshape(-1, 2).astype(np.float32),
        triangles.reshape(-1, 3).astype(np.int32),
        None if heights is None else np.maximum(heights, 0).reshape(-1).astype(np.float32),
    )


def _joined(meshes: list[Mesh]) -> Mesh:
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    heights = [m.vertices[:, 2] if m.heights is None else m.heights for m in meshes]
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uvs for m in meshes]),
        np.concatenate([m.triangles + o for m, o in zip(meshes, offsets, strict=False)]).astype(np.int32),
        np.concatenate(heights),
    )


# --- Grass, pebbles -----------------------------------------------------------------------------


def _grass(shape: spec.Grass) -> Mesh:
    places = scattered(shape.scatter)
    rng = np.random.default_rng([shape.scatter.seed, 2])
    n, s = len(places.points), shape.segments
    height = shape.height_m * (1 + shape.uneven * rng.uniform(-1, 0.6, n))
    width = shape.width_m * places.scale * rng.uniform(0.7, 1.3, n)
    lean = shape.lean * rng.gamma(2.0, 0.5, n)
    along = np.stack([np.cos(places.turn), np.sin(places.turn), np.zeros(n)], axis=1)
    across = np.stack([-along[:, 1], along[:, 0], along[:, 2]], axis=1)
    t = np.linspace(0, 1, s + 1)[None, :, None]
    # An arc of constant length: the more it leans, the lower its tip.
    rise = height[:, None, None] / np.sqrt(1 + 0.6 * lean**2)[:, None, None]
    spine = rise * (t * UP + lean[:, None, None] * t**2 * along[:, None])
    slope = UP + 2 * lean[:, None, None] * t * along[:, None]
    facing = np.cross(np.broadcast_to(across[:, None], slope.shape), slope)
    facing = unit_vectors(facing)
    side = across[:, None] * (width[:, None, None] / 2 * (1 - 0.9 * t**2))
    # Two vertices a row and one at the tip; normals turned outwards make the blade look folded.
    rows = np.stack([spine - side, spine + side], axis=2)[:, :-1].reshape(n, 2 * s, 3)
    tilt = 0.5 * across[:, None]
    row_normals = np.stack([facing - tilt, facing + tilt], axis=2)[:, :-1].reshape(n, 2 * s, 3)
    points = np.concatenate([rows, spine[:, -1:]], axis=1)
    normals = np.concatenate([row_normals, facing[:, -1:]], axis=1)
    v = np.concatenate([np.repeat(t[0, :-1, 0], 2), [1.0]])
    uvs = rng.random((n, 1, 2)) + TINT_SPAN * np.stack([np.zeros_like(v), v], axis=1)
    strip = [(2 * i, 2 * i + 1, 2 * i + 3) for i in range(s - 1)]
    strip += [(2 * i, 2 * i + 3, 2 * i + 2) for i in range(s - 1)] + [(2 * s - 2, 2 * s - 1, 2 * s)]
    triangles = np.asarray(strip)[None] + (np.arange(n) * (2 * s + 1))[:, None, None]
    return _mesh(points + places.points[:, None], normals, uvs, triangles, points[..., 2])


def _strewn(shape: spec.Strewn) -> Mesh:
    places = scattered(shape.scatter)
    rng = np.random.default_rng([shape.scatter.seed, 3])
    n = len(places.points)
    size = shape.size_m * np.exp(rng.normal(0, 0.7 * shape.uneven, n))
    if shape.kind == "leaves":
        leaf = _leaf("oval", 0.6, 3, 35.0)
        tilt = rng.normal(0, 0.25, (n, 2))
        side = np.stack([np.cos(places.turn), np.sin(places.turn), tilt[:, 0]], axis=1)
        ahead = np.stack([-np.sin(places.turn), np.cos(places.turn), tilt[:, 1]], axis=1)
        roots = places.points + UP * (0.12 * size[:, None])
        return _placed(leaf, roots, unit_vectors(ahead), unit_vectors(np.cross(side, ahead)), size, rng)
    stones = []
    for kind in range(5):
        mine = slice(kind, None, 5)
        part = Places(places.points[mine] - UP * (0.12 * size[mine, None]), places.turn[mine], size[mine])
        stones.append(_copies(_pebble(rng, 5, 8), part))
    return _joined(stones)


def _pebble(rng: np.random.Generator, rows: int, columns: int) -> Mesh:
    """An uneven, flattened ball of about unit width."""
    theta = np.linspace(0.02, math.pi - 0.02, rows)[:, None]
    phi = 2 * math.pi * np.arange(columns) / columns
    d = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi], axis=-1)
    waves = rng.normal(0, 1.6, (6, 3))
    bump = 1 + 0.09 * np.sin(d @ waves.T + rng.uniform(0, 6.3, 6)).sum(axis=-1)
    points = d * bump[..., None] * [0.5, 0.5 * rng.uniform(0.6, 0.9), 0.5 * rng.uniform(0.4, 0.7)]
    points = points.reshape(-1, 3) + UP * 0.2
    row, column = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = row * columns + column, row * columns + (column + 1) % columns
    triangles = np.concatenate(
        [
            np.stack([a, a + columns, b], -1).reshape(-1, 3),
            np.stack([b, a + columns, b + columns], -1).reshape(-1, 3),
        ]
    )
    uvs = 0.3 * points[:, :2] + 0.1 * points[:, 2:]
    return _mesh(points, _smooth_normals(points, triangles), uvs, triangles)


def _smooth_normals(points: Array, triangles: NDArray) -> Array:
    a, b, c = (points[triangles[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    total = np.zeros_like(points)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], face)
    return unit_vectors(total)


# --- Leaves -------------------------------------------------------------------------------------


def _leaf(outline: str, width: float, detail: int, curl_deg: float) -> Mesh:
    """A leaf of unit length along +y from the origin, its upper side +z, folded along its middle."""
    t = np.linspace(0, 1, detail + 2)
    match outline:
        case "lance":
            half = np.sin(np.pi * t**0.7) * (1 - 0.35 * t)
        case "round":
            half = np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0, None))
        case "heart":
            half = np.sin(np.pi * t**0.5) ** 0.8
        case "needle":
            half = np.minimum(1, 4 * t) * np.minimum(1, 4 * (1 - t))
        case _:
            half = np.sin(np.pi * t**0.85)
    half = half / half.max() * width / 2
    bend = math.radians(curl_deg) * (t - 0.3)
    spine = np.stack([np.zeros_like(t), t * np.cos(bend * 0.5), -np.sin(bend) * t * 0.7], axis=1)
    inner = spine[1:-1]
    out = half[1:-1, None] * np.array([1.0, 0.0, 0.28])
    left, right = inner + out * [-1, 1, 1], inner + out
    # Rows of left, middle, right between the two ends.
    points = np.concatenate([spine[:1], np.stack([left, inner, right], 1).reshape(-1, 3), spine[-1:]])
    last = len(points) - 1
    triangles = [(0, 2, 1), (0, 3, 2), (last, last - 3, last - 2), (last, last - 2, last - 1)]
    for i in range(detail - 1):
        for k in (0, 1):
            a, b = 1 + 3 * i + k, 4 + 3 * i + k
            triangles += [(a, a + 1, b + 1), (a, b + 1, b)]
    faces = np.asarray(triangles)
    uvs = np.column_stack([points[:, 0], points[:, 1]]) * TINT_SPAN
    return _mesh(points, _smooth_normals(points, faces), uvs, faces)


def _placed(
    piece: Mesh, roots: Array, ahead: Array, upper: Array, length: Array, rng: np.random.Generator
) -> Mesh:
    """A piece at every root: its y along ``ahead``, its z along ``upper`` (made perpendicular)."""
    side = unit_vectors(np.cross(ahead, upper))
    axes = np.stack([side, ahead, np.cross(side, ahead)], axis=1)
    n, v = len(roots), len(piece.vertices)
    points = roots[:, None] + length[:, None, None] * (piece.vertices.astype(np.float64) @ axes)
    return _mesh(
        points,
        piece.normals.astype(np.float64) @ axes,
        piece.uvs[None] + rng.random((n, 1, 2)),
        piece.triangles[None] + (np.arange(n) * v)[:, None, None],
    )


# --- Plants -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limbs:
    """Branches of one order: ``points`` ``[N, S + 1, 3]``, ``radius`` ``[N, S + 1]``, ``length`` ``[N]``."""

    points: Array
    radius: Array
    length: Array

    def at(self, where: Array) -> tuple[Array, Array, Array]:
        """Points, directions and radii ``[N, K, ...]`` at parameters ``[N, K]`` in [0, 1] along each."""
        steps = self.points.shape[1] - 1
        place = np.clip(where, 0, 1) * steps
        i = np.minimum(place.astype(int), steps - 1)
        row = np.arange(len(self.points))[:, None]
        part = place - i
        start, end = self.points[row, i], self.points[row, i + 1]
        radius = self.radius[row, i] * (1 - part) + self.radius[row, i + 1] * part
        return start + part[..., None] * (end - start), unit_vectors(end - start), radius


def _plants(shape: spec.Plant) -> Mesh:
    if shape.scatter is None:
        return _plant(shape, shape.seed)
    places = scattered(shape.scatter)
    rng = np.random.default_rng([shape.scatter.seed, 4])
    scale = places.scale * rng.uniform(0.67, 1.33, len(places.scale))
    copies = []
    for variant in range(min(shape.variants, len(scale))):
        mine = slice(variant, None, shape.variants)
        part = Places(places.points[mine], places.turn[mine], scale[mine])
        copies.append(_copies(_plant(shape, shape.seed + variant), part))
    return _joined(copies)


def _plant(shape: spec.Plant, seed: int) -> Mesh:
    """One plant's part. Growth draws from a stream of its own, so that all parts grow alike."""
    orders = _skeleton(shape, np.random.default_rng([seed, 10]))
    rng = np.random.default_rng([seed, 11])
    match shape.part:
        case "wood":
            most = 9 if shape.detail > 1 or shape.levels > 2 else 5
            sides = [max(3, most - 2 * i) for i in range(len(orders))]
            return _joined([_tubes(o.points, o.radius, n) for o, n in zip(orders, sides, strict=True)])
        case "leaves":
            return _leaves(shape, orders[-1], rng)
        case "petals":
            return _petals(shape, orders[-1], rng)
        case "centres":
            return _centres(shape, orders[-1], rng)


def _skeleton(shape: spec.Plant, rng: np.random.Generator) -> list[Limbs]:
    n = shape.stems
    azimuth = np.arange(n) * GOLDEN_ANGLE + rng.uniform(0, 2 * math.pi)
    share = np.sqrt((np.arange(n) + 0.5) / n) if n > 1 else rng.random(1) * 0.4
    tilt = np.radians(shape.spread_deg) * share * rng.uniform(0.8, 1.2, n)
    heading = _spherical(tilt, azimuth)
    length = shape.height_m * rng.uniform(0.82, 1.0, n)
    roots = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(n)], axis=1)
    roots *= (shape.radius_m * math.sqrt(n) * share * (n > 1))[:, None]
    orders = [_limbs(shape, roots, heading, length, np.full(n, shape.radius_m), rng)]
    for _ in range(shape.levels):
        parent = orders[-1]
        n, k = len(parent.points), shape.branches
        where = np.linspace(shape.branch_from, 0.97, k) + rng.uniform(-0.4, 0.4, (n, k)) / k
        start, along, radius = parent.at(where)
        turn = GOLDEN_ANGLE * np.arange(k) + rng.uniform(0, 2 * math.pi, (n, 1)) + rng.normal(0, 0.25, (n, k))
        lean = np.radians(shape.branch_angle_deg) * rng.uniform(0.8, 1.2, (n, k))
        heading = _turned_away(along, turn, lean)
        up_the_parent = (where - shape.branch_from) / max(1 - shape.branch_from, 1e-3)
        reach = parent.length[:, None] * shape.branch_length * rng.uniform(0.7, 1.1, (n, k))
        reach *= np.clip(1 - shape.crown * up_the_parent, 0.08, None)
        orders.append(
            _limbs(
                shape,
                start.reshape(-1, 3),
                heading.reshape(-1, 3),
                reach.reshape(-1),
                0.6 * radius.reshape(-1),
                rng,
            )
        )
    return orders


def _limbs(
    shape: spec.Plant, start: Array, heading: Array, length: Array, radius: Array, rng: np.random.Generator
) -> Limbs:
    """Branches that wander and turn towards (or from) the sky as they grow."""
    steps = WOOD_STEPS // 2 if shape.detail == 1 and shape.levels and len(start) > shape.stems else WOOD_STEPS
    points, step = [start], length[:, None] / steps
    for _ in range(steps):
        points.append(points[-1] + step * heading)
        wander = rng.normal(0, shape.crooked / math.sqrt(steps), heading.shape)
        heading = unit_vectors(heading + wander + shape.rise / steps * UP)
    taper = np.linspace(1.0, 0.3, steps + 1)
    return Limbs(np.stack(points, axis=1), radius[:, None] * taper, length)


def _spherical(tilt: Array, azimuth: Array) -> Array:
    """Unit vectors leaning from the vertical."""
    across = np.sin(tilt)[..., None] * np.stack([np.cos(azimuth), np.sin(azimuth)], axis=-1)
    return np.asarray(np.concatenate([across, np.cos(tilt)[..., None]], axis=-1), np.float64)


def _turned_away(along: Array, turn: Array, lean: Array) -> Array:
    """Directions that leave ``along`` by an angle, at an angle around it."""
    upright = np.abs(along[..., 2:]) > 0.9
    helper = np.where(upright, np.array([1.0, 0.0, 0.0]), UP)
    side = unit_vectors(np.cross(along, helper))
    other = np.cross(along, side)
    out = np.cos(turn)[..., None] * side + np.sin(turn)[..., None] * other
    return np.asarray(np.cos(lean)[..., None] * along + np.sin(lean)[..., None] * out, np.float64)


def _leaves(shape: spec.Plant, twigs: Limbs, rng: np.random.Generator) -> Mesh:
    n, k = len(twigs.points), max(shape.leaves, 1)
    where = np.linspace(shape.leaves_from, 1.0, k) + np.zeros((n, 1))
    lean = np.radians(shape.leaf_angle_deg) * rng.uniform(0.8, 1.2, (n, k))
    length = shape.leaf_length_m * rng.uniform(0.75, 1.15, (n, k))
    if shape.pairs:
        start, along, _ = twigs.at(where)
        side = unit_vectors(np.cross(along, UP) + 1e-9)
        sign = np.where(np.arange(k) % 2, 1.0, -1.0)[:, None]
        ahead = np.cos(lean)[..., None] * along + np.sin(lean)[..., None] * sign * side
        upper = np.cross(side, along)
        share = (where - shape.leaves_from) / max(1 - shape.leaves_from, 1e-3)
        length = length * (np.sin(np.pi * np.clip(0.18 + 0.8 * share, 0, 1)) ** 0.8 + 0.05)
    else:
        start, along, _ = twigs.at(where + rng.uniform(-0.5, 0.5, (n, k)) / k)
        turn = GOLDEN_ANGLE * np.arange(k) + rng.uniform(0, 2 * math.pi, (n, 1))
        ahead = _turned_away(along, turn, lean)
        upper = UP + rng.normal(0, 0.35, ahead.shape)
    piece = _leaf(shape.leaf_shape, shape.leaf_width, shape.detail, 45.0)
    start, ahead, upper = (a.reshape(-1, 3) for a in (start, unit_vectors(ahead), upper))
    return _placed(piece, start, ahead, upper, length.reshape(-1), rng)


def _flowers(shape: spec.Plant, twigs: Limbs, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Middles, directions and radii of the flowers at the ends of twigs."""
    tips = twigs.points[:, -1]
    axis = unit_vectors(tips - twigs.points[:, -2] + rng.normal(0, 0.25, tips.shape) * 0.5)
    radius = shape.flower_radius_m * rng.uniform(0.8, 1.1, len(tips))
    return tips, axis, radius


def _petals(shape: spec.Plant, twigs: Limbs, rng: np.random.Generator) -> Mesh:
    tips, axis, radius = _flowers(shape, twigs, rng)
    n, k = len(tips), max(shape.petals, 1)
    turn = 2 * math.pi * np.arange(k) / k + rng.normal(0, 0.06, (n, k))
    # Petals overlap in turn: every other one a little higher.
    lift = np.radians(shape.petal_lift_deg + 9.0 * (np.arange(k) % 2)) + rng.normal(0, 0.06, (n, k))
    along = np.broadcast_to(axis[:, None], (n, k, 3))
    ahead = _turned_away(along, turn, math.pi / 2 - lift)
    upper = along - np.einsum("nki,nki->nk", along, ahead)[..., None] * ahead
    width = min(1.0, 2.6 * math.pi / max(k, 4) / 2)
    curl, detail = 20.0 if shape.petal_lift_deg < 45 else -55.0, 3 if shape.detail > 1 else 1
    piece = _leaf("round" if k < 9 else "lance", width, detail, curl)
    roots = tips[:, None] + 0.1 * radius[:, None, None] * ahead
    length = np.broadcast_to(radius[:, None], (n, k)) * rng.uniform(0.92, 1.05, (n, k))
    return _placed(
        piece, roots.reshape(-1, 3), ahead.reshape(-1, 3), upper.reshape(-1, 3), length.reshape(-1), rng
    )


def _centres(shape: spec.Plant, twigs: Limbs, rng: np.random.Generator) -> Mesh:
    tips, axis, radius = _flowers(shape, twigs, rng)
    ball = _pebble(rng, 3, 5) if shape.detail == 1 else _pebble(rng, 7, 11)
    across = unit_vectors(np.cross(axis, np.array([1.0, 0.13, 0.0])))
    return _placed(ball, tips, across, axis, 2 * shape.centre * radius, rng)


# --- Tubes and fibres ---------------------------------------------------------------------------


def _tubes(points: Array, radius: Array, sides: int, tint: Array | None = None) -> Mesh:
    """Open tubes along polylines, without twist.

    Args:
        points: ``[N, S, 3]``.
        radius: ``[N, S]``.
        sides: Of each tube.
        tint: ``[N, 2]`` place of each tube in the texture; None: u runs around, v along.
    """
    n, s = points.shape[:2]
    tangent = np.empty_like(points)
    tangent[:, 1:-1] = points[:, 2:] - points[:, :-2]
    tangent[:, 0], tangent[:, -1] = points[:, 1] - points[:, 0], points[:, -1] - points[:, -2]
    tangent = unit_vectors(tangent)
    side = np.cross(tangent[:, 0], np.eye(3)[np.argmin(np.abs(tangent[:, 0]), axis=1)])
    angle = 2 * math.pi * np.arange(sides) / sides
    normals = np.empty((n, s, sides, 3))
    for i in range(s):
        side = unit_vectors(side - tangent[:, i] * np.einsum("ni,ni->n", side, tangent[:, i])[:, None])
        other = np.cross(tangent[:, i], side)
        normals[:, i] = np.cos(angle)[:, None] * side[:, None] + np.sin(angle)[:, None] * other[:, None]
    rings = points[:, :, None] + radius[:, :, None, None] * normals
    if tint is None:
        # There and back, so that no seam shows.
        u = np.abs(2 * np.arange(sides) / sides - 1)
        length = np.linalg.norm(points[:, -1] - points[:, 0], axis=1)
        v = np.linspace(0, 1, s) * (length / max(2 * math.pi * float(radius.max()), 1e-9))[:, None]
        uvs = np.stack(np.broadcast_arrays(u, v[..., None]), axis=-1)
    else:
        v = np.linspace(0, TINT_SPAN, s)[:, None, None] * [0.0, 1.0]
        uvs = np.broadcast_to(tint[:, None, None] + v, (n, s, sides, 2))
    row, column = np.meshgrid(np.arange(s - 1), np.arange(sides), indexing="ij")
    a, b = row * sides + column, row * sides + (column + 1) % sides
    faces = np.concatenate([np.stack([a, b, b + sides], -1), np.stack([a, b + sides, a + sides], -1)])
    triangles = faces.reshape(1, -1, 3) + (np.arange(n) * (s * sides))[:, None, None]
    return _mesh(rings, normals, uvs, triangles)


def _fibres(shape: spec.Fibres) -> Mesh:
    rng = np.random.default_rng([shape.seed, 20])
    n = shape.count
    length = shape.length_m * rng.uniform(0.75, 1.1, n)
    roots = np.zeros((n, 3))
    match shape.arrangement:
        case "tuft":
            azimuth, share = rng.uniform(0, 2 * math.pi, n), np.sqrt(rng.random(n))
            heading = _spherical(0.75 * share, azimuth)
            roots[:, :2] = heading[:, :2] * (0.25 * shape.width_m)
        case "fur":
            heading = _even_directions(n)
            roots = heading * shape.width_m / 2
        case "curtain":
            roots[:, 0] = shape.width_m * (rng.random(n) - 0.5)
            roots[:, 1] = rng.normal(0, 0.004, n)
            roots[:, 2] = shape.length_m
            heading = np.tile(-UP, (n, 1))
        case _:
            return _seedhead(shape, rng)
    points = _strands(shape, roots, heading, length, rng)
    radius = shape.radius_m * np.sqrt(np.linspace(1.0, 0.02, shape.steps + 1)) * rng.uniform(0.7, 1.2, (n, 1))
    return _tubes(points, radius, shape.sides, rng.random((n, 2)))


def _even_directions(n: int) -> Array:
    """Directions spread evenly over the sphere (a Fibonacci lattice)."""
    z = 1 - (2 * np.arange(n) + 1) / n
    return _spherical(np.arccos(z), GOLDEN_ANGLE * np.arange(n))


def _strands(
    shape: spec.Fibres, roots: Array, heading: Array, length: Array, rng: np.random.Generator
) -> Array:
    """``[N, steps + 1, 3]``: each wanders its own way and falls over with its weight."""
    points, step = [roots], length[:, None] / shape.steps
    bend = rng.normal(0, 1.4 * shape.curl, (len(roots), 3))
    for _ in range(shape.steps):
        points.append(points[-1] + step * heading)
        turn = np.cross(bend, heading) - shape.droop * UP
        heading = unit_vectors(heading + turn / shape.steps)
    return np.stack(points, axis=1)


def _seedhead(shape: spec.Fibres, rng: np.random.Generator) -> Mesh:
    """Stalks in all directions; each ends in a shallow umbrella of hairs."""
    hairs = 9
    n = max(1, shape.count // (hairs + 1))
    out = _even_directions(n)
    length = shape.length_m * rng.uniform(0.92, 1.04, n)
    core, ends = 0.12 * shape.length_m * out, length[:, None] * 0.72 * out
    stalks = np.stack([core, ends], axis=1)
    turn = 2 * math.pi * np.arange(hairs) / hairs + rng.uniform(0, 1, (n, 1))
    along = np.broadcast_to(out[:, None], (n, hairs, 3))
    heading = _turned_away(along, turn, np.radians(62.0) + rng.normal(0, 0.12, (n, hairs)))
    reach = 0.34 * length[:, None, None]
    start = np.broadcast_to(ends[:, None], (n, hairs, 3))
    tips = np.stack([start, start + 0.5 * reach * heading, start + reach * (heading + 0.12 * along)], axis=2)
    tips = tips.reshape(-1, 3, 3)
    return _joined(
        [
            _tubes(stalks, np.full((n, 2), 1.3 * shape.radius_m), shape.sides, rng.random((n, 2))),
            _tubes(
                tips,
                np.tile(shape.radius_m * np.array([1.0, 0.8, 0.2]), (len(tips), 1)),
                shape.sides,
                rng.random((len(tips), 2)),
            ),
        ]
    )
