"""Cut-outs at different depths in front of a far backdrop: the protocol of earlier data, with steady motion.

Cards come from the pool's stills and matted videos; without a pool they are drawn. They may be slanted or
bent, drift in depth, and shine by themselves (``unlit``; flat ones go to the plane tracer) or stand in
light.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families.camera import random_camera
from focuspull.render.families.layout import (
    Count,
    FamilyRanges,
    FocalLength,
    draw,
    draw_count,
    pick,
)
from focuspull.render.pool import AssetPool, CutoutAsset
from focuspull.render.spec import (
    AreaLight,
    CameraSpec,
    Card,
    Color,
    ConstantEnvironment,
    Drawing,
    Keys,
    Linear,
    MaterialSpec,
    Motion,
    ObjectSpec,
    Plane,
    ProceduralTexture,
    SkyEnvironment,
    SunLight,
    Sway,
    Vec3,
    World,
)

SECOND_HALF = 1.0
"""Seconds after which key frames reach their far end; about a clip."""
KINDS: tuple[Literal["cutout", "figure", "bird", "tree", "bloom"], ...] = (
    "cutout",
    "figure",
    "bird",
    "tree",
    "bloom",
)
FLOORS: tuple[tuple[Color, Color], ...] = (
    ((0.28, 0.2, 0.13), (0.46, 0.36, 0.26)),
    ((0.2, 0.22, 0.24), (0.42, 0.44, 0.46)),
    ((0.1, 0.2, 0.06), (0.26, 0.36, 0.12)),
    ((0.5, 0.46, 0.4), (0.72, 0.68, 0.6)),
)


class CardsRanges(FamilyRanges):
    """Ranges of the family; lengths at a scene whose subject is 1 m tall.

    Attributes:
        middle: Cards at the subject's depth.
        behind: Cards between them and the backdrop.
        unlit: Share of scenes in which cards are light themselves, flat, over a flat backdrop.
        bent: Share of the lit cards that are rolled around the vertical.
        slant_deg: How far cards are turned away from the camera.
        moving: Share of the cards that move.
        depth_speed: How far those move in depth in a second, in parts of their distance.
        files: Share of the cards that are taken from the pool, if it has any.
    """

    family: Literal["cards"]
    middle: Count = (1, 3)
    behind: Count = (2, 5)
    unlit: Annotated[float, Field(ge=0, le=1)] = 0.5
    bent: Annotated[float, Field(ge=0, le=1)] = 0.35
    slant_deg: tuple[Annotated[float, Field(ge=0, le=70)], Annotated[float, Field(ge=0, le=70)]] = (0, 40)
    moving: Annotated[float, Field(ge=0, le=1)] = 0.7
    depth_speed: tuple[Annotated[float, Field(ge=0, le=0.5)], Annotated[float, Field(ge=0, le=0.5)]] = (
        0.02,
        0.15,
    )
    files: Annotated[float, Field(ge=0, le=1)] = 0.9
    camera_reach_m: tuple[float, float] = (0.08, 0.3)
    focal_length_mm: tuple[FocalLength, FocalLength] = (35, 70)


def random_cards(rng: np.random.Generator, ranges: CardsRanges, assets: AssetPool) -> World:
    """Cards in front of a backdrop, drawn."""
    unlit = bool(rng.random() < ranges.unlit)
    focal_mm = draw(rng, *ranges.focal_length_mm, digits=1)
    half_width = 18 / focal_mm
    # A card of 1 m fills two thirds of the height.
    distance = round(1.0 / (2 * half_width * 9 / 16) / draw(rng, 0.62, 0.8), 4)
    eye = draw(rng, 0.5, 0.65)
    objects: list[ObjectSpec] = []
    theme = pick(rng, (*KINDS, None, None))

    def add(name: str, role: str, far: float, share: float, tall: float) -> None:
        """A card ``far`` from the camera (in subject distances), at a share of the half width."""
        depth = distance * far
        x = share * half_width * depth
        objects.append(
            _card(
                rng,
                ranges,
                assets,
                name,
                role,
                (x, depth - distance, 0.0),
                tall,
                unlit=unlit,
                theme=theme,
                far=depth,
            )
        )

    shares = np.linspace(-0.55, 0.55, draw_count(rng, ranges.middle)) if ranges.middle[1] > 1 else np.zeros(1)
    if len(shares) == 1:
        shares = np.array([draw(rng, -0.2, 0.2)])
    for i, share in enumerate(shares.tolist()):
        add(
            f"subject-{i}",
            "subject",
            draw(rng, 0.94, 1.15),
            share + draw(rng, -0.08, 0.08),
            draw(rng, 0.85, 1.05),
        )
    side = float(rng.choice([-1.0, 1.0]))
    for i in range(draw_count(rng, (1, 2))):
        add(
            f"foreground-{i}",
            "foreground",
            draw(rng, 0.45, 0.62),
            side * draw(rng, 0.55, 0.85),
            draw(rng, 0.45, 0.6),
        )
        side = -side
    count = draw_count(rng, ranges.behind)
    for i in range(count):
        far = 1.5 + 1.8 * (i + draw(rng, 0.0, 0.9)) / count
        share = ((i * 0.618 + draw(rng, 0, 0.25)) % 1.0) * 1.7 - 0.85
        add(f"background-{i}", "background", far, share, draw(rng, 0.9, 1.5))

    backdrop_far = draw(rng, 5.0, 9.0)
    objects.append(
        _backdrop(rng, assets, distance * backdrop_far, half_width, eye, unlit=unlit, start=-distance)
    )
    position = (0.0, -distance, eye)
    path, handheld = random_camera(
        rng,
        position,
        (0.0, 0.0, 0.5),
        draw(rng, *ranges.camera_reach_m),
        obstacles=objects,
        focal_length_mm=focal_mm,
    )
    camera = CameraSpec(focal_length_mm=focal_mm, path=path, handheld=handheld)
    if unlit:
        glow = draw(rng, 0.05, 0.3)
        environment = ConstantEnvironment(type="constant", radiance=(glow, glow, round(1.1 * glow, 4)))
        return World(objects=tuple(objects), environment=environment, camera=camera)
    objects.append(_floor(rng, distance * backdrop_far, distance))
    toward = (draw(rng, -1.0, 1.0), draw(rng, -1.4, -0.6), draw(rng, 0.7, 1.6))
    warm = draw(rng, 0.6, 0.95)
    if rng.random() < 0.5:
        light = SunLight(
            type="sun",
            direction=toward,
            irradiance_w_m2=(3.4, round(3.4 * (0.5 + 0.5 * warm), 3), round(3.2 * warm, 3)),
            angle_deg=draw(rng, 1, 4, 1),
        )
    else:
        light = AreaLight(
            type="area",
            position_m=(
                round(2.6 * toward[0], 3),
                round(-0.9 * distance, 3),
                round(1.2 + 1.5 * toward[2], 3),
            ),
            look_at_m=(0.0, 0.6, 0.5),
            size_m=(1.6, 1.6),
            radiance=(
                round(3.2 * distance**2, 2),
                round(3.1 * distance**2, 2),
                round(3.2 * warm * distance**2, 2),
            ),
        )
    sky = SkyEnvironment(
        type="sky", zenith=(0.5, 0.58, 0.7), horizon=(0.75, 0.74, 0.72), ground=(0.2, 0.18, 0.16)
    )
    return World(objects=tuple(objects), lights=(light,), environment=sky, camera=camera)


def _card(
    rng: np.random.Generator,
    ranges: CardsRanges,
    assets: AssetPool,
    name: str,
    role: str,
    place: Vec3,
    tall: float,
    *,
    unlit: bool,
    theme: str | None,
    far: float,
) -> ObjectSpec:
    bend = draw(rng, 40, 120, 1) if not unlit and rng.random() < ranges.bent else 0.0
    fields: dict[str, object] = {
        "type": "card",
        "unlit": unlit,
        "bend_deg": bend if rng.random() < 0.7 else -bend,
    }
    if assets.cutouts and rng.random() < ranges.files:
        asset: CutoutAsset = pick(rng, assets.cutouts)
        fields |= {"image": asset.image} if asset.image is not None else {"sequence": asset.sequence}
    else:
        kind = theme or pick(rng, KINDS)
        fields["drawing"] = Drawing(kind=kind, seed=int(rng.integers(10**6)), resolution=320)  # type: ignore[arg-type]
    slant = draw(rng, *ranges.slant_deg, digits=1) * float(rng.choice([-1.0, 1.0]))
    shine = {} if unlit else {"material": MaterialSpec(roughness=draw(rng, 0.45, 0.9), ior=1.3)}
    return ObjectSpec.model_validate(
        {
            "name": name,
            "role": role,
            "shape": Card.model_validate(fields | {"height_m": round(tall, 4)}),
            "position_m": (round(place[0], 4), round(place[1], 4), 0.002),
            "rotation_deg": (0.0, 0.0, slant),
            "motion": _motion(rng, ranges, far),
            **shine,
        }
    )


def _motion(rng: np.random.Generator, ranges: CardsRanges, far: float) -> tuple[Motion, ...]:
    """Steady drift, a sway, or one way there and back; in depth, and a little sideways."""
    if rng.random() >= ranges.moving:
        return ()
    depth = draw(rng, *ranges.depth_speed) * far * float(rng.choice([-1.0, 1.0]))
    side = draw(rng, -0.05, 0.05) * far
    match int(rng.integers(3)):
        case 0:
            return (Linear(type="linear", velocity_m_s=(round(side, 4), round(depth, 4), 0.0)),)
        case 1:
            return (
                Sway(
                    type="sway",
                    amplitude_m=(round(side, 4), round(0.5 * depth, 4), 0.0),
                    frequency_hz=draw(rng, 0.25, 0.6, 3),
                    phase=draw(rng, 0, 1, 3),
                ),
            )
        case _:
            turn = draw(rng, -25, 25, 1)
            return (
                Keys(
                    type="keys",
                    times_s=(0.0, 0.5 * SECOND_HALF, SECOND_HALF, 2 * SECOND_HALF),
                    positions_m=(
                        (0.0, 0.0, 0.0),
                        (round(0.4 * side, 4), round(0.5 * depth, 4), 0.0),
                        (round(side, 4), round(depth, 4), 0.0),
                        (round(0.5 * side, 4), round(0.4 * depth, 4), 0.0),
                    ),
                    rotations_deg=(
                        (0.0, 0.0, 0.0),
                        (0.0, 0.0, 0.5 * turn),
                        (0.0, 0.0, turn),
                        (0.0, 0.0, 0.0),
                    ),
                ),
            )


def _backdrop(
    rng: np.random.Generator,
    assets: AssetPool,
    far: float,
    half_width: float,
    eye: float,
    *,
    unlit: bool,
    start: float,
) -> ObjectSpec:
    """A picture far behind that fills the view with a margin for the camera's move."""
    tall = 2 * half_width * far * 9 / 16 * 1.7
    fields: dict[str, object] = {"type": "card", "unlit": unlit, "opaque": True, "height_m": round(tall, 3)}
    if assets.photos:
        fields["image"] = pick(rng, assets.photos)
    else:
        drawing = Drawing(kind="scenery", seed=int(rng.integers(10**6)), resolution=512, aspect=2.0)
        fields["drawing"] = drawing
    # In light it stands a little above the floor's far edge, which it hides.
    low = eye - tall / 2 if unlit else -0.04 * tall
    return ObjectSpec.model_validate(
        {
            "name": "backdrop",
            "role": "background",
            "shape": Card.model_validate(fields),
            "position_m": (0.0, round(start + far, 4), round(low, 4)),
            **({} if unlit else {"material": MaterialSpec(roughness=0.9, ior=1.1)}),
        }
    )


def _floor(rng: np.random.Generator, far: float, distance: float) -> ObjectSpec:
    """What lit cards stand on and throw their shadows on."""
    low, high = pick(rng, FLOORS)
    texture = ProceduralTexture(
        type=pick(rng, ("perlin", "wood", "bricks", "checker")),
        color_a=low,
        color_b=high,
        cells=8,
        octaves=5,
        resolution=256,
        seed=int(rng.integers(256)),
        tiles=(10.0, 10.0),
    )
    size = round(2.4 * far + 4 * distance, 2)
    return ObjectSpec(
        name="floor",
        shape=Plane(type="plane", size_m=(size, round(far + 2 * distance, 2))),
        material=MaterialSpec(base_color=texture, roughness=draw(rng, 0.4, 0.8), ior=1.08),
        position_m=(0.0, round(far / 2 - distance - 0.5 * distance, 3), 0.0),
        rotation_deg=(0.0, 0.0, 0.0),
    )
