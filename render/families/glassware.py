"""Glasses, bottles, prisms, mirrors and polished metal; metres, standing on z = 0.

Glass is a closed surface around the glass itself, so that light is bent where it enters and where it leaves.
What is in a glass is a body of its own, a little smaller than the hollow that it fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from focuspull.render.curves import monotone_cubic
from focuspull.render.families.layout import draw, draw_count, pick
from focuspull.render.families.pieces import Piece, box, hoop, knob, part, piece, rod, wire
from focuspull.render.spec import Box, Color, Faceted, Lathe, MaterialSpec, Part, Plane, Sphere

Profile = tuple[tuple[float, float], ...]
CLEAR: tuple[Color, ...] = ((0.985, 0.99, 0.985), (0.97, 0.985, 0.99), (0.98, 0.975, 0.96))
TINTS: tuple[Color, ...] = (
    (0.55, 0.82, 0.6), (0.9, 0.68, 0.36), (0.5, 0.68, 0.93), (0.93, 0.5, 0.5), (0.78, 0.58, 0.9),
    (0.45, 0.84, 0.84),
    (0.95, 0.86, 0.5), (0.88, 0.66, 0.46),
)  # fmt: skip
DRINKS: tuple[Color, ...] = (
    (0.72, 0.1, 0.14), (0.95, 0.62, 0.12), (0.95, 0.8, 0.4), (0.55, 0.8, 0.35), (0.4, 0.62, 0.92),
    (0.9, 0.42, 0.5),
    (0.62, 0.3, 0.12), (0.97, 0.97, 0.98),
)  # fmt: skip
GAP_M = 0.0004
"""Between a drink and its glass: renderers must be able to tell the two surfaces apart."""


@dataclass(frozen=True)
class Vessel:
    """A hollow of glass.

    Attributes:
        foot: (radius, z) points from the middle of the base up to the bowl, outside.
        bowl: From there up to the rim, outside.
        wall_m: Thickness of the bowl.
        base_m: Height of the hollow's bottom.
    """

    foot: Profile
    bowl: Profile
    wall_m: float
    base_m: float


VESSELS: dict[str, Vessel] = {
    "wine": Vessel(
        ((0, 0), (0.033, 0.0008), (0.035, 0.0025), (0.016, 0.006), (0.0055, 0.014), (0.004, 0.05),
        (0.005, 0.084)),
        ((0.02, 0.093), (0.037, 0.116), (0.0425, 0.145), (0.039, 0.175), (0.033, 0.205)), 0.0016, 0.0945,
    ),
    "balloon": Vessel(
        ((0, 0), (0.035, 0.0008), (0.037, 0.0025), (0.016, 0.006), (0.006, 0.014), (0.0045, 0.05),
        (0.006, 0.07)),
        ((0.03, 0.078), (0.049, 0.102), (0.053, 0.13), (0.047, 0.165), (0.037, 0.19)), 0.0016, 0.0795,
    ),
    "flute": Vessel(
        ((0, 0), (0.029, 0.0008), (0.031, 0.0025), (0.013, 0.006), (0.005, 0.014), (0.0038, 0.06),
        (0.0045, 0.088)),
        ((0.012, 0.1), (0.021, 0.13), (0.0245, 0.17), (0.0235, 0.235)), 0.0015, 0.1,
    ),
    "martini": Vessel(
        ((0, 0), (0.034, 0.0008), (0.036, 0.0025), (0.014, 0.006), (0.005, 0.014), (0.0042, 0.06),
        (0.005, 0.092)),
        ((0.012, 0.1), (0.03, 0.12), (0.055, 0.15)), 0.0017, 0.102,
    ),
    "tumbler": Vessel(
        ((0, 0), (0.03, 0.0005), (0.034, 0.003)), ((0.0355, 0.03), (0.0375, 0.065), (0.04, 0.1)),
        0.0026, 0.012,
    ),
    "highball": Vessel(
        ((0, 0), (0.026, 0.0005), (0.0295, 0.003)), ((0.03, 0.05), (0.031, 0.1), (0.0325, 0.152)),
        0.0022, 0.011,
    ),
    "bowl": Vessel(
        ((0, 0), (0.028, 0.0005), (0.031, 0.003)), ((0.05, 0.02), (0.075, 0.05), (0.088, 0.085)),
        0.0032, 0.008,
    ),
    "vase": Vessel(
        ((0, 0), (0.032, 0.0005), (0.037, 0.004)),
        ((0.052, 0.045), (0.058, 0.085), (0.042, 0.145), (0.027, 0.185), (0.034, 0.225)), 0.0034, 0.014,
    ),
    "wine-bottle": Vessel(
        ((0, 0.002), (0.032, 0.0005), (0.0375, 0.004)),
        ((0.038, 0.03), (0.038, 0.175), (0.033, 0.205), (0.018, 0.232), (0.0145, 0.25), (0.0142, 0.28),
        (0.0165, 0.285),
         (0.016, 0.296)), 0.0026, 0.012,
    ),
    "flask": Vessel(
        ((0, 0), (0.045, 0.0005), (0.052, 0.004)),
        ((0.056, 0.03), (0.05, 0.07), (0.024, 0.115), (0.0175, 0.14), (0.0175, 0.17), (0.024, 0.182)),
        0.0024, 0.01,
    ),
    "round-bottle": Vessel(
        ((0, 0), (0.03, 0.0005), (0.036, 0.004)),
        ((0.058, 0.04), (0.062, 0.07), (0.05, 0.11), (0.02, 0.135), (0.015, 0.15), (0.015, 0.175),
        (0.02, 0.18)),
        0.0028, 0.012,
    ),
}  # fmt: skip
FILLED = (
    "wine",
    "balloon",
    "flute",
    "martini",
    "tumbler",
    "highball",
    "flask",
    "wine-bottle",
    "round-bottle",
)


def glass(color: Color, ior: float = 1.5, roughness: float = 0.0) -> MaterialSpec:
    """Clear or coloured glass."""
    return MaterialSpec(base_color=color, roughness=roughness, transmission=1.0, ior=ior)


def polished(color: Color, roughness: float = 0.03) -> MaterialSpec:
    """Polished metal, or a mirror."""
    return MaterialSpec(base_color=color, roughness=roughness, metallic=1.0)


CHROME = polished((0.88, 0.89, 0.9))
GOLD = polished((0.95, 0.73, 0.36), 0.06)
COPPER = polished((0.93, 0.56, 0.4), 0.08)


def outline(vessel: Vessel) -> Profile:
    """The closed (radius, z) outline of the glass: outside up, over the rim, inside down."""
    top_r, top_z = vessel.bowl[-1]
    inside = [(r - vessel.wall_m, z) for r, z in reversed(vessel.bowl) if z > vessel.base_m + 0.004]
    inside[0] = (top_r - vessel.wall_m, top_z - 0.3 * vessel.wall_m)
    rim = (top_r - vessel.wall_m / 2, top_z + 0.25 * vessel.wall_m)
    last = inside[-1]
    # The bottom of the hollow: round, from its wall to its middle.
    bottom = ((0.72 * last[0], vessel.base_m + 0.22 * (last[1] - vessel.base_m)), (0.0, vessel.base_m))
    return tuple((round(r, 5), round(z, 5)) for r, z in (*vessel.foot, *vessel.bowl, rim, *inside, *bottom))


def vessel(kind: str, material: MaterialSpec, scale: float = 1.0, segments: int = 64) -> Piece:
    """One of the `VESSELS`, empty."""
    points = tuple((round(r * scale, 5), round(z * scale, 5)) for r, z in outline(VESSELS[kind]))
    return piece("glass", material, [part(Lathe(type="lathe", profile_m=points, segments=segments))])


def filling(kind: str, level: float, color: Color, scale: float = 1.0, segments: int = 64) -> Piece:
    """What is in a vessel, up to ``level`` of the height of its hollow."""
    shape = VESSELS[kind]
    points = outline(shape)
    first = len(shape.foot) + len(shape.bowl) + 1
    knots = np.arange(len(points))
    inner = monotone_cubic(knots, points, np.arange(first, len(points) - 0.999, 0.25))[::-1]
    surface = shape.base_m + level * (shape.bowl[-1][1] - shape.base_m)
    along = np.gradient(inner, axis=0)
    inward = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    skin = inner + GAP_M * inward
    side = [(max(r, 0.0), z) for r, z in skin[skin[:, 1] < surface - 0.0015].tolist()]
    radius = float(np.interp(surface - 0.0008, inner[:, 1], inner[:, 0])) - 1.5 * GAP_M
    profile = (
        (0.0, side[0][1]),
        *side[1:],
        (radius, surface - 0.0008),
        (radius - 0.0012, surface),
        (0.0, surface),
    )
    scaled = tuple((round(r * scale, 5), round(z * scale, 5)) for r, z in profile)
    return piece(
        "drink", glass(color, 1.33), [part(Lathe(type="lathe", profile_m=scaled, segments=segments))]
    )


def random_vessel(rng: np.random.Generator, filled: float, segments: int = 64) -> list[Piece]:
    """A glass, bottle or vase; ``filled`` is the probability that something is in it."""
    kind = pick(rng, tuple(VESSELS))
    scale = draw(rng, 0.9, 1.2, 3)
    tinted = rng.random() < (0.75 if "bottle" in kind else 0.35)
    color = pick(rng, TINTS) if tinted else pick(rng, CLEAR)
    pieces = [vessel(kind, glass(color), scale, segments)]
    if kind in FILLED and rng.random() < filled:
        pieces.append(filling(kind, draw(rng, 0.35, 0.75, 3), pick(rng, DRINKS), scale, segments))
        if kind in ("highball", "tumbler") and rng.random() < 0.5:
            low, top = VESSELS[kind].base_m * scale + 0.004, 1.35 * VESSELS[kind].bowl[-1][1] * scale
            straw = wire(
                ((-0.014, 0, low), (0.006, 0.004, 0.6 * top), (0.034, 0.01, top)), 0.003, segments=12
            )
            pieces.append(piece("straw", MaterialSpec(base_color=pick(rng, DRINKS), roughness=0.4), [straw]))
    elif kind == "vase":
        pieces += _flowers(rng, 0.225 * scale)
    if kind == "wine-bottle":
        cap = [wire(((0, 0, 0.262 * scale), (0, 0, 0.2985 * scale)), 0.0172 * scale, segments=32)]
        if rng.random() < 0.5:
            pieces.append(piece("cap", polished(pick(rng, TINTS), 0.25), cap))
    return pieces


def _flowers(rng: np.random.Generator, rim_m: float) -> list[Piece]:
    stems, heads = [], []
    for i in range(draw_count(rng, (3, 6))):
        angle = 2.4 * i + draw(rng, -0.4, 0.4)
        c, s = np.cos(angle), np.sin(angle)
        out, top = draw(rng, 0.02, 0.07), rim_m + draw(rng, 0.05, 0.14)
        stems.append(
            wire(
                ((-0.018 * c, -0.018 * s, 0.03), (0.012 * c, 0.012 * s, rim_m), (out * c, out * s, top)),
                0.0018,
                segments=8,
            )
        )
        for ring, (count, size) in enumerate(((9, 0.024), (6, 0.016))):
            petal = Faceted(type="faceted", profile_m=((0, 0.0), (size / 2, 0.002)), sides=6)
            for k in range(count):
                turn = 360 * k / count + 20 * ring
                reach = 0.6 * size
                at = (
                    out * c + reach * np.cos(np.radians(turn)),
                    out * s + reach * np.sin(np.radians(turn)),
                    top + 0.003 * ring,
                )
                heads.append(
                    Part(shape=petal, position_m=(round(at[0], 5), round(at[1], 5), round(at[2], 5)),
                         rotation_deg=(0.0, -15.0 - 20 * ring, round(turn, 2)), scale=(1.3, 0.7, 1.0))
                )  # fmt: skip
        heads.append(knob((out * c, out * s, top + 0.004), 0.006, segments=12))
    return [
        piece("stems", MaterialSpec(base_color=(0.1, 0.28, 0.06), roughness=0.5), stems),
        piece("petals", MaterialSpec(base_color=pick(rng, DRINKS), roughness=0.6), heads),
    ]


def solid_glass(rng: np.random.Generator) -> list[Piece]:
    """A ball, a cube, a prism, a cut gem, a crystal point or a disc of massive glass."""
    color, ior = pick(rng, (*CLEAR, *CLEAR, *TINTS)), pick(rng, (1.5, 1.5, 1.62, 1.75))
    r = draw(rng, 0.035, 0.055)
    match pick(rng, ("ball", "ball", "cube", "prism", "gem", "crystal", "column")):
        case "ball":
            shape = part(Sphere(type="sphere", radius_m=r, segments=96), (0, 0, r))
        case "cube":
            shape = part(
                Box(type="box", size_m=(1.5 * r, 1.5 * r, 1.5 * r), bevel_m=0.05 * r), (0, 0, 0.75 * r)
            )
        case "prism":  # lying on one of its sides
            length = 3.2 * r
            profile = _closed(((r, 0), (r, length)))
            bar = Faceted(type="faceted", profile_m=profile, sides=3)
            shape = part(bar, (0, length / 2, r / 2), (90.0, -90.0, 0.0))
        case "gem":
            profile = _closed(((0.05 * r, 0), (1.1 * r, 0.95 * r), (1.1 * r, 1.03 * r), (0.62 * r, 1.4 * r)))
            shape = part(Faceted(type="faceted", profile_m=profile, sides=8), (0, 0, 0))
        case "crystal":
            h = draw(rng, 2.6, 4.0) * r
            profile = _closed(((0.62 * r, 0), (0.72 * r, 0.72 * h), (0.02 * r, h)))
            shape = part(Faceted(type="faceted", profile_m=profile, sides=6), (0, 0, 0))
        case _:
            h = draw(rng, 1.6, 3.0) * r
            profile = _closed(((0.8 * r, 0), (0.85 * r, 0.06 * r), (0.85 * r, h), (0.75 * r, h + 0.1 * r)))
            shape = part(Faceted(type="faceted", profile_m=profile, sides=pick(rng, (5, 8, 12))), (0, 0, 0))
    return [piece("glass", glass(color, ior), [shape])]


def _closed(profile: Sequence[tuple[float, float]]) -> Profile:
    points = ((0.0, profile[0][1]), *profile, (0.0, profile[-1][1]))
    return tuple((round(r, 5), round(z, 5)) for r, z in points)


def metalware(rng: np.random.Generator) -> list[Piece]:
    """A ball, a shaker, a candlestick, a jug or a ring of chrome, gold or copper."""
    material = pick(rng, (CHROME, CHROME, GOLD, COPPER))
    profiles: dict[str, Profile] = {
        "shaker": (
            (0, 0),
            (0.03, 0.0005),
            (0.033, 0.004),
            (0.043, 0.12),
            (0.044, 0.135),
            (0.042, 0.14),
            (0.032, 0.175),
            (0.021, 0.186),
            (0.021, 0.212),
            (0.018, 0.218),
            (0, 0.219),
        ),
        "candlestick": (
            (0, 0),
            (0.045, 0.001),
            (0.047, 0.006),
            (0.03, 0.014),
            (0.012, 0.03),
            (0.009, 0.06),
            (0.016, 0.075),
            (0.009, 0.09),
            (0.01, 0.14),
            (0.022, 0.15),
            (0.026, 0.158),
            (0.013, 0.16),
            (0.0125, 0.145),
            (0, 0.144),
        ),
        "jug": (
            (0, 0),
            (0.036, 0.0005),
            (0.042, 0.005),
            (0.056, 0.05),
            (0.05, 0.095),
            (0.033, 0.125),
            (0.038, 0.15),
            (0.0355, 0.15),
            (0.031, 0.125),
            (0.045, 0.09),
            (0.03, 0.03),
            (0, 0.028),
        ),
    }
    kind = pick(rng, ("ball", "ball", "ring", *profiles))
    if kind == "ball":
        r = draw(rng, 0.03, 0.055)
        return [piece("metal", material, [knob((0, 0, r), r, segments=96)])]
    if kind == "ring":
        r = draw(rng, 0.05, 0.07)
        return [piece("metal", material, [hoop((0, 0, r * 1.2), r, 0.2 * r, segments=96)])]
    pieces = [piece("metal", material, [part(Lathe(type="lathe", profile_m=profiles[kind], segments=72))])]
    if kind == "jug":
        handle = wire(
            ((0.05, 0, 0.05), (0.085, 0, 0.075), (0.082, 0, 0.12), (0.036, 0, 0.135)), 0.006, segments=16
        )
        pieces[0] = piece("metal", material, [*pieces[0].parts, handle])
    if kind == "candlestick":
        wax = wire(((0, 0, 0.146), (0, 0, 0.29)), 0.0115, segments=32)
        flame = [knob((0, 0, 0.312), 0.0075, (1.0, 1.0, 2.2), 24)]
        pieces.append(piece("candle", MaterialSpec(base_color=(0.8, 0.76, 0.66), roughness=0.4), [wax]))
        pieces.append(piece("flame", MaterialSpec(emission=(18.0, 9.5, 3.2)), flame))
    return pieces


def mirror(width_m: float, height_m: float, frame: MaterialSpec, lean_deg: float = 6.0) -> list[Piece]:
    """A framed mirror that leans back a little; its front is at -y."""
    w, h, b = width_m, height_m, 0.035
    lean = (-lean_deg, 0.0, 0.0)
    c, s = np.cos(np.radians(lean_deg)), np.sin(np.radians(lean_deg))

    def at(x: float, y: float, z: float) -> tuple[float, float, float]:
        return (x, y * c + z * s, z * c - y * s + 0.004)

    sheet = part(Plane(type="plane", size_m=(w, h)), at(0, -0.002, h / 2 + b), (90.0 - lean_deg, 0.0, 0.0))
    bars = [
        box((w + 2 * b, 0.03, b), at(0, 0, b / 2), lean, 0.006),
        box((w + 2 * b, 0.03, b), at(0, 0, h + 1.5 * b), lean, 0.006),
        *(box((b, 0.03, h), at(sx * (w + b) / 2, 0, h / 2 + b), lean, 0.006) for sx in (-1, 1)),
        box((w + 0.02, 0.008, h + 0.02), at(0, 0.008, h / 2 + b), lean),
    ]
    bars += [
        rod(at(sx * w * 0.4, 0.01, h * 0.75), (sx * w * 0.4, h * 0.45, 0.005), 0.006, segments=8)
        for sx in (-1, 1)
    ]
    return [piece("sheet", polished((0.93, 0.94, 0.94), 0.0), [sheet]), piece("frame", frame, bars)]


def random_mirror(rng: np.random.Generator) -> list[Piece]:
    """A mirror in a wooden or golden frame."""
    wood = MaterialSpec(
        base_color=pick(rng, ((0.2, 0.09, 0.04), (0.5, 0.48, 0.44), (0.04, 0.04, 0.045))), roughness=0.35
    )
    return mirror(
        draw(rng, 0.22, 0.4), draw(rng, 0.3, 0.5), pick(rng, (wood, wood, GOLD)), draw(rng, 3, 10, 1)
    )
