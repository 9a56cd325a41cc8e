"""Shapes as triangle arrays, shared by both renderers: same triangles, same normals, same silhouettes.

Triangles are counter-clockwise seen from outside. Vertices are split where normals or texture
coordinates are discontinuous.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import noise
import numpy as np
from numpy.typing import ArrayLike, NDArray

from focuspull.dataset.errors import UserError
from focuspull.render import spec
from focuspull.render.curves import monotone_cubic
from focuspull.render.rotations import euler_rotation

SMOOTHING_ANGLE_DEG = 40.0
"""Edges of imported meshes without normals stay sharp above this angle between faces."""


@dataclass(frozen=True)
class Mesh:
    """Triangles in object space.

    Attributes:
        vertices: ``[V, 3]`` float32, metres.
        normals: ``[V, 3]`` float32, unit length.
        uvs: ``[V, 2]`` float32.
        triangles: ``[F, 3]`` int32.
        heights: ``[V]`` float32, above where each thing is rooted, if that is not z = 0, for the wind.
    """

    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    uvs: NDArray[np.float32]
    triangles: NDArray[np.int32]
    heights: NDArray[np.float32] | None = None

    def scaled(self, scale: ArrayLike) -> Mesh:
        """The mesh stretched along its axes; normals stay perpendicular."""
        s = np.asarray(scale, np.float64)
        return Mesh(
            (self.vertices * s).astype(np.float32),
            unit_vectors(self.normals / s).astype(np.float32),
            self.uvs,
            self.triangles,
            None if self.heights is None else self.heights * np.float32(s[2]),
        )

    def moved(self, pose: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vertices and normals under a rigid ``[4, 4]`` pose."""
        rotation, offset = pose[:3, :3], pose[:3, 3]
        vertices = self.vertices.astype(np.float64) @ rotation.T + offset
        normals = self.normals.astype(np.float64) @ rotation.T
        return vertices.astype(np.float32), normals.astype(np.float32)


def make_mesh(shape: spec.Shape, path: Path | None = None) -> Mesh:
    """Triangles of a shape; ``path`` is where a `spec.MeshFile` lies. Cards are made by `card_mesh`."""
    match shape:
        case spec.Sphere():
            return _sphere(shape)
        case spec.Box():
            return _box(shape)
        case spec.Plane():
            return rectangle(*shape.size_m)
        case spec.Cylinder():
            return _cylinder(shape)
        case spec.Torus():
            return _torus(shape)
        case spec.Lathe():
            return _lathe(shape)
        case spec.Blob():
            return _blob(shape)
        case spec.Terrain():
            return _terrain(shape)
        case spec.Tube():
            return _tube(shape)
        case spec.Lattice():
            return _lattice(shape)
        case spec.Hull() | spec.Wall() | spec.Faceted():
            from focuspull.render import solids  # builds on this module

            return solids.solid(shape)
        case spec.Compound():
            return _join([_placed(part) for part in shape.parts])
        case spec.Grass() | spec.Strewn() | spec.Plant() | spec.Fibres():
            from focuspull.render import plants  # builds on this module

            return plants.grown(shape)
        case spec.MeshFile():
            assert path is not None
            return read_mesh(shape, path)
        case spec.Card():
            raise AssertionError("a card's mesh depends on its image: card_mesh")


def rectangle(width: float, height: float) -> Mesh:
    """Rectangle in the xy plane around the origin, facing +z."""
    return _stretched(_unit_rectangle(), (width, height, 1.0))


@functools.cache
def _unit_rectangle() -> Mesh:
    return _grid_mesh(_plane_grid([-0.5, 0.5], [-0.5, 0.5]))


def _stretched(mesh: Mesh, size: ArrayLike) -> Mesh:
    """A mesh whose sides are square to the axes, made larger: its normals stay."""
    vertices = mesh.vertices.astype(np.float64) * np.asarray(size, np.float64)
    return replace(mesh, vertices=vertices.astype(np.float32))


def disc(radius: float, segments: int = 64) -> Mesh:
    """Disc in the xy plane, facing +z."""
    angle = 2 * np.pi * np.arange(segments + 1) / segments
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1) * radius
    return _grid_mesh(np.stack([np.zeros_like(ring), ring])[:, ::-1])


