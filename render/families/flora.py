"""Plants, stones and ground for scenes outdoors: recipes in numbers, each drawn by a ``random_`` function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from focuspull.render.families.layout import draw, pick
from focuspull.render.spec import (
    Blob,
    Color,
    Grass,
    Lathe,
    MaterialSpec,
    ObjectSpec,
    Plant,
    ProceduralTexture,
    Scatter,
    Strewn,
    Vec3,
    Wind,
)

Role = Literal["subject", "foreground", "background", "set"]

GREENS: tuple[tuple[Color, Color], ...] = (
    ((0.06, 0.2, 0.02), (0.26, 0.5, 0.05)),
    ((0.03, 0.15, 0.03), (0.12, 0.38, 0.08)),
    ((0.14, 0.22, 0.02), (0.46, 0.52, 0.07)),
    ((0.06, 0.18, 0.08), (0.22, 0.42, 0.22)),
)
AUTUMN: tuple[tuple[Color, Color], ...] = (
    ((0.4, 0.12, 0.02), (0.75, 0.38, 0.05)),
    ((0.35, 0.04, 0.02), (0.65, 0.16, 0.04)),
    ((0.5, 0.32, 0.04), (0.8, 0.6, 0.12)),
)
STRAW: tuple[Color, Color] = ((0.3, 0.22, 0.09), (0.6, 0.5, 0.25))
PETALS: tuple[tuple[Color, Color], ...] = (
    ((0.82, 0.82, 0.8), (0.9, 0.88, 0.82)),
    ((0.75, 0.04, 0.03), (0.85, 0.14, 0.06)),
    ((0.85, 0.55, 0.02), (0.9, 0.72, 0.08)),
    ((0.4, 0.12, 0.6), (0.6, 0.3, 0.78)),
    ((0.15, 0.2, 0.7), (0.3, 0.42, 0.85)),
    ((0.8, 0.3, 0.42), (0.88, 0.55, 0.6)),
    ((0.85, 0.3, 0.03), (0.9, 0.45, 0.1)),
)
BARKS: tuple[tuple[Color, Color], ...] = (
    ((0.06, 0.04, 0.03), (0.22, 0.17, 0.12)),
    ((0.1, 0.09, 0.08), (0.32, 0.3, 0.27)),
    ((0.05, 0.03, 0.02), (0.2, 0.11, 0.07)),
)
STONES: tuple[tuple[Color, Color], ...] = (
    ((0.14, 0.13, 0.12), (0.4, 0.38, 0.35)),
    ((0.2, 0.15, 0.1), (0.46, 0.37, 0.27)),
    ((0.08, 0.09, 0.1), (0.25, 0.27, 0.29)),
)


@dataclass(frozen=True)
class Flora:
    """A plant with the materials of its parts."""

    plant: Plant
    wood: MaterialSpec
    leaves: MaterialSpec
    petals: MaterialSpec
    centres: MaterialSpec


def tints(colors: tuple[Color, Color], seed: int, tiles: float = 1.0) -> ProceduralTexture:
    """Between two colours; each leaf, blade or stone finds one of its own there."""
    return ProceduralTexture(
        type="perlin",
        color_a=colors[0],
        color_b=colors[1],
        cells=5,
        octaves=3,
        resolution=64,
        seed=seed,
        tiles=(tiles, tiles),
    )


def tinted(colors: tuple[Color, Color], seed: int, *, roughness: float = 0.5) -> MaterialSpec:
    """A material of such tints.

    The index of refraction is low: single smooth leaves seen edge-on would mirror the sky and turn white.
    """
    return MaterialSpec(base_color=tints(colors, seed), roughness=roughness, ior=1.08)


def dull(texture: ProceduralTexture) -> MaterialSpec:
    """Earth and far land: the roughest metal, as a dielectric mirrors the sky when seen along the ground."""
    low, high = (
        tuple(round(min(1.0, 1.5 * c), 4) for c in color) for color in (texture.color_a, texture.color_b)
    )
    return MaterialSpec(
        base_color=texture.model_copy(update={"color_a": low, "color_b": high}), metallic=1.0, roughness=1.0
    )


def hazed(colors: tuple[Color, Color], haze: Color, amount: float) -> tuple[Color, Color]:
    """The colours as air in front of them changes them."""
    low, high = (
        tuple(round(c + amount * (h - c), 4) for c, h in zip(color, haze, strict=True)) for color in colors
    )
    return low, high  # type: ignore[return-value]


def standing(
    flora: Flora, name: str, role: Role, place: Vec3, *, turn_deg: float = 0.0, wind: Wind | None = None
) -> list[ObjectSpec]:
    """The parts of a plant as objects at one place."""
    parts = [("wood", flora.wood)]
    if flora.plant.leaves:
        parts.append(("leaves", flora.leaves))
    if flora.plant.petals:
        parts += [("petals", flora.petals), ("centres", flora.centres)]
    # The part that is seen most comes first, as focus prefers it.
    parts.reverse()
    return [
        ObjectSpec(
            name=f"{name}-{part}",
            role=role,
            shape=flora.plant.model_copy(update={"part": part}),
            material=material,
            position_m=place,
            rotation_deg=(0.0, 0.0, turn_deg),
            deform=wind,
        )
        for part, material in parts
    ]


def scattered(flora: Flora, scatter: Scatter, variants: int = 3) -> Flora:
    """Many copies of a plant."""
    return Flora(
        flora.plant.model_copy(update={"scatter": scatter, "variants": variants}),
        flora.wood,
        flora.leaves,
        flora.petals,
        flora.centres,
    )


FLOWERS = ("daisy", "poppy", "tulip", "aster", "bell", "lavender")


def random_flower(rng: np.random.Generator, height_m: float, stems: int, *, detail: int = 2) -> Flora:
    """A herb in bloom with several stems."""
    kind, seed = pick(rng, FLOWERS), int(rng.integers(10**6))
    common = {
        "type": "plant", "part": "wood", "height_m": round(height_m, 4),
        "radius_m": round(0.006 * height_m, 5), "stems": stems,
        "spread_deg": draw(rng, 12, 30, 1), "seed": seed, "detail": detail, "rise": 0.5,
    }  # fmt: skip
    size = height_m
    kinds = {
        "daisy": {
            "petals": int(rng.integers(14, 24)), "flower_radius_m": 0.09 * size, "petal_lift_deg": 10,
            "centre": 0.34, "leaves": 8, "leaf_shape": "lance", "leaf_length_m": 0.2 * size,
            "leaf_width": 0.25, "leaves_from": 0.05,
        },
        "poppy": {
            "petals": 5, "flower_radius_m": 0.11 * size, "petal_lift_deg": draw(rng, 25, 50, 0),
            "centre": 0.2, "leaves": 7, "leaf_shape": "lance", "leaf_length_m": 0.22 * size,
            "leaf_width": 0.3, "crooked": 0.4, "leaves_from": 0.03,
        },
        "tulip": {
            "petals": 6, "flower_radius_m": 0.15 * size, "petal_lift_deg": 72, "centre": 0.12,
            "leaves": 4, "leaf_shape": "lance", "leaf_length_m": 0.55 * size, "leaf_width": 0.2,
            "leaf_angle_deg": 22, "leaves_from": 0.02, "crooked": 0.1,
        },
        "aster": {
            "levels": 1, "branches": 5, "branch_from": 0.4, "branch_length": 0.4, "branch_angle_deg": 35,
            "petals": int(rng.integers(10, 16)), "flower_radius_m": 0.065 * size, "centre": 0.35,
            "leaves": 6, "leaf_shape": "lance", "leaf_length_m": 0.09 * size, "leaf_width": 0.3,
        },
        "bell": {
            "levels": 1, "branches": 9, "branch_from": 0.45, "branch_length": 0.12, "branch_angle_deg": 80,
            "petals": 5, "flower_radius_m": 0.06 * size, "petal_lift_deg": 65, "centre": 0.12, "rise": -0.6,
            "leaves": 2, "leaf_shape": "oval", "leaf_length_m": 0.1 * size, "leaf_width": 0.35,
        },
        "lavender": {
            "levels": 1, "branches": 26, "branch_from": 0.55, "branch_length": 0.05, "branch_angle_deg": 60,
            "petals": 5, "flower_radius_m": 0.025 * size, "petal_lift_deg": 50, "centre": 0.3,
            "leaves": 1, "leaf_shape": "lance", "leaf_length_m": 0.05 * size, "leaf_width": 0.3,
        },
    }  # fmt: skip
    plant = Plant.model_validate(
        common | {k: round(v, 5) if isinstance(v, float) else v for k, v in kinds[kind].items()}
    )
    petals = PETALS[3 + int(rng.integers(2))] if kind == "lavender" else pick(rng, PETALS)
    green = pick(rng, GREENS)
    middle: tuple[Color, Color] = ((0.6, 0.35, 0.03), (0.8, 0.6, 0.08))
    if kind == "poppy":
        middle = ((0.02, 0.02, 0.02), (0.08, 0.08, 0.05))
    return Flora(
        plant,
        tinted(green, 1),
        tinted(green, 2, roughness=0.45),
        tinted(petals, 3, roughness=0.6),
        tinted(middle, 4, roughness=0.8),
    )


def random_fern(rng: np.random.Generator, height_m: float) -> Flora:
    """Fronds that arch out of one root."""
    plant = Plant(
        type="plant", part="wood", height_m=round(1.35 * height_m, 4), radius_m=round(0.006 * height_m, 5),
        stems=int(rng.integers(9, 16)), spread_deg=draw(rng, 50, 65, 1), rise=-draw(rng, 0.7, 1.2, 2),
        crooked=0.06, leaves=int(rng.integers(40, 64)), leaf_shape="lance",
        leaf_length_m=round(0.26 * height_m, 4), leaf_width=0.24,
        leaf_angle_deg=75.0, detail=2, leaves_from=0.14, pairs=True, seed=int(rng.integers(10**6)),
    )  # fmt: skip
    green = GREENS[int(rng.integers(3))]
    leaf = tinted(green, 2, roughness=0.45)
    return Flora(plant, tinted(green, 1), leaf, leaf, leaf)


def random_bush(
    rng: np.random.Generator,
    height_m: float,
    *,
    leaf_m: float | None = None,
    season: str = "summer",
    blooms: bool = False,
) -> Flora:
    """A rounded bush, perhaps in bloom."""
    plant = Plant(
        type="plant", part="wood", height_m=round(0.85 * height_m, 4), radius_m=round(0.013 * height_m, 5),
        stems=int(rng.integers(5, 9)), spread_deg=draw(rng, 30, 50, 1), levels=2, branches=7, branch_from=0.2,
        branch_angle_deg=draw(rng, 35, 55, 1), branch_length=draw(rng, 0.38, 0.5, 3), crown=0.4,
        rise=draw(rng, 0.2, 0.7, 2), crooked=0.3, leaves=int(rng.integers(7, 12)),
        leaf_shape=pick(rng, ("oval", "round", "heart", "lance")),
        leaf_length_m=round(leaf_m or 0.075 * height_m, 4), leaf_width=draw(rng, 0.45, 0.75, 2),
        detail=1 if leaf_m else 2, petals=5 if blooms else 0,
        flower_radius_m=round(draw(rng, 0.03, 0.05) * height_m, 4), petal_lift_deg=30.0,
        seed=int(rng.integers(10**6)),
    )  # fmt: skip
    colors = pick(rng, AUTUMN if season == "autumn" else GREENS)
    return Flora(
        plant,
        tinted(pick(rng, BARKS), 1, roughness=0.8),
        tinted(colors, 2, roughness=0.42),
        tinted(pick(rng, PETALS), 3, roughness=0.6),
        tinted(((0.6, 0.4, 0.05), (0.8, 0.65, 0.1)), 4, roughness=0.8),
    )


TREES = ("broad", "fir", "birch", "willow")


def random_tree(
    rng: np.random.Generator,
    height_m: float,
    *,
    kind: str | None = None,
    season: str = "summer",
    fine: bool = True,
    haze: tuple[Color, float] = ((0.7, 0.8, 0.9), 0.0),
) -> Flora:
    """A tree; ``fine`` ones are for the middle distance, the others stand in rows far away."""
    kind = kind or pick(rng, TREES)
    common = {
        "type": "plant", "part": "wood", "height_m": round(height_m, 3), "seed": int(rng.integers(10**6)),
        "spread_deg": 4.0, "crooked": 0.14, "detail": 1,
    }  # fmt: skip
    kinds = {
        "broad": {
            "radius_m": 0.022 * height_m, "levels": 3 if fine else 2, "branches": 7, "branch_from": 0.28,
            "branch_angle_deg": draw(rng, 45, 65, 1), "branch_length": 0.5, "crown": 0.5, "rise": 0.25,
            "leaves": 9 if fine else 7, "leaf_length_m": 0.026 * height_m if fine else 0.085 * height_m,
            "leaf_width": 0.6,
        },
        "fir": {
            "radius_m": 0.016 * height_m, "levels": 2 if fine else 1, "branches": 26 if fine else 44,
            "branch_from": 0.08,
            "branch_angle_deg": 95, "branch_length": 0.3, "crown": 0.95, "rise": -0.15, "crooked": 0.06,
            "leaves": 14, "leaf_shape": "lance",
            "leaf_length_m": 0.018 * height_m if fine else 0.075 * height_m, "leaf_width": 0.3,
            "leaf_angle_deg": 55, "leaves_from": 0.02,
        },
        "birch": {
            "radius_m": 0.012 * height_m, "levels": 2, "branches": 14 if fine else 7, "branch_from": 0.3,
            "branch_angle_deg": 42, "branch_length": 0.32, "crown": 0.6, "rise": 0.1,
            "leaves": 12 if fine else 7, "leaf_length_m": 0.022 * height_m if fine else 0.07 * height_m,
            "leaf_width": 0.6,
        },
        "willow": {
            "radius_m": 0.025 * height_m, "levels": 2, "branches": 13 if fine else 7, "branch_from": 0.35,
            "branch_angle_deg": 55, "branch_length": 0.55, "crown": 0.3, "rise": -1.1,
            "leaves": 22 if fine else 9, "leaf_shape": "lance",
            "leaf_length_m": 0.03 * height_m if fine else 0.08 * height_m, "leaf_width": 0.3,
        },
    }  # fmt: skip
    plant = Plant.model_validate(
        common | {k: round(v, 5) if isinstance(v, float) else v for k, v in kinds[kind].items()}
    )
    colors = pick(rng, AUTUMN) if season == "autumn" and kind != "fir" else pick(rng, GREENS)
    if kind == "fir":
        colors = ((0.02, 0.06, 0.03), (0.07, 0.16, 0.07))
    bark: tuple[Color, Color] = (
        ((0.15, 0.14, 0.13), (0.75, 0.73, 0.7)) if kind == "birch" else pick(rng, BARKS)
    )
    leaf = tinted(hazed(colors, *haze), 2)
    bark_texture = ProceduralTexture(
        type="perlin",
        color_a=hazed(bark, *haze)[0],
        color_b=hazed(bark, *haze)[1],
        cells=6,
        octaves=5,
        resolution=128,
        seed=7,
        tiles=(2.0, 0.35 if kind != "birch" else 3.0),
    )
    return Flora(plant, MaterialSpec(base_color=bark_texture, roughness=0.85, ior=1.1), leaf, leaf, leaf)


def grass(
    name: str, scatter: Scatter, height_m: float, colors: tuple[Color, Color], place: Vec3, wind: Wind | None
) -> ObjectSpec:
    """A lawn or a meadow."""
    return ObjectSpec(
        name=name,
        shape=Grass(
            type="grass",
            scatter=scatter,
            height_m=height_m,
            width_m=round(0.0022 + 0.012 * height_m, 4),
            lean=0.55,
            segments=2,
        ),
        material=tinted(colors, 5, roughness=0.6),
        position_m=place,
        deform=wind,
    )


def random_tuft(
    rng: np.random.Generator, name: str, role: Role, place: Vec3, height_m: float, wind: Wind | None
) -> ObjectSpec:
    """A few dozen tall blades at one spot: sedge, or dry grass."""
    colors = STRAW if rng.random() < 0.3 else pick(rng, GREENS)
    wide = draw(rng, 0.12, 0.3) * height_m
    return ObjectSpec(
        name=name,
        role=role,
        shape=Grass(
            type="grass",
            scatter=Scatter(
                count=int(rng.integers(35, 90)),
                size_m=(wide, wide),
                patchiness=0.0,
                seed=int(rng.integers(10**6)),
            ),
            height_m=round(height_m, 4),
            width_m=round(0.016 * height_m, 5),
            lean=draw(rng, 0.35, 0.8, 2),
            segments=8,
        ),
        material=tinted(colors, 5, roughness=0.4),
        position_m=place,
        deform=wind,
    )


def random_rock(
    rng: np.random.Generator, name: str, role: Role, place: Vec3, radius_m: float, *, moss: bool = False
) -> ObjectSpec:
    """A boulder sunk into the ground."""
    flat = draw(rng, 0.5, 0.85, 2)
    low, high = pick(rng, STONES)
    texture = ProceduralTexture(
        type="perlin",
        color_a=low,
        color_b=(0.13, 0.22, 0.06) if moss else high,
        cells=9,
        octaves=7,
        resolution=256,
        seed=int(rng.integers(256)),
        tiles=(2.0, 1.0),
    )
    return ObjectSpec(
        name=name,
        role=role,
        shape=Blob(
            type="blob",
            radius_m=round(radius_m, 4),
            amplitude=draw(rng, 0.25, 0.45, 2),
            frequency=draw(rng, 1.0, 1.9, 2),
            seed=int(rng.integers(256)),
            segments=64,
        ),
        material=MaterialSpec(base_color=texture, roughness=0.75, ior=1.2),
        position_m=(place[0], place[1], round(place[2] + 0.4 * flat * radius_m, 4)),
        rotation_deg=(draw(rng, -12, 12, 1), draw(rng, -12, 12, 1), draw(rng, 0, 360, 1)),
        scale=(1.0, draw(rng, 0.75, 1.1, 2), flat),
    )


def strewn(
    name: str,
    kind: Literal["pebbles", "leaves"],
    scatter: Scatter,
    size_m: float,
    material: MaterialSpec,
    place: Vec3,
) -> ObjectSpec:
    """Pebbles or leaves on the ground."""
    shape = Strewn(type="strewn", kind=kind, scatter=scatter, size_m=size_m)
    return ObjectSpec(name=name, shape=shape, material=material, position_m=place)


CAPS: tuple[Color, ...] = ((0.55, 0.05, 0.03), (0.42, 0.22, 0.1), (0.7, 0.45, 0.2), (0.72, 0.66, 0.55))


def random_mushroom(
    rng: np.random.Generator, name: str, role: Role, place: Vec3, height_m: float
) -> list[ObjectSpec]:
    """Stem and cap."""
    h = round(height_m, 4)
    open_to, width = draw(rng, 0.2, 0.34, 3), draw(rng, 0.36, 0.6, 3)
    color = pick(rng, CAPS)
    lean = (draw(rng, -9, 9, 1), draw(rng, -9, 9, 1), draw(rng, 0, 360, 1))
    stem = ((0.0, 0.0), (0.13, 0.0), (0.14, 0.05), (0.085, 0.35), (0.08, 0.75), (0.1, 0.8))
    cap = (
        (0.09, 0.76), (0.6 * width, 0.72), (0.97 * width, 0.66), (width, 0.68), (0.93 * width, 0.76),
        (0.62 * width, 0.76 + 0.75 * open_to), (0.0, 0.76 + open_to),
    )  # fmt: skip
    spotted = ProceduralTexture(
        type="perlin",
        color_a=color,
        color_b=tuple(min(1.0, round(0.35 + 0.8 * c, 3)) for c in color),  # type: ignore[arg-type]
        cells=14,
        octaves=2,
        resolution=256,
        seed=int(rng.integers(256)),
        tiles=(1.0, 1.0),
    )
    pieces: list[tuple[str, tuple[tuple[float, float], ...], MaterialSpec]] = [
        ("cap", cap, MaterialSpec(base_color=spotted, roughness=0.35)),
        ("stem", stem, tinted(((0.5, 0.42, 0.32), (0.8, 0.76, 0.66)), 6, roughness=0.7)),
    ]
    return [
        ObjectSpec(
            name=f"{name}-{part}",
            role=role,
            shape=Lathe(
                type="lathe", profile_m=tuple((round(r * h, 5), round(z * h, 5)) for r, z in profile)
            ),
            material=material,
            position_m=place,
            rotation_deg=lean,
        )
        for part, profile, material in pieces
    ]


def breeze(rng: np.random.Generator, height_m: float, strength: float, direction_deg: float) -> Wind:
    """The wind of a scene on things of this height."""
    return Wind(
        type="wind",
        amplitude_m=round(strength * height_m, 5),
        height_m=round(height_m, 4),
        frequency_hz=draw(rng, 0.4, 0.8, 3),
        direction_deg=direction_deg,
        wavelength_m=round(max(2.5, 3 * height_m), 3),
        stiffness=2.0,
        phase=draw(rng, 0, 1, 3),
    )


def walk(points: tuple[tuple[float, float], ...], radius_m: float) -> tuple[Vec3, ...]:
    """A path through points as a row of discs, for `Scatter.bare`."""
    discs: list[Vec3] = []
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        count = max(2, math.ceil(math.hypot(x1 - x0, y1 - y0) / (0.6 * radius_m)))
        for t in np.linspace(0, 1, count, endpoint=False).tolist():
            discs.append((round(x0 + t * (x1 - x0), 3), round(y0 + t * (y1 - y0), 3), radius_m))
    return tuple(discs)
