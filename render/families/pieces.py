"""What made-up things consist of: parts of compounds, and several objects placed as one thing.

A thing is a list of objects, one per material, that share one frame: x to the right, z up, its front to -y,
standing on z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from focuspull.render.spec import (
    Box,
    Compound,
    Cylinder,
    MaterialSpec,
    Motion,
    ObjectSpec,
    Part,
    PlainShape,
    Plane,
    Sphere,
    Torus,
    Tube,
    Vec3,
)

Role = Literal["subject", "foreground", "background", "set"]


@dataclass(frozen=True)
class Piece:
    """The parts of a thing that have one material; ``name`` is added to the thing's."""

    name: str
    material: MaterialSpec
    parts: tuple[Part, ...]


def piece(name: str, material: MaterialSpec, parts: Sequence[Part]) -> Piece:
    """A piece of at least one part."""
    return Piece(name, material, tuple(parts))


def placed(
    name: str,
    pieces: Sequence[Piece],
    position_m: Vec3 = (0.0, 0.0, 0.0),
    turn_deg: float = 0.0,
    *,
    role: Role = "set",
    motion: tuple[Motion, ...] = (),
) -> list[ObjectSpec]:
    """A thing in the world. Its first piece has the role and the bare name; empty pieces are left out.

    Args:
        name: Of the thing.
        pieces: What it consists of.
        position_m: Where it stands.
        turn_deg: About the vertical, counter-clockwise seen from above.
        role: Of the first piece.
        motion: Of all pieces.
    """
    found = [p for p in pieces if p.parts]
    return [
        ObjectSpec(
            name=name if i == 0 else f"{name}-{p.name}",
            role=role if i == 0 else "set",
            shape=Compound(type="compound", parts=p.parts),
            material=p.material,
            position_m=rounded(position_m),
            rotation_deg=(0.0, 0.0, round(turn_deg, 3)),
            motion=motion,
        )
        for i, p in enumerate(found)
    ]


def rounded(point: Sequence[float]) -> Vec3:
    """To a tenth of a millimetre: specs stay readable."""
    x, y, z = (round(float(c), 4) for c in point)
    return x, y, z


def part(shape: PlainShape, at: Sequence[float] = (0, 0, 0), turn: Vec3 = (0.0, 0.0, 0.0)) -> Part:
    """Any shape."""
    return Part(shape=shape, position_m=rounded(at), rotation_deg=turn)


def box(
    size: Sequence[float], at: Sequence[float], turn: Vec3 = (0.0, 0.0, 0.0), bevel_m: float = 0.0
) -> Part:
    """A box around ``at``."""
    return part(Box(type="box", size_m=rounded(size), bevel_m=bevel_m), at, turn)


def slab(low: Sequence[float], high: Sequence[float], bevel_m: float = 0.0) -> Part:
    """A box from corner to corner."""
    size = [b - a for a, b in zip(low, high, strict=True)]
    return box(size, [(a + b) / 2 for a, b in zip(low, high, strict=True)], bevel_m=bevel_m)


def pane(x0: float, z0: float, x1: float, z1: float, y: float) -> Part:
    """A rectangle that faces -y."""
    plane = Plane(type="plane", size_m=(round(x1 - x0, 4), round(z1 - z0, 4)))
    return part(plane, ((x0 + x1) / 2, y, (z0 + z1) / 2), (90.0, 0.0, 0.0))


def rod(
    a: Sequence[float], b: Sequence[float], radius_m: float, *, tip_m: float | None = None, segments: int = 10
) -> Part:
    """A straight bar."""
    return wire((a, b), radius_m, tip_m=tip_m, segments=segments, steps=1)


def wire(
    points: Sequence[Sequence[float]],
    radius_m: float,
    *,
    tip_m: float | None = None,
    segments: int = 10,
    steps: int = 6,
) -> Part:
    """A tube along a curve."""
    curve = tuple(rounded(p) for p in points)
    return part(
        Tube(
            type="tube",
            points_m=curve,
            radius_m=radius_m,
            tip_radius_m=tip_m,
            segments=segments,
            steps=steps,
        )
    )


def drum(
    at: Sequence[float],
    radius_m: float,
    height_m: float,
    *,
    top_m: float | None = None,
    turn: Vec3 = (0.0, 0.0, 0.0),
    segments: int = 32,
) -> Part:
    """A cylinder or cone on ``at``."""
    cylinder = Cylinder(
        type="cylinder", radius_m=radius_m, top_radius_m=top_m, height_m=height_m, segments=segments
    )
    return part(cylinder, at, turn)


def knob(at: Sequence[float], radius_m: float, stretch: Vec3 = (1.0, 1.0, 1.0), segments: int = 24) -> Part:
    """A ball or an ellipsoid around ``at``."""
    sphere = Sphere(type="sphere", radius_m=radius_m, segments=segments)
    return Part(shape=sphere, position_m=rounded(at), scale=stretch)


def hoop(
    at: Sequence[float], radius_m: float, thick_m: float, turn: Vec3 = (90.0, 0.0, 0.0), segments: int = 40
) -> Part:
    """A ring that stands in the xz plane, unless it is turned otherwise."""
    torus = Torus(type="torus", major_radius_m=radius_m, minor_radius_m=thick_m, segments=segments)
    return part(torus, at, turn)
