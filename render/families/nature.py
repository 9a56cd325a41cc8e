"""Out of doors: meadow, forest, path, stream, flower bed; thin structure at all distances, in the wind.

The ground is one terrain; what stands on it is scattered in the terrain's frame, dense near the camera.
Rows of trees and hills close the horizon.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families import flora
from focuspull.render.families.camera import random_camera
from focuspull.render.families.layout import (
    Count,
    FamilyRanges,
    FocalLength,
    draw,
    draw_count,
    pick,
)
from focuspull.render.geometry import terrain_height
from focuspull.render.pool import AssetPool
from focuspull.render.spec import (
    Blob,
    CameraSpec,
    Color,
    Environment,
    HdriEnvironment,
    LightSource,
    MaterialSpec,
    ObjectSpec,
    Plane,
    ProceduralTexture,
    Ripple,
    Scatter,
    SkyEnvironment,
    SunLight,
    Terrain,
    Vec3,
    World,
)

Place = Literal["meadow", "forest", "path", "stream", "garden"]
Time = Literal["noon", "afternoon", "golden", "overcast", "dusk", "morning"]

GROUND_SIZE_M = 84.0
GROUND_Y_M = 30.0
"""How far the middle of the ground lies behind the subject."""

# Irradiance of the sun, its elevation in degrees, radiance of zenith and horizon.
TIMES: dict[str, tuple[Vec3, tuple[float, float], Vec3, Vec3]] = {
    "noon": ((6.2, 5.8, 5.2), (48, 65), (0.42, 0.64, 1.1), (0.75, 0.88, 1.0)),
    "afternoon": ((6.8, 5.7, 4.2), (26, 40), (0.45, 0.65, 1.05), (0.9, 0.92, 0.92)),
    "golden": ((8.0, 4.6, 2.0), (11, 19), (0.45, 0.56, 0.8), (1.15, 0.8, 0.5)),
    "overcast": ((0.0, 0.0, 0.0), (50, 60), (1.3, 1.36, 1.42), (0.85, 0.9, 0.95)),
    "dusk": ((2.2, 0.9, 0.6), (6, 11), (0.6, 0.7, 1.15), (1.2, 0.75, 0.7)),
    "morning": ((4.2, 3.7, 2.9), (16, 26), (0.8, 0.95, 1.15), (1.0, 0.98, 0.92)),
}


class NatureRanges(FamilyRanges):
    """Ranges of the family.

    Attributes:
        places: Kinds of place that are drawn.
        times: Times of day, unless panoramas of the pool give the light.
        panoramas: Share of scenes lit by a panorama, if the pool has any.
        blades: Of grass, in a meadow.
        wind: How far grass leans in the wind, of its height.
    """

    family: Literal["nature"]
    places: tuple[Place, ...] = Field(default=("meadow", "forest", "path", "stream", "garden"), min_length=1)
    times: tuple[Time, ...] = Field(
        default=("noon", "afternoon", "golden", "overcast", "dusk", "morning"), min_length=1
    )
    panoramas: Annotated[float, Field(ge=0, le=1)] = 0.5
    blades: Count = (30000, 42000)
    wind: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.06, 0.35)
    camera_reach_m: tuple[float, float] = (0.1, 0.3)
    focal_length_mm: tuple[FocalLength, FocalLength] = (35, 70)


class _Site:
    """What all things of a scene share: the ground, the wind, the camera's place, the light's haze."""

    def __init__(self, rng: np.random.Generator, ranges: NatureRanges) -> None:
        self.rng = rng
        self.place: Place = pick(rng, ranges.places)
        self.time: Time = pick(rng, ranges.times)
        self.season = "autumn" if rng.random() < 0.25 else "summer"
        rough = {"stream": 0.5, "forest": 0.45, "garden": 0.05}.get(self.place, 0.3)
        self.ground = Terrain(
            type="terrain",
            size_m=(GROUND_SIZE_M, GROUND_SIZE_M),
            amplitude_m=round(rough * draw(rng, 0.7, 1.3), 3),
            frequency_per_m=draw(rng, 0.1, 0.2, 3),
            seed=int(rng.integers(256)),
            resolution=120,
        )
        self.wind_strength, self.wind_deg = draw(rng, *ranges.wind), draw(rng, 0, 360, 1)
        self.subject_m = draw(rng, 0.3, 0.7)
        self.focal_mm = draw(rng, *ranges.focal_length_mm, digits=1)
        # The subject fills about half of the height.
        self.distance_m = round(self.subject_m * self.focal_mm / 20.25 / draw(rng, 0.42, 0.62), 4)
        self.camera_xy = (draw(rng, -0.15, 0.15), -self.distance_m)
        base = max(self.height(*self.camera_xy), self.height(0.0, 0.0) - 0.1)
        self.camera_z = round(base + draw(rng, 0.45, 1.05) * self.subject_m + 0.08, 4)
        r, g, b = (min(0.8 * c, 1.0) for c in TIMES[self.time][3])
        self.haze: Color = (r, g, b)

    def height(self, x: float, y: float) -> float:
        """Of the ground."""
        return round(float(terrain_height(self.ground, (x, y - GROUND_Y_M))), 4)

    def at(self, x: float, y: float, *, sunk: float = 0.0) -> Vec3:
        """A place on the ground."""
        return (round(x, 4), round(y, 4), round(self.height(x, y) - sunk, 4))

    def beside(self, y: float, share: float) -> float:
        """The x at depth y that is seen at ``share`` of the way from the middle to the side of the image."""
        distance = y - self.camera_xy[1]
        return self.camera_xy[0] * (1 - distance / self.distance_m) + share * distance * 18 / self.focal_mm

    def scatter(self, count: int, **changes: object) -> Scatter:
        """Things on the ground, dense near the camera."""
        fields: dict[str, object] = {
            "count": count,
            "size_m": (GROUND_SIZE_M - 2, GROUND_SIZE_M - 2),
            "ground": self.ground,
            "dense_at": (self.camera_xy[0], round(self.camera_xy[1] - GROUND_Y_M - 0.6, 3)),
            "dense_radius_m": round(0.7 * self.distance_m, 3),
            "fan_deg": round(2 * np.degrees(np.arctan(18 / self.focal_mm)) + 24.0, 1),
            "seed": int(self.rng.integers(10**6)),
            "bare": self.cleared(),
        }
        return Scatter.model_validate(fields | changes)

    def cleared(self, line: float = 0.0) -> tuple[Vec3, ...]:
        """Discs without grass: around the camera; for larger things, of radius ``line`` up to the subject."""
        x, y = self.camera_xy
        discs: list[Vec3] = [(x, round(y - GROUND_Y_M, 3), max(0.45, 1.6 * line))]
        if line:
            discs += [
                (round(x * (1 - t), 3), round(y * (1 - t) - GROUND_Y_M, 3), line)
                for t in np.linspace(0.15, 1, 8).tolist()
            ]
        return tuple(discs)

    def breeze(self, height_m: float, share: float = 1.0):
        """The wind on things of this height."""
        return flora.breeze(self.rng, height_m, share * self.wind_strength, self.wind_deg)


MIDDLE: Vec3 = (0.0, GROUND_Y_M, 0.0)


def random_nature(rng: np.random.Generator, ranges: NatureRanges, assets: AssetPool) -> World:
    """A place out of doors, drawn."""
    site = _Site(rng, ranges)
    draw_place = {
        "meadow": _meadow,
        "forest": _forest,
        "path": _path,
        "stream": _stream,
        "garden": _garden,
    }[site.place]
    objects = draw_place(site, draw_count(rng, ranges.blades))
    objects += _foreground(site)
    objects += _horizon(site)
    environment, lights = _light(site, ranges, assets)

    x, y = site.camera_xy
    position = (x, y, site.camera_z)
    aim = (
        draw(rng, -0.06, 0.06),
        0.0,
        round(site.height(0.0, 0.0) + draw(rng, 0.6, 0.85) * site.subject_m, 4),
    )
    reach = draw(rng, *ranges.camera_reach_m) * min(1.0, site.distance_m / 1.5)
    path, handheld = random_camera(
        rng, position, aim, reach, obstacles=objects, focal_length_mm=site.focal_mm
    )
    return World(
        objects=tuple(objects),
        lights=lights,
        environment=environment,
        camera=CameraSpec(focal_length_mm=site.focal_mm, path=path, handheld=handheld),
    )


def _light(
    site: _Site, ranges: NatureRanges, assets: AssetPool
) -> tuple[Environment, tuple[LightSource, ...]]:
    rng = site.rng
    irradiance, elevation, zenith, horizon = TIMES[site.time]
    # From the side or behind the camera more often than against the light.
    azimuth = np.radians(draw(rng, -200, 20, 1) if rng.random() < 0.8 else draw(rng, 30, 150, 1))
    up = np.radians(draw(rng, *elevation, digits=1))
    toward = (np.cos(up) * np.cos(azimuth), np.cos(up) * np.sin(azimuth), np.sin(up))
    sun = SunLight(
        type="sun",
        direction=tuple(round(float(c), 4) for c in toward),  # type: ignore[arg-type]
        irradiance_w_m2=irradiance,
        angle_deg=1.5,
    )
    if assets.hdris and rng.random() < ranges.panoramas:
        panorama = HdriEnvironment(
            type="hdri", file=pick(rng, assets.hdris), rotation_deg=draw(rng, 0, 360, 1)
        )
        return panorama, ()
    sky = SkyEnvironment(type="sky", zenith=zenith, horizon=horizon, ground=(0.08, 0.09, 0.06))
    return sky, (sun,) if max(irradiance) > 0 else ()


# --- Ground and distance ------------------------------------------------------------------------


def _ground(site: _Site, low: Color, high: Color) -> ObjectSpec:
    texture = ProceduralTexture(
        type="perlin",
        color_a=low,
        color_b=high,
        cells=12,
        octaves=7,
        resolution=384,
        seed=int(site.rng.integers(256)),
        tiles=(36.0, 36.0),
    )
    return ObjectSpec(
        name="ground",
        shape=site.ground,
        material=flora.dull(texture),
        position_m=MIDDLE,
    )


def _horizon(site: _Site) -> list[ObjectSpec]:
    """A plain, rows of trees and hills behind each other, paler with distance."""
    rng = site.rng
    green = pick(rng, flora.GREENS)
    plain = flora.dull(flora.tints(flora.hazed(green, site.haze, 0.2), 8, 40.0))
    objects = [
        ObjectSpec(
            name="plain",
            shape=Plane(type="plane", size_m=(2400.0, 1600.0)),
            material=plain,
            position_m=(0.0, 740.0, round(-1.2 * site.ground.amplitude_m - 0.1, 3)),
        )
    ]
    hills = draw_count(rng, (2, 4))
    for i in range(hills):
        far = 220.0 + 130.0 * i
        radius = draw(rng, 110, 190, 1)
        colors = flora.hazed(green, site.haze, 0.3 + 0.13 * i)
        objects.append(
            ObjectSpec(
                name=f"hill-{i}",
                role="background" if i == 0 else "set",
                shape=Blob(
                    type="blob",
                    radius_m=radius,
                    amplitude=0.25,
                    frequency=1.7,
                    seed=int(rng.integers(256)),
                    segments=72,
                ),
                material=flora.dull(flora.tints(colors, 9 + i, 9.0)),
                position_m=(draw(rng, -130, 130, 1), far, 0.0),
                scale=(1.9, 0.6, draw(rng, 0.04, 0.12, 3)),
            )
        )
    rows = (
        ((38.0, 15, 0.1), (58.0, 21, 0.2)) if site.place != "forest" else ((26.0, 20, 0.06), (48.0, 22, 0.15))
    )
    for i, (far, count, haze) in enumerate(rows):
        tree = flora.random_tree(
            rng, draw(rng, 5, 10, 2), season=site.season, fine=False, haze=(site.haze, haze)
        )
        wide = far * 36 / site.focal_mm * 1.5
        scatter = Scatter(
            count=count, size_m=(round(wide, 1), 9.0), patchiness=0.1, seed=int(rng.integers(10**6))
        )
        place = (0.0, far, -0.3)
        objects += flora.standing(flora.scattered(tree, scatter, 4), f"row-{i}", "background", place)
    return objects


def _foreground(site: _Site) -> list[ObjectSpec]:
    """Close to the camera at the side: a tuft, a flower or a twig with leaves."""
    rng = site.rng
    objects: list[ObjectSpec] = []
    side = float(rng.choice([-1.0, 1.0]))
    for i in range(draw_count(rng, (1, 2))):
        depth = site.camera_xy[1] + draw(rng, 0.34, 0.5) * site.distance_m
        share = side * draw(rng, 0.55, 0.85)
        place = site.at(site.beside(depth, share), depth)
        # Its top is about as high as the camera, whatever the slope.
        height = round(max(site.camera_z - place[2] + draw(rng, -0.01, 0.05) * site.distance_m, 0.15), 4)
        name = f"near-{i}"
        match int(rng.integers(3)):
            case 0:
                objects.append(flora.random_tuft(rng, name, "foreground", place, height, site.breeze(height)))
            case 1:
                herb = flora.random_flower(rng, height, 4)
                objects += flora.standing(herb, name, "foreground", place, wind=site.breeze(height, 0.6))
            case _:
                bush = flora.random_bush(rng, height, season=site.season)
                place = site.at(site.beside(depth, 1.6 * share), depth)
                objects += flora.standing(bush, name, "foreground", place, wind=site.breeze(height, 0.4))
        side = -side
    return objects


def _trees(
    site: _Site, spots: tuple[tuple[float, float], ...], height: tuple[float, float]
) -> list[ObjectSpec]:
    """Single trees, at (share of the half width, distance behind the subject)."""
    objects: list[ObjectSpec] = []
    for i, (share, behind) in enumerate(spots):
        tall = draw(site.rng, *height, digits=2)
        # Under firs the view would be full of branches.
        kind = pick(site.rng, ("broad", "birch") if site.place == "forest" else flora.TREES)
        tree = flora.random_tree(site.rng, tall, kind=kind, season=site.season)
        place = site.at(site.beside(behind, share), behind, sunk=0.05)
        objects += flora.standing(
            tree,
            f"tree-{i}",
            "background",
            place,
            turn_deg=draw(site.rng, 0, 360, 1),
            wind=site.breeze(tall, 0.06),
        )
    return objects


def _bushes(site: _Site, count: int, near: float = 2.0, far: float = 14.0) -> list[ObjectSpec]:
    objects: list[ObjectSpec] = []
    for i in range(count):
        behind = draw(site.rng, near, far)
        tall = draw(site.rng, 0.6, 1.6)
        bush = flora.random_bush(
            site.rng, tall, leaf_m=0.09, season=site.season, blooms=bool(site.rng.random() < 0.3)
        )
        place = site.at(site.beside(behind, draw(site.rng, -1.1, 1.1)), behind, sunk=0.03)
        objects += flora.standing(bush, f"bush-{i}", "background", place, wind=site.breeze(tall, 0.15))
    return objects


def _bloom(site: _Site, name: str = "subject") -> list[ObjectSpec]:
    """Flowers as the subject."""
    herb = flora.random_flower(site.rng, site.subject_m, int(site.rng.integers(5, 12)), detail=3)
    place = site.at(0.0, 0.0, sunk=0.005)
    return flora.standing(herb, name, "subject", place, wind=site.breeze(site.subject_m, 0.6))


def _rocks(site: _Site, count: int, *, moss: bool = False) -> list[ObjectSpec]:
    rocks = []
    for i in range(count):
        behind = draw(site.rng, 0.5, 9.0)
        place = site.at(site.beside(behind, draw(site.rng, -1, 1)), behind)
        radius = draw(site.rng, 0.12, 0.5)
        rocks.append(flora.random_rock(site.rng, f"rock-{i}", "background", place, radius, moss=moss))
    return rocks


# --- Places -------------------------------------------------------------------------------------


def _meadow(site: _Site, blades: int) -> list[ObjectSpec]:
    rng = site.rng
    tall = draw(rng, 0.12, 0.3)
    green = pick(rng, flora.GREENS)
    objects = [_ground(site, (0.05, 0.06, 0.02), (0.14, 0.13, 0.06))]
    wind = site.breeze(tall)
    objects.append(flora.grass("grass", site.scatter(blades), tall, green, MIDDLE, wind))
    dry = site.scatter(blades // 6)
    objects.append(flora.grass("grass-dry", dry, round(1.35 * tall, 4), flora.STRAW, MIDDLE, wind))
    for i in range(2):
        height = round(tall * draw(rng, 1.1, 1.6), 4)
        herb = flora.random_flower(rng, height, 2, detail=1)
        scatter = site.scatter(draw_count(rng, (60, 160)), patchiness=0.5, largest=1.0)
        herb = flora.scattered(herb, scatter)
        objects += flora.standing(herb, f"flowers-{i}", "background", MIDDLE, wind=site.breeze(height, 0.6))
    objects += _bloom(site)
    objects += _bushes(site, draw_count(rng, (1, 3)), near=6.0)
    return objects + _trees(site, ((draw(rng, -0.9, 0.9), draw(rng, 12, 22)),), (4.0, 8.0))


def _forest(site: _Site, blades: int) -> list[ObjectSpec]:
    rng = site.rng
    objects = [_ground(site, (0.05, 0.035, 0.02), (0.2, 0.14, 0.08))]
    litter = flora.tinted(pick(rng, flora.AUTUMN), 10, roughness=0.7)
    brown = flora.tinted(((0.16, 0.08, 0.04), (0.36, 0.22, 0.12)), 11, roughness=0.8)
    objects.append(flora.strewn("litter", "leaves", site.scatter(3000, largest=1.5), 0.06, brown, MIDDLE))
    objects.append(flora.strewn("leaves", "leaves", site.scatter(900, largest=1.5), 0.055, litter, MIDDLE))
    tall = draw(rng, 0.08, 0.16)
    scatter = site.scatter(blades // 3, patchiness=0.75)
    objects.append(flora.grass("grass", scatter, tall, pick(rng, flora.GREENS), MIDDLE, site.breeze(tall)))
    fern = flora.random_fern(rng, 0.5)
    ferns = flora.scattered(fern, site.scatter(26, patchiness=0.4, largest=1.0, bare=site.cleared(0.75)), 2)
    objects += flora.standing(ferns, "ferns", "background", MIDDLE, wind=site.breeze(0.5, 0.4))
    # Trunks on both sides that leave the view to the subject free.
    shares = [draw(rng, 0.25, 0.5) * (1 if i % 2 else -1) + draw(rng, -0.15, 0.15) for i in range(5)]
    spots = tuple(
        (share * (1.6 if i < 2 else 1.0), draw(rng, 1.2 + 2.6 * i, 3.2 + 2.6 * i))
        for i, share in enumerate(shares)
    )
    objects += _trees(site, spots, (9.0, 14.0))
    objects += _rocks(site, 2, moss=True)
    if rng.random() < 0.5:
        for i in range(draw_count(rng, (3, 5))):
            spread = 0.32 * site.subject_m * i
            place = site.at(draw(rng, -1, 1) * spread, draw(rng, -0.4, 0.6) * spread, sunk=0.01)
            height = site.subject_m * (0.9 if i == 0 else draw(rng, 0.35, 0.7))
            objects += flora.random_mushroom(rng, f"subject-{i}", "subject", place, height)
        return objects
    subject = flora.random_fern(rng, site.subject_m)
    place = site.at(0.0, 0.0)
    return objects + flora.standing(subject, "subject", "subject", place, wind=site.breeze(0.5, 0.4))


def _path(site: _Site, blades: int) -> list[ObjectSpec]:
    rng = site.rng
    objects = [_ground(site, (0.14, 0.1, 0.06), (0.34, 0.27, 0.19))]
    width = draw(rng, 0.35, 0.6)
    bend = [draw(rng, -0.6, 0.6) for _ in range(4)]
    side = float(rng.choice([-1.0, 1.0]))
    turns = tuple(
        (round(side * 0.75 + b * (0.3 + 0.22 * i), 3), y - GROUND_Y_M)
        for i, (y, b) in enumerate(zip((-4.0, 1.5, 9.0, 26.0), bend, strict=True))
    )
    bare = flora.walk(turns, width) + site.cleared()
    tall = draw(rng, 0.1, 0.26)
    wind = site.breeze(tall)
    green = pick(rng, flora.GREENS)
    objects.append(flora.grass("grass", site.scatter(blades, bare=bare), tall, green, MIDDLE, wind))
    herb = flora.random_flower(rng, 1.3 * tall, 3, detail=1)
    herb = flora.scattered(herb, site.scatter(90, bare=bare, patchiness=0.5, largest=1.0))
    objects += flora.standing(herb, "flowers", "background", MIDDLE, wind=site.breeze(tall, 0.6))
    grey = flora.tinted(pick(rng, flora.STONES), 12, roughness=0.85)
    objects.append(
        flora.strewn(
            "pebbles", "pebbles", site.scatter(900, largest=1.3, patchiness=0.1), 0.022, grey, MIDDLE
        )
    )
    objects += _bushes(site, draw_count(rng, (2, 4)))
    if rng.random() < 0.5:
        objects += _bloom(site)
    else:
        bush = flora.random_bush(rng, site.subject_m, season=site.season, blooms=True)
        place = site.at(0.0, 0.0, sunk=0.01)
        objects += flora.standing(bush, "subject", "subject", place, wind=site.breeze(site.subject_m, 0.2))
    return objects + _trees(site, ((-0.7 * side, 7.0), (0.6 * side, 16.0)), (4.5, 8.0))


def _stream(site: _Site, blades: int) -> list[ObjectSpec]:
    """Water stands wherever the ground is low; the subject is on a bank or a stone."""
    rng = site.rng
    level = round(site.height(0.0, 0.0) - draw(rng, 0.04, 0.12), 4)
    objects = [_ground(site, (0.1, 0.08, 0.055), (0.3, 0.26, 0.2))]
    water = MaterialSpec(base_color=(0.02, 0.035, 0.03), roughness=draw(rng, 0.05, 0.12), ior=1.33)
    objects.append(
        ObjectSpec(
            name="water",
            shape=Terrain(
                type="terrain",
                size_m=(GROUND_SIZE_M, GROUND_SIZE_M),
                amplitude_m=0.012,
                frequency_per_m=1.1,
                seed=int(rng.integers(256)),
                resolution=200,
            ),
            material=water,
            position_m=(0.0, GROUND_Y_M, level),
            deform=Ripple(
                type="ripple",
                amplitude_m=0.006,
                wavelength_m=draw(rng, 1.2, 2.2, 2),
                frequency_hz=draw(rng, 0.4, 0.8, 2),
                direction=(draw(rng, -1, 1), -1.0, 0.0),
            ),
        )
    )
    tall = draw(rng, 0.1, 0.24)
    wind = site.breeze(tall)
    dry_land = {"above_m": round(level + 0.05, 4)}
    green = pick(rng, flora.GREENS)
    objects.append(flora.grass("grass", site.scatter(blades, **dry_land), tall, green, MIDDLE, wind))
    grey = flora.tinted(pick(rng, flora.STONES), 12, roughness=0.5)
    shore = {"above_m": round(level - 0.12, 4), "largest": 1.6, "patchiness": 0.1}
    objects.append(flora.strewn("pebbles", "pebbles", site.scatter(1800, **shore), 0.045, grey, MIDDLE))
    for i in range(draw_count(rng, (4, 7))):
        behind = draw(rng, -0.3, 7.0)
        x = site.beside(behind, draw(rng, -0.95, 0.95))
        if abs(x) < 0.3 and behind < 0.5:
            continue
        place = (round(x, 4), behind, round(max(site.height(x, behind), level) - 0.03, 4))
        objects.append(flora.random_rock(rng, f"rock-{i}", "background", place, draw(rng, 0.1, 0.4)))
    for i in range(draw_count(rng, (2, 4))):
        behind = draw(rng, 0.6, 6.0)
        x = site.beside(behind, draw(rng, -0.9, 0.9))
        tall = draw(rng, 0.5, 0.9)
        objects.append(
            flora.random_tuft(
                rng, f"reed-{i}", "background", site.at(x, behind), tall, site.breeze(tall, 0.5)
            )
        )
    objects += _trees(site, ((draw(rng, -0.9, 0.9), draw(rng, 9, 18)),), (5.0, 9.0))
    objects += _bushes(site, 2, near=5.0)
    radius = 0.5 * site.subject_m
    stone = flora.random_rock(rng, "subject-stone", "subject", site.at(0.0, 0.0), radius)
    objects.append(stone)
    herb = (
        flora.random_fern(rng, 0.55 * site.subject_m)
        if rng.random() < 0.4
        else flora.random_flower(rng, 0.85 * site.subject_m, 6, detail=3)
    )
    place = site.at(draw(rng, -0.25, 0.25) * site.subject_m, -0.62 * site.subject_m)
    return objects + flora.standing(
        herb, "subject-herb", "subject", place, wind=site.breeze(site.subject_m, 0.5)
    )


def _garden(site: _Site, blades: int) -> list[ObjectSpec]:
    """A bed of flowers in earth, lawn and hedge behind it."""
    rng = site.rng
    objects = [_ground(site, (0.06, 0.04, 0.025), (0.19, 0.13, 0.08))]
    bed = tuple(
        (round(x, 2), round(y - GROUND_Y_M, 2), 0.75)
        for x in np.arange(-4.0, 4.1, 0.6)
        for y in (-1.0, -0.3, 0.4, 1.0)
    )
    tall = draw(rng, 0.05, 0.1)
    lawn = site.scatter(blades, bare=bed + site.cleared(), patchiness=0.0)
    objects.append(flora.grass("grass", lawn, tall, pick(rng, flora.GREENS), MIDDLE, site.breeze(tall)))
    earth = flora.tinted(((0.06, 0.04, 0.03), (0.2, 0.14, 0.1)), 13, roughness=1.0)
    objects.append(
        flora.strewn(
            "clods", "pebbles", site.scatter(1200, largest=1.2, patchiness=0.0), 0.028, earth, MIDDLE
        )
    )
    for row, behind in enumerate((0.55, 1.15, 2.6, 3.2)):
        height = round(site.subject_m * draw(rng, 0.55, 0.85), 4)
        kind = flora.random_flower(rng, height, 4, detail=1)
        scatter = Scatter(count=20, size_m=(5.0, 0.35), patchiness=0.0, seed=int(rng.integers(10**6)))
        objects += flora.standing(
            flora.scattered(kind, scatter, 4),
            f"bed-{row}",
            "background",
            site.at(0.0, behind, sunk=0.02),
            wind=site.breeze(height, 0.5),
        )
    objects += _bloom(site)
    for i, share in enumerate((-0.45, 0.4)):
        herb = flora.random_flower(rng, site.subject_m * draw(rng, 0.7, 0.95), 6)
        behind = draw(rng, -0.1, 0.35)
        place = site.at(site.beside(behind, share), behind, sunk=0.01)
        objects += flora.standing(herb, f"subject-{i}", "subject", place, wind=site.breeze(0.5, 0.5))
    hedge = flora.random_bush(
        rng, draw(rng, 1.1, 1.6), leaf_m=0.08, season=site.season, blooms=bool(rng.random() < 0.4)
    )
    scatter = Scatter(count=7, size_m=(12.0, 0.8), patchiness=0.0, seed=int(rng.integers(10**6)))
    hedge_place = site.at(0.0, draw(rng, 6, 9), sunk=0.05)
    objects += flora.standing(flora.scattered(hedge, scatter, 2), "hedge", "background", hedge_place)
    return objects + _trees(site, ((draw(rng, -0.9, 0.9), draw(rng, 9, 14)),), (4.0, 7.0))
