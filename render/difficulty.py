"""Labels of a rendered clip, `focuspull.dataset.difficulty`: what needs the scene as well as its arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.difficulty import (
    DifficultyMeta,
    highlight_energy,
    occluded_fraction,
    thin_fraction,
)
from focuspull.dataset.optics import k_at_1024
from focuspull.render.build import SKY_ID, Built, Surface
from focuspull.render.frames import Frames
from focuspull.render.textures import TextureMap

MIRROR_ROUGHNESS = 0.15
"""Metals smoother than this show what is reflected in them."""


def clip_difficulty(built: Built, frames: Frames) -> DifficultyMeta:
    """The labels of a whole rendered clip."""
    to_1024 = float(k_at_1024(1.0, built.scene.film.width))
    offsets = np.abs(frames.disparity[None] - frames.focus_disparity[:, :, None, None])
    radii = frames.k[:, :, None, None] * offsets * to_1024
    low, high = np.percentile(frames.disparity, (5, 95))
    return DifficultyMeta(
        occluded_fraction=max(
            occluded_fraction(frames.disparity, k, focus)
            for k, focus in zip(frames.k, frames.focus_disparity, strict=True)
        ),
        thin_fraction=thin_fraction(frames.disparity),
        highlight_energy=highlight_energy(frames.aif, built.scene.film.exposure_ev),
        max_radius_px=round(max(float(np.percentile(target, 99.5)) for target in radii), 4),
        mean_radius_px=round(max(float(target.mean()) for target in radii), 4),
        motion_px=round(_motion_px(built, frames) * to_1024, 4),
        transparent_fraction=_transparent_fraction(built, frames.instance),
        disparity_spread=round(float(high - low), 6),
    )


def _transparent_fraction(built: Built, instance: NDArray[np.uint16]) -> float:
    clear = {item.instance for item in built.items if _is_clear(item.surfaces[0])} - {SKY_ID}
    return float(np.isin(instance, sorted(clear)).mean())


def _is_clear(surface: Surface) -> bool:
    roughness = surface.roughness
    is_smooth = not isinstance(roughness, TextureMap) and roughness < MIRROR_ROUGHNESS
    return surface.transmission > 0 or (surface.metallic > 0.5 and is_smooth)


def _motion_px(built: Built, frames: Frames) -> float:
    """Mean distance between where a point of a surface is seen and where it is seen a frame later.

    Exact for the still and the rigid; what deforms counts as if it were rigid.
    """
    num_frames, height, width = frames.disparity.shape
    if num_frames < 2:
        return 0.0
    x, y = np.meshgrid(np.arange(width) + 0.5 - width / 2, height / 2 - np.arange(height) - 0.5)
    inverse_depth = frames.disparity_map.offset + frames.disparity_map.scale * frames.disparity
    # The sky does not come nearer when the camera moves, only when it turns.
    rays = np.stack([x, y, np.full_like(x, -frames.focal_px)], axis=-1) / frames.focal_px
    moving = {item.instance: item.pose for item in built.items if item.moves and item.instance != SKY_ID}
    shifts = []
    for t in range(num_frames - 1):
        number = frames.numbers[t]
        here, there = frames.camera_to_world[t], frames.camera_to_world[t + 1]
        # Points over their depth, so that infinity is a direction: (p, 1) / z.
        points = np.concatenate([rays, inverse_depth[t][..., None]], axis=-1) @ here.T
        for instance, pose in moving.items():
            mask = frames.instance[t] == instance
            if mask.any():
                step = pose(float(number + 1)) @ np.linalg.inv(pose(float(number)))
                points[mask] = points[mask] @ step.T
        seen = points @ np.linalg.inv(there).T
        depth = np.minimum(seen[..., 2], -1e-6)
        moved = np.hypot(
            frames.focal_px * seen[..., 0] / -depth - x, frames.focal_px * seen[..., 1] / -depth - y
        )
        shifts.append(np.minimum(moved, width).mean())
    return float(np.mean(shifts))
