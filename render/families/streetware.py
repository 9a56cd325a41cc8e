"""What stands in streets and squares: lamps, signs, benches, trees, cafe tables, stalls; all in metres."""

from __future__ import annotations

import numpy as np

from focuspull.render.families import props
from focuspull.render.families.layout import draw, draw_count, pick
from focuspull.render.families.pieces import (
    Piece,
    box,
    drum,
    hoop,
    knob,
    pane,
    part,
    piece,
    rod,
    slab,
    wire,
)
from focuspull.render.spec import (
    Color,
    Faceted,
    Lathe,
    Light3,
    MaterialSpec,
    Part,
    Plane,
    ProceduralTexture,
)

PAINT_COLORS: tuple[Color, ...] = (
    (0.03, 0.1, 0.06), (0.03, 0.05, 0.12), (0.02, 0.02, 0.022), (0.35, 0.03, 0.03), (0.25, 0.26, 0.28),
    (0.04, 0.16, 0.2),
)  # fmt: skip
CLOTHS: tuple[Color, ...] = (
    (0.55, 0.05, 0.05), (0.05, 0.22, 0.14), (0.06, 0.12, 0.35), (0.6, 0.33, 0.04), (0.3, 0.07, 0.2),
    (0.08, 0.3, 0.33),
)  # fmt: skip
FRUIT: tuple[Color, ...] = (
    (0.7, 0.28, 0.02),
    (0.55, 0.04, 0.03),
    (0.65, 0.55, 0.04),
    (0.15, 0.4, 0.05),
    (0.2, 0.04, 0.16),
)
WARM: Light3 = (1.0, 0.72, 0.42)


def metal(color: Color, roughness: float = 0.35) -> MaterialSpec:
    """Painted iron."""
    return MaterialSpec(base_color=color, roughness=roughness)


def stripes(a: Color, b: Color, width_m: float, length_m: float) -> ProceduralTexture:
    """Stripes across u, ``width_m`` each, on a face of ``length_m``."""
    tiles = (round(length_m / width_m / 8, 4), 0.001)
    return ProceduralTexture(
        type="checker", color_a=a, color_b=b, cells=8, octaves=2, resolution=256, tiles=tiles
    )


def lamp_post(style: str, height_m: float, color: Color, light: float, tint: Light3 = WARM) -> list[Piece]:
    """A street lamp: ``lantern``, ``globe`` or ``arm``; ``light`` is its radiance, 0 if it is off."""
    h = height_m
    foot = Lathe(
        type="lathe", segments=24,
        profile_m=((0.16, 0), (0.16, 0.12), (0.11, 0.18), (0.1, 0.6), (0.07, 0.72), (0.05, 0.8)),
    )  # fmt: skip
    iron = [part(foot), drum((0, 0, 0.75), 0.05, h - 0.75, top_m=0.035, segments=16)]
    glow = props.glowing(tint, light) if light else (0.0, 0.0, 0.0)
    glass = MaterialSpec(base_color=(0.75, 0.74, 0.7), roughness=0.25, emission=glow)
    if style == "globe":
        heads = [knob((0, 0, h + 0.16), 0.19)]
        iron.append(drum((0, 0, h - 0.03), 0.09, 0.05, segments=16))
    elif style == "arm":
        iron.append(
            wire(((0, 0, h - 0.1), (0, -0.15, h + 0.5), (0, -0.7, h + 0.75), (0, -1.3, h + 0.72)), 0.035)
        )
        iron.append(box((0.22, 0.62, 0.09), (0, -1.5, h + 0.74), bevel_m=0.03))
        heads = [part(Plane(type="plane", size_m=(0.16, 0.5)), (0, -1.5, h + 0.69), (180.0, 0.0, 0.0))]
    else:
        cage = ((0, 0), (0.1, 0.0), (0.19, 0.42), (0, 0.42))
        heads = [part(Faceted(type="faceted", profile_m=cage, sides=6), (0, 0, h + 0.06))]
        hat = ((0, 0.0), (0.25, 0.0), (0.1, 0.17), (0.03, 0.2), (0, 0.28))
        iron.append(part(Faceted(type="faceted", profile_m=hat, sides=6), (0, 0, h + 0.485)))
        iron.append(drum((0, 0, h - 0.02), 0.1, 0.06, top_m=0.13, segments=16))
        iron += [
            rod(
                (0.105 * np.cos(a), 0.105 * np.sin(a), h + 0.04),
                (0.2 * np.cos(a), 0.2 * np.sin(a), h + 0.5),
                0.012,
                segments=6,
            )
            for a in 2 * np.pi * np.arange(6) / 6
        ]
    return [piece("post", metal(color), iron), piece("light", glass, heads)]


