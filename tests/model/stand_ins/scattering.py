"""Scatter with one radius per pixel, for stand-ins whose published system has a renderer without networks."""

import numpy as np


def scatter(image, radius, weight):
    """Sum over sources q of ``weight(r_q, distance) image_q``, ``[H, W, C]``."""
    height, width = radius.shape
    reach = int(radius.max()) + 2
    total = np.zeros_like(image)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            near = (slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx)))
            far = (slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx)))
            total[far] += (weight(radius, np.hypot(dx, dy))[..., None] * image)[near]
    return total


def soft_disc(radius, distance):
    """A disc of one pixel's soft edge and unit weight."""
    return np.clip(radius + 0.5 - distance, 0, 1) / np.maximum(np.pi * radius**2, 1)
