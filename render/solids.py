"""Meshes of hulls, walls with openings and faceted bodies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from focuspull.render import spec
from focuspull.render.curves import monotone_cubic
from focuspull.render.geometry import Mesh, unit_vectors

Array = NDArray[np.float64]


def solid(shape: spec.Hull | spec.Wall | spec.Faceted) -> Mesh:
    """The mesh of one of them."""
    match shape:
        case spec.Hull():
            return _hull(shape)
        case spec.Wall():
            return _wall(shape)
        case spec.Faceted():
            return _faceted(shape)


def hull_points(shape: spec.Hull, along: ArrayLike, around_deg: ArrayLike) -> Array:
    """Points of a hull's surface: where trims, seams and mirrors go.

    Args:
        shape: The hull.
        along: Station numbers, which may be fractional.
        around_deg: Of the superellipse: 0 is the side towards +y, 90 the top. Broadcast with ``along``.

    Returns:
        ``[..., 3]``, metres.
    """
    along, angle = np.broadcast_arrays(np.asarray(along, np.float64), np.radians(around_deg))
    stations = monotone_cubic(np.arange(len(shape.stations)), shape.stations, along.ravel())
    x, width, low, high = (column.reshape(along.shape) for column in stations.T)
    power = 2.0 / shape.squareness
    across, up = (np.sign(c) * np.abs(c) ** power for c in (np.cos(angle), np.sin(angle)))
    narrow = 1.0 - shape.taper * (up + 1) / 2
    return np.stack([x, width * across * narrow, (low + high) / 2 + (high - low) / 2 * up], axis=-1)


def _hull(shape: spec.Hull) -> Mesh:
    """Rings along x, smooth; flat ends."""
    spans = len(shape.stations) - 1
    along = np.linspace(0, spans, spans * shape.steps + 1)[:, None]
    n = shape.segments
    # Turned by part of a step: no point lies where a superellipse of a high power has a near-kink.
    around = 360.0 * (np.arange(n + 1) % n + 0.5) / n
    rings = hull_points(shape, along, around[None])
    rows = rings.shape[0]
    index = np.arange(rows * (n + 1)).reshape(rows, n + 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    uvs = np.stack(np.meshgrid(np.linspace(0, 1, n + 1), np.linspace(0, 1, rows)), axis=-1)
    # Gradients over the grid, wrapped around, rather than averages of triangles: no streaks on slopes.
    ring = np.concatenate([rings[:, -2:-1], rings, rings[:, 1:2]], axis=1)
    normals = unit_vectors(np.cross(np.gradient(ring, axis=1)[:, 1:-1], np.gradient(rings, axis=0)))
    pieces = [(rings.reshape(-1, 3), normals.reshape(-1, 3), uvs.reshape(-1, 2), triangles)]
    for end, sign in ((rings[0], -1.0), (rings[-1], 1.0)):
        fan = np.concatenate([end[:-1], end[:-1].mean(axis=0, keepdims=True)])
        i = np.arange(n)
        turn = np.stack([i, (i + 1) % n, np.full(n, n)], axis=-1)
        normal = np.broadcast_to([sign, 0.0, 0.0], fan.shape)
        pieces.append((fan, normal, np.full((n + 1, 2), 0.5), turn if sign > 0 else turn[:, ::-1]))
    return _mesh(pieces)


def _wall(shape: spec.Wall) -> Mesh:
    """A grid cut at every edge of an opening, without the cells that lie in one, and the reveals."""
    width, height = shape.size_m
    openings = np.asarray(shape.openings_m, np.float64).reshape(-1, 4)
    x = np.unique(np.concatenate([[-width / 2, width / 2], openings[:, 0], openings[:, 2]]))
    z = np.unique(np.concatenate([[0.0, height], openings[:, 1], openings[:, 3]]))
    middle_x, middle_z = np.meshgrid((x[1:] + x[:-1]) / 2, (z[1:] + z[:-1]) / 2)
    solid_cell = np.ones(middle_x.shape, bool)
    for x0, z0, x1, z1 in openings:
        solid_cell &= ~((x0 < middle_x) & (middle_x < x1) & (z0 < middle_z) & (middle_z < z1))
    gx, gz = np.meshgrid(x, z)
    grid = np.stack([gx, np.zeros_like(gx), gz], axis=-1).reshape(-1, 3)
    index = np.arange(len(grid)).reshape(gx.shape)
    a, b, c, d = (i[solid_cell] for i in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]))
    triangles = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)])

    def texture(points: Array) -> Array:
        return np.stack([points[:, 0] / width + 0.5, points[:, 2] / height], axis=-1)

    pieces = [(grid, np.broadcast_to([0.0, -1.0, 0.0], grid.shape), texture(grid), triangles)]
    depth = shape.depth_m
    for x0, z0, x1, z1 in openings:
        edges = (((x0, z0), (x0, z1), (1.0, 0.0)), ((x1, z1), (x1, z0), (-1.0, 0.0)),
                 ((x1, z0), (x0, z0), (0.0, 1.0)), ((x0, z1), (x1, z1), (0.0, -1.0)))  # fmt: skip
        for (xa, za), (xb, zb), (nx, nz) in edges:
            quad = np.array([(xa, 0.0, za), (xb, 0.0, zb), (xb, depth, zb), (xa, depth, za)])
            # The texture goes on round the edge, as far in as the reveal is deep.
            shifted = quad + np.array([[-nx * depth, 0.0, -nz * depth]]) * [[0.0], [0.0], [1.0], [1.0]]
            normal = np.broadcast_to([nx, 0.0, nz], quad.shape)
            pieces.append((quad, normal, texture(shifted), np.array([[0, 2, 1], [0, 3, 2]])))
    return _mesh(pieces)


def _faceted(shape: spec.Faceted) -> Mesh:
    """Every facet with corners of its own."""
    angle = 2 * np.pi * np.arange(shape.sides + 1) / shape.sides
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    pieces = []
    profile = shape.profile_m
    for (r0, z0), (r1, z1) in zip(profile, profile[1:], strict=False):
        for i in range(shape.sides):
            left, right = circle[i], circle[i + 1]
            corners = [(*(r0 * left), z0), (*(r0 * right), z0), (*(r1 * right), z1), (*(r1 * left), z1)]
            if r0 == 0:
                corners = corners[1:]
            elif r1 == 0:
                corners = corners[:3]
            points = np.array(corners)
            normal = unit_vectors(np.cross(points[1] - points[0], points[2] - points[0]))
            triangles = np.array([[0, 1, 2], [0, 2, 3]][: len(corners) - 2])
            uvs = np.array([(i, z0), (i + 1, z0), (i + 1, z1), (i, z1)], np.float64)[: len(corners)]
            uvs = uvs / [shape.sides, max(abs(z) for _, z in profile) or 1.0]
            pieces.append((points, np.broadcast_to(normal, points.shape), uvs, triangles))
    return _mesh(pieces)


def _mesh(pieces: list[tuple[Array, Array, Array, NDArray[np.int64]]]) -> Mesh:
    """Joined pieces of (vertices, normals, texture coordinates, triangles)."""
    offsets = np.cumsum([0, *(len(piece[0]) for piece in pieces)])
    vertices, normals, uvs = (
        np.concatenate([piece[i] for piece in pieces]).astype(np.float32) for i in range(3)
    )
    return Mesh(
        vertices,
        normals,
        uvs,
        np.concatenate([p[3] + o for p, o in zip(pieces, offsets, strict=False)]).astype(np.int32),
    )
