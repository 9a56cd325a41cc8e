"""What families share: places that do not overlap, camera moves, ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self, TypeVar

import numpy as np
from pydantic import Field, model_validator

from focuspull.render.spec import (
    CameraPath,
    DollyPath,
    Handheld,
    Model,
    OrbitPath,
    PushInPath,
    StaticPath,
    Vec3,
)

Count = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Option = TypeVar("Option")
FocalLength = Annotated[float, Field(ge=20, le=120)]


class FamilyRanges(Model):
    """Ranges that every family has; a pair is [low, high].

    Attributes:
        weight: How often a corpus draws this family, against its others.
        camera_reach_m: How far the camera moves during the clip.
        focal_length_mm: Of the full-frame camera.
    """

    weight: Annotated[float, Field(gt=0)] = 1.0
    camera_reach_m: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
    focal_length_mm: tuple[FocalLength, FocalLength]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for name in type(self).model_fields:
            value = getattr(self, name)
            # Tuples of names are choices, not ranges.
            if isinstance(value, tuple) and not isinstance(value[0], str) and value[0] > value[1]:
                raise ValueError(f"{name} needs low <= high, got {list(value)}")
        return self


def draw(rng: np.random.Generator, low: float, high: float, digits: int = 4) -> float:
    """Uniform, rounded: specs stay readable."""
    return round(float(rng.uniform(low, high)), digits)


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of several, evenly."""
    return options[int(rng.integers(len(options)))]


def draw_count(rng: np.random.Generator, count: tuple[int, int]) -> int:
    """Uniform integer, both ends included."""
    return int(rng.integers(count[0], count[1] + 1))


def free_place(
    rng: np.random.Generator,
    x: tuple[float, float],
    y: tuple[float, float],
    radius: float,
    taken: list[tuple[float, float, float]],
    tries: int = 60,
) -> tuple[float, float] | None:
    """A place for a disc in a rectangle, clear of the discs ``(x, y, radius)`` taken so far, or None."""
    for _ in range(tries):
        px, py = draw(rng, *x), draw(rng, *y)
        if all((px - tx) ** 2 + (py - ty) ** 2 > (radius + tr) ** 2 for tx, ty, tr in taken):
            taken.append((px, py, radius))
            return px, py
    return None


def random_camera_move(
    rng: np.random.Generator, position: Vec3, aim: Vec3, reach_m: float
) -> tuple[CameraPath, Handheld | None]:
    """One of dolly, push-in, orbit, or handheld; ``reach_m`` is how far the camera travels in the clip."""
    side = float(rng.choice([-1.0, 1.0]))
    distance = float(np.linalg.norm(np.subtract(position, aim)))
    match str(rng.choice(["dolly", "push-in", "orbit", "handheld"])):
        case "dolly":
            start = (round(position[0] - side * reach_m / 2, 4), position[1], position[2])
            offset = (round(side * reach_m, 4), 0.0, 0.0)
            return DollyPath(type="dolly", position_m=start, look_at_m=aim, offset_m=offset), None
        case "push-in":
            return PushInPath(
                type="push-in", position_m=position, look_at_m=aim, distance_m=round(reach_m, 4)
            ), None
        case "orbit":
            sweep = round(side * float(np.degrees(reach_m / distance)), 3)
            return OrbitPath(type="orbit", position_m=position, look_at_m=aim, sweep_deg=sweep), None
        case _:
            pass
    shake = Handheld(
        translation_m=round(0.25 * reach_m, 4),
        rotation_deg=0.5,
        frequency_hz=0.9,
        seed=int(rng.integers(256)),
    )
    return StaticPath(type="static", position_m=position, look_at_m=aim), shake