def traffic_sign(kind: str, height_m: float = 2.4) -> list[Piece]:
    """A sign on a post: ``limit``, ``yield``, ``parking`` or ``stop``."""
    steel = MaterialSpec(base_color=(0.55, 0.56, 0.57), roughness=0.35, metallic=1.0)
    post = [drum((0, 0, 0), 0.035, height_m, segments=16)]
    front = (90.0, 0.0, 0.0)  # z of the shape to -y
    y, z = -0.06, height_m - 0.3
    red, white = (0.55, 0.02, 0.02), (0.8, 0.8, 0.78)
    if kind == "limit":
        base = [drum((0, y + 0.02, z), 0.3, 0.02, turn=front)]
        face = [drum((0, y, z), 0.225, 0.006, turn=front)]
        marks = [box((0.06, 0.004, 0.2), (-0.07, y - 0.009, z)), hoop((0.07, y - 0.006, z), 0.07, 0.022)]
        colors = (red, white, (0.02, 0.02, 0.02))
    elif kind == "stop":
        eight = ((0, 0), (0.33, 0), (0.33, 0.02), (0, 0.02))
        inner = ((0, 0), (0.3, 0), (0.3, 0.006), (0, 0.006))
        base = [part(Faceted(type="faceted", profile_m=eight, sides=8), (0, y + 0.02, z), (90.0, 22.5, 0.0))]
        face = [part(Faceted(type="faceted", profile_m=inner, sides=8), (0, y, z), (90.0, 22.5, 0.0))]
        marks = [box((0.4, 0.004, 0.1), (0, y - 0.009, z))]
        colors = (white, red, white)
    elif kind == "yield":
        outer = ((0, 0), (0.42, 0), (0.42, 0.02), (0, 0.02))
        inner = ((0, 0), (0.27, 0), (0.27, 0.006), (0, 0.006))
        base = [part(Faceted(type="faceted", profile_m=outer, sides=3), (0, y + 0.02, z), (90.0, 30.0, 0.0))]
        face = [part(Faceted(type="faceted", profile_m=inner, sides=3), (0, y, z), (90.0, 30.0, 0.0))]
        marks, colors = [], (red, white, white)
    else:
        base = [box((0.56, 0.02, 0.56), (0, y + 0.01, z), bevel_m=0.008)]
        face = [pane(-0.25, z - 0.25, 0.25, z + 0.25, y - 0.006)]
        marks = [
            box((0.06, 0.004, 0.34), (-0.08, y - 0.012, z)),
            hoop((0.0, y - 0.01, z + 0.08), 0.085, 0.028),
        ]
        colors = (white, (0.02, 0.08, 0.4), white)
    sheets = [
        piece(n, MaterialSpec(base_color=c, roughness=0.3), p)
        for n, c, p in zip(("plate", "face", "marks"), colors, (base, face, marks), strict=True)
    ]
    return [*sheets, piece("post", steel, post)]


