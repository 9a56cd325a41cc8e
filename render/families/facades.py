"""Facades with windows, shops and balconies.

A facade's front is in the plane y = 0 and faces -y; it stands on z = 0, centred in x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from focuspull.render.families import props
from focuspull.render.families.city import Day
from focuspull.render.families.layout import draw, pick
from focuspull.render.families.lettering import WORDS, flat_letters, tube_letters, word_width
from focuspull.render.families.pieces import Piece, box, drum, knob, pane, part, piece, rod, slab, wire
from focuspull.render.families.streetware import CLOTHS, FRUIT, speckled, stripes
from focuspull.render.spec import (
    Color,
    Lattice,
    Light3,
    MaterialSpec,
    Part,
    ProceduralTexture,
    Wall,
)

WALLS: dict[str, tuple[tuple[Color, Color], ...]] = {
    "brick": (((0.3, 0.1, 0.06), (0.45, 0.38, 0.32)), ((0.42, 0.3, 0.17), (0.55, 0.5, 0.42)),
              ((0.17, 0.08, 0.07), (0.3, 0.27, 0.25)), ((0.45, 0.42, 0.38), (0.3, 0.28, 0.26))),
    "stucco": (((0.62, 0.44, 0.2), (0.7, 0.52, 0.27)), ((0.6, 0.36, 0.26), (0.68, 0.44, 0.33)),
               ((0.66, 0.62, 0.52), (0.73, 0.7, 0.6)), ((0.36, 0.46, 0.5), (0.43, 0.54, 0.58)),
               ((0.4, 0.48, 0.36), (0.48, 0.56, 0.42)), ((0.55, 0.2, 0.14), (0.62, 0.27, 0.19))),
    "stone": (((0.5, 0.46, 0.38), (0.3, 0.27, 0.22)), ((0.42, 0.41, 0.39), (0.26, 0.25, 0.24)),
              ((0.56, 0.5, 0.4), (0.36, 0.31, 0.24))),
    "concrete": (((0.36, 0.36, 0.35), (0.5, 0.5, 0.48)), ((0.22, 0.23, 0.25), (0.32, 0.33, 0.35))),
}  # fmt: skip
TRIMS: tuple[Color, ...] = ((0.66, 0.63, 0.56), (0.48, 0.45, 0.4), (0.72, 0.71, 0.68), (0.3, 0.28, 0.26))
FRAMES: tuple[Color, ...] = (
    (0.7, 0.69, 0.66),
    (0.05, 0.05, 0.055),
    (0.06, 0.14, 0.1),
    (0.22, 0.1, 0.05),
    (0.05, 0.1, 0.18),
)
DOORS: tuple[Color, ...] = (
    (0.03, 0.12, 0.08),
    (0.3, 0.02, 0.03),
    (0.03, 0.06, 0.18),
    (0.2, 0.09, 0.04),
    (0.02, 0.02, 0.025),
)
WINDOW_LIGHTS: tuple[Light3, ...] = ((1.0, 0.6, 0.28), (1.0, 0.75, 0.48), (0.8, 0.88, 1.0))
NEON: tuple[Light3, ...] = (
    (1.0, 0.08, 0.1),
    (0.1, 0.5, 1.0),
    (1.0, 0.2, 0.7),
    (0.1, 0.9, 0.5),
    (1.0, 0.55, 0.1),
)


@dataclass(frozen=True)
class Style:
    """Materials and habits of a facade."""

    kind: Literal["brick", "stucco", "stone", "concrete"]
    wall: ProceduralTexture
    trim: Color
    frame: Color
    window_m: tuple[float, float]
    bay_m: float
    shutters: Color | None
    balconies: bool


def random_style(rng: np.random.Generator, seed: int) -> Style:
    """How a house looks; ``seed`` is that of its texture, which houses may share."""
    kind = pick(rng, ("brick", "stucco", "stone", "concrete"))
    a, b = pick(rng, WALLS[kind])
    pattern = "bricks" if kind in ("brick", "stone") else "perlin"
    wall = ProceduralTexture(
        type=pattern,
        color_a=a,
        color_b=b,
        cells=12 if kind == "brick" else 4 if kind == "stone" else 5,
        octaves=4,
        resolution=512 if pattern == "bricks" else 256,
        seed=seed,
    )
    wide = kind == "concrete"
    return Style(
        kind=kind,
        wall=wall,
        trim=pick(rng, TRIMS),
        frame=pick(rng, FRAMES),
        window_m=(draw(rng, 1.5, 2.1, 2), draw(rng, 1.5, 1.8, 2))
        if wide
        else (draw(rng, 0.95, 1.25, 2), draw(rng, 1.5, 1.95, 2)),
        bay_m=draw(rng, 2.7, 3.2, 2) if wide else draw(rng, 2.1, 2.9, 2),
        shutters=pick(rng, DOORS) if kind == "stucco" and rng.random() < 0.6 else None,
        balconies=bool(rng.random() < 0.35),
    )


def random_facade(
    rng: np.random.Generator, width_m: float, floors: int, style: Style, day: Day, *, shops: float = 0.6
) -> list[Piece]:
    """A facade, drawn.

    Args:
        rng: Source of all that is drawn.
        width_m: Of the house.
        floors: Above the ground floor.
        style: How it looks.
        day: Whose light is in the windows.
        shops: Probability that the ground floor is shops rather than flats.
    """
    ground_m, floor_m = draw(rng, 3.6, 4.2, 2), draw(rng, 2.9, 3.3, 2)
    height = ground_m + floors * floor_m + 0.7
    bays = max(1, int(width_m / style.bay_m))
    step = width_m / bays
    w, h = style.window_m
    w = min(w, step - 0.5)
    house = _House(rng, style, day)
    for floor in range(floors):
        z = ground_m + floor * floor_m + 0.75
        for bay in range(bays):
            x = -width_m / 2 + (bay + 0.5) * step
            tall = style.balconies and (bay % 2 == 1 or bays < 3) and floor < 3
            house.window(x, z - (0.65 if tall else 0.0), w, h + (0.65 if tall else 0.0), french=tall)
        if floor > 0 or style.kind == "stone":
            house.ledge(width_m, ground_m + floor * floor_m + 0.05, 0.16, 0.07)
    is_shop = bool(rng.random() < shops)
    if is_shop:
        house.shops(width_m, ground_m)
    else:
        house.flats(width_m, bays, step, w)
    house.ledge(width_m, ground_m - 0.12, 0.22, 0.12)
    house.ledge(width_m, height - 0.3, 0.3, 0.26)
    house.ledge(width_m, height - 0.5, 0.12, 0.14)
    if not is_shop:
        house.trims.append(slab((-width_m / 2, -0.05, 0), (width_m / 2, 0, 0.45)))
    if rng.random() < 0.6:
        x = width_m / 2 - 0.15
        house.iron.append(wire(((x, -0.1, 0.1), (x, -0.1, height / 2), (x, -0.1, height - 0.5)), 0.05))
    wall = Wall(
        type="wall",
        size_m=(round(width_m, 3), round(height, 3)),
        depth_m=0.24,
        openings_m=tuple(house.openings),
    )
    tile = 2.4 if style.kind in ("brick", "stone") else 3.1
    texture = style.wall.model_copy(update={"tiles": (round(width_m / tile, 3), round(height / tile, 3))})
    # A back wall and sides: no light comes through shops, and corners have a thickness.
    sides = [
        slab((s * width_m / 2 - 0.01, 0.02, 0), (s * width_m / 2 + 0.01, 3.0, height))
        for s in (-0.999, 0.999)
    ]
    return [
        piece("wall", MaterialSpec(base_color=texture, roughness=0.85), [part(wall)]),
        *house.pieces(sides),
    ]


class _House:
    """Collects the parts of a facade by material."""

    def __init__(self, rng: np.random.Generator, style: Style, day: Day) -> None:
        self.rng, self.style, self.day = rng, style, day
        self.openings: list[tuple[float, float, float, float]] = []
        self.trims: list[Part] = []
        self.frames: list[Part] = []
        self.glass: list[Part] = []
        self.blinds: list[Part] = []
        self.shutters: list[Part] = []
        self.doors: list[Part] = []
        self.iron: list[Part] = []
        self.fascia: list[Part] = []
        self.letters: list[Part] = []
        self.awnings: list[Part] = []
        self.rooms: list[Part] = []
        self.panels: list[Part] = []
        self.lit: tuple[list[Part], ...] = ([], [], [])
        self.goods: tuple[list[Part], ...] = ([], [], [])
        self.awning_width = 3.0

    def hole(self, x0: float, z0: float, x1: float, z1: float) -> None:
        """An opening of the wall."""
        self.openings.append((round(x0, 3), round(z0, 3), round(x1, 3), round(z1, 3)))

    def ledge(self, width: float, z: float, height: float, proud: float) -> None:
        """A string course."""
        self.trims.append(slab((-width / 2 - 0.02, -proud, z), (width / 2 + 0.02, 0.02, z + height)))

    def window(self, x: float, z: float, w: float, h: float, *, french: bool = False) -> None:
        """A window with its frame, sill, and what is behind the glass."""
        rng, x0, x1 = self.rng, x - w / 2, x + w / 2
        self.hole(x0, z, x1, z + h)
        self._frame(x, z, w, h, 2, 3 if h / w > 1.6 else 2)
        self._light_or_glass(x0, z, x1, z + h)
        if french:
            self.trims.append(slab((x0 - 0.35, -0.75, z - 0.14), (x1 + 0.35, 0, z - 0.03)))
            rail = Lattice(
                type="lattice",
                pattern="bars",
                size_m=(round(w + 0.66, 3), 0.95),
                pitch_m=0.11,
                wire_m=0.016,
                segments=6,
            )
            self.iron.append(part(rail, (x, -0.72, z - 0.03)))
            self.iron.append(box((w + 0.7, 0.04, 0.03), (x, -0.72, z + 0.93)))
            self.iron += [box((0.02, 0.72, 0.03), (x + s * (w / 2 + 0.33), -0.36, z + 0.93)) for s in (-1, 1)]
            return
        self.trims.append(slab((x0 - 0.1, -0.12, z - 0.1), (x1 + 0.1, 0.05, z)))
        if self.style.kind != "concrete":
            self.trims.append(slab((x0 - 0.14, -0.05, z + h), (x1 + 0.14, 0.01, z + h + 0.2)))
        if self.style.shutters is not None:
            for s in (-1, 1):
                middle = x + s * (w / 2 + w / 4 + 0.04)
                self.shutters.append(slab((middle - w / 4, -0.045, z), (middle + w / 4, -0.005, z + h)))
                self.shutters += [
                    box((w / 2 - 0.14, 0.02, 0.05), (middle, -0.05, z + 0.12 + 0.1 * i), (25.0, 0.0, 0.0))
                    for i in range(int((h - 0.2) / 0.1))
                ]
        elif rng.random() < 0.12:  # a flower box
            self.shutters.append(slab((x0, -0.26, z), (x1, -0.06, z + 0.18), 0.01))
            self.goods[2].extend(
                knob((x0 + 0.1 + 0.13 * i, -0.16, z + 0.24 + 0.05 * (i % 2)), 0.1, segments=10)
                for i in range(int(w / 0.13))
            )

    def _frame(self, x: float, z: float, w: float, h: float, columns: int, rows: int) -> None:
        """Glazing bars, 0.12 m inside the wall."""
        bar, edge = 0.035, 0.06
        holes = []
        cw, rh = (w - 2 * edge + bar) / columns, (h - 2 * edge + bar) / rows
        for i in range(columns):
            for j in range(rows):
                x0, z0 = -w / 2 + edge + i * cw, edge + j * rh
                holes.append((round(x0, 4), round(z0, 4), round(x0 + cw - bar, 4), round(z0 + rh - bar, 4)))
        grid = Wall(type="wall", size_m=(round(w, 4), round(h, 4)), depth_m=0.05, openings_m=tuple(holes))
        self.frames.append(part(grid, (x, 0.12, z)))

    def _light_or_glass(self, x0: float, z0: float, x1: float, z1: float) -> None:
        rng = self.rng
        if rng.random() < self.day.lit:
            light = self.lit[int(rng.integers(3))]
            light.append(pane(x0, z0, x1, z1, 0.3))
            w = x1 - x0
            for s, inner in ((x0, 1), (x1, -1)):
                reach = draw(rng, 0.08, 0.3) * w * inner
                self.blinds.append(slab((min(s, s + reach), 0.19, z0), (max(s, s + reach), 0.21, z1)))
            return
        # Panes never hang quite true: each mirrors a slightly different part of the street.
        tilt, turn = draw(rng, -0.7, 0.7, 2), draw(rng, -0.7, 0.7, 2)
        flat = pane(x0, z0, x1, z1, 0.165)
        self.glass.append(flat.model_copy(update={"rotation_deg": (round(90.0 + tilt, 2), 0.0, turn)}))
        if rng.random() < 0.35:  # a blind, seen through the upper part
            self.blinds.append(pane(x0, z1 - draw(rng, 0.2, 0.9) * (z1 - z0), x1, z1, 0.145))

    def flats(self, width: float, bays: int, step: float, w: float) -> None:
        """Windows and a front door in the ground floor."""
        door_bay = int(self.rng.integers(bays))
        for bay in range(bays):
            x = -width / 2 + (bay + 0.5) * step
            if bay != door_bay:
                self.window(x, 1.05, w, 1.75)
                continue
            half = min(0.6, step / 2 - 0.3)
            self.hole(x - half, 0, x + half, 2.75)
            self.doors.append(slab((x - half, 0.16, 0), (x + half, 0.22, 2.2), 0.005))
            for px in (-0.5, 0.5):
                for z0, z1 in ((0.2, 0.85), (1.0, 2.0)):
                    self.doors.append(
                        slab((x + half * px - 0.17, 0.135, z0), (x + half * px + 0.17, 0.17, z1), 0.012)
                    )
            self.glass.append(pane(x - half, 2.25, x + half, 2.75, 0.17))
            self.trims.append(slab((x - half, 0.1, 2.2), (x + half, 0.25, 2.27)))
            for s in (-1, 1):
                self.trims.append(
                    slab((x + s * (half + 0.11) - 0.11, -0.09, 0), (x + s * (half + 0.11) + 0.11, 0.01, 2.75))
                )
            self.trims.append(slab((x - half - 0.3, -0.3, 2.75), (x + half + 0.3, 0.01, 2.95)))
            self.trims.append(slab((x - half - 0.25, -0.35, 0), (x + half + 0.25, 0.2, 0.06)))
            self.iron.append(knob((x + half - 0.12, 0.11, 1.05), 0.035, segments=16))

    def shops(self, width: float, ground_m: float) -> None:
        """Shop windows with goods, doors, fascias with names, awnings."""
        rng = self.rng
        count = max(1, round(width / draw(rng, 4.2, 6.0)))
        step = width / count
        for i in range(count):
            left, right = -width / 2 + i * step + 0.3, -width / 2 + (i + 1) * step - 0.3
            door = left + 0.95 if rng.random() < 0.5 else right
            x0, x1 = (door + 0.2, right) if door < right else (left, right - 1.15)
            self._shop_window(x0, x1)
            self.hole(door - 0.95, 0, door, 2.75)
            self._frame(door - 0.475, 0.0, 0.95, 2.75, 1, 3)
            self._light_or_glass(door - 0.95, 0.0, door, 2.75)
            proud = 0.1 + 0.004 * i
            self.fascia.append(slab((left - 0.1, -proud, 2.92), (right + 0.1, 0.01, 3.46), 0.015))
            word = pick(rng, WORDS)
            height = min(0.3, 0.8 * (right - left) / word_width(word, 1.0))
            centre = (left + right) / 2
            if self.day.lamps and rng.random() < 0.6:
                self.letters += tube_letters(word, height, 0.018, (centre, -proud - 0.05, 3.19 - height / 2))
            else:
                self.letters += flat_letters(
                    word, height, height * 0.17, (centre, -proud - 0.01, 3.19 - height / 2)
                )
            if rng.random() < 0.55:
                self._awning(left, right, draw(rng, 0.9, 1.4))

    def _shop_window(self, x0: float, x1: float) -> None:
        rng, depth = self.rng, 1.5
        self.hole(x0, 0.5, x1, 2.75)
        panes = max(1, round((x1 - x0) / 1.4))
        self._frame((x0 + x1) / 2, 0.5, x1 - x0, 2.25, panes, 1)
        self.doors.append(slab((x0, -0.02, 0.06), (x1, 0.01, 0.46), 0.004))
        low, high = 0.52, 2.74
        self.rooms += [slab((x0 - 0.1, 0.25, low - 0.04), (x1 + 0.1, depth, low)),
                       slab((x0 - 0.1, depth, low - 0.04), (x1 + 0.1, depth + 0.04, high + 0.3)),
                       slab((x0 - 0.14, 0.25, low - 0.04), (x0 - 0.1, depth, high + 0.3)),
                       slab((x1 + 0.1, 0.25, low - 0.04), (x1 + 0.14, depth, high + 0.3))]  # fmt: skip
        ceiling = pane(x0, 0.35, x1, depth, 0.0)
        self.panels.append(
            ceiling.model_copy(
                update={
                    "position_m": (ceiling.position_m[0], round((0.35 + depth) / 2, 4), high + 0.1),
                    "rotation_deg": (180.0, 0.0, 0.0),
                }
            )
        )
        for level in range(2):  # shelves at the back, a display in front
            z = low + 0.75 * (level + 1)
            self.rooms.append(slab((x0, depth - 0.35, z - 0.03), (x1, depth, z)))
        rows = (
            (depth - 0.17, low + 0.75, 0.3),
            (depth - 0.17, low + 1.5, 0.3),
            (0.75, low, 0.5),
            (0.45, low, 0.32),
        )
        for y, z, size in rows:
            x = x0 + 0.15
            while x < x1 - 0.15:
                tall, thick = draw(rng, 0.4, 1.0) * size, draw(rng, 0.1, 0.2)
                target = self.goods[int(rng.integers(3))]
                if rng.random() < 0.45:
                    target.append(
                        slab((x - thick / 2, y - 0.08, z), (x + thick / 2, y + 0.08, z + tall), 0.006)
                    )
                elif rng.random() < 0.5:
                    target.append(knob((x, y, z + thick / 2), thick / 2, segments=12))
                else:
                    target.append(_jar((x, y, z), tall, thick / 2))
                x += thick + draw(rng, 0.05, 0.3)

    def _awning(self, left: float, right: float, reach: float) -> None:
        self.awning_width = right - left
        drop, top = 0.32 * reach, 2.9
        angle = float(np.degrees(np.arctan2(drop, reach)))
        middle = ((left + right) / 2, -reach / 2 - 0.1, top - drop / 2)
        length = float(np.hypot(reach, drop))
        self.awnings.append(box((right - left, length, 0.012), middle, (round(angle, 3), 0.0, 0.0)))
        self.awnings.append(pane(left, top - drop - 0.22, right, top - drop, -reach - 0.1))
        for x in (left + 0.05, right - 0.05):
            self.iron.append(
                rod((x, 0, top - drop - 0.25), (x, -reach - 0.09, top - drop - 0.02), 0.012, segments=6)
            )

    def pieces(self, sides: list[Part]) -> list[Piece]:
        """Everything but the wall."""
        rng, style, day = self.rng, self.style, self.day
        cloth = pick(rng, CLOTHS)
        glow = day.glow
        dark = day.lamps > 0
        letters = pick(rng, NEON)
        fascia = pick(rng, DOORS)
        goods = [pick(rng, (*FRUIT, *CLOTHS, (0.7, 0.68, 0.6))) for _ in range(3)]
        panel = MaterialSpec(emission=props.glowing(pick(rng, WINDOW_LIGHTS), (2.4 if dark else 3.2) * glow))
        awning = pick(rng, (stripes(cloth, (0.72, 0.7, 0.65), 0.22, self.awning_width), cloth))
        return [
            piece("trims", MaterialSpec(base_color=speckled(style.trim), roughness=0.8), self.trims),
            piece("frames", MaterialSpec(base_color=style.frame, roughness=0.4), self.frames),
            piece("glass", MaterialSpec(base_color=(0.02, 0.025, 0.03), roughness=0.03, ior=1.7), self.glass),
            piece(
                "blinds",
                MaterialSpec(
                    base_color=pick(rng, ((0.6, 0.56, 0.47), (0.45, 0.45, 0.46), (0.4, 0.25, 0.2))),
                    roughness=0.6,
                ),
                self.blinds,
            ),
            piece(
                "shutters",
                MaterialSpec(base_color=style.shutters or pick(rng, DOORS), roughness=0.5),
                self.shutters,
            ),
            piece("doors", MaterialSpec(base_color=pick(rng, DOORS), roughness=0.3), self.doors),
            piece("iron", MaterialSpec(base_color=(0.03, 0.03, 0.033), roughness=0.4), self.iron),
            piece("fascia", MaterialSpec(base_color=fascia, roughness=0.35), self.fascia),
            piece(
                "letters",
                MaterialSpec(emission=props.glowing(letters, 4.0))
                if dark
                else MaterialSpec(base_color=(0.75, 0.66, 0.4), roughness=0.35),
                self.letters,
            ),
            piece("awnings", MaterialSpec(base_color=awning, roughness=0.85), self.awnings),
            piece(
                "rooms",
                MaterialSpec(
                    base_color=pick(rng, ((0.6, 0.55, 0.45), (0.35, 0.22, 0.12), (0.55, 0.58, 0.56))),
                    roughness=0.7,
                ),
                self.rooms,
            ),
            piece("panels", panel, self.panels),
            *(
                piece(
                    f"lit-{i}",
                    MaterialSpec(
                        emission=props.glowing(WINDOW_LIGHTS[i], round(glow * (0.6, 0.9, 0.7)[i], 3))
                    ),
                    p,
                )
                for i, p in enumerate(self.lit)
            ),
            *(
                piece(f"goods-{i}", MaterialSpec(base_color=c, roughness=draw(rng, 0.2, 0.6)), p)
                for i, (c, p) in enumerate(zip(goods, self.goods, strict=True))
            ),
            piece(
                "sides",
                MaterialSpec(base_color=props.shaded(style.wall.color_a, 0.9, 0.0), roughness=0.85),
                sides,
            ),
        ]


def _jar(at: tuple[float, float, float], height: float, radius: float) -> Part:
    return drum(at, radius, height, top_m=0.7 * radius, segments=12)
