"""Stands in for DeepLens's lens blur: scatter of display values, 8 px at the base scale for a depth of 1."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.append(str(Path(__file__).parents[2]))
from scattering import scatter, soft_disc


def build(image, depth_signed, is_training):
    def compute(run):
        radius = 8 * np.abs(run(depth_signed)[0, ..., 0].astype(np.float64))
        picture = run(image)[0]
        assert picture.shape[:2] == radius.shape
        sums = scatter(np.dstack([picture, np.ones_like(radius)]), radius, soft_disc)
        return (sums[..., :3] / sums[..., 3:])[None].astype(np.float32)

    return tf.Node(compute), None, None