def bench(wood: MaterialSpec, iron: MaterialSpec, width_m: float = 1.7) -> list[Piece]:
    """A park bench of slats."""
    slats = [box((width_m, 0.085, 0.035), (0, -0.2 + 0.105 * i, 0.44), bevel_m=0.006) for i in range(4)]
    slats += [
        box((width_m, 0.03, 0.085), (0, 0.2 + 0.035 * i, 0.57 + 0.115 * i), (-14.0, 0.0, 0.0), 0.006)
        for i in range(3)
    ]
    legs = []
    for x in (-width_m * 0.42, width_m * 0.42):
        legs.append(
            wire(
                (
                    (x, -0.22, 0),
                    (x, -0.2, 0.3),
                    (x, -0.16, 0.415),
                    (x, 0.15, 0.41),
                    (x, 0.23, 0.5),
                    (x, 0.31, 0.88),
                ),
                0.02,
            )
        )
        legs.append(wire(((x, 0.3, 0), (x, 0.24, 0.22), (x, 0.14, 0.41)), 0.02))
        legs.append(wire(((x, -0.2, 0.42), (x, -0.22, 0.6), (x, -0.05, 0.66), (x, 0.24, 0.62)), 0.017))
    return [piece("slats", wood, slats), piece("legs", iron, legs)]


def bollard(style: str, color: Color) -> list[Piece]:
    """A post about a metre high: ``iron``, ``steel`` or ``stone``."""
    if style == "stone":
        profile = ((0, 0), (0.17, 0), (0.16, 0.5), (0.15, 0.75), (0.1, 0.86), (0, 0.88))
        return [
            piece(
                "stone",
                MaterialSpec(base_color=speckled((0.42, 0.4, 0.37)), roughness=0.8),
                [part(Lathe(type="lathe", profile_m=profile, segments=40))],
            )
        ]
    if style == "steel":
        steel = MaterialSpec(base_color=(0.6, 0.61, 0.62), roughness=0.28, metallic=1.0)
        return [
            piece("post", steel, [drum((0, 0, 0), 0.055, 0.95), knob((0, 0, 0.95), 0.055, (1.0, 1.0, 0.4))]),
            piece(
                "band",
                MaterialSpec(base_color=(0.6, 0.03, 0.02), roughness=0.3),
                [drum((0, 0, 0.78), 0.057, 0.08)],
            ),
        ]
    profile = (
        (0, 0),
        (0.12, 0),
        (0.12, 0.1),
        (0.08, 0.16),
        (0.07, 0.7),
        (0.095, 0.74),
        (0.095, 0.78),
        (0.06, 0.82),
        (0.055, 0.86),
        (0.08, 0.93),
        (0.06, 1.0),
        (0, 1.03),
    )
    return [piece("iron", metal(color), [part(Lathe(type="lathe", profile_m=profile, segments=40))])]


def hydrant(color: Color) -> list[Piece]:
    """A fire hydrant."""
    barrel = (
        (0, 0),
        (0.17, 0),
        (0.17, 0.05),
        (0.115, 0.07),
        (0.11, 0.5),
        (0.15, 0.52),
        (0.15, 0.57),
        (0.12, 0.6),
        (0.105, 0.69),
        (0.06, 0.75),
        (0, 0.77),
    )
    parts = [
        part(Lathe(type="lathe", profile_m=barrel, segments=48)),
        drum((0, 0, 0.76), 0.035, 0.06, segments=16),
    ]
    caps = []
    for turn, at, r in (
        ((90.0, 0.0, 0.0), (0, -0.1, 0.4), 0.075),
        ((0.0, 90.0, 0.0), (0.1, 0, 0.4), 0.055),
        ((0.0, -90.0, 0.0), (-0.1, 0, 0.4), 0.055),
    ):
        parts.append(drum(at, r, 0.07, turn=turn, segments=24))
        out = [c * (1.65 if abs(c) == 0.1 else 1) for c in at]
        caps.append(drum(out, r + 0.012, 0.035, turn=turn, segments=8))
    parts += [
        drum((0.145 * np.cos(a), 0.145 * np.sin(a), 0.565), 0.014, 0.025, segments=8)
        for a in np.arange(8) * np.pi / 4
    ]
    steel = MaterialSpec(base_color=(0.6, 0.6, 0.58), roughness=0.35, metallic=1.0)
    return [piece("barrel", metal(color, 0.3), parts), piece("caps", steel, caps)]


