"""B1: every pixel is the mean of its surroundings over the disc of its own radius.

``B_p = sum_q w(r_p, |p - q|) I_q / sum_q w(r_p, |p - q|)``, r_p = K |d_p - d_f|, w of
`focuspull.model.baselines.lens`. The usual post-process of games. It has the wrong pixel decide: what is
blurred takes in what is sharp beside it, and a blurred foreground ends at its outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from focuspull.model.baselines.frames import render_frames
from focuspull.model.baselines.lens import DISC, Blur, Lens, shares


@dataclass(frozen=True)
class Gather:
    """Mean over each pixel's own disc.

    Args:
        lens: The aperture.
    """

    lens: Lens = DISC

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        return render_frames(self._frame, aif, disparity, k, focus_disparity)

    def _frame(self, light: Tensor, disparity: Tensor, k: float, focus_disparity: float) -> Tensor:
        signed = k * (disparity - focus_disparity)
        # The fourth channel is how much of the kernel lies within the frame.
        channels = torch.cat([light, torch.ones_like(disparity)[None]])
        blur = Blur(channels, float(signed.abs().max()), self.lens)
        spectrum = blur.forward(channels)
        result = torch.zeros_like(channels)
        for radius, share in shares(signed, self.lens):
            mean = channels if radius == 0 else blur.inverse(spectrum * blur.spectrum(radius))
            result += share * mean
        return result[:3] / result[3:]
