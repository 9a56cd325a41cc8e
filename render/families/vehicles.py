"""Cars, vans and bicycles, made up in metres; their nose is towards +x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from focuspull.render.families import props
from focuspull.render.families.layout import draw, pick
from focuspull.render.families.pieces import (
    Piece,
    box,
    drum,
    hoop,
    knob,
    part,
    piece,
    rod,
    wire,
)
from focuspull.render.solids import hull_points
from focuspull.render.spec import Color, Hull, Lathe, MaterialSpec, Part

PAINTS: tuple[Color, ...] = (
    (0.55, 0.03, 0.03), (0.03, 0.09, 0.3), (0.6, 0.6, 0.6), (0.03, 0.03, 0.035), (0.75, 0.74, 0.7),
    (0.25, 0.27, 0.3), (0.05, 0.2, 0.12), (0.75, 0.42, 0.03), (0.3, 0.5, 0.6), (0.35, 0.12, 0.06),
    (0.75, 0.68, 0.5), (0.1, 0.3, 0.34),
)  # fmt: skip
RUBBER = MaterialSpec(base_color=(0.015, 0.015, 0.016), roughness=0.75)
GLAZING = MaterialSpec(base_color=(0.012, 0.015, 0.017), roughness=0.04, ior=1.6)
CHROME = MaterialSpec(base_color=(0.8, 0.8, 0.8), roughness=0.16, metallic=1.0)
ALLOY = MaterialSpec(base_color=(0.5, 0.51, 0.52), roughness=0.3, metallic=1.0)


@dataclass(frozen=True)
class Body:
    """Proportions of a car, metres.

    Attributes:
        lower: Body up to the windows: stations of a `Hull`.
        cabin: Windows and roof, from the foot of the windscreen to that of the rear window.
        roof: First and last of the cabin's stations that the roof covers.
        axles: x of the rear and the front wheels.
        wheel_m: Radius of the wheels.
        taper: How much the cabin narrows.
    """

    lower: tuple[tuple[float, float, float, float], ...]
    cabin: tuple[tuple[float, float, float, float], ...]
    roof: tuple[int, int]
    axles: tuple[float, float]
    wheel_m: float
    taper: float = 0.24


BODIES: dict[str, Body] = {
    "hatchback": Body(
        ((-2.02, 0.68, 0.38, 0.7), (-1.98, 0.8, 0.28, 0.84), (-1.75, 0.86, 0.2, 0.95),
         (-0.6, 0.88, 0.18, 0.95), (0.6, 0.88, 0.18, 0.93), (1.1, 0.87, 0.19, 0.9), (1.7, 0.83, 0.22, 0.78),
         (1.98, 0.74, 0.26, 0.66), (2.06, 0.6, 0.34, 0.56)),
        ((-1.96, 0.72, 0.78, 0.93), (-1.72, 0.77, 0.78, 1.25), (-1.35, 0.8, 0.78, 1.43),
         (-0.5, 0.82, 0.78, 1.48), (0.15, 0.82, 0.78, 1.42), (0.65, 0.81, 0.78, 1.18),
         (1.1, 0.79, 0.78, 0.92)),
        (2, 4), (-1.28, 1.32), 0.32,
    ),
    "sedan": Body(
        ((-2.3, 0.66, 0.4, 0.7), (-2.24, 0.8, 0.3, 0.86), (-2.0, 0.86, 0.22, 0.95), (-1.2, 0.89, 0.18, 0.97),
         (0.6, 0.89, 0.18, 0.93), (1.2, 0.88, 0.19, 0.89), (1.95, 0.83, 0.22, 0.78), (2.24, 0.74, 0.26, 0.66),
         (2.33, 0.6, 0.34, 0.56)),
        ((-1.75, 0.74, 0.78, 0.95), (-1.35, 0.77, 0.78, 1.18), (-0.9, 0.79, 0.78, 1.38),
         (-0.3, 0.8, 0.78, 1.43), (0.15, 0.8, 0.78, 1.38), (0.65, 0.8, 0.78, 1.15), (1.15, 0.79, 0.78, 0.91)),
        (2, 4), (-1.4, 1.42), 0.32,
    ),
    "estate": Body(
        ((-2.28, 0.7, 0.42, 0.78), (-2.24, 0.84, 0.32, 0.95), (-2.05, 0.9, 0.27, 1.05),
         (-0.6, 0.92, 0.26, 1.06), (0.7, 0.92, 0.26, 1.04), (1.2, 0.91, 0.27, 1.02), (1.85, 0.88, 0.3, 0.95),
         (2.14, 0.8, 0.34, 0.82), (2.22, 0.66, 0.42, 0.68)),
        ((-2.2, 0.78, 0.88, 1.06), (-2.05, 0.82, 0.88, 1.42), (-1.75, 0.84, 0.88, 1.6),
         (-0.5, 0.85, 0.88, 1.67), (0.2, 0.85, 0.88, 1.6), (0.65, 0.84, 0.88, 1.32), (1.0, 0.82, 0.88, 1.04)),
        (2, 4), (-1.36, 1.36), 0.37, 0.2,
    ),
    "van": Body(
        ((-2.5, 0.84, 0.4, 1.0), (-2.47, 0.93, 0.3, 1.12), (-2.3, 0.97, 0.26, 1.15), (0.6, 0.98, 0.26, 1.15),
         (1.5, 0.97, 0.26, 1.14), (2.1, 0.93, 0.3, 1.05), (2.4, 0.85, 0.34, 0.88), (2.48, 0.7, 0.42, 0.72)),
        ((-2.46, 0.84, 0.95, 1.14), (-2.4, 0.9, 0.95, 1.8), (-2.25, 0.93, 0.95, 2.05),
         (-0.5, 0.94, 0.95, 2.1), (0.9, 0.94, 0.95, 2.02), (1.5, 0.92, 0.95, 1.58), (1.95, 0.88, 0.95, 1.13)),
        (2, 4), (-1.5, 1.6), 0.35, 0.12,
    ),
    "mini": Body(
        ((-1.52, 0.58, 0.36, 0.62), (-1.49, 0.68, 0.28, 0.78), (-1.3, 0.73, 0.22, 0.86),
         (-0.3, 0.75, 0.2, 0.87), (0.6, 0.75, 0.2, 0.86), (0.95, 0.74, 0.21, 0.85), (1.3, 0.71, 0.24, 0.79),
         (1.5, 0.63, 0.28, 0.68), (1.56, 0.5, 0.36, 0.56)),
        ((-1.46, 0.62, 0.72, 0.85), (-1.3, 0.66, 0.72, 1.15), (-1.02, 0.69, 0.72, 1.32),
         (-0.4, 0.71, 0.72, 1.37), (0.15, 0.71, 0.72, 1.31), (0.5, 0.7, 0.72, 1.1), (0.85, 0.68, 0.72, 0.86)),
        (2, 4), (-0.98, 1.02), 0.27, 0.2,
    ),
}  # fmt: skip


def car(kind: str, paint: MaterialSpec, lights: float, braking: bool = False) -> list[Piece]:
    """A car of one of the `BODIES`.

    Args:
        kind: Which.
        paint: Of the body.
        lights: Radiance of the headlamps; 0: they are off.
        braking: Whether the rear lights are bright.
    """
    body = BODIES[kind]
    lower = Hull(type="hull", stations=body.lower, squareness=5.0, taper=0.05)
    cabin = Hull(type="hull", stations=body.cabin, squareness=5.0, taper=body.taper, steps=8)
    painted = [part(lower), *_shell(body, cabin, kind)]
    mirror_x, mirror_y, mirror_z = _belt(cabin, len(body.cabin) - 2.3, 0.0)
    for side in (-1, 1):
        at = (mirror_x, side * (mirror_y + 0.12), mirror_z + 0.07)
        painted.append(knob(at, 0.1, (0.6, 1.0, 0.75)))
    dark = [*_underside(body), *_tyres(body), *_seams(body, lower)]
    rear = body.lower[1]
    rims = [w for x in body.axles for side in (-1, 1) for w in _rim(x, side, body)]
    lamps, tails, plates = [], [], []
    for side in (-1, 1):
        corner = hull_points(lower, len(body.lower) - 2.25, 90 - side * 62).tolist()
        lamps.append(knob((corner[0], corner[1] - side * 0.05, corner[2] - 0.03), 0.15, (1.0, 0.85, 0.6)))
        tails.append(knob((rear[0] + 0.03, side * rear[1] * 0.86, rear[3] - 0.12), 0.11, (0.7, 0.8, 1.1)))
    # Panels stand proud of the ends of the body by a few millimetres.
    plates.append(box((0.012, 0.5, 0.11), (body.lower[-1][0] + 0.006, 0, body.lower[-1][2] + 0.06)))
    plates.append(box((0.012, 0.5, 0.11), (body.lower[0][0] - 0.006, 0, body.lower[0][2] + 0.14)))
    grille = [
        box((0.03, 0.9, 0.018), (body.lower[-1][0] - 0.008, 0, body.lower[-1][3] - 0.02 - 0.035 * i))
        for i in range(3)
    ]
    bright = props.glowing((1.0, 0.95, 0.85), lights)
    glow = lights * (0.5 if braking else 0.15)
    return [
        piece("paint", paint, painted),
        piece("glass", GLAZING, [part(cabin)]),
        piece("dark", RUBBER, [*dark, *grille]),
        piece("rims", ALLOY, rims),
        piece("lamps", MaterialSpec(emission=bright) if lights else CHROME, lamps),
        piece(
            "tails",
            MaterialSpec(emission=props.glowing((1.0, 0.04, 0.03), glow))
            if lights
            else MaterialSpec(base_color=(0.35, 0.01, 0.01), roughness=0.1),
            tails,
        ),
        piece("plates", MaterialSpec(base_color=(0.75, 0.73, 0.6), roughness=0.4), plates),
    ]


def random_car(rng: np.random.Generator, lights: float = 0.0) -> list[Piece]:
    """A car, drawn; ``lights`` as in `car`."""
    kind = pick(rng, tuple(BODIES))
    paint = MaterialSpec(base_color=pick(rng, PAINTS), roughness=draw(rng, 0.08, 0.25))
    return car(kind, paint, lights, bool(rng.random() < 0.3))


def car_size(kind: str) -> tuple[float, float, float]:
    """Length, width and height of a body, metres."""
    body = BODIES[kind]
    return (
        body.lower[-1][0] - body.lower[0][0],
        2 * max(s[1] for s in body.lower),
        max(s[3] for s in body.cabin),
    )


def _belt(hull: Hull, along: float, around: float) -> tuple[float, float, float]:
    x, y, z = hull_points(hull, along, around).tolist()
    return x, y, z


def _shell(body: Body, cabin: Hull, kind: str) -> list[Part]:
    """The roof and the pillars, on the surface of the cabin's glass."""
    first, last = body.roof
    narrow = 1 - body.taper
    # A roof like a lid: its lower edge is where the side windows end.
    stations = tuple(
        (x, round(w * narrow + 0.055, 4), round(high - 0.075, 4), round(high + 0.012, 4))
        for x, w, _, high in body.cabin[first : last + 1]
    )
    parts = [part(Hull(type="hull", stations=stations, squareness=4.0, segments=32))]
    count = len(body.cabin) - 1
    along = np.linspace(0.05, count - 0.05, 17)
    for side in (1, -1):
        # Along the corner between the screens and the side windows, from boot to bonnet.
        corner = hull_points(cabin, along, 90 - side * 42)
        parts.append(wire(corner.tolist(), 0.045, segments=8, steps=3))
        parts.append(wire(hull_points(cabin, along, 90 - side * 101).tolist(), 0.018, segments=6, steps=3))
        pillars = [first + 0.95] if kind != "van" else [first + 0.15, first + 1.15]
        for place in pillars:
            around = np.linspace(90 - side * 100, 90 - side * 42, 6)
            parts.append(wire(hull_points(cabin, place, around).tolist(), 0.04, segments=8, steps=3))
    if kind == "van":  # panels in place of the rear side windows
        panel = tuple((x, w + 0.008, 0.97, h - 0.02) for x, w, _, h in body.cabin[1 : first + 2])
        parts.append(part(Hull(type="hull", stations=panel, squareness=5.0, taper=body.taper)))
    return parts


