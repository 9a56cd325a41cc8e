"""Still life on a wooden table: props in three depths, a string of lights and a wall far behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families import props
from focuspull.render.families.camera import random_camera
from focuspull.render.families.falling import random_dropped, random_settled
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
    Cylinder,
    MaterialSpec,
    ObjectSpec,
    Plane,
    ProceduralTexture,
    SkyEnvironment,
    Sphere,
    Spin,
    Torus,
    World,
)

TABLE_TOP_M = 0.04
GAP_M = 0.001
"""Under each prop: where two surfaces coincide, as under glass, renderers may hit either."""
BULB_COLORS = ((1.0, 0.62, 0.28), (1.0, 0.72, 0.42), (1.0, 0.5, 0.2), (0.55, 0.75, 1.0))


class TabletopRanges(FamilyRanges):
    """Ranges of the family.

    Attributes:
        subjects: Props in the middle, 0.9 m from the camera.
        background: Props behind them, to the far edge of the table.
        foreground: Props close to the camera, at the side.
        bulbs: Bulbs on the string of lights, 2 to 3 m away.
        stems: Stems, 2 to 4 mm thick, in each of two sheaves: one before the subjects, of their role, one
            close to the camera.
        clear: Share of the subjects that are of glass or a mirror.
        spin_deg_s: How fast subjects turn, those that do.
        spinning: Share of the subjects that do.
        dropped: Small things that fall onto the table during the clip, and push subjects about.
        settled: Whether subjects and background lie as they fell, with fruit and books among them.
    """

    family: Literal["tabletop"]
    subjects: Count = (3, 4)
    background: Count = (4, 6)
    foreground: Count = (1, 2)
    bulbs: Count = (10, 16)
    stems: Count = (0, 0)
    clear: Annotated[float, Field(ge=0, le=1)] = 0.0
    spin_deg_s: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (20, 60)
    spinning: Annotated[float, Field(ge=0, le=1)] = 0.3
    dropped: Count = (0, 0)
    settled: bool = False
    camera_reach_m: tuple[float, float] = (0.08, 0.16)
    focal_length_mm: tuple[FocalLength, FocalLength] = (40, 55)
    later_fields: ClassVar[tuple[str, ...]] = (
        "stems",
        "clear",
        "spin_deg_s",
        "spinning",
        "dropped",
        "settled",
    )


def random_tabletop(rng: np.random.Generator, ranges: TabletopRanges) -> World:
    """A table, drawn."""
    palette = pick(rng, props.PALETTES)
    objects = [_table(int(rng.integers(256))), _wall(rng, palette)]
    taken: list[tuple[float, float, float]] = []
    rows = (
        ("subject", ranges.subjects, (-0.28, 0.28), (-0.08, 0.22), (0.13, 0.22)),
        ("foreground", ranges.foreground, (-0.09, 0.09), (-0.42, -0.34), (0.22, 0.26)),
        ("background", ranges.background, (-0.62, 0.62), (0.42, 1.0), (0.15, 0.3)),
    )
    for role, count, x, y, height in rows:
        for i in range(draw_count(rng, count)):
            kinds = props.TALL_KINDS if role == "foreground" else props.KINDS
            prop = props.random_prop(rng, palette, draw(rng, *height), kinds)
            across = x
            if role == "foreground":  # beside the line of sight, alternating
                across = (-0.09, -0.06) if (i + (bool(taken) and taken[0][0] > 0)) % 2 else (0.06, 0.09)
            place = free_place(rng, across, y, prop.radius_m * 1.15, taken)
            if place is not None:
                # Drawn only where they are asked for, so that other corpora keep their scenes.
                if role == "subject" and ranges.clear and rng.random() < ranges.clear:
                    prop = _clear(rng, prop)
                objects.append(_standing(rng, f"{role}-{i}", role, prop, place, ranges))
    if ranges.stems[1]:
        objects += _sheaf(
            rng, "stem", "subject", draw_count(rng, ranges.stems), (draw(rng, -0.12, 0.12), -0.14)
        )
        side = float(rng.choice([-1.0, 1.0]))
        objects += _sheaf(rng, "blade", "foreground", draw_count(rng, ranges.stems), (side * 0.16, -0.42))
    bulbs = _lights_string(rng, draw_count(rng, ranges.bulbs))
    if ranges.settled:
        objects = random_settled(rng, objects, palette)
    if ranges.dropped[1]:
        objects = random_dropped(rng, objects, draw_count(rng, ranges.dropped), palette)
    objects += bulbs

    position = (draw(rng, -0.03, 0.03), draw(rng, -0.98, -0.92), draw(rng, 0.3, 0.42))
    aim, reach = (0.0, 0.12, 0.12), draw(rng, *ranges.camera_reach_m)
    if ranges.settled or ranges.dropped[1]:
        path, handheld = random_camera(rng, position, aim, reach, obstacles=objects)
    else:
        path, handheld = random_camera_move(rng, position, aim, reach)
    side = float(rng.choice([-1.0, 1.0]))
    return World(
        objects=tuple(objects),
        lights=(
            AreaLight(  # a window beside the table
                type="area",
                position_m=(side * 1.5, -0.5, 1.3),
                look_at_m=(0.0, 0.15, 0.05),
                size_m=(0.9, 0.9),
                radiance=(20.0, 18.9, 17.4),
            ),
        ),
        environment=SkyEnvironment(
            type="sky", zenith=(0.45, 0.52, 0.62), horizon=(0.5, 0.46, 0.43), ground=(0.2, 0.15, 0.12)
        ),
        camera=CameraSpec(
            focal_length_mm=draw(rng, *ranges.focal_length_mm, digits=1), path=path, handheld=handheld
        ),
    )


def _standing(
    rng: np.random.Generator,
    name: str,
    role: str,
    prop: props.Prop,
    place: tuple[float, float],
    ranges: TabletopRanges,
) -> ObjectSpec:
    turning = role == "subject" and rng.random() < ranges.spinning
    return ObjectSpec(
        name=name,
        role=role,  # type: ignore[arg-type]
        shape=prop.shape,
        material=prop.material,
        position_m=(*place, round(prop.lift_m + GAP_M, 5)),
        rotation_deg=(0.0, 0.0, draw(rng, 0, 360, 1)),
        motion=(Spin(type="spin", rate_deg_s=draw(rng, *ranges.spin_deg_s, digits=1)),) if turning else (),
    )


def _clear(rng: np.random.Generator, prop: props.Prop) -> props.Prop:
    """The same shape of glass, if it is a clean solid, or as a mirror."""
    if isinstance(prop.shape, Torus) or rng.random() < 0.5:
        return replace(
            prop, material=MaterialSpec(base_color=(0.95, 0.95, 0.95), metallic=1.0, roughness=0.0)
        )
    return replace(
        prop, material=MaterialSpec(base_color=(0.97, 0.98, 0.97), roughness=0.0, transmission=1.0)
    )


def _sheaf(
    rng: np.random.Generator, name: str, role: str, count: int, place: tuple[float, float]
) -> list[ObjectSpec]:
    """Thin stems that fan out of one spot."""
    stems = []
    for i in range(count):
        lean, turn = draw(rng, 4, 28, 2), draw(rng, 0, 360, 1)
        radius, height = draw(rng, 0.001, 0.002), draw(rng, 0.2, 0.34)
        green = (draw(rng, 0.1, 0.35), draw(rng, 0.25, 0.5), draw(rng, 0.05, 0.15))
        stems.append(
            ObjectSpec(
                name=f"{role}-{name}-{i}",
                role=role,  # type: ignore[arg-type]
                shape=Cylinder(
                    type="cylinder", radius_m=radius, top_radius_m=radius / 2, height_m=height, segments=12
                ),
                material=MaterialSpec(base_color=green, roughness=0.5),
                position_m=(
                    round(place[0] + draw(rng, -0.03, 0.03), 4),
                    round(place[1] + draw(rng, -0.03, 0.03), 4),
                    0.004,
                ),
                rotation_deg=(lean, 0.0, turn),
            )
        )
    return stems


def _table(seed: int) -> ObjectSpec:
    texture = props.wood(seed, tiles=(2.0, 1.0), resolution=1024)
    return ObjectSpec(
        name="table",
        shape=Box(type="box", size_m=(2.6, 2.6, TABLE_TOP_M), bevel_m=0.005),
        material=MaterialSpec(base_color=texture, roughness=0.35),
        position_m=(0.0, 0.1, -TABLE_TOP_M / 2),
    )


def _wall(rng: np.random.Generator, palette: tuple[tuple[float, float, float], ...]) -> ObjectSpec:
    color = pick(rng, palette)
    dark, light = props.shaded(color, 0.3, 0.02), props.shaded(color, 0.5, 0.05)
    texture = ProceduralTexture(
        type="bricks",
        color_a=dark,
        color_b=light,
        cells=12,
        resolution=512,
        seed=int(rng.integers(256)),
        tiles=(2, 1),
    )
    return ObjectSpec(
        name="wall",
        shape=Plane(type="plane", size_m=(9.0, 4.5)),
        material=MaterialSpec(base_color=texture, roughness=0.8),
        position_m=(0.0, 2.9, 0.6),
        rotation_deg=(90.0, 0.0, 0.0),
    )


def _lights_string(rng: np.random.Generator, count: int) -> list[ObjectSpec]:
    """Small bulbs on a sagging string across the view, and a few stray ones."""
    sag, height = draw(rng, 0.08, 0.16), draw(rng, 0.3, 0.4)
    bulbs = []
    for i in range(count):
        x = -1.15 + 2.3 * (i + 0.5) / count + draw(rng, -0.05, 0.05)
        z = height - sag * np.cos(np.pi * x / 2.3) + draw(rng, -0.03, 0.03) - 0.15 * (i % 3 == 2)
        color = pick(rng, BULB_COLORS)
        strength = draw(rng, 20, 45, 1)
        bulbs.append(
            ObjectSpec(
                name=f"bulb-{i}",
                shape=Sphere(type="sphere", radius_m=0.011, segments=24),
                material=MaterialSpec(emission=props.glowing(color, strength)),
                position_m=(round(x, 4), draw(rng, 1.7, 2.4), round(float(z), 4)),
            )
        )
    return bulbs
