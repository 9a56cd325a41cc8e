"""D1 to D4: occlusion-aware layers, the renderer that Dr.Bokeh publishes, from its formulas.

Dr.Bokeh (Sheng et al., CVPR 2024), as its published source computes it. Within a layer, with ``D = d -
d_f`` and receiver p,

    w(q -> p) = k_q(p - q) a_q O(p, q)                                           (D1)
    F_p = 1 - exp(-3 (K D_p)^2),  O = (1 - F_p) 1/2 (1 + tanh(10 (D_q - D_p - 0.1))) + F_p   (D2)
    colour = sum w c / sum w                                                     (D3)

and O = 1 for q = p: what is sharp takes light only from what is clearly in front of it. Layers are
composited near to far with ``over`` (D4). The constants 0.1 and 10 are for disparities in [0, 1].

Differences: the kernel is that of `focuspull.model.baselines.lens` (the published one is 0.3 to 0.6 px too
wide and blurs even what is in focus). A layer's coverage is its mask through the lens, normalised by the
part of the kernel within the frame (published: the mean over a square of half the blur's size). Layers
come from the disparity alone, what is in front of the focus and the rest, where Dr.Bokeh asks for a matte
of the subject; the rest goes on under the front by `focuspull.model.baselines.fill`, where Dr.Bokeh has a
network for it.

D2 does not separate in p and q. It is computed exactly for some values of D_p and interpolated between
them; only receivers that are nearly sharp matter, so a short range of D_p is enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from focuspull.model.baselines.fill import push_pull
from focuspull.model.baselines.frames import render_frames
from focuspull.model.baselines.lens import DISC, Blur, Lens, scatter, shares

FRONT_FROM_PX = 0.5
"""Blur from which a pixel in front of the focus belongs to the front layer."""
SHARP_BELOW_PX = 1.5
"""Receivers that are blurred more have F = 1 to 0.1 percent."""
NODE_STEP = 0.05
"""Between values of D_p for which D2 is computed: interpolation is off by 0.01."""


@dataclass(frozen=True)
class Layers:
    """What is in front of the focus over the rest.

    Args:
        lens: The aperture.
    """

    lens: Lens = DISC

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        return render_frames(self._frame, aif, disparity, k, focus_disparity)

    def _frame(self, light: Tensor, disparity: Tensor, k: float, focus_disparity: float) -> Tensor:
        offset = disparity - focus_disparity
        front = k * offset > FRONT_FROM_PX
        if bool(front.all()):
            return self._color(light, offset, k, front.to(light))
        if not bool(front.any()):
            return self._color(light, offset, k, torch.ones_like(offset))
        behind = push_pull(torch.cat([light, offset[None]]), (~front).to(light))
        result = self._color(behind[:3], behind[3], k, torch.ones_like(offset))
        over = self._color(light, offset, k, front.to(light))
        share = coverage(front.to(light), k * offset, self.lens)
        return over * share + result * (1 - share)

    def _color(self, light: Tensor, offset: Tensor, k: float, alpha: Tensor) -> Tensor:
        """D3 of one layer."""
        content = torch.cat([light, torch.ones_like(offset)[None]]) * alpha
        signed = k * offset * alpha
        # Where the layer is not, what receives light is not its own.
        blurred = torch.where(alpha > 0, 1 - torch.exp(-3 * (k * offset) ** 2), 1)
        sums = blurred * scatter(content, signed, self.lens)
        receivers = (k * offset.abs() < SHARP_BELOW_PX) & (alpha > 0)
        if bool(receivers.any()):
            low, high = (float(end) for end in torch.aminmax(offset[receivers]))
            num_steps = max(1, math.ceil((high - low) / NODE_STEP))
            position = ((offset - low) / max(high - low, 1e-12) * num_steps).clamp(0, num_steps)
            accepted = torch.zeros_like(content)
            for i in range(num_steps + 1):
                node = low + (high - low) * i / num_steps
                hat = (1 - (position - i).abs()).clamp(min=0)
                passed = 0.5 + 0.5 * torch.tanh(10 * (offset - node - 0.1))
                accepted += hat * scatter(content * passed, signed, self.lens)
            # A pixel always takes its own light, O = 1.
            own = content * self._own_weight(signed) * (0.5 - 0.5 * math.tanh(-1.0))
            sums = sums + (1 - blurred) * (accepted + own)
        return sums[:3] / sums[3:].clamp(min=1e-6)

    def _own_weight(self, signed: Tensor) -> Tensor:
        """Of the middle of each pixel's own kernel, ``[H, W]``."""
        weight = torch.zeros_like(signed)
        for radius, share in shares(signed.clamp(-SHARP_BELOW_PX, SHARP_BELOW_PX), self.lens):
            kernel = self.lens.kernel(abs(radius), signed) if radius else torch.ones(1, 1).to(signed)
            weight += share * kernel[kernel.shape[0] // 2, kernel.shape[1] // 2]
        return weight


def coverage(mask: Tensor, signed_radius: Tensor, lens: Lens = DISC) -> Tensor:
    """Share of the aperture that a layer fills, seen from each pixel.

    Args:
        mask: ``[H, W]`` in [0, 1].
        signed_radius: ``[H, W]``, pixels.
        lens: The aperture.

    Returns:
        ``[H, W]`` in [0, 1]; 1 in the inside of the layer, up to the border of the frame.
    """
    ones = torch.ones_like(mask)
    radius_of = signed_radius * (mask > 0)
    blur = Blur(mask, float(radius_of.abs().max()), lens)
    inside = blur.forward(ones)
    result = torch.zeros_like(mask)
    for radius, share in shares(radius_of, lens):
        part = mask * share
        if radius:
            kernel = blur.spectrum(radius)
            part = blur.inverse(blur.forward(part) * kernel) / blur.inverse(inside * kernel)
        result = result + part
    return result.clamp(0, 1)
