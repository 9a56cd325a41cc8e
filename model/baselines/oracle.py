"""G1: lens rays through layers, each with what others hide of it: the ceiling of layered renderers.

The ray tracer of MPIB's data (Peng et al., ECCV 2022, its published generator; most ray-traced bokeh data
descend from it), over depth maps in place of planes. The ray through film point x and lens point U, ``|U|
<= K``, meets what has disparity d at ``p = x - U (d - d_f)`` of the pinhole image, so p is found by
iterating ``d = disparity(p)``. Hits are composited near to far by their own disparity, so layers may
cross; what is left transparent is made up for by dividing by the opacity.

It is given what no renderer can know from an all-in-focus video: the layers, with what is hidden of each,
in light that need not be clipped, and a margin of content beyond the frame. Only who makes a scene has
these (``tests.benchmarks.baselines`` renders cards one by one); a corpus does not hold them. Layers are
images with opacity: light that depends on the lens point (reflections, glass) and an object's own hidden
back are not in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from focuspull.model.light import linear_to_srgb
from focuspull.model.renderer import validate_inputs

NUM_ITERATIONS = 2
"""Of the intersection; each leaves |U| times the disparity's slope per pixel of the error: a few percent."""
MIN_POINTS, MAX_POINTS = 64, 256
"""On the lens; between these, as many as the largest disc has pixels."""
CHUNK = 4
"""Lens points at a time: few enough that what lies between stays in a CPU's cache."""


@dataclass(frozen=True)
class LayerStack:
    """Images that make up a video, in any order.

    Args:
        light: ``[B, T, L, 3, H + 2 m, W + 2 m]``, linear, after exposure, not negative, HDR allowed.
        alpha: ``[B, T, L, 1, H + 2 m, W + 2 m]`` in [0, 1].
        disparity: Like ``alpha``; continued smoothly where alpha is 0, since rays look it up there too.
        margin_px: m, content beyond each border; the outermost pixels are repeated beyond it.
    """

    light: Tensor
    alpha: Tensor
    disparity: Tensor
    margin_px: int = 0


@dataclass(frozen=True)
class OracleLayers:
    """Lens rays through given layers; of ``aif`` and ``disparity`` only the shape matters.

    Args:
        stack: Layers of the very clips that it will be called with.
        num_points: Lens points; None for as many as the largest disc has pixels, 64 to 256.

    Raises:
        ValueError: If the stack does not fit together, is not finite or has alpha outside [0, 1].
    """

    stack: LayerStack
    num_points: int | None = None

    def __post_init__(self) -> None:
        """Refuse stacks that do not fit together."""
        light, alpha, disparity = self.stack.light, self.stack.alpha, self.stack.disparity
        if light.ndim != 6 or light.shape[3] != 3 or light.numel() == 0:
            raise ValueError(f"stack.light: must be [B, T, L, 3, H, W], got {list(light.shape)}")
        for name, tensor in {"alpha": alpha, "disparity": disparity}.items():
            if list(tensor.shape) != [*light.shape[:3], 1, *light.shape[4:]]:
                raise ValueError(
                    f"stack.{name}: must fit light {list(light.shape)}, got {list(tensor.shape)}"
                )
        for name, tensor in {"light": light, "alpha": alpha, "disparity": disparity}.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"stack.{name}: has values that are not finite")
        if float(alpha.min()) < 0 or float(alpha.max()) > 1:
            raise ValueError(
                f"stack.alpha: must be in [0, 1], spans [{float(alpha.min()):g}, {float(alpha.max()):g}]"
            )
        if self.num_points is not None and self.num_points < 1:
            raise ValueError(f"num_points: must be positive, got {self.num_points}")

    @torch.no_grad()
    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        validate_inputs(aif, disparity, k, focus_disparity)
        shape, margin = self.stack.light.shape, self.stack.margin_px
        expected = [*aif.shape[:2], shape[2], 3, aif.shape[3] + 2 * margin, aif.shape[4] + 2 * margin]
        if list(shape) != expected:
            raise ValueError(f"aif: {list(aif.shape)} does not fit a stack of light {list(shape)}")
        dtype = aif.dtype if aif.dtype == torch.float64 else torch.float32
        bokeh = aif.clone()
        strengths, focuses = k.double().tolist(), focus_disparity.double().tolist()
        for b in range(aif.shape[0]):
            for t in range(aif.shape[1]):
                if strengths[b][t] == 0:
                    continue
                light, alpha, depth = (
                    tensor[b, t].to(aif.device, dtype)
                    for tensor in (self.stack.light, self.stack.alpha, self.stack.disparity)
                )
                traced = _trace(light, alpha, depth, strengths[b][t], focuses[b][t], margin, self.num_points)
                bokeh[b, t] = linear_to_srgb(traced.clamp(0, 1)).clamp(0, 1).to(aif.dtype)
        return bokeh


