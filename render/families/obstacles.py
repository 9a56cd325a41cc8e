"""Difficult things for still lifes: nets, hair, patterns, passing things; lengths for a table top."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from focuspull.render.families import props
from focuspull.render.families.layout import (
    draw,
    draw_count,
    pick,
)
from focuspull.render.spec import (
    Box,
    Color,
    Compound,
    Cylinder,
    Fibres,
    Lattice,
    Linear,
    MaterialSpec,
    ObjectSpec,
    Part,
    ProceduralTexture,
    Sphere,
    Spin,
    Sway,
    Torus,
    Tube,
    Vec3,
    Wind,
)

Role = Literal["subject", "foreground", "background", "set"]

GAP_M = 0.001
INKS: tuple[tuple[Color, Color], ...] = (
    ((0.015, 0.015, 0.018), (0.82, 0.82, 0.8)),
    ((0.02, 0.05, 0.2), (0.85, 0.8, 0.65)),
    ((0.35, 0.02, 0.02), (0.85, 0.83, 0.78)),
    ((0.01, 0.12, 0.1), (0.8, 0.75, 0.3)),
    ((0.03, 0.02, 0.05), (0.85, 0.35, 0.05)),
)
HAIRS: tuple[tuple[Color, Color], ...] = (
    ((0.05, 0.03, 0.02), (0.3, 0.17, 0.08)),
    ((0.4, 0.25, 0.1), (0.8, 0.6, 0.3)),
    ((0.6, 0.58, 0.54), (0.85, 0.84, 0.8)),
    ((0.5, 0.08, 0.03), (0.8, 0.25, 0.08)),
    ((0.05, 0.15, 0.4), (0.2, 0.5, 0.75)),
    ((0.45, 0.05, 0.3), (0.8, 0.3, 0.6)),
)


def checker(
    inks: tuple[Color, Color], cells: int, tiles: tuple[float, float] = (1.0, 1.0)
) -> ProceduralTexture:
    """Squares of two inks."""
    return ProceduralTexture(
        type="checker",
        color_a=inks[0],
        color_b=inks[1],
        cells=cells,
        octaves=1,
        resolution=256,
        seed=1,
        tiles=tiles,
    )


# --- Before the subject -------------------------------------------------------------------------


def _metal(rng: np.random.Generator) -> MaterialSpec:
    if rng.random() < 0.4:
        return MaterialSpec(base_color=pick(rng, props.METALS), metallic=1.0, roughness=draw(rng, 0.25, 0.45))
    return MaterialSpec(
        base_color=pick(rng, ((0.02, 0.02, 0.022), (0.7, 0.7, 0.68), (0.05, 0.2, 0.1))), roughness=0.4
    )


def fence(rng: np.random.Generator) -> list[ObjectSpec]:
    """A net or a grille between camera and subject, with a frame."""
    pattern = pick(rng, ("bars", "mesh", "chain"))
    wire, pitch = draw(rng, 0.0012, 0.0035, 5), draw(rng, 0.03, 0.07)
    lattice = Lattice(
        type="lattice",
        pattern=pattern,
        size_m=(1.2, 0.75),
        pitch_m=pitch,
        wire_m=wire if pattern != "bars" else 2 * wire,
    )
    y = draw(rng, -0.62, -0.36)
    material = _metal(rng)
    fence = ObjectSpec(
        name="fence",
        role="foreground",
        shape=lattice,
        material=material,
        position_m=(0.0, y, 0.0),
        rotation_deg=(0.0, 0.0, draw(rng, -18, 18, 1)),
    )
    return [fence]


def occluders(rng: np.random.Generator, palette: tuple[Color, ...]) -> list[ObjectSpec]:
    """Large things close to the camera that pass across the view."""
    objects = []
    for i in range(draw_count(rng, (1, 2))):
        side = float(rng.choice([-1.0, 1.0]))
        y = draw(rng, -0.7, -0.52) + 0.1 * i
        speed = -side * draw(rng, 0.06, 0.2)
        start = side * draw(rng, 0.1, 0.2)
        motion = Linear(type="linear", velocity_m_s=(round(speed, 4), 0.0, 0.0))
        size = draw(rng, 0.05, 0.085)
        material = props.random_material(rng, palette)
        shape: Sphere | Cylinder | Box | Torus
        match int(rng.integers(4)):
            case 0:
                shape, z = Sphere(type="sphere", radius_m=size, segments=96), 0.22
            case 1:
                shape, z = Cylinder(type="cylinder", radius_m=round(0.5 * size, 4), height_m=0.8), 0.0
            case 2:
                shape, z = Box(type="box", size_m=(1.2 * size, 0.03, 2.2 * size), bevel_m=0.004), 0.2
            case _:
                shape, z = Torus(type="torus", major_radius_m=size, minor_radius_m=round(0.3 * size, 4)), 0.22
        upright = (
            (draw(rng, 60, 90, 1), 0.0, draw(rng, -40, 40, 1))
            if isinstance(shape, Torus)
            else (0.0, 0.0, draw(rng, -25, 25, 1))
        )
        objects.append(
            ObjectSpec(
                name=f"passing-{i}",
                role="foreground",
                shape=shape,
                material=material,
                position_m=(start, y, round(z + draw(rng, -0.03, 0.05), 4) if z else GAP_M),
                rotation_deg=upright,
                motion=(motion,),
            )
        )
    return objects


def slats(rng: np.random.Generator) -> list[ObjectSpec]:
    """A blind, level or upright, between camera and subject."""
    level = bool(rng.random() < 0.6)
    pitch, turn = draw(rng, 0.035, 0.06), draw(rng, 50, 80, 1)
    count = int(0.9 / pitch)
    parts = []
    for i in range(count):
        if level:  # seen nearly from the edge
            place, turned = (0.0, 0.0, round(0.01 + pitch * i, 4)), (90 - turn, 0.0, 0.0)
            size = (1.1, 0.025, 0.0012)
        else:
            place, turned = (round(pitch * (i - count / 2), 4), 0.0, 0.4), (0.0, 0.0, turn)
            size = (0.025, 0.0012, 0.8)
        parts.append(Part(shape=Box(type="box", size_m=size), position_m=place, rotation_deg=turned))
    if level:
        for x in (-0.16, 0.16):
            cord = Tube(
                type="tube", points_m=((x, 0.0, 0.0), (x, 0.0, 0.9)), radius_m=0.0008, segments=6, steps=1
            )
            parts.append(Part(shape=cord))
    color = pick(rng, ((0.75, 0.74, 0.7), (0.35, 0.19, 0.09), (0.1, 0.1, 0.11), (0.6, 0.2, 0.12)))
    return [
        ObjectSpec(
            name="blind",
            role="foreground",
            shape=Compound(type="compound", parts=tuple(parts)),
            material=MaterialSpec(base_color=color, roughness=0.4),
            position_m=(0.0, draw(rng, -0.6, -0.4), 0.0),
            rotation_deg=(0.0, 0.0, draw(rng, -10, 10, 1)),
        )
    ]


def beads(rng: np.random.Generator, palette: tuple[Color, ...]) -> list[ObjectSpec]:
    """Strings of beads that sway, one role before the subject and one behind it."""
    objects = []
    clear = bool(rng.random() < 0.4)
    rows: tuple[tuple[Role, float, float], ...] = (
        ("foreground", draw(rng, -0.55, -0.35), 0.9),
        ("background", draw(rng, 0.4, 0.7), 1.6),
    )
    for role, y, wide in rows:
        strings = 9 if role == "foreground" else 14
        radius = draw(rng, 0.0045, 0.008)
        tones = [pick(rng, palette) for _ in range(2)]
        for i in range(strings):
            x = wide * ((i + 0.5) / strings - 0.5) + draw(rng, -0.012, 0.012)
            gap = draw(rng, 2.3, 3.4) * radius
            low = draw(rng, 0.0, 0.12) if role == "background" else draw(rng, 0.02, 0.25)
            count = max(4, int((0.75 - low) / gap))
            ball = Sphere(type="sphere", radius_m=radius, segments=14)
            parts = [Part(shape=ball, position_m=(0.0, 0.0, round(0.75 - gap * n, 4))) for n in range(count)]
            thread = Tube(
                type="tube",
                points_m=((0.0, 0.0, 0.9), (0.0, 0.0, round(0.75 - gap * (count - 1), 4))),
                radius_m=0.0006,
                segments=5,
                steps=1,
            )
            parts.append(Part(shape=thread))
            material = MaterialSpec(base_color=tones[i % 2], roughness=0.15)
            if clear and i % 3 == 0:
                material = MaterialSpec(base_color=props.METALS[0], metallic=1.0, roughness=0.25)
            objects.append(
                ObjectSpec(
                    name=f"beads-{role}-{i}",
                    role=role,
                    shape=Compound(type="compound", parts=tuple(parts)),
                    material=material,
                    position_m=(round(x, 4), y, 0.0),
                    motion=(
                        Sway(
                            type="sway",
                            amplitude_m=(draw(rng, 0.001, 0.006, 5), draw(rng, 0.0, 0.004, 5), 0.0),
                            frequency_hz=draw(rng, 0.4, 0.8, 3),
                            phase=draw(rng, 0, 1, 3),
                        ),
                    ),
                )
            )
    return objects


# --- As the subject -----------------------------------------------------------------------------


def _hair(rng: np.random.Generator) -> MaterialSpec:
    low, high = pick(rng, HAIRS)
    texture = ProceduralTexture(
        type="perlin",
        color_a=low,
        color_b=high,
        cells=5,
        octaves=3,
        resolution=64,
        seed=int(rng.integers(256)),
    )
    return MaterialSpec(base_color=texture, roughness=0.4, ior=1.2)


def fibres(rng: np.random.Generator, count: int, taken: list[tuple[float, float, float]]) -> list[ObjectSpec]:
    """Hairy things: a furry ball, brushes, seed heads on stems, a fringe."""
    objects: list[ObjectSpec] = []
    direction = draw(rng, 0, 360, 1)

    def hairy(name: str, role: Role, shape: Fibres, place: Vec3, material: MaterialSpec) -> ObjectSpec:
        wind = None
        if shape.arrangement == "tuft":
            wind = Wind(
                type="wind",
                amplitude_m=round(0.15 * shape.length_m, 5),
                height_m=shape.length_m,
                direction_deg=direction,
            )
        return ObjectSpec(name=name, role=role, shape=shape, material=material, position_m=place, deform=wind)

    spots: tuple[tuple[Role, float, float], ...] = (
        ("subject", draw(rng, -0.09, -0.02), draw(rng, -0.04, 0.08)),
        ("subject", draw(rng, 0.1, 0.17), draw(rng, 0.0, 0.14)),
        ("background", draw(rng, -0.4, 0.4), draw(rng, 0.4, 0.8)),
        ("foreground", float(rng.choice([-1.0, 1.0])) * 0.14, draw(rng, -0.45, -0.38)),
    )
    for i, (role, x, y) in enumerate(spots):
        kind = pick(rng, ("fur", "tuft", "seedhead", "curtain" if role == "background" else "fur"))
        seed, material = int(rng.integers(10**6)), _hair(rng)
        name = f"hair-{i}"
        taken.append((x, y, 0.09))
        match kind:
            case "fur":
                radius = draw(rng, 0.04, 0.06)
                body = Sphere(type="sphere", radius_m=round(0.99 * radius, 4), segments=48)
                lift = round(radius * 1.15, 4)
                skin = (
                    material.base_color.color_a
                    if isinstance(material.base_color, ProceduralTexture)
                    else (0.3, 0.2, 0.1)
                )
                objects.append(
                    ObjectSpec(
                        name=f"{name}-body",
                        role=role,
                        shape=body,
                        material=MaterialSpec(base_color=skin, roughness=0.9),
                        position_m=(x, y, lift),
                    )
                )
                shape = Fibres(
                    type="fibres", arrangement="fur", count=2 * count, length_m=draw(rng, 0.02, 0.05),
                    radius_m=0.0004, width_m=round(2 * radius, 4), curl=draw(rng, 0.2, 0.8),
                    droop=draw(rng, 0.3, 1.4), seed=seed,
                )  # fmt: skip
                objects.append(hairy(name, role, shape, (x, y, lift), material))
            case "tuft":
                shape = Fibres(
                    type="fibres", arrangement="tuft", count=count, length_m=draw(rng, 0.12, 0.2),
                    radius_m=0.0005, width_m=0.05, curl=draw(rng, 0.1, 0.5),
                    droop=draw(rng, 0.0, 0.8), seed=seed, steps=8,
                )  # fmt: skip
                pot = props.turned("cup", 0.05, MaterialSpec(base_color=(0.5, 0.22, 0.12), roughness=0.7))
                objects.append(
                    ObjectSpec(
                        name=f"{name}-pot",
                        role="set",
                        shape=pot.shape,
                        material=pot.material,
                        position_m=(x, y, GAP_M),
                    )
                )
                objects.append(hairy(name, role, shape, (x, y, 0.02), material))
            case "curtain":
                shape = Fibres(
                    type="fibres", arrangement="curtain", count=700, length_m=0.45, radius_m=0.0006,
                    width_m=1.0, curl=0.06, droop=0.6, seed=seed, steps=10,
                )  # fmt: skip
                objects.append(hairy(name, role, shape, (0.0, 0.95, 0.1), material))
            case _:
                tall = draw(rng, 0.15, 0.22)
                pale = MaterialSpec(base_color=(0.82, 0.8, 0.75), roughness=0.5, ior=1.2)
                shape = Fibres(
                    type="fibres", arrangement="seedhead", count=1500, length_m=draw(rng, 0.045, 0.06),
                    radius_m=0.0003, seed=seed,
                )  # fmt: skip
                core = Sphere(type="sphere", radius_m=round(0.13 * shape.length_m, 5), segments=24)
                stem = Tube(
                    type="tube", points_m=((0.02, 0.0, -tall), (0.012, 0.0, -0.5 * tall), (0.0, 0.0, 0.0)),
                    radius_m=0.0022,
                )  # fmt: skip
                plant = Compound(type="compound", parts=(Part(shape=core), Part(shape=stem)))
                objects.append(
                    ObjectSpec(
                        name=f"{name}-stem",
                        role=role,
                        shape=plant,
                        material=MaterialSpec(base_color=(0.22, 0.26, 0.08), roughness=0.6),
                        position_m=(x, y, tall),
                    )
                )
                objects.append(hairy(name, role, shape, (x, y, tall), pale))
    return objects


def wires(rng: np.random.Generator, taken: list[tuple[float, float, float]]) -> list[ObjectSpec]:
    """Balls of wire rings, and one with a core of its own."""
    objects = []
    spots: tuple[tuple[Role, float, float, float], ...] = (
        ("subject", draw(rng, -0.06, 0.02), draw(rng, -0.02, 0.1), draw(rng, 0.08, 0.11)),
        ("background", draw(rng, 0.2, 0.4), draw(rng, 0.45, 0.8), draw(rng, 0.12, 0.18)),
        ("foreground", float(rng.choice([-1.0, 1.0])) * 0.13, draw(rng, -0.42, -0.36), 0.06),
    )
    for i, (role, x, y, radius) in enumerate(spots):
        taken.append((x, y, radius))
        wire = draw(rng, 0.0009, 0.002, 5)
        meridians, parallels = int(rng.integers(5, 11)), int(rng.integers(3, 7))
        ring = Torus(type="torus", major_radius_m=radius, minor_radius_m=wire, segments=48)
        parts = [
            Part(shape=ring, rotation_deg=(90.0, 0.0, round(180.0 * n / meridians, 3)))
            for n in range(meridians)
        ]
        for n in range(parallels):
            angle = math.pi * ((n + 1) / (parallels + 1) - 0.5)
            circle = Torus(
                type="torus",
                major_radius_m=round(radius * math.cos(angle), 5),
                minor_radius_m=wire,
                segments=48,
            )
            parts.append(Part(shape=circle, position_m=(0.0, 0.0, round(radius * math.sin(angle), 5))))
        spin = Spin(type="spin", axis=(0.0, draw(rng, -0.2, 0.2), 1.0), rate_deg_s=draw(rng, -60, 60, 1))
        place = (x, y, round(radius + wire + GAP_M, 5))
        objects.append(
            ObjectSpec(
                name=f"wire-{i}",
                role=role,
                shape=Compound(type="compound", parts=tuple(parts)),
                material=_metal(rng),
                position_m=place,
                motion=(spin,),
            )
        )
        core = Sphere(type="sphere", radius_m=round(0.3 * radius, 4), segments=48)
        colour = pick(rng, props.PALETTES[0])
        objects.append(
            ObjectSpec(
                name=f"core-{i}",
                role=role,
                shape=core,
                material=MaterialSpec(base_color=colour, roughness=0.3),
                position_m=place,
            )
        )
    return objects


def checkers(
    rng: np.random.Generator, inks: tuple[Color, Color], taken: list[tuple[float, float, float]]
) -> list[ObjectSpec]:
    """Things with patterns of high contrast; the table has one too."""
    objects = []
    spots: tuple[tuple[Role, float, float], ...] = (
        ("subject", draw(rng, -0.14, -0.06), draw(rng, -0.02, 0.1)),
        ("subject", draw(rng, 0.07, 0.15), draw(rng, 0.0, 0.16)),
        ("background", draw(rng, -0.35, 0.35), draw(rng, 0.45, 0.8)),
    )
    for i, (role, x, y) in enumerate(spots):
        other = pick(rng, INKS)
        size = draw(rng, 0.06, 0.09)
        match int(rng.integers(3)):
            case 0:
                shape, lift, tiles = Sphere(type="sphere", radius_m=size, segments=96), size, (2.0, 1.0)
            case 1:
                edge = round(1.7 * size, 4)
                shape, lift, tiles = (
                    Box(type="box", size_m=(edge, edge, edge), bevel_m=0.004),
                    edge / 2,
                    (1.0, 1.0),
                )
            case _:
                shape = Cylinder(
                    type="cylinder", radius_m=round(0.6 * size, 4), height_m=round(2.6 * size, 4)
                )
                lift, tiles = 0.0, (1.0, 1.0)
        taken.append((x, y, 1.25 * size))
        objects.append(
            ObjectSpec(
                name=f"checked-{i}",
                role=role,
                shape=shape,
                material=MaterialSpec(base_color=checker(other, 8, tiles), roughness=draw(rng, 0.15, 0.5)),
                position_m=(x, y, round(lift + GAP_M, 5)),
                rotation_deg=(0.0, 0.0, draw(rng, 0, 90, 1)),
                motion=(Spin(type="spin", rate_deg_s=draw(rng, -40, 40, 1)),) if rng.random() < 0.5 else (),
            )
        )
    return objects


def ramp(
    rng: np.random.Generator,
    palette: tuple[Color, ...],
    inks: tuple[Color, Color],
    taken: list[tuple[float, float, float]],
) -> list[ObjectSpec]:
    """A row of like things into the depth, and a checked board that rises with it."""
    objects = []
    side = float(rng.choice([-1.0, 1.0]))
    kind = int(rng.integers(3))
    steps = int(rng.integers(9, 13))
    for i in range(steps):
        t = i / (steps - 1)
        x, y = side * (0.12 - 0.3 * t), -0.48 + 1.5 * t**1.2
        role: Role = "foreground" if t < 0.2 else "subject" if t < 0.62 else "background"
        color = palette[i % len(palette)]
        rough = draw(rng, 0.15, 0.6)
        shape: Box | Cylinder | Sphere
        match kind:
            case 0:
                shape, lift = Box(type="box", size_m=(0.055, 0.014, 0.11), bevel_m=0.002), 0.055
            case 1:
                shape, lift = (
                    Cylinder(type="cylinder", radius_m=0.009, top_radius_m=0.007, height_m=0.17),
                    0.0,
                )
            case _:
                shape, lift = Sphere(type="sphere", radius_m=0.03, segments=64), 0.03
        x, y = round(x, 4), round(y, 4)
        taken.append((x, y, 0.04))
        objects.append(
            ObjectSpec(
                name=f"row-{i}",
                role=role,
                shape=shape,
                material=MaterialSpec(base_color=color, roughness=rough),
                position_m=(x, y, round(lift + GAP_M, 5)),
                rotation_deg=(0.0, 0.0, round(side * 35.0 + draw(rng, -8, 8), 1)),
            )
        )
    board = ObjectSpec(
        name="board",
        role="background",
        shape=Box(type="box", size_m=(0.3, 1.5, 0.008)),
        material=MaterialSpec(base_color=checker(inks, 8, (1.0, 5.0)), roughness=0.4),
        position_m=(side * 0.42, 0.45, 0.17),
        rotation_deg=(draw(rng, 6, 12, 1), 0.0, side * 12.0),
    )
    taken.append((side * 0.42, 0.45, 0.2))
    return [*objects, board]