def card_mesh(alpha: NDArray, height_m: float, cell_px: int = 16) -> Mesh:
    """The part of a card that is not fully transparent, standing on z = 0 and facing -y.

    Cutting the empty cells away keeps rays and shadow rays from crossing a large invisible plane.

    Args:
        alpha: ``[H, W]``, the largest opacity over all frames.
        height_m: Height of the full image.
        cell_px: Size of the cells that are kept or cut.
    """
    h, w = alpha.shape
    rows, cols = -(-h // cell_px), -(-w // cell_px)
    # A cell is needed if a texel in it, or one that bilinear filtering reaches, is not transparent.
    padded = np.zeros((rows * cell_px + 2, cols * cell_px + 2), bool)
    padded[1 : h + 1, 1 : w + 1] = alpha > 0
    keep = np.zeros((rows, cols), bool)
    for dy in range(3):
        for dx in range(3):
            block = padded[dy : dy + rows * cell_px, dx : dx + cols * cell_px]
            keep |= block.reshape(rows, cell_px, cols, cell_px).any(axis=(1, 3))
    x = np.minimum(np.arange(cols + 1) * cell_px, w) / w
    y = np.minimum(np.arange(rows + 1) * cell_px, h) / h
    u, v = np.meshgrid(x, 1 - y)
    points = np.stack([(u - 0.5) * height_m * w / h, np.zeros_like(u), v * height_m], axis=-1)
    index = np.arange(u.size).reshape(u.shape)
    a, b, c, d = (i[keep] for i in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    triangles = np.concatenate([np.stack([a, d, c], 1), np.stack([a, c, b], 1)])
    used, triangles = np.unique(triangles, return_inverse=True)
    normals = np.tile(np.array([0, -1, 0], np.float32), (used.size, 1))
    uvs = np.stack([u, v], axis=-1).reshape(-1, 2)[used]
    vertices = points.reshape(-1, 3)[used].astype(np.float32)
    return Mesh(vertices, normals, uvs.astype(np.float32), triangles.reshape(-1, 3).astype(np.int32))


def _sphere(shape: spec.Sphere) -> Mesh:
    directions = _sphere_grid(shape.segments)
    mesh = _grid_mesh(directions * shape.radius_m)
    return Mesh(mesh.vertices, unit_vectors(mesh.vertices), mesh.uvs, mesh.triangles)


def _sphere_grid(segments: int) -> NDArray:
    """Unit directions ``[segments / 2 + 1, segments + 1, 3]``, south pole first."""
    theta = np.pi * (np.arange(segments // 2 + 1) / (segments // 2) - 0.5)[:, None]
    phi = 2 * np.pi * (np.arange(segments + 1) % segments / segments)[None]
    z = np.broadcast_to(np.sin(theta), np.broadcast_shapes(theta.shape, phi.shape))
    radius = np.where(np.abs(theta) > 1.5707, 0.0, np.cos(theta))
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), z], axis=-1)


def _box(shape: spec.Box) -> Mesh:
    if shape.bevel_m == 0:  # facades have thousands
        return _stretched(_unit_box(), shape.size_m)
    return _bevelled_box(shape)


@functools.cache
def _unit_box() -> Mesh:
    return _bevelled_box(spec.Box(type="box"))


def _bevelled_box(shape: spec.Box, steps: int = 4) -> Mesh:
    size = np.asarray(shape.size_m)
    bevel = min(shape.bevel_m, 0.499 * float(size.min()))
    # Nodes along a face: (which inner corner, slope of the surface direction there).
    slope = np.tan(np.linspace(-np.pi / 4, 0, steps + 1)) if bevel else np.zeros(1)
    side = np.repeat([-1.0, 1.0], slope.size)
    slope = np.concatenate([slope, -slope[::-1]])
    faces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            direction = np.zeros((slope.size, slope.size, 3))
            direction[..., axis] = sign
            direction[..., u], direction[..., v] = slope[None, :], slope[:, None]
            direction = unit_vectors(direction)
            corner = np.zeros_like(direction)
            corner[..., axis] = sign
            corner[..., u], corner[..., v] = side[None, :], side[:, None]
            points = corner * (size / 2 - bevel) + bevel * direction
            uvs = np.stack([points[..., u] / size[u] + 0.5, points[..., v] / size[v] + 0.5], axis=-1)
            faces.append(_grid_mesh(points, direction, uvs, flip=sign < 0))
    return _join(faces)


def _cylinder(shape: spec.Cylinder) -> Mesh:
    top = shape.radius_m if shape.top_radius_m is None else shape.top_radius_m
    slope = np.array([shape.height_m, shape.radius_m - top])
    slope = slope / np.linalg.norm(slope)
    angle = 2 * np.pi * (np.arange(shape.segments + 1) % shape.segments / shape.segments)
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    lift = np.array([0, 0, shape.height_m])
    normals = circle * slope[0] + np.array([0, 0, slope[1]])
    parts = [
        _grid_mesh(np.stack([circle * shape.radius_m, circle * top + lift]), np.stack([normals, normals]))
    ]
    for radius, z, sign in ((shape.radius_m, np.zeros(3), -1.0), (top, lift, 1.0)):
        if radius > 0:
            cap = np.stack([circle * radius + z, np.broadcast_to(z, circle.shape)])
            uvs = np.stack([circle[:, :2] * 0.5 + 0.5, np.full((angle.size, 2), 0.5)])
            parts.append(_grid_mesh(cap, np.broadcast_to([0, 0, sign], cap.shape), uvs, flip=sign < 0))
    return _join(parts)


def _torus(shape: spec.Torus) -> Mesh:
    n, m = max(shape.segments // 2, 8), shape.segments
    minor = (2 * np.pi * (np.arange(n + 1) % n / n))[:, None]
    major = (2 * np.pi * (np.arange(m + 1) % m / m))[None]
    outward = np.stack(
        [np.cos(minor) * np.cos(major), np.cos(minor) * np.sin(major), np.sin(minor) + 0 * major], axis=-1
    )
    spine = np.stack([np.cos(major), np.sin(major), 0 * major], axis=-1) * shape.major_radius_m
    return _grid_mesh(spine + shape.minor_radius_m * outward, outward)


def _lathe(shape: spec.Lathe, steps: int = 10) -> Mesh:
    spans = len(shape.profile_m) - 1
    profile = monotone_cubic(np.arange(spans + 1), shape.profile_m, np.linspace(0, spans, spans * steps + 1))
    tangent = np.gradient(profile, axis=0)
    normal = unit_vectors(np.stack([tangent[:, 1], -tangent[:, 0]], axis=1))
    m = shape.segments
    angle = 2 * np.pi * (np.arange(m + 1) % m / m)

    def turn(rz: NDArray) -> NDArray:
        r, z = rz[:, :1], rz[:, 1:]
        return np.stack([r * np.cos(angle), r * np.sin(angle), z + 0 * angle], axis=-1)

    return _grid_mesh(turn(profile), turn(normal))


def _blob(shape: spec.Blob) -> Mesh:
    directions = _sphere_grid(shape.segments)
    perlin = np.frompyfunc(lambda x, y, z: noise.pnoise3(x, y, z, octaves=4, base=shape.seed), 3, 1)
    f = directions * shape.frequency + 7.3  # off the lattice points, where Perlin noise is zero
    bump = 2.0 * perlin(f[..., 0], f[..., 1], f[..., 2]).astype(np.float64)
    radius = shape.radius_m * (1 + shape.amplitude * np.clip(bump, -1, 1))
    return _with_smooth_normals(_grid_mesh(directions * radius[..., None]))


def _terrain(shape: spec.Terrain) -> Mesh:
    n = shape.resolution
    grid = _plane_grid(np.linspace(-0.5, 0.5, n), np.linspace(-0.5, 0.5, n)) * [*shape.size_m, 1.0]
    grid[..., 2] = _terrain_heights(shape)
    return _with_smooth_normals(_grid_mesh(grid))


def _terrain_heights(shape: spec.Terrain) -> NDArray[np.float64]:
    """Heights ``[resolution, resolution]``, rows along y."""
    return _noise_heights(
        shape.size_m, shape.amplitude_m, shape.frequency_per_m, shape.seed, shape.resolution
    )


@functools.lru_cache(maxsize=4)
def _noise_heights(
    size_m: tuple[float, float], amplitude_m: float, frequency_per_m: float, seed: int, n: int
) -> NDArray[np.float64]:
    """Kept, since all that stands on a terrain asks for the same ones."""
    xy = (_plane_grid(np.linspace(-0.5, 0.5, n), np.linspace(-0.5, 0.5, n)) * [*size_m, 1.0])[..., :2]
    perlin = np.frompyfunc(lambda x, y: noise.pnoise2(x, y, octaves=5, base=seed), 2, 1)
    xy = xy * frequency_per_m + 0.37
    heights = 2 * amplitude_m * perlin(xy[..., 0], xy[..., 1]).astype(np.float64)
    heights -= heights.mean()
    heights.flags.writeable = False
    return heights


def terrain_height(shape: spec.Terrain, places: ArrayLike) -> NDArray[np.float64]:
    """Height of a terrain's triangles.

    Args:
        shape: The terrain.
        places: ``[..., 2]``, x and y in its frame; beyond its edge the edge's height holds.

    Returns:
        ``[...]``, metres.
    """
    heights, n = _terrain_heights(shape), shape.resolution
    at = np.clip(np.asarray(places, np.float64) / shape.size_m + 0.5, 0, 1) * (n - 1)
    cell = np.minimum(at.astype(int), n - 2)
    (column, row), (x, y) = np.moveaxis(cell, -1, 0), np.moveaxis(at - cell, -1, 0)
    a, b = heights[row, column], heights[row, column + 1]
    c, d = heights[row + 1, column + 1], heights[row + 1, column]
    return np.where(x >= y, a + x * (b - a) + y * (c - b), a + y * (d - a) + x * (c - d))


def _tube(shape: spec.Tube) -> Mesh:
    """Rings carried along the curve without twisting (parallel transport), with flat ends."""
    spans = len(shape.points_m) - 1
    spine = monotone_cubic(
        np.arange(spans + 1), shape.points_m, np.linspace(0, spans, spans * shape.steps + 1)
    )
    tip = shape.radius_m if shape.tip_radius_m is None else shape.tip_radius_m
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(spine, axis=0), axis=1))])
    radius = shape.radius_m + (tip - shape.radius_m) * length / max(length[-1], 1e-12)
    tangent = unit_vectors(np.gradient(spine, axis=0))
    side = np.cross(tangent[0], np.eye(3)[int(np.argmin(np.abs(tangent[0])))])
    angle = 2 * np.pi * (np.arange(shape.segments + 1) % shape.segments / shape.segments)
    rings, normals = [], []
    for point, forward, r in zip(spine, tangent, radius, strict=True):
        side = unit_vectors(side - forward * (side @ forward))
        circle = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(forward, side)
        rings.append(point + r * circle)
        normals.append(circle)
    parts = [_grid_mesh(np.stack(rings), np.stack(normals))]
    for ring, point, outward, flip in (
        (rings[0], spine[0], -tangent[0], True),
        (rings[-1], spine[-1], tangent[-1], False),
    ):
        cap = np.stack([ring, np.broadcast_to(point, ring.shape)])
        parts.append(_grid_mesh(cap, np.broadcast_to(outward, cap.shape).copy(), flip=flip))
    return _join(parts)


