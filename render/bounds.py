"""Where things are without building their meshes: boxes around shapes, and how far a point is from them.

A box is of a shape's own frame and never too small, but for image cards and mesh files, whose files are not
opened: a card counts as `CARD_ASPECT` times as wide as it is high, a mesh file as a column as wide as it is
high unless its footprint is given, and a mesh file in units of its own has no box.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import noise
import numpy as np
from numpy.typing import ArrayLike, NDArray

from focuspull.render import motion, spec
from focuspull.render.geometry import make_mesh
from focuspull.render.pool import MeshAsset
from focuspull.render.rotations import euler_rotation

CARD_ASPECT = 2.0
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """Oriented boxes in the world.

    Attributes:
        centre: ``[B, 3]`` metres.
        axes: ``[B, 3, 3]``, box to world.
        half: ``[B, 3]`` metres, half of each edge.
        opaque: ``[B]`` bool: False for what one looks through, such as a fence.
    """

    centre: Array
    axes: Array
    half: Array
    opaque: NDArray[np.bool_]

    def distance(self, points: ArrayLike) -> Array:
        """``[N, B]``: from points ``[N, 3]`` to each box, 0 inside."""
        local = self._local(np.asarray(points, np.float64)[:, None] - self.centre)
        return np.linalg.norm(np.maximum(np.abs(local) - self.half, 0), axis=-1)

    def hit_distance(self, origin: ArrayLike, rays: ArrayLike) -> Array:
        """``[R, B]``: how far along each ray ``[R, 3]`` from one origin a box begins; infinite: missed."""
        start = self._local(np.asarray(origin, np.float64) - self.centre)
        way = self._local(np.broadcast_to(np.asarray(rays)[:, None], (len(np.asarray(rays)), *start.shape)))
        way = np.where(np.abs(way) < 1e-12, 1e-12, way)
        first, second = (-self.half - start) / way, (self.half - start) / way
        near, far = np.minimum(first, second).max(axis=-1), np.maximum(first, second).min(axis=-1)
        return np.where((near <= far) & (far > 0), np.maximum(near, 0), np.inf)

    def chosen(self, keep: NDArray[np.bool_]) -> Boxes:
        """Some of them."""
        return Boxes(self.centre[keep], self.axes[keep], self.half[keep], self.opaque[keep])

    def _local(self, offsets: Array) -> Array:
        return np.einsum("...bi,bij->...bj", offsets, self.axes)


def bounds(shape: spec.Shape, footprint_m: tuple[float, float] | None = None) -> tuple[Array, Array] | None:
    """Lowest and highest corner of a shape in its own frame, metres; None: its file would have to be opened.

    Args:
        shape: What it is.
        footprint_m: Width and depth of a mesh file, at its height.
    """
    match shape:
        case spec.Sphere():
            return _centred(shape.radius_m, shape.radius_m, shape.radius_m)
        case spec.Box():
            return _centred(*(s / 2 for s in shape.size_m))
        case spec.Plane():
            return _centred(shape.size_m[0] / 2, shape.size_m[1] / 2, 0.0)
        case spec.Cylinder():
            radius = max(shape.radius_m, shape.top_radius_m or 0.0)
            return _standing(radius, radius, shape.height_m)
        case spec.Lathe():
            radius = max(r for r, _ in shape.profile_m)
            heights = [z for _, z in shape.profile_m]
            return np.array([-radius, -radius, min(heights)]), np.array([radius, radius, max(heights)])
        case spec.Blob():
            radius = shape.radius_m * (1 + shape.amplitude)
            return _centred(radius, radius, radius)
        case spec.Terrain():
            return _centred(shape.size_m[0] / 2, shape.size_m[1] / 2, 3 * shape.amplitude_m)
        case spec.Tube():
            points = np.asarray(shape.points_m, np.float64)
            radius = max(shape.radius_m, shape.tip_radius_m or 0.0)
            return points.min(axis=0) - radius, points.max(axis=0) + radius
        case spec.Lattice():
            (width, height), wire = shape.size_m, 2 * shape.wire_m
            half = np.array([width / 2 + wire + shape.pitch_m, wire, 0.0])
            return -half - [0, 0, wire], half + [0, 0, height + wire]
        case spec.Compound():
            corners = [_part_corners(part) for part in shape.parts]
            return np.min(corners, axis=(0, 1)), np.max(corners, axis=(0, 1))
        case spec.MeshFile():
            if shape.height_m is None:
                return None
            width, depth = footprint_m or (shape.height_m, shape.height_m)
            return _standing(width / 2, depth / 2, shape.height_m)
        case spec.Card():
            half = CARD_ASPECT * shape.height_m / 2
            low, high = _standing(half, 0.0, shape.height_m)
            # Rolled up, its sides come forward, or go back, by half of its width at most.
            forward, back = (half if shape.bend_deg > 0 else 0.0), (half if shape.bend_deg < 0 else 0.0)
            return low - [0, forward, 0], high + [0, back, 0]
        case _:  # rare ones: by their triangles
            return _mesh_bounds(shape)  # type: ignore[arg-type]


@lru_cache(maxsize=256)
def _mesh_bounds(shape: spec.PlainShape) -> tuple[Array, Array]:
    vertices = make_mesh(shape).vertices.astype(np.float64)
    return vertices.min(axis=0), vertices.max(axis=0)


def object_boxes(
    item: spec.ObjectSpec, time_s: float, meshes: Mapping[str, MeshAsset] | None = None
) -> Boxes:
    """The boxes of an object at a time, one for each part of a compound; none if it cannot be known.

    Args:
        item: The object. Terrain has a box, which reaches above and below all of its ground.
        time_s: When.
        meshes: Assets by the SHA-256 of their file, for footprints.
    """
    pose, scale = motion.object_pose(item, time_s), np.asarray(item.scale)
    found: list[tuple[Array, Array, Array]] = []
    grown = _deform_m(item)
    if isinstance(item.shape, spec.Compound):
        for part in item.shape.parts:
            limits = bounds(part.shape)
            if limits is None:
                continue
            low, high = (limit * part.scale for limit in limits)
            turn = euler_rotation(part.rotation_deg)
            middle = turn @ ((low + high) / 2) + part.position_m
            if len(set(item.scale)) == 1:
                half = (high - low) / 2 * scale[0] + grown
                found.append((pose[:3, :3] @ (middle * scale) + pose[:3, 3], pose[:3, :3] @ turn, half))
            else:  # stretched, a turned box is no longer one: take one along the object's axes
                half = np.abs(turn) @ ((high - low) / 2) * scale + grown
                found.append((pose[:3, :3] @ (middle * scale) + pose[:3, 3], pose[:3, :3], half))
    else:
        limits = bounds(item.shape, _footprint_m(item.shape, meshes or {}))
        if limits is not None:
            low, high = (limit * scale for limit in limits)
            middle = pose[:3, :3] @ ((low + high) / 2) + pose[:3, 3]
            found.append((middle, pose[:3, :3], (high - low) / 2 + grown))
    opaque = not isinstance(item.shape, spec.Lattice)
    return _stacked(found, [opaque] * len(found))


def joined(parts: Iterable[Boxes]) -> Boxes:
    """All boxes of several."""
    every = list(parts)
    rows = [row for b in every for row in zip(b.centre, b.axes, b.half, strict=True)]
    return _stacked(rows, [bool(o) for b in every for o in b.opaque])


def ground_clearance(item: spec.ObjectSpec, points: ArrayLike) -> Array:
    """How far points ``[N, 3]`` are above a terrain, along its z; infinite beside it."""
    assert isinstance(item.shape, spec.Terrain)
    pose = motion.object_pose(item, 0.0)
    local = (np.asarray(points, np.float64) - pose[:3, 3]) @ pose[:3, :3] / item.scale
    inside = (np.abs(local[:, :2]) <= np.asarray(item.shape.size_m) / 2).all(axis=1)
    above = (local[:, 2] - terrain_height(item.shape, local[:, :2])) * item.scale[2]
    return np.where(inside, above, np.inf)


def terrain_height(shape: spec.Terrain, xy: ArrayLike) -> Array:
    """Height of a terrain in its own frame at places ``[N, 2]``, as its mesh has it at its vertices."""
    at = np.asarray(xy, np.float64) * shape.frequency_per_m + 0.37
    found = [noise.pnoise2(x, y, octaves=5, base=shape.seed) for x, y in at]
    return 2 * shape.amplitude_m * np.array(found) - _terrain_mean(shape)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _terrain_mean(shape: spec.Terrain) -> float:
    """What the mesh subtracts to be zero on average, from 96 x 96 places at most."""
    n = min(shape.resolution, 96)
    sides = (np.linspace(-0.5, 0.5, n) * s * shape.frequency_per_m + 0.37 for s in shape.size_m)
    x, y = np.meshgrid(*sides)
    perlin = np.frompyfunc(lambda a, b: noise.pnoise2(a, b, octaves=5, base=shape.seed), 2, 1)
    return float(2 * shape.amplitude_m * perlin(x, y).astype(np.float64).mean())


def _centred(x: float, y: float, z: float) -> tuple[Array, Array]:
    return -np.array([x, y, z]), np.array([x, y, z])


def _standing(x: float, y: float, height: float) -> tuple[Array, Array]:
    return np.array([-x, -y, 0.0]), np.array([x, y, height])


def _part_corners(part: spec.Part) -> Array:
    limits = bounds(part.shape)
    assert limits is not None, "parts have closed forms or meshes of their own"
    grid = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(-1, 3)
    corners = limits[0] + grid * (limits[1] - limits[0])
    return (corners * part.scale) @ euler_rotation(part.rotation_deg).T + part.position_m


def _footprint_m(shape: spec.Shape, meshes: Mapping[str, MeshAsset]) -> tuple[float, float] | None:
    if not isinstance(shape, spec.MeshFile) or shape.height_m is None:
        return None
    asset = meshes.get(shape.file.sha256)
    if asset is None:
        return None
    width, depth = (side * shape.height_m / asset.height_m for side in asset.footprint_m)
    return width, depth


def _deform_m(item: spec.ObjectSpec) -> float:
    """By how much deforming may carry a surface beyond its box."""
    match item.deform:
        case None:
            return 0.0
        case spec.Wind() | spec.Ripple() as waves:
            return waves.amplitude_m
        case _:  # steps and gestures of a figure
            height = item.shape.height_m if isinstance(item.shape, spec.MeshFile) else None
            return 0.15 * (height or 0.0)


def _stacked(rows: list[tuple[Array, Array, Array]], opaque: list[bool]) -> Boxes:
    return Boxes(
        np.array([row[0] for row in rows]).reshape(-1, 3),
        np.array([row[1] for row in rows]).reshape(-1, 3, 3),
        np.array([row[2] for row in rows]).reshape(-1, 3),
        np.array(opaque, bool),
    )