def _underside(body: Body) -> list[Part]:
    """Sills and arches around the wheels."""
    width = max(s[1] for s in body.lower)
    low = min(s[2] for s in body.lower)
    parts = [
        box((body.axles[1] - body.axles[0], 2 * width - 0.06, 0.1), (sum(body.axles) / 2, 0, low + 0.04))
    ]
    for x in body.axles:
        for side in (-1, 1):
            at = (x, side * (_side(body, x) + 0.006), body.wheel_m + 0.055)
            turn = (90.0 * side, 0.0, 0.0)
            parts.append(drum(at, body.wheel_m + 0.04, 0.3, turn=turn, segments=40))
    return parts


def _side(body: Body, x: float) -> float:
    """Half the width of the body there."""
    return float(np.interp(x, [s[0] for s in body.lower], [s[1] for s in body.lower])) * 0.985


def _tyres(body: Body) -> list[Part]:
    r = body.wheel_m
    profile = ((0.62 * r, -0.1), (r, -0.085), (r, 0.085), (0.62 * r, 0.1))
    tyre = Lathe(type="lathe", profile_m=tuple((round(a, 4), z) for a, z in profile), segments=40)
    return [
        part(tyre, (x, side * (_side(body, x) - 0.085), r), (90.0, 0.0, 0.0))
        for x in body.axles
        for side in (-1, 1)
    ]


