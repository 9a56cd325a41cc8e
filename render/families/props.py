"""Things to put into scenes: one pure function per kind (``ball(...)``), and `random_prop`, which draws one.

A prop stands on z = 0, is about ``height_m`` tall and comes with a material.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focuspull.render.families.layout import pick
from focuspull.render.spec import (
    Blob,
    Box,
    Color,
    Cylinder,
    Lathe,
    Light3,
    MaterialSpec,
    ProceduralTexture,
    Shape,
    Sphere,
    Torus,
)

# Radius over height, height over height; closed profiles, so that glass has an inside and an outside.
PROFILES: dict[str, tuple[tuple[float, float], ...]] = {
    "vase": ((0, 0), (0.19, 0.005), (0.22, 0.03), (0.33, 0.35), (0.24, 0.68), (0.12, 0.86), (0.17, 0.98),
             (0.165, 1.0), (0.15, 0.99), (0.1, 0.86), (0.08, 0.6), (0, 0.55)),
    "bottle": ((0, 0), (0.17, 0.005), (0.19, 0.03), (0.19, 0.52), (0.13, 0.66), (0.065, 0.74), (0.06, 0.94),
               (0.075, 0.95), (0.075, 1.0), (0.05, 1.0), (0, 0.99)),
    "cup": ((0, 0), (0.3, 0.005), (0.33, 0.04), (0.42, 0.5), (0.45, 0.98), (0.435, 1.0), (0.42, 0.98),
            (0.37, 0.5), (0.3, 0.12), (0, 0.1)),
    "bowl": ((0, 0), (0.45, 0.01), (0.47, 0.08), (0.85, 0.5), (1.05, 0.98), (1.02, 1.0), (0.99, 0.97),
             (0.78, 0.5), (0.4, 0.18), (0, 0.15)),
    "pawn": ((0, 0), (0.31, 0.005), (0.34, 0.03), (0.33, 0.08), (0.27, 0.13), (0.2, 0.19), (0.14, 0.32),
             (0.11, 0.48), (0.1, 0.58), (0.13, 0.61), (0.19, 0.63), (0.185, 0.65), (0.12, 0.675),
             (0.158, 0.715), (0.181, 0.76), (0.19, 0.81), (0.181, 0.86), (0.155, 0.92), (0.1, 0.97),
             (0.05, 0.993), (0, 1.0)),
}  # fmt: skip

# Linear reflectances, chosen as sets that sit well together.
PALETTES: tuple[tuple[Color, ...], ...] = (
    ((0.62, 0.12, 0.06), (0.72, 0.42, 0.1), (0.08, 0.22, 0.3), (0.75, 0.68, 0.55), (0.16, 0.3, 0.2)),
    ((0.05, 0.17, 0.42), (0.7, 0.7, 0.66), (0.75, 0.5, 0.12), (0.4, 0.07, 0.1), (0.12, 0.33, 0.35)),
    ((0.5, 0.2, 0.28), (0.75, 0.55, 0.45), (0.14, 0.28, 0.16), (0.75, 0.72, 0.62), (0.24, 0.12, 0.32)),
)
METALS: tuple[Color, ...] = ((0.95, 0.75, 0.4), (0.92, 0.92, 0.9), (0.9, 0.55, 0.42))


@dataclass(frozen=True)
class Prop:
    """A shape that stands on z = 0 once lifted by ``lift_m``; ``radius_m`` is its footprint."""

    shape: Shape
    material: MaterialSpec
    lift_m: float
    radius_m: float


def turned(profile: str, height_m: float, material: MaterialSpec) -> Prop:
    """A turned piece: vase, bottle, cup, bowl, pawn."""
    points = tuple((round(r * height_m, 5), round(z * height_m, 5)) for r, z in PROFILES[profile])
    return Prop(Lathe(type="lathe", profile_m=points), material, 0.0, max(r for r, _ in points))


def ball(height_m: float, material: MaterialSpec) -> Prop:
    """A sphere."""
    return Prop(
        Sphere(type="sphere", radius_m=height_m / 2, segments=96),
        material,
        height_m / 2,
        height_m / 2,
    )


def fruit(height_m: float, seed: int, material: MaterialSpec) -> Prop:
    """A gently uneven ball."""
    shape = Blob(type="blob", radius_m=height_m / 2, amplitude=0.12, frequency=0.9, seed=seed)
    return Prop(shape, material, height_m * 0.49, height_m / 2)


def ring(height_m: float, material: MaterialSpec) -> Prop:
    """A torus lying flat."""
    shape = Torus(type="torus", major_radius_m=height_m, minor_radius_m=height_m / 2)
    return Prop(shape, material, height_m / 2, 1.5 * height_m)


def block(height_m: float, material: MaterialSpec) -> Prop:
    """A cube with rounded edges."""
    shape = Box(type="box", size_m=(height_m, height_m, height_m), bevel_m=0.06 * height_m)
    return Prop(shape, material, height_m / 2, 0.71 * height_m)


def cone(height_m: float, material: MaterialSpec) -> Prop:
    """A slim cone."""
    shape = Cylinder(type="cylinder", radius_m=0.3 * height_m, top_radius_m=0.0, height_m=height_m)
    return Prop(shape, material, 0.0, 0.3 * height_m)


KINDS = (*PROFILES, "ball", "fruit", "ring", "block", "cone")
TALL_KINDS = ("vase", "bottle", "pawn")


def random_prop(
    rng: np.random.Generator, palette: tuple[Color, ...], height_m: float, kinds: tuple[str, ...] = KINDS
) -> Prop:
    """One of the above; wide things come out lower so that footprints stay alike."""
    kind = str(rng.choice(kinds))
    # Glass only where the shape is a clean solid, seen through without tangled refractions.
    material = random_material(rng, palette, may_be_glass=kind in ("ball", "pawn", "bottle", "block"))
    height_m = round(height_m, 4)
    match kind:
        case "ball":
            return ball(round(0.7 * height_m, 4), material)
        case "fruit":
            return fruit(round(0.6 * height_m, 4), int(rng.integers(256)), material)
        case "ring":
            return ring(round(0.3 * height_m, 4), material)
        case "block":
            return block(round(0.6 * height_m, 4), material)
        case "cone":
            return cone(height_m, material)
        case "bowl":
            return turned(kind, round(0.42 * height_m, 4), material)
        case "cup":
            return turned(kind, round(0.62 * height_m, 4), material)
        case _:
            return turned(kind, height_m, material)


def random_material(
    rng: np.random.Generator, palette: tuple[Color, ...], *, may_be_glass: bool = False
) -> MaterialSpec:
    """Glazed or matt ceramic, polished metal, marble, wood, or glass."""
    kinds = ["glazed", "glazed", "matt", "metal", "marble", "wood"] + ["glass"] * may_be_glass
    color = pick(rng, palette)
    match str(rng.choice(kinds)):
        case "glazed":
            return MaterialSpec(base_color=color, roughness=_between(rng, 0.12, 0.3))
        case "matt":
            return MaterialSpec(base_color=color, roughness=_between(rng, 0.5, 0.9))
        case "metal":
            metal = pick(rng, METALS)
            return MaterialSpec(base_color=metal, roughness=_between(rng, 0.15, 0.4), metallic=1.0)
        case "marble":
            return MaterialSpec(base_color=marble(color, int(rng.integers(256))), roughness=0.2)
        case "wood":
            return MaterialSpec(base_color=wood(int(rng.integers(256))), roughness=0.45)
        case _:
            return MaterialSpec(base_color=(0.97, 0.98, 0.97), roughness=0.0, transmission=1.0)


def shaded(color: Color, factor: float, offset: float) -> Color:
    """A lighter or darker version of a colour."""
    r, g, b = (round(min(factor * c + offset, 1.0), 4) for c in color)
    return r, g, b


def glowing(color: Color, strength: float) -> Light3:
    """Radiance of a light of that colour."""
    r, g, b = (round(strength * c, 3) for c in color)
    return r, g, b


def marble(vein: Color, seed: int) -> ProceduralTexture:
    """Pale stone with coloured veins."""
    return ProceduralTexture(
        type="marble", color_a=(0.78, 0.76, 0.72), color_b=vein, cells=3, octaves=6, resolution=512, seed=seed
    )


def wood(seed: int, *, tiles: tuple[float, float] = (1.0, 1.0), resolution: int = 512) -> ProceduralTexture:
    """Warm oak."""
    return ProceduralTexture(
        type="wood",
        color_a=(0.32, 0.16, 0.07),
        color_b=(0.55, 0.32, 0.15),
        cells=7,
        resolution=resolution,
        seed=seed,
        tiles=tiles,
    )


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return round(float(rng.uniform(low, high)), 4)