def _trace(
    light: Tensor, alpha: Tensor, disparity: Tensor, k: float, focus: float, margin: int, wanted: int | None
) -> Tensor:
    """Light ``[3, H, W]`` of one frame's layers ``[L, ., H + 2 m, W + 2 m]``."""
    num_layers, _, padded_height, padded_width = light.shape
    height, width = padded_height - 2 * margin, padded_width - 2 * margin
    reach = k * float(((disparity - focus).abs() * (alpha > 0)).max())
    num_points = wanted or min(max(math.ceil(math.pi * reach**2), MIN_POINTS), MAX_POINTS)
    image = torch.cat([light * alpha, alpha, disparity], 1)
    size = torch.tensor([padded_width, padded_height], dtype=light.dtype, device=light.device)

    def look_up(channels: Tensor, x: Tensor, y: Tensor) -> Tensor:
        # Both of [L, P, H, W]: points of the lens are rows of a tall image, so that each layer is read once.
        grid = (torch.stack([x, y], -1) + margin + 0.5) / size * 2 - 1
        flat = grid.reshape(num_layers, -1, width, 2)
        found = F.grid_sample(channels, flat, mode="bilinear", padding_mode="border", align_corners=False)
        return found.reshape(num_layers, channels.shape[1], *x.shape[1:])

    rows = torch.arange(height, dtype=light.dtype, device=light.device)[:, None]
    columns = torch.arange(width, dtype=light.dtype, device=light.device)
    total = light.new_zeros(4, height, width)
    points = lens_points(num_points, light) * k
    is_flat = bool((disparity.amax((1, 2, 3)) - disparity.amin((1, 2, 3)) < 1e-6).all())
    for lens in points.split(CHUNK):
        u, v = lens[:, 0, None, None], lens[:, 1, None, None]
        hit = disparity[:, 0, margin : margin + height, margin : margin + width][:, None]
        hit = hit.expand(-1, len(lens), -1, -1)
        for _ in range(0 if is_flat else NUM_ITERATIONS):
            moved = hit - focus
            hit = look_up(image[:, 4:], columns - u * moved, rows - v * moved)[:, 0]
        moved = hit - focus
        found = look_up(image[:, :4], columns - u * moved, rows - v * moved)
        order = torch.sort(hit, dim=0, descending=True, stable=True).indices
        found = found.gather(0, order[:, None].expand(-1, 4, -1, -1, -1))
        passing = torch.ones_like(found[0, :1])
        for layer in found:
            total += (layer * passing).sum(1)
            passing = passing * (1 - layer[3:])
    return total[:3] / total[3:].clamp(min=1e-6)


def lens_points(num_points: int, like: Tensor) -> Tensor:
    """Points ``[N, 2]`` spread evenly over the unit disc, in a sunflower (Vogel 1979); always the same."""
    index = torch.arange(num_points, dtype=torch.float64)
    radius = torch.sqrt((index + 0.5) / num_points)
    angle = index * math.pi * (3 - math.sqrt(5))
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 1).to(like)