def postbox(color: Color) -> list[Piece]:
    """A pillar box with a slot."""
    body = (
        (0, 0),
        (0.26, 0),
        (0.26, 0.12),
        (0.23, 0.14),
        (0.23, 1.2),
        (0.27, 1.23),
        (0.27, 1.29),
        (0.24, 1.34),
        (0.12, 1.4),
        (0, 1.41),
    )
    black = [slab((-0.12, -0.245, 1.06), (0.12, -0.2, 1.1)), slab((-0.16, -0.228, 0.16), (0.16, -0.2, 0.2))]
    plate = [slab((-0.09, -0.242, 0.72), (0.09, -0.2, 0.95))]
    return [
        piece("body", metal(color, 0.25), [part(Lathe(type="lathe", profile_m=body, segments=64))]),
        piece("slot", metal((0.01, 0.01, 0.01)), black),
        piece("plate", MaterialSpec(base_color=(0.8, 0.79, 0.74), roughness=0.35), plate),
    ]


def statue(rng: np.random.Generator) -> list[Piece]:
    """A turned figure on a stepped plinth."""
    height = draw(rng, 1.0, 1.5)
    points = tuple(
        (round(r * height, 4), round(z * height + 0.9, 4))
        for r, z in props.PROFILES[pick(rng, ("pawn", "vase"))]
    )
    bronze = MaterialSpec(base_color=(0.35, 0.26, 0.14), roughness=0.35, metallic=1.0)
    verdigris = MaterialSpec(
        base_color=props.marble((0.12, 0.26, 0.2), int(rng.integers(256))).model_copy(
            update={"color_a": (0.3, 0.45, 0.36)}
        ),
        roughness=0.6,
    )
    figure = pick(
        rng,
        (
            bronze,
            verdigris,
            MaterialSpec(base_color=props.marble((0.45, 0.43, 0.4), int(rng.integers(256))), roughness=0.35),
        ),
    )
    plinth = [
        box((1.3, 1.3, 0.18), (0, 0, 0.09), bevel_m=0.02),
        box((0.95, 0.95, 0.6), (0, 0, 0.46), bevel_m=0.02),
        box((1.08, 1.08, 0.1), (0, 0, 0.85), bevel_m=0.02),
    ]
    return [
        piece("figure", figure, [part(Lathe(type="lathe", profile_m=points))]),
        piece("plinth", MaterialSpec(base_color=speckled((0.5, 0.47, 0.42)), roughness=0.75), plinth),
    ]


