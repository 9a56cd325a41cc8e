"""Paving, and the light of a time of day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from focuspull.render.families import props
from focuspull.render.families.layout import draw
from focuspull.render.spec import (
    Light3,
    MaterialSpec,
    ProceduralTexture,
    SkyEnvironment,
    SunLight,
)


@dataclass(frozen=True)
class Day:
    """A time of day and the weather.

    Attributes:
        name: Of the `DAYS`.
        sun: Irradiance of the sun, and its elevation in degrees from, to; None: hidden.
        sky: Radiance of the zenith, the horizon, the ground.
        lit: Share of the windows that are lit.
        glow: Radiance of lit windows and shops, against 1 of a white wall by day.
        lamps: Radiance of lamps and headlights; 0: off.
        wet: Whether the ground is.
    """

    name: str
    sun: tuple[Light3, tuple[float, float]] | None
    sky: tuple[Light3, Light3, Light3]
    lit: float
    glow: float
    lamps: float
    wet: bool


DAYS: dict[str, Day] = {
    "day": Day(
        "day",
        ((3.6, 3.3, 2.9), (28, 58)),
        ((0.16, 0.3, 0.68), (0.62, 0.74, 0.86), (0.3, 0.28, 0.26)),
        0.0,
        0.9,
        0.0,
        False,
    ),
    "golden": Day(
        "golden",
        ((3.6, 2.1, 1.0), (9, 20)),
        ((0.14, 0.24, 0.48), (0.85, 0.62, 0.4), (0.24, 0.2, 0.17)),
        0.06,
        1.1,
        0.0,
        False,
    ),
    "overcast": Day(
        "overcast", None, ((1.5, 1.58, 1.66), (1.1, 1.14, 1.18), (0.4, 0.4, 0.4)), 0.05, 1.2, 0.0, False
    ),
    "rain": Day(
        "rain", None, ((1.15, 1.27, 1.42), (0.9, 0.98, 1.06), (0.25, 0.25, 0.26)), 0.3, 1.4, 8.0, True
    ),
    "dusk": Day(
        "dusk", None, ((0.38, 0.55, 1.05), (1.0, 0.7, 0.64), (0.14, 0.14, 0.16)), 0.45, 1.6, 8.0, False
    ),
}


def random_sun(rng: np.random.Generator, day: Day, azimuth: tuple[float, float]) -> tuple[SunLight, ...]:
    """The sun of a day, if it shines; ``azimuth`` in degrees, 0 is +x, 90 is +y."""
    if day.sun is None:
        return ()
    irradiance, elevations = day.sun
    elevation, turn = np.radians(draw(rng, *elevations, 2)), np.radians(draw(rng, *azimuth, 1))
    flat = np.cos(elevation)
    direction = (round(flat * np.cos(turn), 4), round(flat * np.sin(turn), 4), round(np.sin(elevation), 4))
    return (SunLight(type="sun", direction=direction, irradiance_w_m2=irradiance, angle_deg=1.2),)


def random_sky(rng: np.random.Generator, day: Day) -> SkyEnvironment:
    """The sky of a day, a little brighter or darker."""
    zenith, horizon, ground = (props.glowing(c, draw(rng, 0.85, 1.2, 3)) for c in day.sky)
    return SkyEnvironment(type="sky", zenith=zenith, horizon=horizon, ground=ground)


def paving(
    rng: np.random.Generator,
    kind: Literal["asphalt", "slabs", "setts"],
    size_m: tuple[float, float],
    *,
    wet: bool,
) -> MaterialSpec:
    """The ground: its colours, and how it shines where it is wet.

    Args:
        rng: Source of all that is drawn.
        kind: Of the surface.
        size_m: Of the rectangle that it covers, along u and v.
        wet: Puddles.
    """
    seed = int(rng.integers(256))
    dark = 0.55 if wet else 1.0
    if kind == "asphalt":
        a, b, pattern, cells, tile = (0.06, 0.06, 0.063), (0.2, 0.195, 0.19), "perlin", 40, 6.0
    elif kind == "slabs":
        a, b, pattern, cells, tile = (0.42, 0.4, 0.37), (0.22, 0.21, 0.2), "bricks", 4, 3.2
    else:
        a, b, pattern, cells, tile = (0.25, 0.24, 0.23), (0.09, 0.085, 0.08), "bricks", 12, 2.4
    color = ProceduralTexture(
        type=pattern,
        color_a=props.shaded(a, dark, 0.0),
        color_b=props.shaded(b, dark, 0.0),
        cells=cells,
        octaves=6,
        resolution=512,
        seed=seed,
        tiles=(round(size_m[0] / tile, 3), round(size_m[1] / tile, 3)),
    )
    low, high = (0.03, 0.5) if wet else (0.55, 0.95)
    rough = ProceduralTexture(
        type="perlin",
        color_a=(low, low, low),
        color_b=(high, high, high),
        cells=6,
        octaves=4,
        resolution=256,
        seed=(seed + 1) % 256,
        tiles=(round(size_m[0] / 9, 3), round(size_m[1] / 9, 3)),
    )
    return MaterialSpec(base_color=color, roughness=rough, ior=1.33 if wet else 1.5)