def _lattice(shape: spec.Lattice) -> Mesh:
    width, height = shape.size_m
    radius = shape.wire_m / 2

    def wire(*points: tuple[float, float, float]) -> Mesh:
        return _tube(
            spec.Tube(type="tube", points_m=points, radius_m=radius, segments=shape.segments, steps=1)
        )

    num_upright = max(2, round(width / shape.pitch_m) + 1)
    if shape.pattern == "chain":
        # Zigzags at 45 degrees; neighbours lean against each other, one in front, one behind.
        half = shape.pitch_m / 2
        num_columns, num_rows = max(1, round(width / half)), max(2, round(height / half) + 1)
        wires = []
        for column in range(num_columns):
            points = []
            for row in range(num_rows):
                right = (row + column) % 2
                x = -width / 2 + (column + right) * half
                y = radius if right else -radius
                points.append((x, y, min(row * half, height)))
            wires.append(wire(*points))
        return _join(wires)
    wires = [wire((x, 0.0, 0.0), (x, 0.0, height)) for x in np.linspace(-width / 2, width / 2, num_upright)]
    if shape.pattern == "mesh":
        levels = np.linspace(0.0, height, max(2, round(height / shape.pitch_m) + 1))
        wires += [wire((-width / 2, shape.wire_m, z), (width / 2, shape.wire_m, z)) for z in levels.tolist()]
    return _join(wires)