def cafe(rng: np.random.Generator) -> list[Piece]:
    """A round table with things on it and two or three chairs."""
    top = MaterialSpec(base_color=props.marble((0.3, 0.3, 0.32), int(rng.integers(256))), roughness=0.15)
    iron = metal(pick(rng, PAINT_COLORS))
    table = [drum((0, 0, 0.71), 0.36, 0.025, segments=64)]
    legs = [drum((0, 0, 0.02), 0.025, 0.69, segments=16), drum((0, 0, 0), 0.24, 0.03, top_m=0.05)]
    seats: list[Part] = []
    first = draw(rng, 0, 360, 1)
    for i in range(draw_count(rng, (2, 3))):
        angle = np.radians(first + 120 * i + draw(rng, -15, 15, 1))
        frame, seat = _chair(0.62 * np.cos(angle), 0.62 * np.sin(angle), float(angle))
        legs += frame
        seats += seat
    cups = MaterialSpec(base_color=(0.82, 0.81, 0.78), roughness=0.15)
    things = [_turned("cup", 0.085, (x, y, 0.745)) for x, y in ((-0.16, -0.08), (0.14, 0.1))]
    things += [
        drum((x, y, 0.7355), 0.075, 0.008, top_m=0.08, segments=32) for x, y in ((-0.16, -0.08), (0.14, 0.1))
    ]
    bottle = MaterialSpec(base_color=(0.03, 0.12, 0.04), roughness=0.06)
    flowers = [
        knob(
            (0.02 + 0.035 * np.cos(a), -0.02 + 0.035 * np.sin(a), 0.93 + 0.02 * np.sin(3 * a)),
            0.026,
            segments=16,
        )
        for a in np.arange(7) * 0.9
    ]
    stalks = [
        rod(
            (0.02, -0.02, 0.77),
            (0.02 + 0.033 * np.cos(a), -0.02 + 0.033 * np.sin(a), 0.92),
            0.002,
            segments=5,
        )
        for a in np.arange(7) * 0.9
    ]
    return [
        piece("top", top, table),
        piece("iron", iron, legs),
        piece("seats", MaterialSpec(base_color=pick(rng, CLOTHS), roughness=0.6), seats),
        piece("cups", cups, things),
        piece(
            "vase",
            MaterialSpec(base_color=pick(rng, CLOTHS), roughness=0.15),
            [_turned("vase", 0.12, (0.02, -0.02, 0.737))],
        ),
        piece("bottle", bottle, [_turned("bottle", 0.28, (0.17, -0.14, 0.737))]),
        piece("stalks", MaterialSpec(base_color=(0.1, 0.25, 0.05)), stalks),
        piece("flowers", MaterialSpec(base_color=pick(rng, FRUIT), roughness=0.6), flowers),
    ]


def _turned(profile: str, height_m: float, at: tuple[float, float, float]) -> Part:
    points = tuple((round(r * height_m, 5), round(z * height_m, 5)) for r, z in props.PROFILES[profile])
    return part(Lathe(type="lathe", profile_m=points, segments=40), at)


def _chair(x: float, y: float, angle: float) -> tuple[list[Part], list[Part]]:
    """Frame and seat of a bistro chair whose back is away from the origin."""
    c, s = np.cos(angle), np.sin(angle)

    def at(out: float, side: float, z: float) -> tuple[float, float, float]:
        return (x + out * c - side * s, y + out * s + side * c, z)

    frame = []
    for side in (-1, 1):
        frame.append(
            wire((at(0.22, side * 0.19, 0), at(0.17, side * 0.18, 0.45), at(0.22, side * 0.18, 0.86)), 0.011)
        )
        frame.append(rod(at(-0.2, side * 0.18, 0), at(-0.16, side * 0.16, 0.45), 0.011))
    frame.append(wire((at(0.22, -0.18, 0.86), at(0.235, 0, 0.89), at(0.22, 0.18, 0.86)), 0.011))
    frame += [
        rod(at(0.18, k * 0.06, 0.47), at(0.225, k * 0.06, 0.875), 0.006, segments=6)
        for k in (-2, -1, 0, 1, 2)
    ]
    return frame, [drum(at(0, 0, 0.445), 0.205, 0.025)]


