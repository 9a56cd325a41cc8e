"""S1, S2: every pixel spreads its light over the disc of its own radius, normalised by what arrives.

``B_p = sum_q w(r_q, |p - q|) I_q / sum_q w(r_q, |p - q|)``, r_q = K |d_q - d_f|: the classical renderer of
BokehMe (Peng et al., CVPR 2022), as its published source computes it, with its polygon and ring, in light
with the sRGB curve in place of a power. The weights are those of `focuspull.model.baselines.lens`, which
holds the differences.

It knows no occlusion: a blurred background leaks over the edge of what is sharp in front of it, and what a
foreground hid is missing under its blurred rim, where the sum of weights makes up for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from focuspull.model.baselines.frames import render_frames
from focuspull.model.baselines.lens import DISC, Lens, scatter


@dataclass(frozen=True)
class Scatter:
    """Normalised scatter.

    Args:
        lens: The aperture.
    """

    lens: Lens = DISC

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        return render_frames(self._frame, aif, disparity, k, focus_disparity)

    def _frame(self, light: Tensor, disparity: Tensor, k: float, focus_disparity: float) -> Tensor:
        signed = k * (disparity - focus_disparity)
        sums = scatter(torch.cat([light, torch.ones_like(disparity)[None]]), signed, self.lens)
        return sums[:3] / sums[3:].clamp(min=1e-6)


def polygon_scatter(blades: int = 6, rotation_deg: float = 0.0) -> Scatter:
    """Scatter through an aperture of straight blades (S2); K is the radius of the disc of equal area."""
    return Scatter(Lens(blades=blades, rotation_deg=rotation_deg))


def ring_scatter(ring: float = 0.25) -> Scatter:
    """Scatter with a bright rim, as of an overcorrected lens (S2's ring profile)."""
    return Scatter(Lens(ring=ring))
