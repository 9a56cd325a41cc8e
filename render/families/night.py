"""Wet ground at night: a lit subject, lamps and windows behind it that turn into bokeh discs."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from focuspull.render.families import city, facades, props, vehicles
from focuspull.render.families.layout import (
    Count,
    FamilyRanges,
    FocalLength,
    draw,
    draw_count,
    pick,
    random_camera_move,
)
from focuspull.render.families.lettering import WORDS, tube_letters, word_width
from focuspull.render.families.pieces import hoop, piece, placed, wire
from focuspull.render.records import Unit
from focuspull.render.spec import (
    AreaLight,
    Box,
    CameraSpec,
    Color,
    Cylinder,
    Light3,
    Linear,
    MaterialSpec,
    ObjectSpec,
    Plane,
    ProceduralTexture,
    SkyEnvironment,
    Sphere,
    Vec3,
    World,
)

LAMP_COLORS: tuple[Color, ...] = ((1.0, 0.55, 0.2), (1.0, 0.7, 0.4), (0.85, 0.92, 1.0))
SIGN_COLORS: tuple[Color, ...] = ((1.0, 0.1, 0.12), (0.1, 0.9, 0.45), (0.15, 0.4, 1.0), (1.0, 0.25, 0.7))


class NightRanges(FamilyRanges):
    """Ranges of the family.

    Attributes:
        lamp_pairs: Street lamps on both sides, from 9 to 40 m.
        cars: Cars far behind, two lights each, driving along the street.
        windows: Lit windows on the houses.
        signs: Small coloured lights.
        neon: Words, arrows and rings of glowing tubes along the street.
        shops: Fronts of houses with shops that are lit.
        car_bodies: Share of the cars that have a body around their lights.
        wet: Share of the clips whose ground has puddles that mirror.
    """

    family: Literal["night"]
    lamp_pairs: Count = (4, 6)
    cars: Count = (2, 4)
    windows: Count = (10, 18)
    signs: Count = (6, 10)
    neon: Count = (0, 0)
    shops: Count = (0, 0)
    car_bodies: Unit = 0.0
    wet: Unit = 0.0
    camera_reach_m: tuple[float, float] = (0.2, 0.36)
    focal_length_mm: tuple[FocalLength, FocalLength] = (45, 65)
    later_fields: ClassVar[tuple[str, ...]] = ("neon", "shops", "car_bodies", "wet")


def random_night(rng: np.random.Generator, ranges: NightRanges) -> World:
    """A street at night, drawn."""
    palette = pick(rng, props.PALETTES)
    objects = [_ground(int(rng.integers(256)))]
    objects += _statue(rng, palette)
    objects += _bollards(rng)
    objects += _houses(rng, draw_count(rng, ranges.windows))
    objects += _lamps(rng, draw_count(rng, ranges.lamp_pairs))
    objects += _cars(rng, draw_count(rng, ranges.cars), ranges.car_bodies)
    for i in range(draw_count(rng, ranges.signs)):
        place = (draw(rng, -7, 7), draw(rng, 12, 30), draw(rng, 0.8, 4.5))
        color = pick(rng, SIGN_COLORS)
        objects.append(_glow(f"sign-{i}", place, 0.05, props.glowing(color, draw(rng, 15, 35, 1))))
    # Drawn only where they are asked for, so that other corpora keep their scenes.
    if ranges.shops[1]:
        objects += _shops(rng, draw_count(rng, ranges.shops))
    if ranges.neon[1]:
        objects += _neon(rng, draw_count(rng, ranges.neon))
    if ranges.wet and rng.random() < ranges.wet:
        soaked = city.paving(rng, "asphalt", (90.0, 90.0), wet=True)
        objects[0] = objects[0].model_copy(update={"material": soaked})

    position = (draw(rng, -0.1, 0.1), draw(rng, -4.4, -4.0), draw(rng, 1.35, 1.6))
    path, handheld = random_camera_move(rng, position, (0.0, 0.3, 1.25), draw(rng, *ranges.camera_reach_m))
    side = float(rng.choice([-1.0, 1.0]))
    return World(
        objects=tuple(objects),
        lights=(
            AreaLight(  # a lamp above the camera's shoulder
                type="area",
                position_m=(side * 2.4, -2.2, 3.4),
                look_at_m=(0.0, 0.0, 1.0),
                size_m=(0.8, 0.8),
                radiance=(26.0, 21.0, 15.0),
            ),
        ),
        environment=SkyEnvironment(
            type="sky", zenith=(0.02, 0.035, 0.08), horizon=(0.07, 0.07, 0.1), ground=(0.02, 0.02, 0.02)
        ),
        camera=CameraSpec(
            focal_length_mm=draw(rng, *ranges.focal_length_mm, digits=1), path=path, handheld=handheld
        ),
    )


def _glow(name: str, place: Vec3, radius_m: float, emission: Light3) -> ObjectSpec:
    sphere = Sphere(type="sphere", radius_m=radius_m, segments=24)
    return ObjectSpec(name=name, shape=sphere, material=MaterialSpec(emission=emission), position_m=place)


def _ground(seed: int) -> ObjectSpec:
    def noise(low: Color, high: Color) -> ProceduralTexture:
        return ProceduralTexture(
            type="perlin",
            color_a=low,
            color_b=high,
            cells=24,
            octaves=6,
            resolution=512,
            seed=seed,
            tiles=(4, 4),
        )

    asphalt = noise((0.03, 0.03, 0.034), (0.14, 0.135, 0.13))
    puddles = noise((0.08, 0.08, 0.08), (0.6, 0.6, 0.6))
    return ObjectSpec(
        name="ground",
        shape=Plane(type="plane", size_m=(90.0, 90.0)),
        material=MaterialSpec(base_color=asphalt, roughness=puddles),
        position_m=(0.0, 35.0, 0.0),
    )


def _statue(rng: np.random.Generator, palette: tuple[Color, ...]) -> list[ObjectSpec]:
    """A turned figure on a plinth, sometimes of metal."""
    plinth = MaterialSpec(base_color=props.marble((0.3, 0.28, 0.26), int(rng.integers(256))), roughness=0.4)
    figure = props.turned(
        str(rng.choice(["pawn", "vase"])), draw(rng, 0.75, 0.95), props.random_material(rng, palette)
    )
    x = draw(rng, -0.35, 0.35)
    return [
        ObjectSpec(
            name="subject-0",
            role="subject",
            shape=figure.shape,
            material=figure.material,
            position_m=(x, 0.0, 0.8),
            rotation_deg=(0.0, 0.0, draw(rng, 0, 360, 1)),
        ),
        ObjectSpec(
            name="plinth",
            shape=Box(type="box", size_m=(0.7, 0.7, 0.8), bevel_m=0.03),
            material=plinth,
            position_m=(x, 0.0, 0.4),
            rotation_deg=(0.0, 0.0, draw(rng, -20, 20, 1)),
        ),
    ]


def _bollards(rng: np.random.Generator) -> list[ObjectSpec]:
    """Two posts with balls: one near the camera, one behind the subject."""
    steel = MaterialSpec(base_color=(0.35, 0.37, 0.4), roughness=0.3, metallic=1.0)
    side = float(rng.choice([-1.0, 1.0]))
    posts = []
    places = (
        ("foreground", side * draw(rng, 0.18, 0.28), -2.2),
        ("background", -side * draw(rng, 1.1, 1.5), 4.0),
    )
    for role, x, y in places:
        pole = Cylinder(type="cylinder", radius_m=0.05, height_m=1.15)
        posts.append(ObjectSpec(name=f"{role}-post", shape=pole, material=steel, position_m=(x, y, 0.0)))
        ball = Sphere(type="sphere", radius_m=0.11, segments=96)
        gold = MaterialSpec(base_color=props.METALS[0], roughness=0.2, metallic=1.0)
        posts.append(
            ObjectSpec(name=f"{role}-0", role=role, shape=ball, material=gold, position_m=(x, y, 1.25))  # type: ignore[arg-type]
        )
    return posts


def _houses(rng: np.random.Generator, num_windows: int) -> list[ObjectSpec]:
    """Brick boxes left, right and at the end; windows are lit panes just in front of the walls."""
    houses = []
    for i, (x, y, width, depth) in enumerate(
        ((-13.0, 24.0, 10.0, 40.0), (13.0, 26.0, 10.0, 40.0), (0.0, 52.0, 40.0, 8.0))
    ):
        height = draw(rng, 8, 14)
        bricks = ProceduralTexture(
            type="bricks",
            color_a=(0.16, 0.08, 0.06),
            color_b=(0.28, 0.24, 0.2),
            cells=32,
            resolution=512,
            seed=int(rng.integers(256)),
            tiles=(2, 1),
        )
        houses.append(
            ObjectSpec(
                name=f"house-{i}",
                shape=Box(type="box", size_m=(width, depth, height)),
                material=MaterialSpec(base_color=bricks, roughness=0.8),
                position_m=(x, y, height / 2),
            )
        )
    facades: list[tuple[Vec3, Vec3, float]] = [  # corner, direction of the wall, length
        ((-7.95, 8.0, 0.0), (0.0, 1.0, 0.0), 32.0),
        ((7.95, 8.0, 0.0), (0.0, 1.0, 0.0), 32.0),
        ((-7.0, 47.95, 0.0), (1.0, 0.0, 0.0), 14.0),
    ]
    for i in range(num_windows):
        corner, along, length = facades[i % 3]
        step = draw(rng, 0, length, 1)
        place = (
            corner[0] + along[0] * step,
            corner[1] + along[1] * step,
            1.9 + 2.6 * int(rng.integers(0, 3)),
        )
        # Panes face the street: turned from +z to +x, -x or -y.
        turn = ((0.0, 90.0, 0.0), (0.0, -90.0, 0.0), (90.0, 0.0, 0.0))[i % 3]
        glow = props.glowing(pick(rng, LAMP_COLORS), draw(rng, 0.8, 2.5, 2))
        houses.append(
            ObjectSpec(
                name=f"window-{i}",
                shape=Plane(type="plane", size_m=(1.2, 1.2)),
                material=MaterialSpec(emission=glow),
                position_m=place,
                rotation_deg=turn,
            )
        )
    return houses


def _lamps(rng: np.random.Generator, pairs: int) -> list[ObjectSpec]:
    iron = MaterialSpec(base_color=(0.06, 0.06, 0.065), roughness=0.4)
    color = LAMP_COLORS[int(rng.integers(2))]
    lamps = []
    for i in range(pairs):
        y = round(9 + 31 * i / max(pairs - 1, 1) + draw(rng, -1, 1), 3)
        for side, x in (("left", -4.2), ("right", 4.2)):
            pole = Cylinder(type="cylinder", radius_m=0.06, height_m=3.6, segments=32)
            lamps.append(
                ObjectSpec(name=f"pole-{side}-{i}", shape=pole, material=iron, position_m=(x, y, 0.0))
            )
            lamps.append(_glow(f"lamp-{side}-{i}", (x, y, 3.72), 0.12, props.glowing(color, 30.0)))
    return lamps


def _shops(rng: np.random.Generator, count: int) -> list[ObjectSpec]:
    """Fronts with lit shops, before the walls of the houses left and right, from 9 m on."""
    evening = city.DAYS["dusk"]
    shops: list[ObjectSpec] = []
    for i in range(count):
        side = -1.0 if i % 2 else 1.0
        style = facades.random_style(rng, 7)
        pieces = facades.random_facade(rng, 8.8, 1, style, evening, shops=1.0)
        turn = -90.0 if side > 0 else 90.0
        shops += placed(f"shop-{i}", pieces, (side * 7.2, 13.5 + 9.0 * (i // 2), 0.0), turn)
    return shops


def _neon(rng: np.random.Generator, count: int) -> list[ObjectSpec]:
    """Glowing tubes that hang over both sides of the street, readable from the camera."""
    signs: list[ObjectSpec] = []
    for i in range(count):
        color, other = pick(rng, facades.NEON), pick(rng, facades.NEON)
        place = (
            (-1.0 if i % 2 else 1.0) * draw(rng, 2.2, 6.0),
            draw(rng, 8, 26),
            draw(rng, 1.9, 4.6),
        )
        word, height = pick(rng, WORDS), draw(rng, 0.35, 0.7)
        width = word_width(word, height)
        match pick(rng, ("word", "framed", "ring", "arrow")):
            case "word":
                first, second = tube_letters(word, height, 0.022), []
            case "framed":
                first = tube_letters(word, height, 0.022)
                w, low, top = width / 2 + 0.25, -0.25, height + 0.25
                corners = ((-w, 0, low), (w, 0, low), (w, 0, top), (-w, 0, top), (-w, 0, low))
                second = [wire(corners[k : k + 2], 0.018, segments=8, steps=1) for k in range(4)]
            case "ring":
                first = [hoop((0, 0, 0.4), r, 0.022, segments=48) for r in (0.5, 0.34)]
                second = [
                    wire(((-0.16, 0, 0.4), (0, 0, 0.62), (0.16, 0, 0.4), (0, 0, 0.18)), 0.02, segments=8)
                ]
            case _:
                first = [
                    wire(((-0.8, 0, 1.0), (0.2, 0, 1.15), (0.55, 0, 0.5), (0.55, 0, 0.0)), 0.024, segments=8)
                ]
                second = [
                    wire(((0.55 + s * 0.3, 0, 0.35), (0.55, 0, 0.0)), 0.024, segments=8) for s in (-1, 1)
                ]
        strength = draw(rng, 6, 14, 1)
        pieces = [
            piece("tubes", MaterialSpec(emission=props.glowing(color, strength)), first),
            piece("more", MaterialSpec(emission=props.glowing(other, strength)), second),
        ]
        signs += placed(f"neon-{i}", pieces, place, draw(rng, -35, 35, 1))
    return signs


def _cars(rng: np.random.Generator, count: int, bodies: float = 0.0) -> list[ObjectSpec]:
    """Pairs of white or red lights that drive along the street; ``bodies`` of them have a car around them."""
    cars = []
    for i in range(count):
        coming = bool(rng.integers(2))
        x, y = draw(rng, -2.6, 2.6), draw(rng, 14, 32)
        motion = Linear(type="linear", velocity_m_s=(0.0, -3.0 if coming else 3.0, 0.0))
        if bodies and rng.random() < bodies:
            turn = -90.0 if coming else 90.0
            cars += placed(f"car-{i}", vehicles.random_car(rng, 25.0), (x, y, 0.0), turn, motion=(motion,))
            continue
        for side in (-0.6, 0.6):
            color = (1.0, 0.95, 0.85) if coming else (1.0, 0.06, 0.04)
            light = _glow(
                f"car-{i}-{'l' if side < 0 else 'r'}",
                (round(x + side, 4), y, 0.65),
                0.06,
                props.glowing(color, 40.0),
            )
            cars.append(light.model_copy(update={"motion": (motion,)}))
    return cars
