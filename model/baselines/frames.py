"""From one frame's light to a `focuspull.model.renderer.BokehRenderer`'s video."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from focuspull.model.light import linear_to_srgb, srgb_to_linear
from focuspull.model.renderer import validate_inputs

RenderFrame = Callable[[Tensor, Tensor, float, float], Tensor]
"""``(light [3, H, W], disparity [H, W], k, focus_disparity) -> light [3, H, W]``."""


@torch.no_grad()
def render_frames(
    render_frame: RenderFrame, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor
) -> Tensor:
    """Blur a video frame by frame; arguments and result are those of a `BokehRenderer`.

    Half precision is computed in float32. A frame with K = 0 is returned as it is.

    Args:
        render_frame: Blurs the light of one frame.
        aif: ``[B, T, 3, H, W]``.
        disparity: ``[B, T, 1, H, W]``.
        k: ``[B, T]``.
        focus_disparity: ``[B, T]``.

    Raises:
        ValueError: As `focuspull.model.renderer.validate_inputs` does.
    """
    validate_inputs(aif, disparity, k, focus_disparity)
    dtype = aif.dtype if aif.dtype == torch.float64 else torch.float32
    bokeh = aif.clone()
    strengths, focuses = k.double().tolist(), focus_disparity.double().tolist()
    for b in range(aif.shape[0]):
        for t in range(aif.shape[1]):
            if strengths[b][t] == 0:
                continue
            light = srgb_to_linear(aif[b, t].to(dtype))
            blurred = render_frame(light, disparity[b, t, 0].to(dtype), strengths[b][t], focuses[b][t])
            bokeh[b, t] = linear_to_srgb(blurred.clamp(0, 1)).clamp(0, 1).to(aif.dtype)
    return bokeh
