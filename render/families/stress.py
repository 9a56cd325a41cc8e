"""What breaks refocusing, arranged as a still life: fine things before, around and as the subject.

Each scene has one difficulty, or two: fences, hair, checkerboards, near things that pass, slats, wire balls,
bead curtains, rows into the depth.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families import obstacles, props
from focuspull.render.families.camera import random_camera
from focuspull.render.families.layout import (
    Count,
    FamilyRanges,
    FocalLength,
    draw,
    draw_count,
    free_place,
    pick,
)
from focuspull.render.spec import (
    AreaLight,
    Box,
    CameraSpec,
    Color,
    LightSource,
    MaterialSpec,
    ObjectSpec,
    Plane,
    ProceduralTexture,
    SkyEnvironment,
    Spin,
    SunLight,
    Texture,
    Vec3,
    World,
)

Range = tuple[float, float]
Difficulty = Literal["fence", "fibres", "checkers", "occluders", "slats", "wires", "beads", "ramp"]

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
    inks = pick(rng, obstacles.INKS)
    objects = _studio(rng, palette, inks if "checkers" in kinds else None)
    taken: list[tuple[float, float, float]] = []
    for kind in kinds:
        match kind:
            case "fence":
                objects += obstacles.fence(rng)
            case "fibres":
                objects += obstacles.fibres(rng, draw_count(rng, ranges.fibres), taken)
            case "checkers":
                objects += obstacles.checkers(rng, inks, taken)
            case "occluders":
                objects += obstacles.occluders(rng, palette)
            case "slats":
                objects += obstacles.slats(rng)
            case "wires":
                objects += obstacles.wires(rng, taken)
            case "beads":
                objects += obstacles.beads(rng, palette)
            case _:
                objects += obstacles.ramp(rng, palette, inks, taken)
    objects += _props(rng, ranges, palette, taken, {item.role for item in objects})

    position = (draw(rng, -0.06, 0.06), draw(rng, -1.0, -0.92), draw(rng, 0.2, 0.4))
    focal_mm = draw(rng, *ranges.focal_length_mm, digits=1)
    path, handheld = random_camera(
        rng,
        position,
        (0.0, 0.1, 0.11),
        draw(rng, *ranges.camera_reach_m),
        obstacles=objects,
        focal_length_mm=focal_mm,
    )
    light, environment = _light(rng)
    return World(
        objects=tuple(objects),
        lights=light,
        environment=environment,
        camera=CameraSpec(focal_length_mm=focal_mm, path=path, handheld=handheld),
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


def _studio(
    rng: np.random.Generator, palette: tuple[Color, ...], inks: tuple[Color, Color] | None
) -> list[ObjectSpec]:
    """A table top and a wall behind it."""
    seed = int(rng.integers(256))
    color = pick(rng, palette)
    top: Texture
    match int(rng.integers(4)):
        case _ if inks is not None:
            top = obstacles.checker(inks, 8, (4.0, 4.0))
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
            wall = obstacles.checker(pick(rng, obstacles.INKS), 2, (9.0, 0.5))
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
    rows: tuple[
        tuple[obstacles.Role, int, tuple[float, float], tuple[float, float], tuple[float, float]], ...
    ] = (
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
                    position_m=(*place, round(prop.lift_m + obstacles.GAP_M, 5)),
                    rotation_deg=(0.0, 0.0, draw(rng, 0, 360, 1)),
                    motion=(Spin(type="spin", rate_deg_s=draw(rng, -50, 50, 1)),) if turning else (),
                )
            )
    return objects