def stall(rng: np.random.Generator) -> list[Piece]:
    """A market stall: crates of fruit on a slope under a striped canopy."""
    width, cloth = 2.4, pick(rng, CLOTHS)
    wood = MaterialSpec(base_color=props.wood(int(rng.integers(256)), resolution=256), roughness=0.6)
    posts = [
        slab((sx * width / 2 - 0.03, y - 0.03, 0), (sx * width / 2 + 0.03, y + 0.03, 2.05 + 0.3 * (y > 0)))
        for sx in (-1, 1)
        for y in (-0.55, 0.65)
    ]
    posts.append(slab((-width / 2, -0.5, 0.62), (width / 2, 0.6, 0.68)))
    posts.append(slab((-width / 2 + 0.02, -0.48, 0.1), (width / 2 - 0.02, -0.45, 0.62)))
    fruit: dict[int, list[Part]] = {i: [] for i in range(len(FRUIT))}
    first = int(rng.integers(len(FRUIT)))
    for column in range(5):
        for row in range(2):
            x, y, z = -0.94 + 0.47 * column, -0.26 + 0.5 * row, 0.7 + 0.14 * row
            for a, b in (
                ((-0.215, -0.22), (0.215, -0.2)),
                ((-0.215, 0.2), (0.215, 0.22)),
                ((-0.215, -0.2), (-0.195, 0.2)),
                ((0.195, -0.2), (0.215, 0.2)),
            ):
                posts.append(slab((x + a[0], y + a[1], z), (x + b[0], y + b[1], z + 0.12)))
            kind = (first + column + 2 * row + int(rng.integers(2))) % len(FRUIT)
            r = 0.042
            for i in range(4):
                for j in range(4):
                    jitter = rng.uniform(-0.006, 0.006, 3)
                    place = np.array([x - 0.15 + 0.1 * i, y - 0.15 + 0.1 * j, z + 0.085]) + jitter
                    fruit[kind].append(knob(place.tolist(), r, segments=12))
            for i in range(3):
                for j in range(3):
                    jitter = rng.uniform(-0.006, 0.006, 3)
                    place = np.array([x - 0.1 + 0.1 * i, y - 0.1 + 0.1 * j, z + 0.145]) + jitter
                    fruit[kind].append(knob(place.tolist(), r, segments=12))
    slope = [box((width + 0.5, 1.75, 0.02), (0, 0.02, 2.24), (12.0, 0.0, 0.0)),
             pane(-width / 2 - 0.25, 1.84, width / 2 + 0.25, 2.06, -0.845)]  # fmt: skip
    canopy = MaterialSpec(base_color=stripes(cloth, (0.75, 0.73, 0.68), 0.2, width + 0.5), roughness=0.8)
    tags = [box((0.13, 0.004, 0.09), (-0.94 + 0.47 * i, -0.49, 0.86), (-12.0, 0.0, 0.0)) for i in range(5)]
    return [
        piece("crates", wood, posts),
        piece("canopy", canopy, slope),
        piece("tags", MaterialSpec(base_color=(0.75, 0.72, 0.55), roughness=0.7), tags),
        *(
            piece(f"fruit-{i}", MaterialSpec(base_color=FRUIT[i], roughness=draw(rng, 0.25, 0.5)), p)
            for i, p in fruit.items()
        ),
    ]


def speckled(color: Color, seed: int = 3) -> ProceduralTexture:
    """Stone or concrete of about that colour."""
    return ProceduralTexture(
        type="perlin",
        color_a=props.shaded(color, 0.6, 0.0),
        color_b=props.shaded(color, 1.3, 0.0),
        cells=14,
        octaves=6,
        resolution=256,
        seed=seed,
    )


def litter_bin(color: Color) -> list[Piece]:
    """A bin of staves."""
    staves = [
        box(
            (0.045, 0.02, 0.66),
            (0.21 * np.sin(a), -0.21 * np.cos(a), 0.45),
            (0.0, 0.0, round(float(np.degrees(a)), 2)),
        )
        for a in 2 * np.pi * np.arange(18) / 18
    ]
    rings = [hoop((0, 0, z), 0.215, 0.018, (0.0, 0.0, 0.0)) for z in (0.14, 0.8)]
    inner = [drum((0, 0, 0.1), 0.18, 0.66), drum((0, 0, 0), 0.04, 0.12, segments=12)]
    return [
        piece("staves", metal(color), [*staves, *rings]),
        piece("inner", metal((0.02, 0.02, 0.02), 0.8), inner),
    ]