def _rim(x: float, side: int, body: Body) -> list[Part]:
    """A dished wheel with five pairs of spokes."""
    r = body.wheel_m
    y = side * (_side(body, x) + 0.012)
    parts = [hoop((x, y, r), 0.64 * r, 0.022, segments=32)]
    for i in range(10):
        angle = 2 * np.pi * (i // 2) / 5 + (0.16 if i % 2 else -0.16) + 0.3
        tip = (x + 0.62 * r * np.sin(angle), y, r + 0.62 * r * np.cos(angle))
        parts.append(rod((x, y - side * 0.01, r), tip, 0.024, tip_m=0.017, segments=8))
    parts.append(knob((x, y, r), 0.055, (1.0, 0.5, 1.0), segments=16))
    return parts


def _seams(body: Body, lower: Hull) -> list[Part]:
    """Gaps around the doors and door handles, as dark lines on the sides."""
    parts = []
    xs = np.array([s[0] for s in body.lower])
    front, rear = body.axles[1] - 0.5, body.axles[0] + 0.55
    for x in (front, (front + rear) / 2 - 0.05, rear):
        along = float(np.interp(x, xs, np.arange(len(xs))))
        for side in (1, -1):
            around = np.linspace(90 - side * 125, 90 - side * 55, 8)
            parts.append(wire(hull_points(lower, along, around).tolist(), 0.005, segments=6, steps=3))
    return parts


def bicycle(frame: MaterialSpec, saddle: Color = (0.12, 0.06, 0.03)) -> list[Piece]:
    """A town bicycle with spokes, mudguards and a front basket, leaning on nothing."""
    rear, front, r = (-0.52, 0.0, 0.34), (0.55, 0.0, 0.34), 0.34
    seat, bracket, head, neck = (-0.2, 0, 0.86), (-0.08, 0, 0.29), (0.37, 0, 0.88), (0.42, 0, 0.7)
    tubes = [
        rod(bracket, seat, 0.016),
        rod((-0.18, 0, 0.76), (0.4, 0, 0.79), 0.016),
        rod(bracket, neck, 0.018),
        rod(neck, head, 0.02),
        *(rod((rear[0], s * 0.05, rear[2]), (-0.08, s * 0.03, 0.29), 0.009) for s in (-1, 1)),
        *(rod((rear[0], s * 0.05, rear[2]), (-0.18, s * 0.02, 0.78), 0.008) for s in (-1, 1)),
        *(
            wire((neck, (0.46, s * 0.05, 0.58), (front[0], s * 0.05, front[2])), 0.011, tip_m=0.008)
            for s in (-1, 1)
        ),
    ]
    for hub in (rear, front):  # mudguards
        angle = np.radians(np.linspace(10, 150, 9) if hub is rear else np.linspace(40, 165, 9))
        arc = [(hub[0] - (r + 0.035) * np.cos(a), 0, hub[2] + (r + 0.035) * np.sin(a)) for a in angle]
        tubes += [wire([(x, y, z) for x, _, z in arc], 0.008, segments=8, steps=3) for y in (-0.016, 0.016)]
    bright = [
        wire(
            ((0.22, -0.3, 1.0), (0.34, -0.22, 1.05), (0.38, 0, 1.0), (0.34, 0.22, 1.05), (0.22, 0.3, 1.0)),
            0.011,
        ),
        rod(head, (0.38, 0, 1.0), 0.012),
        rod(seat, (-0.225, 0, 0.95), 0.012),
        hoop((-0.08, 0.045, 0.29), 0.09, 0.006),
        rod((-0.08, 0.06, 0.29), (0.02, 0.1, 0.15), 0.008),
        rod((-0.08, -0.06, 0.29), (-0.18, -0.1, 0.43), 0.008),
    ]
    for hub in (rear, front):
        bright.append(hoop(hub, r - 0.02, 0.009, segments=64))
        bright.append(drum((hub[0], 0.05, hub[2]), 0.018, 0.1, turn=(90.0, 0.0, 0.0), segments=12))
        for i in range(28):
            a, b = 2 * np.pi * i / 28, 2 * np.pi * i / 28 + (0.5 if i % 4 < 2 else -0.5)
            side = 0.03 if i % 2 else -0.03
            tip = (hub[0] + (r - 0.02) * np.cos(a), 0, hub[2] + (r - 0.02) * np.sin(a))
            bright.append(
                rod((hub[0] + 0.018 * np.cos(b), side, hub[2] + 0.018 * np.sin(b)), tip, 0.0013, segments=4)
            )
    black = [hoop(hub, r, 0.018, segments=64) for hub in (rear, front)]
    black += [rod((0.24, s * 0.29, 1.01), (0.12, s * 0.33, 0.98), 0.017) for s in (-1, 1)]
    black += [
        box((0.1, 0.09, 0.025), (x, y, z), bevel_m=0.01)
        for x, y, z in ((0.02, 0.14, 0.15), (-0.18, -0.14, 0.43))
    ]
    basket = _basket((0.6, 0.0, 0.78))
    return [
        piece("frame", frame, tubes),
        piece("bright", CHROME, bright),
        piece("black", RUBBER, black),
        piece(
            "saddle",
            MaterialSpec(base_color=saddle, roughness=0.4),
            [knob((-0.25, 0, 0.975), 0.1, (1.3, 0.95, 0.36)), knob((-0.13, 0, 0.98), 0.05, (1.8, 0.7, 0.45))],
        ),
        piece("basket", MaterialSpec(base_color=(0.28, 0.16, 0.07), roughness=0.7), basket),
    ]


def random_bicycle(rng: np.random.Generator) -> list[Piece]:
    """A bicycle in one of the paints."""
    return bicycle(MaterialSpec(base_color=pick(rng, PAINTS), roughness=draw(rng, 0.12, 0.3)))


def _basket(at: tuple[float, float, float]) -> list[Part]:
    x, y, z = at
    rings = []
    for level in range(6):
        a, b, h = 0.12 + 0.012 * level, 0.16 + 0.012 * level, z + 0.045 * level
        corners = [(x - a, y - b, h), (x + a, y - b, h), (x + a, y + b, h), (x - a, y + b, h)]
        rings += [
            rod(p, q, 0.005, segments=6) for p, q in zip(corners, corners[1:] + corners[:1], strict=True)
        ]
    for i in range(-2, 3):
        for s in (-1, 1):
            rings.append(
                rod(
                    (x + 0.055 * i, y + s * 0.16, z),
                    (x + 0.07 * i, y + s * 0.22, z + 0.225),
                    0.004,
                    segments=6,
                )
            )
            rings.append(
                rod(
                    (x + s * 0.12, y + 0.075 * i, z),
                    (x + s * 0.18, y + 0.095 * i, z + 0.225),
                    0.004,
                    segments=6,
                )
            )
    rings.append(box((0.24, 0.32, 0.01), (x, y, z)))
    return rings
