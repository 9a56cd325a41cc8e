"""Does K mean what it should? A point light on a dark plane, through any renderer, needs no data or weights.

    result = self_test(render)
    print(result.factor, result.worst_px, result.worst_fitted_px)
    fitted = FittedK(render, result.factor)

A plane at disparity d with K and focus d_f draws every point as a disc of radius ``K |d - d_f|``. The radius
of what a renderer draws is that of the uniform disc with the same second moment, ``R = sqrt(2 <rho^2>)``,
less that of the light itself. One corner of the frame lies in focus, out of the light's reach: a renderer
that spreads disparity over [0, 1] by itself then blurs by ``1 / |d - d_f|`` too much, and shows it.

A network may draw other than discs, and noise where nothing is: the mean is taken within `REACH` radii, and
what the frame shows beyond is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from focuspull.model.light import srgb_to_linear
from focuspull.model.renderer import BokehRenderer

REACH = 2.5
"""Within how many expected radii light is looked for."""
MARGIN_PX = 4.0
"""Added to that, for kernels that are wide where the radius is small."""


@dataclass(frozen=True)
class Measured:
    """One light.

    Attributes:
        k: Blur radius in pixels per unit of disparity.
        disparity: Of the plane.
        focus_disparity: Smaller than ``disparity`` where the plane is in front of the focus.
        expected_px: ``k |disparity - focus_disparity|``.
        measured_px: Radius that came out.
    """

    k: float
    disparity: float
    focus_disparity: float
    expected_px: float
    measured_px: float


@dataclass(frozen=True)
class SelfTest:
    """What all lights say together.

    Attributes:
        lights: In the order they were measured.
        factor: That K has to be multiplied with so that radii come out as expected, by least squares.
        worst_px: Largest error of a radius as it came out.
        worst_fitted_px: Largest error if every radius is multiplied with ``factor``.
    """

    lights: tuple[Measured, ...]
    factor: float
    worst_px: float
    worst_fitted_px: float


@dataclass(frozen=True)
class FittedK:
    """A renderer with K multiplied.

    Args:
        render: The renderer.
        factor: Positive, such as `SelfTest.factor`.

    Raises:
        ValueError: If the factor is not positive.
    """

    render: BokehRenderer
    factor: float

    def __post_init__(self) -> None:
        """Refuse a factor that is no scale."""
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"factor: must be positive, got {self.factor}")

    def __call__(self, aif: Tensor, disparity: Tensor, k: Tensor, focus_disparity: Tensor) -> Tensor:
        """See `focuspull.model.renderer.BokehRenderer`."""
        return self.render(aif, disparity, k * self.factor, focus_disparity)


def self_test(
    render: BokehRenderer,
    *,
    ks: Sequence[float] = (8.0, 16.0, 32.0),
    offsets: Sequence[float] = (0.5, -0.5),
    size: tuple[int, int] = (128, 128),
    num_frames: int = 1,
    light_px: int = 1,
    domain: Literal["linear", "encoded"] = "linear",
) -> SelfTest:
    """Measure radii in front of and behind the focus.

    Args:
        render: The renderer.
        ks: Each is measured with each offset.
        offsets: Of the plane from the focus, positive in front; both lie symmetrically around 0.5.
        size: Height and width of the frame.
        num_frames: Of each clip, all alike, for renderers that take no fewer; the last is measured.
        light_px: Side of the square light, odd: a renderer with 8-bit images cannot spread a single pixel.
        domain: ``encoded`` for renderers that blur display values
            (`focuspull.model.adapters.record.PublishedSystem.blurs`).

    Raises:
        ValueError: If a radius does not fit the frame, or an argument is out of range.
        RuntimeError: If a renderer shows no light at all.
    """
    if light_px < 1 or light_px % 2 == 0:
        raise ValueError(f"light_px: must be odd and positive, got {light_px}")
    if not ks or not offsets or min(ks) <= 0 or any(not 0 < abs(offset) <= 1 for offset in offsets):
        raise ValueError("self-test: needs positive ks, and offsets in [-1, 1] that are not 0")
    lights = tuple(
        _measured(render, k, 0.5 + offset / 2, 0.5 - offset / 2, size, num_frames, light_px, domain)
        for k in ks
        for offset in offsets
    )
    expected = [light.expected_px for light in lights]
    found = [light.measured_px for light in lights]
    square = math.fsum(radius * radius for radius in found)
    if square == 0:
        raise RuntimeError("self-test: the renderer does not blur at all, no factor makes K right")
    factor = math.fsum(expected[i] * found[i] for i in range(len(lights))) / square
    return SelfTest(
        lights=lights,
        factor=factor,
        worst_px=max(abs(found[i] - expected[i]) for i in range(len(lights))),
        worst_fitted_px=max(abs(factor * found[i] - expected[i]) for i in range(len(lights))),
    )


def _measured(
    render: BokehRenderer,
    k: float,
    disparity: float,
    focus_disparity: float,
    size: tuple[int, int],
    num_frames: int,
    light_px: int,
    domain: Literal["linear", "encoded"],
) -> Measured:
    expected = k * abs(disparity - focus_disparity)
    reach = REACH * expected + MARGIN_PX + light_px
    height, width = size
    corner = max(2, min(size) // 16)
    if reach + corner > min(size) // 2:
        raise ValueError(
            f"self-test: a radius of {expected:g} px takes frames of {2 * math.ceil(reach + corner)} px "
            f"or more, got {width}x{height}. Use larger frames or smaller ks."
        )
    middle = (height // 2, width // 2)
    half = light_px // 2
    aif = torch.zeros(1, num_frames, 3, height, width)
    rows, columns = (slice(at - half, at + half + 1) for at in middle)
    aif[..., rows, columns] = 1
    depth = torch.full((1, num_frames, 1, height, width), disparity)
    depth[..., :corner, :corner] = focus_disparity
    strength, focus = torch.full((1, num_frames), k), torch.full((1, num_frames), focus_disparity)
    bokeh = render(aif, depth, strength, focus)[0, -1].double().cpu()
    light = (srgb_to_linear(bokeh) if domain == "linear" else bokeh).mean(0)

    y, x = torch.arange(height) - middle[0], torch.arange(width) - middle[1]
    rho2 = (y[:, None] ** 2 + x[None, :] ** 2).double()
    near = rho2 <= reach**2
    light = torch.where(near, light - light[~near].median(), 0)
    total = float(light.sum())
    if total <= 0:
        raise RuntimeError(f"self-test: the light is gone at K = {k:g}. Use a larger light_px.")
    # Second moments add up under a convolution; a square's is (side^2 - 1) / 6, for both axes together.
    moment = float((light * rho2).sum()) / total - (light_px**2 - 1) / 6
    return Measured(k, disparity, focus_disparity, expected, math.sqrt(max(2 * moment, 0.0)))
