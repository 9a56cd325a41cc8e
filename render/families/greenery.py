"""Trees along streets, and boxes of flowers."""

from __future__ import annotations

import numpy as np

from focuspull.render.families import props
from focuspull.render.families.layout import draw, pick
from focuspull.render.families.pieces import Piece, part, piece, slab, wire
from focuspull.render.families.streetware import FRUIT
from focuspull.render.spec import Blob, Color, Faceted, MaterialSpec, Part, ProceduralTexture

LEAVES: tuple[Color, ...] = ((0.09, 0.22, 0.035), (0.16, 0.28, 0.05), (0.05, 0.15, 0.05), (0.4, 0.22, 0.03))


def planter(rng: np.random.Generator, width_m: float = 0.9) -> list[Piece]:
    """A box or tub of flowers."""
    leaf, bloom = pick(rng, LEAVES[:3]), pick(rng, (*FRUIT[:3], (0.7, 0.65, 0.68), (0.6, 0.12, 0.35)))
    tub = [slab((-width_m / 2, -0.18, 0), (width_m / 2, 0.18, 0.34), 0.015)]
    places = np.stack(
        [
            rng.uniform(-width_m / 2, width_m / 2, 190),
            rng.uniform(-0.2, 0.2, 190),
            rng.uniform(0.33, 0.62, 190),
        ],
        axis=1,
    )
    greens = leaf_parts(rng, places[:150], 0.1)
    cup = Faceted(type="faceted", profile_m=((0, 0), (0.02, 0.004), (0.032, 0.016)), sides=7)
    blooms = [
        part(cup, p, (draw(rng, -50, 50, 1), draw(rng, -50, 50, 1), 0.0))
        for p in (places[150:] + [0, 0, 0.05]).tolist()
    ]
    return [
        piece("leaves", MaterialSpec(base_color=leaf, roughness=0.5), greens),
        piece(
            "tub",
            MaterialSpec(
                base_color=pick(rng, ((0.42, 0.2, 0.12), (0.3, 0.3, 0.3), (0.14, 0.09, 0.05))), roughness=0.75
            ),
            tub,
        ),
        piece("blooms", MaterialSpec(base_color=bloom, roughness=0.6), blooms),
    ]


def leaf_parts(rng: np.random.Generator, places: np.ndarray, size_m: float) -> list[Part]:
    """A leaf, bent along its middle, at each of the places ``[N, 3]``, turned anyhow."""
    rim = ((0, round(-0.08 * size_m, 4)), (round(size_m / 2, 4), 0))
    leaf = Faceted(type="faceted", profile_m=rim, sides=6)  # a shallow cone, squeezed into an oval
    turns = rng.uniform([-55, -55, 0], [55, 55, 360], (len(places), 3)).round(1)
    scale = rng.uniform(0.7, 1.3, len(places)).round(3)
    return [
        Part(
            shape=leaf,
            position_m=(round(p[0], 4), round(p[1], 4), round(p[2], 4)),
            rotation_deg=(t[0], t[1], t[2]),
            scale=(s, round(0.5 * s, 4), 1.0),
        )
        for p, t, s in zip(places.tolist(), turns.tolist(), scale.tolist(), strict=True)
    ]


def tree(rng: np.random.Generator, height_m: float, leaves: int = 900) -> list[Piece]:
    """A street tree: a trunk that forks, and a crown of leaves around the ends of its branches."""
    fork, h = 0.42 * height_m, height_m
    lean = rng.uniform(-0.15, 0.15, 2)
    wood = [
        wire(
            ((0, 0, 0), (lean[0] * 0.4, lean[1] * 0.4, fork * 0.5), (lean[0], lean[1], fork)),
            0.035 * h / 2,
            tip_m=0.024 * h / 2,
            segments=14,
        )
    ]
    ends = []
    for i in range(9):
        angle, out = 2.4 * i + rng.uniform(-0.3, 0.3), rng.uniform(0.12, 0.27) * h
        top = fork + rng.uniform(0.18, 0.5) * h
        end = np.array([lean[0] + out * np.cos(angle), lean[1] + out * np.sin(angle), top])
        mid = np.array(
            [
                lean[0] + 0.4 * out * np.cos(angle),
                lean[1] + 0.4 * out * np.sin(angle),
                fork + 0.55 * (top - fork),
            ]
        )
        wood.append(
            wire(
                ((lean[0], lean[1], fork - 0.1), mid.tolist(), end.tolist()),
                0.011 * h,
                tip_m=0.004 * h,
                segments=8,
            )
        )
        ends += [end, (end + mid) / 2]
    centres = np.array(ends)[rng.integers(len(ends), size=leaves)]
    direction = rng.normal(0, 1, (leaves, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    places = centres + direction * (rng.uniform(0.3, 1, (leaves, 1)) ** 0.5) * [[0.13 * h, 0.13 * h, 0.1 * h]]
    # Darker clumps inside keep the sky from showing through everywhere.
    clumps = [
        Part(
            shape=Blob(
                type="blob", radius_m=round(0.085 * h, 4), amplitude=0.4, frequency=2.0, seed=i, segments=24
            ),
            position_m=(round(float(e[0]), 4), round(float(e[1]), 4), round(float(e[2]), 4)),
        )
        for i, e in enumerate(ends[::3])
    ]
    color = pick(rng, LEAVES)
    bark = ProceduralTexture(
        type="perlin",
        color_a=(0.06, 0.045, 0.035),
        color_b=(0.24, 0.19, 0.15),
        cells=12,
        octaves=5,
        resolution=256,
        tiles=(1, 3),
    )
    return [
        piece("leaves", MaterialSpec(base_color=color, roughness=0.5), leaf_parts(rng, places, 0.04 * h)),
        piece("wood", MaterialSpec(base_color=bark, roughness=0.85), wood),
        piece("inner", MaterialSpec(base_color=props.shaded(color, 0.5, 0.0), roughness=0.8), clumps),
    ]
