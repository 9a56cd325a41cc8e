"""M1 to M3: the scene cut into fronto-parallel planes, each blurred with one kernel, composited.

MPIB (Peng et al., ECCV 2022) without its networks, as its published source composites: with planes i of
disparity d_i, far to near,

    B <- B (1 - k_i * a_i) + k_i * (a_i I),   radius of k_i = K |d_i - d_f|

in light; the same of a channel of ones is divided by in the end, which makes up for gaps between planes.
As published, masks ``a_i`` are hard.

Differences, for reasons of measured radius: the planes lie at ``d_f + i w``, so that one is in focus and
blurs nothing (published: at fixed disparities, half a plane of blur taken off everywhere, which makes K =
64 one pixel too small); radii are not rounded; the kernel is that of `focuspull.model.baselines.lens`. A
radius is off by at most ``K w / 2``: K / 64 for 32 planes. Each kernel is normalised by its part within
the frame.

``fill`` puts content under nearer planes by `focuspull.model.baselines.fill`, where MPIB has a network for
it. It shows where the visible planes' coverages, added up, leave some of the lens open. Were it composited
among them it would shine through the seams between the planes of one slanted surface, whose two halves cover
three quarters: 1.3 dB worse on rendered clips than no fill at all.

``mpi_coc`` makes planes of equal steps of the circle of confusion, so that the radius is right to a quarter
of a pixel at any K.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from focuspull.model.baselines.fill import hidden_surface
from focuspull.model.baselines.frames import render_frames
from focuspull.model.baselines.lens import DISC, Blur, Lens


@dataclass(frozen=True)
class Mpi:
    """Planes, blurred one by one and composited far to near.

    Args:
        num_planes: Per unit of disparity; None for planes ``coc_step_px`` apart.
        coc_step_px: Difference of blur radius between planes, pixels, if there is no ``num_planes``.
        fill: Whether planes go on under nearer ones.
        lens: The aperture.

    Raises:
        ValueError: If a number is not positive.
    """

    num_planes: int | None = 32
    coc_step_px: float = 0.5
    fill: bool = False
    lens: Lens = DISC

    def __post_init__(self) -> None:
        """Refuse numbers that are not positive."""
        if self.num_planes is not None and self.num_planes < 1:
            raise ValueError(f"num_planes: must be positive, got {self.num_planes}")
        if not self.coc_step_px > 0:
            raise ValueError(f"coc_step_px: must be positive, got {self.coc_step_px}")

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        return render_frames(self._frame, aif, disparity, k, focus_disparity)

    def _frame(self, light: Tensor, disparity: Tensor, k: float, focus_disparity: float) -> Tensor:
        width = 1 / self.num_planes if self.num_planes is not None else self.coc_step_px / k
        ones = torch.ones_like(disparity)[None]

        def composite(content: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
            return self._composite(content, torch.round((depth - focus_disparity) / width), width * k)

        visible, covered = composite(torch.cat([light, ones]), disparity)
        result = visible[:3] / visible[3:].clamp(min=1e-6)
        if self.fill:
            hidden = hidden_surface(light, disparity)
            behind, _ = composite(torch.cat([hidden.light, ones]) * hidden.known, hidden.disparity)
            missing = (1 - covered).clamp(0, 1) * behind[3:]
            result = result * (1 - missing) + missing * behind[:3] / behind[3:].clamp(min=1e-6)
        return result

    def _composite(self, content: Tensor, plane: Tensor, step_px: float) -> tuple[Tensor, Tensor]:
        """M1: light and coverage ``[4, H, W]``; and the coverage ``[1, H, W]`` of all planes added up."""
        indices = torch.unique(plane).tolist()
        blur = Blur(content, max(-indices[0], indices[-1]) * step_px, self.lens)
        everywhere = blur.forward(torch.ones_like(content[3:]))
        result, total = torch.zeros_like(content), torch.zeros_like(content[3:])
        for index in indices:
            layer = torch.where(plane == index, content, 0)
            if index != 0:
                kernel = blur.spectrum(index * step_px)
                layer = blur.inverse(blur.forward(layer) * kernel)
                layer = layer / blur.inverse(everywhere * kernel)
            # An FFT's zero is not quite one.
            layer = layer.clamp(min=0)
            result = result * (1 - layer[3:].clamp(max=1)) + layer
            total += layer[3:]
        return result, total


def mpi_fill(num_planes: int = 32, lens: Lens = DISC) -> Mpi:
    """M2: planes of equal disparity that go on under nearer ones."""
    return Mpi(num_planes=num_planes, fill=True, lens=lens)


def mpi_coc(coc_step_px: float = 0.5, lens: Lens = DISC) -> Mpi:
    """M3: planes of equal steps of blur that go on under nearer ones."""
    return Mpi(num_planes=None, coc_step_px=coc_step_px, fill=True, lens=lens)