_part_mesh: Callable[[spec.PlainShape], Mesh] = functools.lru_cache(maxsize=512)(make_mesh)  # type: ignore[assignment]
"""Kept: leaves, fruit, bars and posts are many of a kind."""


def _placed(part: spec.Part) -> Mesh:
    mesh = _part_mesh(part.shape)
    if part.scale != (1.0, 1.0, 1.0):
        mesh = mesh.scaled(part.scale)
    if part.rotation_deg == (0.0, 0.0, 0.0):
        offset = np.asarray(part.position_m, np.float64)
        return replace(mesh, vertices=(mesh.vertices.astype(np.float64) + offset).astype(np.float32))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = euler_rotation(part.rotation_deg), part.position_m
    vertices, normals = mesh.moved(pose)
    return replace(mesh, vertices=vertices, normals=normals)


def bent_card(mesh: Mesh, bend_deg: float) -> Mesh:
    """A card rolled around the vertical: its width becomes an arc of this angle, its sides come to -y."""
    if bend_deg == 0:
        return mesh
    x = mesh.vertices[:, 0].astype(np.float64)
    width = float(np.ptp(x))
    radius = width / math.radians(bend_deg)
    angle = (x - x.mean()) / radius
    vertices, normals = mesh.vertices.astype(np.float64), mesh.normals.astype(np.float64)
    vertices[:, 0] = x.mean() + radius * np.sin(angle)
    vertices[:, 1] -= radius * (1 - np.cos(angle))
    normals[:, 0], normals[:, 1] = -np.sin(angle), -np.cos(angle)
    return replace(mesh, vertices=vertices.astype(np.float32), normals=normals.astype(np.float32))


