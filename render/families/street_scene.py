"""The frame of a street scene: where the camera and things are, the rows of houses, road and pavements."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from focuspull.render.families import city, facades, streetware
from focuspull.render.families.layout import draw, draw_count, pick
from focuspull.render.families.pieces import box, piece, placed, slab
from focuspull.render.spec import MaterialSpec, ObjectSpec, Part, Plane, Vec3

KERB_M = 0.12


@dataclass
class StreetScene:
    """What is drawn so far: camera, objects, and the ground that is taken."""

    view: str
    day: city.Day
    eye: Vec3
    heading: float
    """Radians; 0 looks along +x, pi / 2 along +y."""
    half_width: float
    """Tangent of half the angle of view."""
    road_m: float
    pavement_m: float
    objects: list[ObjectSpec] = field(default_factory=list)
    taken: list[tuple[float, float, float]] = field(default_factory=list)

    def at(self, depth: float, side: float) -> tuple[float, float]:
        """The place so far in front of the camera and to its right."""
        c, s = math.cos(self.heading), math.sin(self.heading)
        return round(self.eye[0] + depth * c + side * s, 4), round(self.eye[1] + depth * s - side * c, 4)

    def ground(self, x: float) -> float:
        """Height of the ground."""
        return KERB_M if self.view == "square" or abs(x) > self.road_m else 0.0

    def facing(self, x: float, y: float) -> float:
        """Turn of a thing whose front shall look at the camera."""
        return math.degrees(math.atan2(self.eye[1] - y, self.eye[0] - x)) + 90.0

    def sees(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Whether a place is in the picture's width."""
        dx, dy = x - self.eye[0], y - self.eye[1]
        c, s = math.cos(self.heading), math.sin(self.heading)
        depth, side = dx * c + dy * s, dx * s - dy * c
        return depth > 0.3 and abs(side) < depth * self.half_width + margin


def add_houses(rng: np.random.Generator, scene: StreetScene) -> None:
    """Rows of houses that close the view."""
    reach = scene.road_m + scene.pavement_m
    number, seed = 0, int(rng.integers(256))

    def row(corner: tuple[float, float], turn: float, length: float, floors: tuple[int, int]) -> None:
        """Houses from ``corner`` on, to the right as one looks at them."""
        nonlocal number
        along, right = 0.0, (math.cos(math.radians(turn)), math.sin(math.radians(turn)))
        while along < length:
            width = min(draw(rng, 7.0, 11.5, 1), max(length - along, 5.0))
            middle = along + width / 2
            x, y = corner[0] + middle * right[0], corner[1] + middle * right[1]
            along += width + 0.02
            ends = [
                (corner[0] + a * right[0], corner[1] + a * right[1]) for a in (along - width, middle, along)
            ]
            seen = any(scene.sees(*end, margin=1.0) for end in ends)
            style = facades.random_style(rng, seed)
            many = draw_count(rng, floors)
            if seen:
                pieces = facades.random_facade(rng, width, many, style, scene.day)
                scene.objects += placed(f"house-{number}", pieces, (x, y, 0.1), turn, role="background")
            else:
                wall = MaterialSpec(base_color=style.wall.color_a, roughness=0.85)
                plain = piece("wall", wall, [slab((-width / 2, 0, 0), (width / 2, 3, 4.6 + 3.1 * many))])
                scene.objects += placed(f"house-{number}", [plain], (x, y, 0.1), turn)
            number += 1

    if scene.view == "along":
        end = draw(rng, 34, 46, 1)
        row((-reach, -12.0), 90.0, end + 12.0, (2, 4))
        row((reach, end), -90.0, end + 12.0, (2, 4))
        row((-reach - 3, end + 3), 0.0, 2 * reach + 6, (3, 5))
    elif scene.view == "across":
        row((reach, 30.0), -90.0, 60.0, (2, 4))
        row((-reach - 16, 33.0), 0.0, 2 * reach + 22, (2, 4))
        row((reach + 6, -33.0), 180.0, 2 * reach + 22, (2, 4))
        row((-reach - 16, -30.0), 90.0, 60.0, (1, 3))
    else:
        deep, half = draw(rng, 14, 22, 1), draw(rng, 10, 14, 1)
        row((-half - 3, deep), 0.0, 2 * half + 6, (2, 4))
        row((-half, -14.0), 90.0, deep + 14, (2, 4))
        row((half, deep), -90.0, deep + 14, (2, 4))


def add_ground(rng: np.random.Generator, scene: StreetScene) -> None:
    """The road with its markings, kerbs and pavements, or the paving of a square."""
    size = (130.0, 130.0)
    wet = scene.day.wet
    if scene.view == "square":
        kind = pick(rng, ("slabs", "setts"))
        floor = city.paving(rng, kind, size, wet=wet)
        plane = Plane(type="plane", size_m=size)
        scene.objects.append(
            ObjectSpec(name="ground", shape=plane, material=floor, position_m=(0.0, 20.0, KERB_M))
        )
        return
    road = city.paving(rng, pick(rng, ("asphalt", "asphalt", "setts")), size, wet=wet)
    plane = Plane(type="plane", size_m=size)
    scene.objects.append(ObjectSpec(name="ground", shape=plane, material=road, position_m=(0.0, 10.0, 0.0)))
    width, length = scene.pavement_m + 14, 100.0
    slabs = city.paving(rng, "slabs", (width, length), wet=wet)
    stone = MaterialSpec(base_color=streetware.speckled((0.42, 0.41, 0.39)), roughness=0.7)
    for name, s in (("left", -1), ("right", 1)):
        x = s * (scene.road_m + 0.14 + width / 2)
        shape = Plane(type="plane", size_m=(width, length))
        scene.objects.append(
            ObjectSpec(
                name=f"pavement-{name}", shape=shape, material=slabs, position_m=(round(x, 4), 10.0, KERB_M)
            )
        )
    kerbs: list[Part] = []
    for s in (-1, 1):  # stones with joints
        kerbs += [
            box((0.15, 0.99, KERB_M + 0.004), (s * (scene.road_m + 0.075), -12 + i, KERB_M / 2))
            for i in range(44)
        ]
    scene.objects += placed("kerbs", [piece("kerbs", stone, kerbs)])
    paint = MaterialSpec(base_color=streetware.speckled((0.6, 0.6, 0.57)), roughness=0.6)
    dashes = [box((0.12, 1.8, 0.004), (0, -8 + 4 * i, 0.001)) for i in range(13)]
    if rng.random() < 0.5:
        y = draw(rng, 7, 14)
        dashes = [d for d in dashes if abs(d.position_m[1] - y) > 3]
        dashes += [
            box((0.45, 3.2, 0.004), (-scene.road_m + 0.6 + 0.95 * i, y, 0.001))
            for i in range(int(2 * scene.road_m / 0.95))
        ]
    scene.objects += placed("markings", [piece("paint", paint, dashes)])
