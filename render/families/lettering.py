"""Words of straight strokes: shop signs, and neon tubes bent into letters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from focuspull.render.families.pieces import box, wire
from focuspull.render.spec import Part

# Strokes on a grid 2 wide and 4 high; each is a run of points.
_STROKES: dict[str, tuple[tuple[tuple[float, float], ...], ...]] = {
    "A": (((0, 0), (1, 4), (2, 0)), ((0.4, 1.5), (1.6, 1.5))),
    "B": (((0, 0), (0, 4), (1.5, 4), (1.9, 3.1), (1.5, 2.2), (0, 2.2)), ((1.5, 2.2), (2, 1.1), (1.5, 0),
          (0, 0))),
    "C": (((2, 3.4), (1.4, 4), (0.6, 4), (0, 3.2), (0, 0.8), (0.6, 0), (1.4, 0), (2, 0.6)),),
    "D": (((0, 0), (0, 4), (1.2, 4), (2, 3), (2, 1), (1.2, 0), (0, 0)),),
    "E": (((2, 4), (0, 4), (0, 0), (2, 0)), ((0, 2.1), (1.5, 2.1))),
    "F": (((2, 4), (0, 4), (0, 0)), ((0, 2.1), (1.5, 2.1))),
    "H": (((0, 0), (0, 4)), ((2, 0), (2, 4)), ((0, 2), (2, 2))),
    "I": (((1, 0), (1, 4)),),
    "K": (((0, 0), (0, 4)), ((2, 4), (0, 1.8)), ((0.7, 2.6), (2, 0))),
    "L": (((0, 4), (0, 0), (2, 0)),),
    "M": (((0, 0), (0, 4), (1, 1.6), (2, 4), (2, 0)),),
    "N": (((0, 0), (0, 4), (2, 0), (2, 4)),),
    "O": (((0.6, 0), (0, 0.8), (0, 3.2), (0.6, 4), (1.4, 4), (2, 3.2), (2, 0.8), (1.4, 0), (0.6, 0)),),
    "P": (((0, 0), (0, 4), (1.4, 4), (2, 3.1), (1.4, 2), (0, 2)),),
    "R": (((0, 0), (0, 4), (1.4, 4), (2, 3.1), (1.4, 2), (0, 2)), ((1, 2), (2, 0))),
    "S": (((2, 3.4), (1.4, 4), (0.6, 4), (0, 3.1), (0.5, 2.2), (1.5, 1.8), (2, 0.9), (1.4, 0), (0.6, 0),
          (0, 0.6)),),
    "T": (((0, 4), (2, 4)), ((1, 4), (1, 0))),
    "U": (((0, 4), (0, 0.8), (0.6, 0), (1.4, 0), (2, 0.8), (2, 4)),),
}  # fmt: skip
WORDS = (
    "CAFE", "BAR", "HOTEL", "BOOKS", "FLORIST", "KINO", "DINER", "SHOES", "OPEN", "MUSIC", "TAILOR", "CINEMA",
    "PHARMACIE", "OPTICIAN", "RAMEN", "SALON", "FRUITS", "DRUCK", "SAMMLER", "BISTRO",
)  # fmt: skip


def word_width(word: str, height_m: float) -> float:
    """Width of a word, metres."""
    return (2.9 * len(word) - 0.9) * height_m / 4


def tube_letters(word: str, height_m: float, radius_m: float, at: Sequence[float] = (0, 0, 0)) -> list[Part]:
    """A word of tubes in the xz plane, read from -y, its lower middle at ``at``."""
    return [
        wire([(x, at[1], z) for x, z in run], radius_m, segments=8, steps=2)
        for run in _runs(word, height_m, at)
    ]


def flat_letters(
    word: str, height_m: float, stroke_m: float, at: Sequence[float] = (0, 0, 0), depth_m: float = 0.03
) -> list[Part]:
    """A word of flat bars, as on a shop's fascia; same place as `tube_letters`."""
    parts = []
    for run in _runs(word, height_m, at):
        for i, ((x0, z0), (x1, z1)) in enumerate(zip(run, run[1:], strict=False)):
            length = ((x1 - x0) ** 2 + (z1 - z0) ** 2) ** 0.5
            turn = _angle_deg(x1 - x0, z1 - z0)
            # Bars of a run overlap; slightly different depths keep their fronts apart.
            size = (length + 0.8 * stroke_m, depth_m + 0.0015 * (i % 3), stroke_m)
            parts.append(box(size, ((x0 + x1) / 2, at[1], (z0 + z1) / 2), (0.0, turn, 0.0)))
    return parts


def _runs(word: str, height_m: float, at: Sequence[float]) -> list[list[tuple[float, float]]]:
    unit = height_m / 4
    left = at[0] - word_width(word, height_m) / 2
    return [
        [(left + (2.9 * i + x) * unit, at[2] + z * unit) for x, z in run]
        for i, letter in enumerate(word)
        for run in _STROKES[letter]
    ]


def _angle_deg(dx: float, dz: float) -> float:
    """Turn about y that brings +x onto (dx, dz)."""
    return round(-math.degrees(math.atan2(dz, dx)), 3)