def read_mesh(shape: spec.MeshFile, path: Path) -> Mesh:
    """Triangles of an OBJ or GLB file.

    Raises:
        UserError: If the file cannot be read or has no triangles.
    """
    import trimesh

    name = shape.file.name
    try:
        scene = trimesh.load_scene(path, process=False)
        mesh = scene.to_mesh()
    except Exception as error:  # trimesh raises whatever its format readers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{name}: cannot be read as a mesh ({reason}). Give a valid OBJ or GLB file."
        ) from error
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
    if not len(faces) or not np.isfinite(vertices).all():
        raise UserError(f"{name}: has no triangles or vertices that are not finite. Export the mesh again.")
    uv = getattr(mesh.visual, "uv", None)
    uvs = np.zeros((len(vertices), 2)) if uv is None else np.asarray(uv, np.float64)
    if "vertex_normals" in mesh._cache:  # normals that came with the file
        normals = np.asarray(mesh.vertex_normals, np.float64)
    else:
        split, normals, faces = creased(vertices, faces)
        vertices, uvs = vertices[split], uvs[split]
    if shape.y_up:
        vertices, normals = (np.stack([a[:, 0], -a[:, 2], a[:, 1]], axis=1) for a in (vertices, normals))
    if shape.height_m is not None:
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        if high[2] - low[2] <= 0:
            raise UserError(f"{name}: is flat, height_m cannot rescale it. Leave height_m out.")
        foot = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
        vertices = (vertices - foot) * (shape.height_m / (high[2] - low[2]))
    arrays = vertices.astype(np.float32), unit_vectors(normals).astype(np.float32), uvs.astype(np.float32)
    return Mesh(*arrays, faces.astype(np.int32))


