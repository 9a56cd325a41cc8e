"""How meshes change their form in time: bending in the wind, ripples. Pure functions of spec and time.

Normals follow exactly: under ``p -> p + a D(p)`` with a constant vector ``a`` they become
``n - grad D (a . n) / (1 + a . grad D)``, made unit length.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from focuspull.render import spec
from focuspull.render.geometry import Mesh, unit_vectors

GUST_RATIO = 2.3
"""Of the second frequency of wind to its first."""


def bent(mesh: Mesh, wind: spec.Wind, time_s: float, rest: NDArray[np.float64]) -> Mesh:
    """A mesh in the wind.

    Args:
        mesh: In its own frame, standing on z = 0 or with heights of its own; what is below that stays.
        wind: How it blows.
        time_s: When.
        rest: ``[4, 4]`` rest pose of the thing, so that the wind has a direction in the world.
    """
    angle = math.radians(wind.direction_deg)
    world = np.array([math.cos(angle), math.sin(angle), 0.0])
    along = rest[:3, :3].T @ world
    along[2] = 0.0
    along /= max(float(np.linalg.norm(along)), 1e-9)
    points = mesh.vertices.astype(np.float64)
    above = points[:, 2] if mesh.heights is None else mesh.heights.astype(np.float64)
    height = np.maximum(above / wind.height_m, 0.0)
    lift = height**wind.stiffness
    lift_slope = wind.stiffness * height ** (wind.stiffness - 1) / wind.height_m
    way = (points @ along + rest[:3, 3] @ world) / wind.wavelength_m
    wave, wave_slope = np.zeros(len(points)), np.zeros(len(points))
    for strength, ratio in ((0.65, 1.0), (0.35, GUST_RATIO)):
        phase = 2 * math.pi * (ratio * (way - wind.frequency_hz * time_s) + wind.phase)
        wave += strength * np.sin(phase)
        wave_slope += strength * 2 * math.pi * ratio / wind.wavelength_m * np.cos(phase)
    push = wind.amplitude_m * (0.6 + 0.4 * wave)
    gradient = lift[:, None] * (0.4 * wind.amplitude_m * wave_slope)[:, None] * along
    gradient[:, 2] += lift_slope * push
    normals = mesh.normals.astype(np.float64)
    normals -= gradient * ((normals @ along) / (1 + gradient @ along))[:, None]
    moved = points + (lift * push)[:, None] * along
    return replace(mesh, vertices=moved.astype(np.float32), normals=unit_vectors(normals).astype(np.float32))


def rippled(mesh: Mesh, ripple: spec.Ripple, time_s: float) -> Mesh:
    """A mesh with waves on its surface, for waves that are flat against the surface's own curvature."""
    along = np.asarray(ripple.direction, np.float64)
    along = along / np.linalg.norm(along)
    points, normals = mesh.vertices.astype(np.float64), mesh.normals.astype(np.float64)
    way = points @ along
    phase = 2 * math.pi * (way / ripple.wavelength_m - ripple.frequency_hz * time_s + ripple.phase)
    free, free_slope = np.ones(len(points)), np.zeros(len(points))
    if ripple.fixed_m:
        part = np.clip((way - way.min()) / ripple.fixed_m, 0.0, 1.0)
        free, free_slope = part * part * (3 - 2 * part), 6 * part * (1 - part) / ripple.fixed_m
    height = ripple.amplitude_m * free * np.sin(phase)
    slope = ripple.amplitude_m * (
        free_slope * np.sin(phase) + free * 2 * math.pi / ripple.wavelength_m * np.cos(phase)
    )
    gradient = slope[:, None] * along
    gradient -= normals * np.einsum("ij,ij->i", gradient, normals)[:, None]
    moved = points + height[:, None] * normals
    return replace(
        mesh,
        vertices=moved.astype(np.float32),
        normals=unit_vectors(normals - gradient).astype(np.float32),
    )
