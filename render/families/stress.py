"""What breaks refocusing, arranged as a still life in a studio: fine things before, around and as the subject.

Each scene has one difficulty, or two: fences, hair, checkerboards, near things that pass, slats, wire balls,
bead curtains, rows into the depth.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families import props
from focuspull.render.families.layout import (
    Count,
    FamilyRanges,
    FocalLength,
    draw,
    draw_count,
    free_place,
    pick,
    random_camera_move,
)
from focuspull.render.spec import (
    AreaLight,
    Box,
    CameraSpec,
    Color,
    Compound,
    Cylinder,
    Fibres,
    Lattice,
    LightSource,
    Linear,
    MaterialSpec,
    ObjectSpec,
    Part,
    Plane,
    ProceduralTexture,
    SkyEnvironment,
    Sphere,
    Spin,
    SunLight,
    Sway,
    Texture,
    Torus,
    Tube,
    Vec3,
    Wind,
    World,
)

Difficulty = Literal["fence", "fibres", "checkers", "occluders", "slats", "wires", "beads", "ramp"]
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
# Irradiance ratios of key light and the colour of the fill.
MOODS: tuple[tuple[Vec3, Vec3], ...] = (
    ((1.0, 0.95, 0.87), (0.5, 0.52, 0.56)),
    ((1.0, 0.72, 0.42), (0.22, 0.26, 0.42)),
    ((0.8, 0.92, 1.0), (0.4, 0.36, 0.33)),
    ((1.0, 0.85, 0.7), (0.12, 0.12, 0.15)),
    ((0.95, 0.9, 1.0), (0.75, 0.75, 0.76)),
)


class StressRanges(FamilyRanges):
    """Ranges of the family.

    Attributes:
        difficulties: Those that are drawn.
        second: Share of scenes that have two.
        subjects: Props in the middle.
        background: Props behind them.
        fibres: Hairs of each hairy thing.
    """

    family: Literal["stress"]
    difficulties: tuple[Difficulty, ...] = Field(
        default=("fence", "fibres", "checkers", "occluders", "slats", "wires", "beads", "ramp"), min_length=1
    )
    second: Annotated[float, Field(ge=0, le=1)] = 0.35
    subjects: Count = (1, 3)
    background: Count = (3, 6)
    fibres: Count = (900, 2200)
    camera_reach_m: tuple[float, float] = (0.06, 0.16)
    focal_length_mm: tuple[FocalLength, FocalLength] = (38, 60)


def random_stress(rng: np.random.Generator, ranges: StressRanges) -> World:
    """A difficult still life, drawn."""
    palette = pick(rng, props.PALETTES)
    kinds = [str(k) for k in rng.permutation(list(ranges.difficulties))[: 1 + (rng.random() < ranges.second)]]
    inks = pick(rng, INKS)
    objects = _studio(rng, palette, inks if "checkers" in kinds else None)
    taken: list[tuple[float, float, float]] = []
    for kind in kinds:
        match kind:
            case "fence":
                objects += _fence(rng)
            case "fibres":
                objects += _fibres(rng, draw_count(rng, ranges.fibres), taken)
            case "checkers":
                objects += _checkers(rng, inks, taken)
            case "occluders":
                objects += _occluders(rng, palette)
            case "slats":
                objects += _slats(rng)
            case "wires":
                objects += _wires(rng, taken)
            case "beads":
                objects += _beads(rng, palette)
            case _:
                objects += _ramp(rng, palette, inks, taken)
    objects += _props(rng, ranges, palette, taken, {item.role for item in objects})

    position = (draw(rng, -0.06, 0.06), draw(rng, -1.0, -0.92), draw(rng, 0.2, 0.4))
    path, handheld = random_camera_move(rng, position, (0.0, 0.1, 0.11), draw(rng, *ranges.camera_reach_m))
    light, environment = _light(rng)
    return World(
        objects=tuple(objects),
        lights=light,
        environment=environment,
        camera=CameraSpec(
            focal_length_mm=draw(rng, *ranges.focal_length_mm, digits=1), path=path, handheld=handheld
        ),
    )


def _light(rng: np.random.Generator) -> tuple[tuple[LightSource, ...], SkyEnvironment]:
    key, fill = pick(rng, MOODS)
    side = float(rng.choice([-1.0, 1.0]))
    hard = rng.random() < 0.3
    dim = 1.0 - 0.5 * float(np.mean(fill))
    first: LightSource
    if hard:
        first = SunLight(
            type="sun",
            direction=(side * draw(rng, 0.6, 1.2), draw(rng, -1.1, -0.3), draw(rng, 0.6, 1.0)),
            irradiance_w_m2=_times(key, 4.0 * dim),
            angle_deg=1.5,
        )
    else:
        first = AreaLight(
            type="area",
            position_m=(side * draw(rng, 1.2, 1.7), draw(rng, -0.8, -0.2), draw(rng, 1.0, 1.6)),
            look_at_m=(0.0, 0.1, 0.08),
            size_m=(0.8, 0.8),
            radiance=_times(key, 27.0 * dim),
        )
    rim = AreaLight(
        type="area",
        position_m=(-side * draw(rng, 1.0, 1.5), 1.5, 1.5),
        look_at_m=(0.0, 0.1, 0.1),
        size_m=(0.5, 0.5),
        radiance=_times(pick(rng, MOODS)[0], 16.0),
    )
    sky = SkyEnvironment(type="sky", zenith=fill, horizon=_times(fill, 0.9), ground=_times(fill, 0.35))
    return (first, rim), sky


def _times(color: Vec3, factor: float) -> Vec3:
    r, g, b = (round(factor * c, 4) for c in color)
    return r, g, b


def _checker(
    inks: tuple[Color, Color], cells: int, tiles: tuple[float, float] = (1.0, 1.0)
) -> ProceduralTexture:
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


def _studio(
    rng: np.random.Generator, palette: tuple[Color, ...], inks: tuple[Color, Color] | None
) -> list[ObjectSpec]:
    """A table top and a wall behind it."""
    seed = int(rng.integers(256))
    color = pick(rng, palette)
    top: Texture
    match int(rng.integers(4)):
        case _ if inks is not None:
            top = _checker(inks, 8, (4.0, 4.0))
        case 0:
            top = props.wood(seed, tiles=(2.0, 1.0), resolution=384)
        case 1:
            top = _marble(props.shaded(color, 0.6, 0.0), seed)
        case 2:
            top = _noise((0.05, 0.055, 0.06), (0.17, 0.17, 0.18), seed)
        case _:
            top = _noise(props.shaded(color, 0.6, 0.05), props.shaded(color, 0.8, 0.16), seed)
    wall: Texture
    match int(rng.integers(4)):
        case 0:
            wall = ProceduralTexture(
                type="bricks",
                color_a=props.shaded(color, 0.4, 0.03),
                color_b=props.shaded(color, 0.6, 0.08),
                cells=12,
                octaves=3,
                resolution=384,
                seed=seed,
                tiles=(2, 1),
            )
        case 1:
            wall = _checker(pick(rng, INKS), 2, (9.0, 0.5))
        case 2:
            wall = _marble(props.shaded(color, 0.7, 0.02), seed)
        case _:
            wall = _noise(props.shaded(color, 0.25, 0.03), props.shaded(color, 0.6, 0.1), seed, cells=5)
    return [
        ObjectSpec(
            name="table",
            shape=Box(type="box", size_m=(3.2, 2.9, 0.04), bevel_m=0.005),
            material=MaterialSpec(base_color=top, roughness=draw(rng, 0.25, 0.6)),
            position_m=(0.0, 0.25, -0.02),
        ),
        ObjectSpec(
            name="wall",
            shape=Plane(type="plane", size_m=(9.0, 4.5)),
            material=MaterialSpec(base_color=wall, roughness=0.8),
            position_m=(0.0, draw(rng, 2.2, 3.4), 0.6),
            rotation_deg=(90.0, 0.0, 0.0),
        ),
    ]


def _noise(low: Color, high: Color, seed: int, cells: int = 10) -> ProceduralTexture:
    return ProceduralTexture(
        type="perlin",
        color_a=low,
        color_b=high,
        cells=cells,
        octaves=5,
        resolution=320,
        seed=seed,
        tiles=(2.0, 2.0),
    )


def _marble(vein: Color, seed: int) -> ProceduralTexture:
    return props.marble(vein, seed).model_copy(update={"resolution": 320})


def _props(
    rng: np.random.Generator,
    ranges: StressRanges,
    palette: tuple[Color, ...],
    taken: list[tuple[float, float, float]],
    roles: set[str],
) -> list[ObjectSpec]:
    """Props in the depths; the near one only where nothing else is near."""
    rows: tuple[tuple[Role, int, tuple[float, float], tuple[float, float], tuple[float, float]], ...] = (
        ("subject", draw_count(rng, ranges.subjects), (-0.24, 0.24), (-0.06, 0.2), (0.14, 0.24)),
        ("background", draw_count(rng, ranges.background), (-0.6, 0.6), (0.42, 1.2), (0.15, 0.34)),
        ("foreground", int("foreground" not in roles), (0.07, 0.1), (-0.46, -0.38), (0.18, 0.24)),
    )
    side = float(rng.choice([-1.0, 1.0]))
    objects = []
    for role, count, x, y, height in rows:
        for i in range(count):
            kinds = props.TALL_KINDS if role == "foreground" else props.KINDS
            prop = props.random_prop(rng, palette, draw(rng, *height), kinds)
            across = (min(side * x[0], side * x[1]), max(side * x[0], side * x[1]))
            place = free_place(rng, across, y, prop.radius_m * 1.1, taken)
            if place is None:
                continue
            turning = rng.random() < 0.25
            objects.append(
                ObjectSpec(
                    name=f"{role}-prop-{i}",
                    role=role,
                    shape=prop.shape,
                    material=prop.material,
                    position_m=(*place, round(prop.lift_m + GAP_M, 5)),
                    rotation_deg=(0.0, 0.0, draw(rng, 0, 360, 1)),
                    motion=(Spin(type="spin", rate_deg_s=draw(rng, -50, 50, 1)),) if turning else (),
                )
            )
    return objects


# --- Before the subject -------------------------------------------------------------------------


def _metal(rng: np.random.Generator) -> MaterialSpec:
    if rng.random() < 0.4:
        return MaterialSpec(base_color=pick(rng, props.METALS), metallic=1.0, roughness=draw(rng, 0.25, 0.45))
    return MaterialSpec(
        base_color=pick(rng, ((0.02, 0.02, 0.022), (0.7, 0.7, 0.68), (0.05, 0.2, 0.1))), roughness=0.4
    )


def _fence(rng: np.random.Generator) -> list[ObjectSpec]:
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


def _occluders(rng: np.random.Generator, palette: tuple[Color, ...]) -> list[ObjectSpec]:
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


def _slats(rng: np.random.Generator) -> list[ObjectSpec]:
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


def _beads(rng: np.random.Generator, palette: tuple[Color, ...]) -> list[ObjectSpec]:
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


def _fibres(
    rng: np.random.Generator, count: int, taken: list[tuple[float, float, float]]
) -> list[ObjectSpec]:
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
                    type="fibres", arrangement="fur", count=2 * count, length_m=draw(rng, 0.02, 0.05), radius_m=0.0004,
                    width_m=round(2 * radius, 4), curl=draw(rng, 0.2, 0.8), droop=draw(rng, 0.3, 1.4), seed=seed,
                )  # fmt: skip
                objects.append(hairy(name, role, shape, (x, y, lift), material))
            case "tuft":
                shape = Fibres(
                    type="fibres", arrangement="tuft", count=count, length_m=draw(rng, 0.12, 0.2), radius_m=0.0005,
                    width_m=0.05, curl=draw(rng, 0.1, 0.5), droop=draw(rng, 0.0, 0.8), seed=seed, steps=8,
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
                    type="fibres", arrangement="curtain", count=700, length_m=0.45, radius_m=0.0006, width_m=1.0,
                    curl=0.06, droop=0.6, seed=seed, steps=10,
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
                    type="tube", points_m=((0.02, 0.0, -tall), (0.012, 0.0, -0.5 * tall), (0.0, 0.0, 0.0)), radius_m=0.0022
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


def _wires(rng: np.random.Generator, taken: list[tuple[float, float, float]]) -> list[ObjectSpec]:
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


def _checkers(
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
                material=MaterialSpec(base_color=_checker(other, 8, tiles), roughness=draw(rng, 0.15, 0.5)),
                position_m=(x, y, round(lift + GAP_M, 5)),
                rotation_deg=(0.0, 0.0, draw(rng, 0, 90, 1)),
                motion=(Spin(type="spin", rate_deg_s=draw(rng, -40, 40, 1)),) if rng.random() < 0.5 else (),
            )
        )
    return objects


def _ramp(
    rng: np.random.Generator,
    palette: tuple[Color, ...],
    inks: tuple[Color, Color],
    taken: list[tuple[float, float, float]],
) -> list[ObjectSpec]:
    """A row of like things from close to the camera to the far edge, and a striped board that rises with it."""
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
        material=MaterialSpec(base_color=_checker(inks, 8, (1.0, 5.0)), roughness=0.4),
        position_m=(side * 0.42, 0.45, 0.17),
        rotation_deg=(draw(rng, 6, 12, 1), 0.0, side * 12.0),
    )
    taken.append((side * 0.42, 0.45, 0.2))
    return [*objects, board]