def creased(vertices: NDArray, faces: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Splits every corner and averages the normals of faces within `SMOOTHING_ANGLE_DEG`.

    Returns:
        The vertex that each new one is, ``[3 F]``; normals, ``[3 F, 3]``; triangles, ``[F, 3]``.
    """
    face_normals, area = face_normals_and_areas(vertices, faces)
    _, merged = np.unique(vertices.round(9), axis=0, return_inverse=True)
    corner_vertex = merged.reshape(-1)[faces].reshape(-1)
    order = np.argsort(corner_vertex, kind="stable")
    start = np.searchsorted(corner_vertex[order], corner_vertex, "left")
    count = np.searchsorted(corner_vertex[order], corner_vertex, "right") - start
    # Pair every corner with all corners at the same place, then keep the faces that are nearly coplanar.
    corner = np.repeat(np.arange(corner_vertex.size), count)
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    other_face = order[np.repeat(start, count) + step] // 3
    cosine = np.einsum("ij,ij->i", face_normals[corner // 3], face_normals[other_face])
    smooth = cosine >= np.cos(np.radians(SMOOTHING_ANGLE_DEG))
    normals = np.zeros((corner_vertex.size, 3))
    np.add.at(normals, corner[smooth], (face_normals * area[:, None])[other_face[smooth]])
    flat = np.linalg.norm(normals, axis=1) == 0
    normals[flat] = (0.0, 0.0, 1.0)  # only corners of degenerate triangles
    split = faces.reshape(-1)
    return split, unit_vectors(normals), np.arange(split.size).reshape(-1, 3)


def _with_smooth_normals(mesh: Mesh) -> Mesh:
    """Area-weighted vertex normals, continuous over texture seams."""
    vertices = mesh.vertices.astype(np.float64)
    face_normals, area = face_normals_and_areas(vertices, mesh.triangles)
    _, merged = np.unique(vertices.round(6), axis=0, return_inverse=True)
    merged = merged.reshape(-1)
    total = np.zeros((merged.max() + 1, 3))
    for corner in range(3):
        np.add.at(total, merged[mesh.triangles[:, corner]], face_normals * area[:, None])
    return Mesh(mesh.vertices, unit_vectors(total)[merged].astype(np.float32), mesh.uvs, mesh.triangles)


def face_normals_and_areas(vertices: NDArray, faces: NDArray) -> tuple[NDArray, NDArray]:
    """Unit normals ``[F, 3]`` of triangles and their areas ``[F]``, m2."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return cross / np.maximum(length, 1e-30)[:, None], length / 2


def _plane_grid(x: ArrayLike, y: ArrayLike) -> NDArray:
    gx, gy = np.meshgrid(x, y)
    return np.stack([gx, gy, np.zeros_like(gx)], axis=-1).astype(np.float64)


def _grid_mesh(
    points: NDArray, normals: NDArray | None = None, uvs: NDArray | None = None, *, flip: bool = False
) -> Mesh:
    """Triangles over a ``[rows, cols, 3]`` grid; the front is where (column x row) points.

    Triangles that collapse (poles, tips) are left out. Without ``normals`` they are computed; ``uvs``
    default to the unit square over the grid.
    """
    rows, cols = points.shape[:2]
    if uvs is None:
        uvs = np.stack(np.meshgrid(np.linspace(0, 1, cols), np.linspace(0, 1, rows)), axis=-1)
    index = np.arange(rows * cols).reshape(rows, cols)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    if flip:
        triangles = triangles[:, ::-1]
    vertices = points.reshape(-1, 3)
    _, area = face_normals_and_areas(vertices, triangles)
    triangles = triangles[area > 1e-9 * max(float(area.max()), 1e-30)]
    mesh = Mesh(
        vertices.astype(np.float32),
        np.zeros_like(vertices, np.float32) if normals is None else normals.reshape(-1, 3).astype(np.float32),
        uvs.reshape(-1, 2).astype(np.float32),
        triangles.astype(np.int32),
    )
    return _with_smooth_normals(mesh) if normals is None else mesh


def _join(meshes: list[Mesh]) -> Mesh:
    offsets = np.cumsum([0, *(len(m.vertices) for m in meshes)])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uvs for m in meshes]),
        np.concatenate([m.triangles + o for m, o in zip(meshes, offsets, strict=False)]).astype(np.int32),
    )


def unit_vectors(vectors: NDArray) -> NDArray:
    """Vectors made unit length; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
