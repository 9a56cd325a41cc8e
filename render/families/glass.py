"""Transparent and mirroring things on a table before bright backgrounds: glasses, prisms, chrome, mirrors.

Blur follows the light's path through glass and by mirrors, while disparity is that of the first surface: such
clips are labelled by their family. There are bright surfaces all around, since glass shows nothing else.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families import glassware, props
from focuspull.render.families.camera import random_camera
from focuspull.render.families.greenery import leaf_parts
from focuspull.render.families.layout import (
    Count,
    FamilyRanges,
    FocalLength,
    draw,
    draw_count,
    free_place,
    pick,
)
from focuspull.render.families.pieces import Piece, Role, box, knob, pane, part, piece, placed, slab, wire
from focuspull.render.pool import AssetPool
from focuspull.render.records import Unit
from focuspull.render.spec import (
    AreaLight,
    Blob,
    CameraSpec,
    Color,
    Cylinder,
    Environment,
    HdriEnvironment,
    Lathe,
    MaterialSpec,
    ObjectSpec,
    Plane,
    ProceduralTexture,
    SkyEnvironment,
    Sphere,
    Spin,
    Wall,
    World,
)

Setting = Literal["evening", "window", "bar", "studio", "mirrors"]
Share = Annotated[float, Field(ge=0)]
GAP_M = 0.0008
"""Under each thing: where two surfaces coincide, renderers may hit either."""
WALL_COLORS: tuple[Color, ...] = (
    (0.6, 0.2, 0.12), (0.15, 0.38, 0.48), (0.68, 0.52, 0.2), (0.26, 0.46, 0.28), (0.66, 0.6, 0.54),
    (0.48, 0.28, 0.52),
    (0.22, 0.28, 0.55), (0.72, 0.43, 0.36),
)  # fmt: skip
LIGHTS: tuple[Color, ...] = (
    (1.0, 0.5, 0.15), (1.0, 0.68, 0.34), (0.4, 0.68, 1.0), (1.0, 0.2, 0.36), (0.2, 0.9, 0.6),
    (0.6, 0.32, 1.0),
)  # fmt: skip


class GlassRanges(FamilyRanges):
    """Ranges of the family.

    Attributes:
        settings: How often each background is drawn, against the others: bulbs in the ``evening``, a
            ``window``, the shelves of a ``bar``, strips of light in a ``studio``, or framed ``mirrors``.
        subjects: Things in the middle, 0.5 to 0.9 m from the camera.
        background: Things behind them.
        foreground: Things close to the camera, at the side.
        filled: Share of the vessels that something is in.
        metal: Share of the things that are of polished metal.
        solid: Share of the things that are of massive glass.
        opaque: Share of the things behind that are neither.
        spinning: Share of the massive subjects that turn.
        panoramas: Share of the clips that a panorama lights, where the corpus has some.
    """

    family: Literal["glass"]
    settings: dict[Setting, Share] = Field(
        default={"evening": 1.0, "window": 1.0, "bar": 1.0, "studio": 1.0, "mirrors": 0.8}
    )
    subjects: Count = (2, 4)
    background: Count = (4, 7)
    foreground: Count = (1, 2)
    filled: Unit = 0.6
    metal: Unit = 0.2
    solid: Unit = 0.3
    opaque: Unit = 0.3
    spinning: Unit = 0.4
    panoramas: Unit = 0.3
    camera_reach_m: tuple[float, float] = (0.06, 0.18)
    focal_length_mm: tuple[FocalLength, FocalLength] = (42, 70)


def random_glass(rng: np.random.Generator, ranges: GlassRanges, assets: AssetPool) -> World:
    """A table with glass, drawn."""
    names = sorted(ranges.settings)
    shares = np.array([ranges.settings[name] for name in names], np.float64)
    setting = str(rng.choice(names, p=shares / shares.sum()))
    wall = pick(rng, WALL_COLORS)
    focal = draw(rng, *ranges.focal_length_mm, digits=1)
    half = 18.0 / focal
    distance = round(draw(rng, 0.6, 0.82) * 0.36 / half, 3)
    objects = [_table(rng, setting)]
    taken: list[tuple[float, float, float]] = []
    rows: tuple[tuple[Role, tuple[int, int], float, tuple[float, float]], ...] = (
        ("subject", ranges.subjects, 0.5, (-0.09, 0.12)),
        ("foreground", ranges.foreground, 0.0, (-0.56 * distance, -0.4 * distance)),
        ("background", ranges.background, 0.95, (0.28, 0.75)),
    )
    for role, count, spread, y in rows:
        for i in range(draw_count(rng, count)):
            pieces, radius = _thing(rng, ranges, role)
            if role == "foreground":  # beside the line of sight, alternating
                s = (-1) ** i * (1 if not taken or taken[0][0] < 0 else -1)
                edge = half * (distance + y[0])
                x = tuple(sorted((s * 0.55 * edge, s * 0.85 * edge)))
                place = free_place(rng, (x[0], x[1]), y, 0.3 * radius, taken)
            else:
                x_reach = spread * half * (distance + (y[0] if role == "subject" else y[1]))
                place = free_place(rng, (-x_reach, x_reach), y, radius, taken)
            if place is None:
                continue
            alone = len(pieces) == 1 and role == "subject" and rng.random() < ranges.spinning
            motion = (Spin(type="spin", rate_deg_s=draw(rng, 15, 50, 1)),) if alone else ()
            objects += placed(
                f"{role}-{i}", pieces, (*place, GAP_M), draw(rng, 0, 360, 1), role=role, motion=motion
            )
    scenery, fill = _setting(rng, setting, wall)
    objects += scenery

    height = draw(rng, 0.13, 0.32)
    position = (draw(rng, -0.05, 0.05), -distance, height)
    aim = (draw(rng, -0.03, 0.03), 0.05, draw(rng, 0.085, 0.12))
    path, handheld = random_camera(rng, position, aim, draw(rng, *ranges.camera_reach_m), obstacles=objects)
    environment: Environment = SkyEnvironment(
        type="sky",
        zenith=props.glowing((0.95, 1.0, 1.08), fill),
        horizon=props.glowing((1.0, 0.95, 0.9), 0.9 * fill),
        ground=props.glowing((0.5, 0.42, 0.36), 0.6 * fill),
    )
    if assets.hdris and setting in ("studio", "mirrors") and rng.random() < ranges.panoramas:
        environment = HdriEnvironment(
            type="hdri", file=pick(rng, assets.hdris), rotation_deg=draw(rng, 0, 360, 1)
        )
    side = float(rng.choice([-1.0, 1.0]))
    return World(
        objects=tuple(objects),
        lights=(
            AreaLight(  # a large soft window beside the table
                type="area",
                position_m=(side * 1.7, -0.5, 1.2),
                look_at_m=(0.0, 0.1, 0.05),
                size_m=(1.3, 1.5),
                radiance=props.glowing((1.0, 0.95, 0.88), draw(rng, 3.0, 5.0)),
            ),
        ),
        environment=environment,
        camera=CameraSpec(focal_length_mm=focal, path=path, handheld=handheld),
    )


def _thing(rng: np.random.Generator, ranges: GlassRanges, role: str) -> tuple[list[Piece], float]:
    """A thing and the radius that it needs."""
    segments = 64 if role == "subject" else 48
    kind = rng.random()
    if role == "background" and kind < ranges.opaque:
        prop = props.random_prop(
            rng, pick(rng, props.PALETTES), draw(rng, 0.09, 0.2), ("ball", "fruit", "cone", "pawn")
        )
        material = (
            prop.material
            if prop.material.transmission == 0
            else MaterialSpec(base_color=pick(rng, WALL_COLORS))
        )
        assert isinstance(prop.shape, Sphere | Blob | Cylinder | Lathe)
        return [piece("prop", material, [part(prop.shape, (0, 0, prop.lift_m))])], 1.1 * prop.radius_m
    kind = rng.random()
    if kind < ranges.metal:
        return glassware.metalware(rng), 0.065
    if kind < ranges.metal + ranges.solid and role != "foreground":
        return glassware.solid_glass(rng), 0.08
    return glassware.random_vessel(rng, ranges.filled, segments), 0.062


def _table(rng: np.random.Generator, setting: str) -> ObjectSpec:
    """Wood, stone, a cloth, or black lacquer that mirrors what stands on it."""
    seed = int(rng.integers(256))
    cloth = ProceduralTexture(
        type="checker", color_a=pick(rng, WALL_COLORS), color_b=(0.74, 0.72, 0.68), cells=16, octaves=3,
        resolution=512, seed=seed, tiles=(2.0, 2.0),
    )  # fmt: skip
    kinds = {
        "wood": MaterialSpec(base_color=props.wood(seed, tiles=(2.0, 1.0)), roughness=0.3),
        "stone": MaterialSpec(base_color=props.marble((0.3, 0.28, 0.27), seed), roughness=0.12),
        "cloth": MaterialSpec(base_color=cloth, roughness=0.9),
        "lacquer": MaterialSpec(base_color=(0.03, 0.03, 0.035), roughness=0.06),
        "white": MaterialSpec(base_color=(0.72, 0.71, 0.69), roughness=0.25),
    }
    names = ("white", "lacquer", "stone") if setting == "studio" else ("wood", "stone", "cloth", "lacquer")
    top = Plane(type="plane", size_m=(3.2, 3.0))
    return ObjectSpec(name="table", shape=top, material=kinds[pick(rng, names)], position_m=(0.0, 0.0, 0.0))


def _setting(rng: np.random.Generator, setting: str, wall: Color) -> tuple[list[ObjectSpec], float]:
    """What is behind the table, and the radiance of the light all around."""
    match setting:
        case "window":
            return _window(rng, wall), 0.55
        case "bar":
            return _bar(rng, wall), 0.4
        case "studio":
            return _studio(rng), 0.5
        case "mirrors":
            return [
                *_mirrors(rng),
                *_back_wall(rng, wall, 2.2),
                *_bulbs(rng, draw_count(rng, (8, 14)), 1.9),
            ], 0.5
        case _:
            return [
                *_back_wall(rng, wall, draw(rng, 2.2, 3.0)),
                *_bulbs(rng, draw_count(rng, (24, 40)), 2.0),
            ], 0.45


def _back_wall(rng: np.random.Generator, color: Color, y: float) -> list[ObjectSpec]:
    """Plaster, panels or bricks, with a few framed pictures."""
    kind = pick(rng, ("perlin", "bricks", "perlin"))
    texture = ProceduralTexture(
        type=kind,
        color_a=props.shaded(color, 0.8, 0.0),
        color_b=props.shaded(color, 1.25, 0.05),
        cells=10 if kind == "bricks" else 4,
        octaves=5,
        resolution=512,
        seed=int(rng.integers(256)),
        tiles=(3.0, 1.5),
    )
    plane = Plane(type="plane", size_m=(9.0, 4.5))
    objects = [
        ObjectSpec(
            name="wall", shape=plane, material=MaterialSpec(base_color=texture, roughness=0.8),
            position_m=(0.0, y, 1.0), rotation_deg=(90.0, 0.0, 0.0),
        )
    ]  # fmt: skip
    for i in range(draw_count(rng, (1, 3))):
        w, h = draw(rng, 0.3, 0.6), draw(rng, 0.3, 0.5)
        x, z = draw(rng, -1.0, 1.0), draw(rng, 0.3, 0.8)
        art = MaterialSpec(
            base_color=pick(rng, (props.marble(pick(rng, WALL_COLORS), i), pick(rng, WALL_COLORS))),
            roughness=0.4,
        )
        shelf = [
            piece("art", art, [pane(-w / 2, 0, w / 2, h, -0.02 - 0.004 * i)]),
            piece(
                "frame",
                MaterialSpec(base_color=(0.05, 0.045, 0.04), roughness=0.3),
                [slab((-w / 2 - 0.03, -0.018 - 0.004 * i, -0.03), (w / 2 + 0.03, 0, h + 0.03))],
            ),
        ]
        objects += placed(f"picture-{i}", shelf, (x, y - 0.01, z))
    return objects


def _bulbs(rng: np.random.Generator, count: int, far_m: float) -> list[ObjectSpec]:
    """Bulbs on sagging strings, of one colour or several."""
    colors = pick(rng, ((LIGHTS[0], LIGHTS[1]), LIGHTS, (LIGHTS[2], LIGHTS[1])))
    by_color: dict[Color, list] = {color: [] for color in colors}  # type: ignore[type-arg]
    cords = []
    strings = 2 + count // 14
    for _ in range(strings):
        y, top, sag = draw(rng, 0.6, 0.95) * far_m, draw(rng, 0.25, 0.75), draw(rng, 0.1, 0.25)
        points = []
        for i in range(count // strings):
            t = 2 * (i + 0.5) / (count // strings) - 1
            at = (1.3 * t + draw(rng, -0.05, 0.05), y, top - sag * (1 - t * t) + draw(rng, -0.03, 0.03))
            points.append((at[0], at[1], at[2] + 0.035))
            by_color[pick(rng, colors)].append(knob(at, draw(rng, 0.014, 0.026), segments=20))
        cords.append(wire(points, 0.002, segments=6, steps=4))
    strength = draw(rng, 3.5, 8, 1)
    pieces = [piece("cords", MaterialSpec(base_color=(0.03, 0.03, 0.03)), cords)]
    pieces += [
        piece(f"light-{i}", MaterialSpec(emission=props.glowing(c, strength)), p)
        for i, (c, p) in enumerate(by_color.items())
    ]
    return placed("bulbs", pieces)


def _window(rng: np.random.Generator, wall: Color) -> list[ObjectSpec]:
    """A wall with a window, bright sky and leaves outside."""
    y = draw(rng, 1.0, 1.5)
    w, h, low = draw(rng, 1.1, 1.7, 2), draw(rng, 0.9, 1.2, 2), draw(rng, -0.08, 0.05, 2)
    floor = -0.8
    hole = (round(-w / 2, 3), round(low - floor, 3), round(w / 2, 3), round(low - floor + h, 3))
    outer = Wall(type="wall", size_m=(6.0, 3.4), depth_m=0.22, openings_m=(hole,))
    columns, rows = draw_count(rng, (2, 3)), draw_count(rng, (1, 3))
    bar, cw, rh = 0.045, w / columns, h / rows
    holes = tuple(
        (
            round(-w / 2 + i * cw + bar, 4),
            round(j * rh + bar, 4),
            round(-w / 2 + (i + 1) * cw - bar, 4),
            round((j + 1) * rh - bar, 4),
        )
        for i in range(columns)
        for j in range(rows)
    )
    grid = Wall(type="wall", size_m=(w, h), depth_m=0.05, openings_m=holes)
    paint = MaterialSpec(
        base_color=pick(rng, ((0.75, 0.74, 0.7), (0.25, 0.14, 0.07), (0.08, 0.16, 0.14))), roughness=0.35
    )
    objects = placed(
        "wall",
        [piece("wall", MaterialSpec(base_color=wall, roughness=0.85), [part(outer, (0, 0, floor))])],
        (0, y, 0),
    )
    objects += placed(
        "window",
        [
            piece(
                "frame",
                paint,
                [part(grid, (0, 0.1, low)), slab((-w / 2 - 0.1, -0.14, low - 0.04), (w / 2 + 0.1, 0.2, low))],
            )
        ],
        (0, y, 0),
    )
    # Sky as a panel: the light of an overcast day, brighter than what is in the room.
    sky = piece(
        "sky",
        MaterialSpec(
            emission=props.glowing(pick(rng, ((0.62, 0.85, 1.15), (1.1, 0.85, 0.6))), draw(rng, 0.75, 1.0))
        ),
        [pane(-5, -2, 5, 5, 0.0)],
    )
    objects += placed("outside", [sky], (0, y + 4.5, 0))
    for i in range(3):
        green = pick(rng, ((0.1, 0.28, 0.05), (0.22, 0.36, 0.08), (0.08, 0.2, 0.08), (0.45, 0.3, 0.06)))
        places = np.stack(
            [rng.uniform(-1.1, 1.1, 160), rng.uniform(-0.3, 0.3, 160), rng.uniform(-0.6, 0.6, 160)], axis=1
        )
        bush = [
            piece("leaves", MaterialSpec(base_color=green, roughness=0.5), leaf_parts(rng, places, 0.22)),
            piece(
                "inner",
                MaterialSpec(base_color=props.shaded(green, 0.6, 0.0), roughness=0.8),
                [
                    part(
                        Blob(
                            type="blob",
                            radius_m=0.7,
                            amplitude=0.4,
                            frequency=2.0,
                            seed=int(rng.integers(256)),
                            segments=32,
                        ),
                        (0, 0.3, -0.35),
                    )
                ],
            ),
        ]
        objects += placed(
            f"bush-{i}",
            bush,
            (-1.6 + 1.6 * i + draw(rng, -0.4, 0.4), y + draw(rng, 1.6, 3.2), draw(rng, -0.1, 0.35)),
        )
    return objects


def _bar(rng: np.random.Generator, wall: Color) -> list[ObjectSpec]:
    """Shelves of bottles before a glowing panel."""
    y = draw(rng, 1.1, 1.5)
    tint = pick(rng, LIGHTS)
    boards, bottles = [], []
    for level, z in enumerate((0.02, 0.42, 0.82)):
        boards.append(slab((-1.5, -0.16, z - 0.025), (1.5, 0.12, z)))
        x = -1.1
        while x < 1.1:
            kind = pick(rng, ("wine-bottle", "round-bottle", "flask", "wine-bottle", "tumbler"))
            bottles.append(
                (kind, pick(rng, glassware.TINTS), (round(x, 4), -0.02, z + GAP_M), draw(rng, 0.9, 1.15, 3))
            )
            x += draw(rng, 0.13, 0.24)
        if level:
            boards.append(box((2.9, 0.02, 0.02), (0, -0.15, z - 0.035)))
    panel = piece(
        "panel",
        MaterialSpec(emission=props.glowing(tint, draw(rng, 0.9, 1.6))),
        [pane(-1.6, -0.3, 1.6, 1.6, 0.13)],
    )
    strips = piece("strips", MaterialSpec(emission=props.glowing(pick(rng, LIGHTS), 5.0)), [
        box((2.8, 0.012, 0.012), (0, -0.14, z - 0.055)) for z in (0.42, 0.82)
    ])  # fmt: skip
    wood = MaterialSpec(base_color=props.wood(int(rng.integers(256)), resolution=256), roughness=0.35)
    objects = placed("shelf", [piece("boards", wood, boards), panel, strips], (0, y, 0))
    # One object per tint: few objects, many bottles.
    for i, tint_of in enumerate(glassware.TINTS):
        parts = [
            p.model_copy(update={"position_m": at})
            for kind, color, at, scale in bottles
            if color == tint_of
            for p in glassware.vessel(kind, glassware.CHROME, scale, 32).parts
        ]
        objects += placed(
            f"bottles-{i}", [piece("glass", glassware.glass(tint_of), parts)], (0, y, 0), role="background"
        )
    side = MaterialSpec(base_color=wall, roughness=0.8)
    return [*objects, *placed("side", [piece("side", side, [slab((-4, 0.2, -1), (4, 0.3, 3))])], (0, y, 0))]


def _studio(rng: np.random.Generator) -> list[ObjectSpec]:
    """Upright strips of light and coloured boards before a backdrop with a pattern."""
    y = draw(rng, 1.2, 1.9)
    a, b = pick(rng, WALL_COLORS), pick(rng, (*WALL_COLORS, (0.75, 0.74, 0.7), (0.75, 0.74, 0.7)))
    pattern = pick(rng, ("checker", "stripes", "marble"))
    tiles = {"checker": (2.0, 1.0), "stripes": (3.0, 0.001), "marble": (2.0, 1.0)}[pattern]
    texture = ProceduralTexture(
        type="marble" if pattern == "marble" else "checker",
        color_a=a,
        color_b=b,
        cells=8,
        octaves=3,
        resolution=512,
        seed=int(rng.integers(256)),
        tiles=tiles,
    )
    backdrop = piece(
        "backdrop", MaterialSpec(base_color=texture, roughness=0.8), [pane(-3.0, -1, 3.0, 2.4, 0.0)]
    )
    strips: list[Piece] = []
    for i in range(draw_count(rng, (2, 5))):
        x, lean = draw(rng, -1.0, 1.0), draw(rng, -25, 25, 1)
        light = MaterialSpec(emission=props.glowing(pick(rng, LIGHTS), draw(rng, 3.0, 6.0)))
        strips.append(
            piece(f"strip-{i}", light, [box((0.05, 0.05, 1.6), (x, -0.2 - 0.12 * i, 0.6), (0.0, lean, 0.0))])
        )
    boards = [
        piece(
            f"board-{i}",
            MaterialSpec(base_color=pick(rng, WALL_COLORS), roughness=0.6),
            [
                box(
                    (draw(rng, 0.2, 0.5), 0.02, draw(rng, 0.3, 0.7)),
                    (s * draw(rng, 0.5, 1.1), -0.1, 0.2),
                    (0.0, draw(rng, -15, 15, 1), 0.0),
                )
            ],
        )
        for i, s in enumerate((-1, 1))
    ]
    return placed("backdrop", [backdrop, *boards, *strips], (0, y, 0))


def _mirrors(rng: np.random.Generator) -> list[ObjectSpec]:
    """Two or three framed mirrors behind the things, turned this way and that."""
    objects: list[ObjectSpec] = []
    for i in range(draw_count(rng, (2, 3))):
        x = -0.42 + 0.42 * i + draw(rng, -0.06, 0.06)
        at = (x, draw(rng, 0.85, 1.0) + 0.05 * (i % 2), GAP_M)
        objects += placed(
            f"mirror-{i}", glassware.random_mirror(rng), at, draw(rng, -18, 18, 1), role="background"
        )
    return objects
