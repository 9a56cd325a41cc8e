"""Streets and squares by day, at dusk or in rain: facades, cars, trees, and something in the middle.

Three views: ``along`` a street from its pavement, ``across`` it towards the houses, and over a ``square``.
The ground is z = 0 on the road, and a kerb higher on pavements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from focuspull.render.families import city, greenery, streetware, vehicles
from focuspull.render.families.camera import random_camera
from focuspull.render.families.layout import (
    Count,
    FamilyRanges,
    FocalLength,
    draw,
    draw_count,
    free_place,
    pick,
)
from focuspull.render.families.pieces import Piece, Role, part, piece, placed, rod, slab, wire
from focuspull.render.families.street_scene import KERB_M, StreetScene, add_ground, add_houses
from focuspull.render.pool import AssetPool, MeshAsset
from focuspull.render.records import Unit
from focuspull.render.spec import (
    CameraSpec,
    Environment,
    HdriEnvironment,
    Lattice,
    LightSource,
    Linear,
    MaterialSpec,
    MeshFile,
    ObjectSpec,
    Vec3,
    VertexFile,
    Wind,
    World,
)

View = Literal["along", "across", "square"]
DayName = Literal["day", "golden", "overcast", "rain", "dusk"]
Share = Annotated[float, Field(ge=0)]
OUTDOOR_PANORAMAS = ("city", "courtyard", "forest", "sunrise", "sunset", "beach", "park", "dawn")
_SMALL: tuple[Callable[[np.random.Generator], list[Piece]], ...] = (
    lambda rng: streetware.bollard(pick(rng, ("iron", "steel", "stone")), pick(rng, streetware.PAINT_COLORS)),
    lambda rng: streetware.litter_bin(pick(rng, streetware.PAINT_COLORS)),
    lambda rng: streetware.hydrant(pick(rng, ((0.55, 0.03, 0.02), (0.65, 0.4, 0.02), (0.1, 0.2, 0.5)))),
    lambda rng: greenery.planter(rng),
    lambda rng: streetware.postbox(pick(rng, ((0.5, 0.02, 0.02), (0.65, 0.45, 0.02), (0.02, 0.1, 0.35)))),
    lambda rng: streetware.traffic_sign(pick(rng, ("limit", "yield", "parking", "stop"))),
)
"""What may stand at the edge of a pavement."""


class StreetRanges(FamilyRanges):
    """Ranges of the family.

    Attributes:
        views: How often each view is drawn, against the others.
        days: The same for times of day and weather.
        parked: Parked cars.
        driving: Cars that drive by.
        lamps: Street lamps.
        trees: Trees along the pavement or on the square.
        furniture: Bollards, signs, bins, planters, letter boxes.
        people: Figures and other street things of the corpus's assets, where it has some.
        panoramas: Share of the clips by day whose sky is a panorama, where the corpus has some outdoors.
    """

    family: Literal["street"]
    views: dict[View, Share] = Field(default={"along": 1.0, "across": 1.0, "square": 1.0})
    days: dict[DayName, Share] = Field(
        default={"day": 1.4, "golden": 1.2, "overcast": 0.7, "rain": 0.8, "dusk": 0.8}
    )
    parked: Count = (3, 6)
    driving: Count = (0, 2)
    lamps: Count = (2, 4)
    trees: Count = (0, 3)
    furniture: Count = (3, 6)
    people: Count = (0, 3)
    panoramas: Unit = 0.3
    camera_reach_m: tuple[float, float] = (0.15, 0.4)
    focal_length_mm: tuple[FocalLength, FocalLength] = (32, 60)


def random_street(rng: np.random.Generator, ranges: StreetRanges, assets: AssetPool) -> World:
    """A street, drawn."""
    view = _weighted(rng, ranges.views)
    day = city.DAYS[_weighted(rng, ranges.days)]
    focal = draw(rng, *ranges.focal_length_mm, digits=1)
    road, pavement = draw(rng, 4.0, 4.8, 2), draw(rng, 2.8, 3.8, 2)
    if view == "along":
        side = float(rng.choice([-1.0, 1.0]))
        eye = (round(side * (road + draw(rng, 0.9, 1.6)), 4), 0.0, KERB_M)
        heading = math.pi / 2 + side * math.radians(draw(rng, 2, 16, 1))
    elif view == "across":
        eye = (round(-road - draw(rng, 0.5, 1.4), 4), 0.0, KERB_M)
        heading = math.radians(draw(rng, -42, 42, 1))
    else:
        eye, heading = (0.0, 0.0, KERB_M), math.pi / 2
    scene = StreetScene(view, day, eye, heading, 18.0 / focal, road, pavement)

    depth, middle = _subject(rng, scene, assets)
    # A little above the subject's middle: the horizon stays in the picture.
    above = min(max(middle + draw(rng, 0.15, 0.6), 0.9), 1.75)
    scene.eye = (scene.eye[0], scene.eye[1], round(above, 4))
    _foreground(rng, scene)
    add_houses(rng, scene)
    add_ground(rng, scene)
    _cars(rng, scene, draw_count(rng, ranges.parked), draw_count(rng, ranges.driving))
    _lamps(rng, scene, draw_count(rng, ranges.lamps))
    _trees(rng, scene, draw_count(rng, ranges.trees))
    _furniture(rng, scene, draw_count(rng, ranges.furniture))
    _people(rng, scene, assets, draw_count(rng, ranges.people))

    aim_x, aim_y = scene.at(depth, draw(rng, -0.12, 0.12) * depth * scene.half_width)
    aim = (aim_x, aim_y, round(middle + draw(rng, 0.2, 0.5) * (above - middle), 4))
    reach = draw(rng, *ranges.camera_reach_m)
    path, handheld = random_camera(rng, scene.eye, aim, reach, obstacles=scene.objects)
    environment, lights = _light(rng, scene, ranges, assets)
    return World(
        objects=tuple(scene.objects),
        lights=lights,
        environment=environment,
        camera=CameraSpec(focal_length_mm=focal, path=path, handheld=handheld),
    )


def _weighted(rng: np.random.Generator, weights: dict) -> str:  # type: ignore[type-arg]
    names = sorted(weights)
    shares = np.array([weights[name] for name in names], np.float64)
    return str(rng.choice(names, p=shares / shares.sum()))


def _light(
    rng: np.random.Generator, scene: StreetScene, ranges: StreetRanges, assets: AssetPool
) -> tuple[Environment, tuple[LightSource, ...]]:
    day = scene.day
    if day.sun is None:
        azimuth = (0.0, 360.0)
    elif day.name == "golden":  # low, and along the street, or it would be in the shade
        azimuth = pick(rng, ((238.0, 262.0), (278.0, 302.0), (62.0, 78.0)))
    else:
        azimuth = (140.0, 235.0) if scene.view == "across" else (215.0, 325.0)
    sun = city.random_sun(rng, day, azimuth)
    sky = city.random_sky(rng, day)
    outdoors = [f for f in assets.hdris if any(word in f.name.lower() for word in OUTDOOR_PANORAMAS)]
    if outdoors and day.lamps == 0 and rng.random() < ranges.panoramas:
        panorama = HdriEnvironment(type="hdri", file=pick(rng, outdoors), rotation_deg=draw(rng, 0, 360, 1))
        return panorama, ()
    return sky, sun


def _subject(rng: np.random.Generator, scene: StreetScene, assets: AssetPool) -> tuple[float, float]:
    """Puts it there; its distance and the height to aim at."""
    kinds = ["bicycle", "cafe", "statue", "stall", "hydrant", "bench", "postbox"]
    if scene.view != "square":
        kinds = ["car", "car", "bicycle", "bicycle", "hydrant", "postbox", "bench", "cafe"]
    meshes = assets.with_tags("car", "bike", "street", "person")
    if meshes and rng.random() < 0.4:
        mesh = pick(rng, meshes)
        depth = max(2.6, 1.5 * mesh.height_m / (scene.half_width * 1.125))
        x, y = _subject_place(scene, depth, 0.6 * max(mesh.footprint_m))
        turn = scene.facing(x, y) + draw(rng, -40, 40, 1)
        scene.objects.append(_mesh("subject-0", "subject", mesh, (x, y, scene.ground(x)), turn))
        scene.taken.append((x, y, 0.6 * max(mesh.footprint_m)))
        _clear_sight(scene, depth)
        return depth, scene.ground(x) + 0.55 * mesh.height_m
    kind = pick(rng, kinds)
    if kind == "car":
        return _subject_car(rng, scene)
    depth, radius, middle = {
        "bicycle": (draw(rng, 3.5, 4.6), 0.95, 0.62),
        "cafe": (draw(rng, 3.2, 4.3), 1.0, 0.72),
        "statue": (draw(rng, 5.5, 7.5), 0.9, 1.3),
        "stall": (draw(rng, 4.8, 6.2), 1.6, 1.05),
        "hydrant": (draw(rng, 2.9, 4.0), 0.4, 0.55),
        "bench": (draw(rng, 3.4, 4.4), 1.0, 0.6),
        "postbox": (draw(rng, 3.8, 5.2), 0.4, 0.85),
    }[kind]
    depth = round(depth * 0.4 / scene.half_width, 3)
    x, y = _subject_place(scene, depth, radius)
    towards = scene.facing(x, y)
    turn = towards + draw(rng, -25, 25, 1)
    match kind:
        case "bicycle":
            pieces, turn = (
                vehicles.random_bicycle(rng),
                towards + draw(rng, -35, 35, 1) + 180 * int(rng.integers(2)),
            )
        case "cafe":
            pieces = streetware.cafe(rng)
        case "statue":
            pieces = streetware.statue(rng)
        case "stall":
            pieces = streetware.stall(rng)
        case "bench":
            wood = MaterialSpec(
                base_color=pick(rng, ((0.3, 0.15, 0.07), (0.1, 0.2, 0.12), (0.35, 0.3, 0.24))), roughness=0.45
            )
            pieces = streetware.bench(wood, streetware.metal(pick(rng, streetware.PAINT_COLORS)))
        case "postbox":
            pieces = streetware.postbox(pick(rng, ((0.5, 0.02, 0.02), (0.65, 0.45, 0.02), (0.02, 0.1, 0.35))))
        case _:
            pieces = streetware.hydrant(pick(rng, ((0.55, 0.03, 0.02), (0.65, 0.4, 0.02), (0.1, 0.2, 0.5))))
    scene.objects += placed("subject-0", pieces, (x, y, scene.ground(x)), turn, role="subject")
    scene.taken.append((x, y, radius))
    _clear_sight(scene, depth)
    return depth, scene.ground(x) + middle


def _subject_place(scene: StreetScene, depth: float, radius: float) -> tuple[float, float]:
    """In the middle of the picture, beside the kerb rather than across it; moves the camera if it has to."""
    if scene.view == "across":  # on the camera's side of the road, with the road behind
        x = -scene.road_m - radius - 0.3
        c, s = math.cos(scene.heading), math.sin(scene.heading)
        scene.eye = (round(x - depth * c, 4), round(-depth * s, 4), scene.eye[2])
        return round(x, 4), 0.0
    x, y = scene.at(depth, 0.0)
    if scene.view != "square" and abs(abs(x) - scene.road_m) < radius + 0.2:
        x = round(math.copysign(scene.road_m + radius + 0.25, x), 4)
        scene.heading = math.atan2(y - scene.eye[1], x - scene.eye[0])
    return x, y


def _subject_car(rng: np.random.Generator, scene: StreetScene) -> tuple[float, float]:
    """A parked car: at this kerb in a view along, at the far one in a view across."""
    s = math.copysign(1.0, scene.eye[0]) if scene.view == "along" else 1.0
    x = round(s * (scene.road_m - 1.05), 4)
    if scene.view == "along":
        y = round(draw(rng, 6.5, 8.5) * 0.4 / scene.half_width, 3)
    else:
        y = round(scene.eye[1] + (x - scene.eye[0]) * math.tan(scene.heading), 3)
    turn = 90.0 if rng.random() < 0.5 else -90.0
    pieces = vehicles.random_car(rng, scene.day.lamps)
    scene.objects += placed("subject-0", pieces, (x, y, 0.0), turn, role="subject")
    scene.taken += [(x, y + dy, 1.1) for dy in (-1.6, 0.0, 1.6)]
    depth = math.hypot(x - scene.eye[0], y - scene.eye[1])
    scene.heading = math.atan2(y - scene.eye[1], x - scene.eye[0])
    _clear_sight(scene, depth)
    return depth, 0.75


def _clear_sight(scene: StreetScene, depth: float) -> None:
    """Nothing else may stand between the camera and the subject."""
    scene.taken.append((scene.eye[0], scene.eye[1], 1.6))
    for share in np.linspace(0.1, 0.95, 8):
        scene.taken.append((*scene.at(share * depth, 0.0), 0.25 + 0.28 * share * depth * scene.half_width))


def _foreground(rng: np.random.Generator, scene: StreetScene) -> None:
    """One or two things close to the lens, at the side."""
    side = float(rng.choice([-1.0, 1.0]))
    kind = pick(rng, ("post", "railing", "leaves", "flowers", "leaves"))
    depth = draw(rng, 1.4, 2.1)
    edge = depth * scene.half_width
    x, y = scene.at(depth, side * edge * draw(rng, 0.5, 0.68))
    z, eye_z = scene.ground(x), scene.eye[2]
    turn = math.degrees(scene.heading) - 90.0
    iron = streetware.metal(pick(rng, streetware.PAINT_COLORS))
    if kind == "post":
        rings = np.linspace(0, 3.2, 24)
        pieces = [
            piece("post", iron, [wire([(0, 0, h) for h in rings], 0.045, segments=24, steps=1)]),
            piece(
                "band",
                vehicles.CHROME,
                [wire(((0, 0, eye_z - z - 0.06), (0, 0, eye_z - z + 0.05)), 0.05, segments=24)],
            ),
        ]
    elif kind == "railing":
        top = eye_z - z - draw(rng, 0.06, 0.16)
        # Half a railing: it ends in a post within the picture.
        width = 1.6
        x, y = scene.at(depth, side * (width / 2 + 0.3 * edge))
        bars = Lattice(
            type="lattice",
            pattern="bars",
            size_m=(width, round(top, 3)),
            pitch_m=0.12,
            wire_m=0.014,
            segments=10,
        )
        rail = [
            wire([(-width / 2 + width * i / 12, 0, top) for i in range(13)], 0.022, segments=16, steps=2),
            part(bars),
        ]
        rail.append(rod((-side * width / 2, 0, 0), (-side * width / 2, 0, top + 0.06), 0.024))
        pieces = [piece("rail", iron, rail)]
    elif kind == "leaves":
        x, y = scene.at(depth, side * edge * 0.6)
        z = eye_z + draw(rng, 0.2, 0.42) * edge
        pieces = _branch(rng, side)
    else:
        x, y = scene.at(depth, side * (0.45 + 0.25 * edge))
        lift = eye_z - z - draw(rng, 0.5, 0.6)
        pier = MaterialSpec(base_color=streetware.speckled((0.4, 0.37, 0.33)), roughness=0.8)
        scene.objects += placed(
            "pier", [piece("pier", pier, [slab((-0.45, -0.2, 0), (0.45, 0.2, lift))])], (x, y, z), turn
        )
        pieces, z = greenery.planter(rng, 0.8), z + lift
    objects = placed("foreground-0", pieces, (x, y, z), turn, role="foreground")
    if kind == "leaves":
        objects = [_windy(o, 0.02, 1.0, rng) for o in objects]
    scene.objects += objects
    scene.taken.append((x, y, 0.6))


def _branch(rng: np.random.Generator, side: float) -> list[Piece]:
    """Twigs with leaves that hang into the picture from the side ``side``."""
    twigs, places = [], []
    for _ in range(6):
        start = np.array([side * draw(rng, 0.35, 0.6), draw(rng, -0.1, 0.15), draw(rng, 0.05, 0.3)])
        end = np.array([-side * draw(rng, -0.1, 0.3), draw(rng, -0.15, 0.15), draw(rng, -0.22, 0.1)])
        mid = (start + end) / 2 + [0, 0, 0.07]
        twigs.append(wire((start.tolist(), mid.tolist(), end.tolist()), 0.006, tip_m=0.002, segments=6))
        for t in np.linspace(0.3, 1.0, 11):
            on = (1 - t) ** 2 * start + 2 * t * (1 - t) * (2 * mid - (start + end) / 2) + t * t * end
            places.append(on + rng.uniform(-0.03, 0.03, 3))
    color = pick(rng, greenery.LEAVES)
    return [
        piece(
            "leaves",
            MaterialSpec(base_color=color, roughness=0.45),
            greenery.leaf_parts(rng, np.array(places), 0.07),
        ),
        piece("twigs", MaterialSpec(base_color=(0.12, 0.08, 0.05), roughness=0.8), twigs),
    ]


def _windy(item: ObjectSpec, amplitude_m: float, height_m: float, rng: np.random.Generator) -> ObjectSpec:
    wind = Wind(
        type="wind",
        amplitude_m=amplitude_m,
        height_m=height_m,
        frequency_hz=0.45,
        direction_deg=draw(rng, 0, 360, 1),
    )
    return item.model_copy(update={"deform": wind})


def _cars(rng: np.random.Generator, scene: StreetScene, parked: int, driving: int) -> None:
    if scene.view == "square":
        for i in range(min(parked, 2)):  # in front of the houses at the back
            place = free_place(rng, (-7.0, 7.0), (9.5, 11.5), 2.2, scene.taken)
            if place is not None:
                pieces = vehicles.random_car(rng, scene.day.lamps)
                scene.objects += placed(
                    f"car-{i}", pieces, (*place, KERB_M), draw(rng, -20, 20, 1), role="background"
                )
        return
    slots = [(s * (scene.road_m - 1.05), y) for s in (-1, 1) for y in np.arange(-9.0, 27.0, 5.6)]
    order = rng.permutation(len(slots))
    count = 0
    for i in order:
        x, y = slots[i][0], round(slots[i][1] + draw(rng, -0.3, 0.3), 3)
        if count >= parked or not scene.sees(x, y, margin=2.0) or not _free(scene, x, y, 1.2, 2.3):
            continue
        scene.taken += [(x, y + dy, 1.2) for dy in (-1.5, 0.0, 1.5)]
        pieces = vehicles.random_car(rng, 0.0)
        turn = 90.0 if rng.random() < 0.7 else -90.0
        scene.objects += placed(f"car-{count}", pieces, (round(x, 4), y, 0.0), turn, role="background")
        count += 1
    for i in range(driving):
        away = bool(rng.integers(2))
        lane = 1.05 if away else -1.05
        y, speed = draw(rng, 9, 20) + 9 * i, draw(rng, 3, 7) * (1 if away else -1)
        if scene.view == "across":
            y = round(draw(rng, 3, 9) * (-1 if away else 1) + (7 * i if not away else -7 * i), 3)
        body = vehicles.random_car(rng, scene.day.lamps)
        motion = Linear(type="linear", velocity_m_s=(0.0, speed, 0.0))
        scene.objects += placed(
            f"driving-{i}", body, (lane, y, 0.0), 90.0 if away else -90.0, motion=(motion,)
        )


def _free(scene: StreetScene, x: float, y: float, radius: float, half_length: float) -> bool:
    """Whether a car may stand there."""
    places = [(x, y + dy) for dy in (-half_length + radius, 0.0, half_length - radius)]
    return all(
        (px - tx) ** 2 + (py - ty) ** 2 > (radius + tr) ** 2
        for px, py in places
        for tx, ty, tr in scene.taken
    )


def _kerbside(
    rng: np.random.Generator, scene: StreetScene, radius: float, depths: tuple[float, float]
) -> tuple[float, float] | None:
    """A place on the pavement near the kerb, or anywhere on a square, that is in the picture."""
    for _ in range(25):
        if scene.view == "square":
            depth = draw(rng, *depths)
            x, y = scene.at(depth, draw(rng, -0.95, 0.95) * min(depth * scene.half_width, 8.5))
        else:
            side = pick(rng, (-1, 1))
            x = round(side * (scene.road_m + 0.3 + draw(rng, 0.15, 0.5) + radius), 4)
            y = draw(rng, -16, 30)
        depth = math.hypot(x - scene.eye[0], y - scene.eye[1])
        if not depths[0] <= depth <= depths[1] or not scene.sees(x, y):
            continue
        if all((x - tx) ** 2 + (y - ty) ** 2 > (radius + tr) ** 2 for tx, ty, tr in scene.taken):
            scene.taken.append((x, y, radius))
            return x, y
    return None


def _lamps(rng: np.random.Generator, scene: StreetScene, count: int) -> None:
    style, color, height = (
        pick(rng, ("lantern", "globe", "arm")),
        pick(rng, streetware.PAINT_COLORS[:3]),
        draw(rng, 3.2, 4.4),
    )
    tint = pick(rng, (streetware.WARM, (1.0, 0.85, 0.65)))
    for i in range(count):
        place = _kerbside(rng, scene, 0.25, (5.0, 30.0))
        if place is not None:
            turn = -90.0 if place[0] > 0 else 90.0
            pieces = streetware.lamp_post(style, height, color, 2.2 * scene.day.lamps, tint)
            at = (*place, scene.ground(place[0]))
            scene.objects += placed(f"lamp-{i}", pieces, at, -turn, role="background")


def _trees(rng: np.random.Generator, scene: StreetScene, count: int) -> None:
    for i in range(count):
        place = _kerbside(rng, scene, 0.5, (7.0, 24.0))
        if place is not None:
            height = draw(rng, 4.5, 7.0)
            pieces = greenery.tree(rng, height)
            at = (*place, scene.ground(place[0]))
            objects = placed(f"tree-{i}", pieces, at, draw(rng, 0, 360, 1), role="background")
            scene.objects += [_windy(o, 0.12, height, rng) for o in objects]


def _furniture(rng: np.random.Generator, scene: StreetScene, count: int) -> None:
    for i in range(count):
        place = _kerbside(rng, scene, 0.4, (3.5, 18.0))
        if place is not None:
            pieces = pick(rng, _SMALL)(rng)
            at = (*place, scene.ground(place[0]))
            turn = scene.facing(*place) + draw(rng, -40, 40, 1)
            scene.objects += placed(f"thing-{i}", pieces, at, turn, role="background")
    if scene.view == "square":
        for i in range(draw_count(rng, (1, 3))):
            place = _kerbside(rng, scene, 1.1, (5.0, 12.0))
            if place is not None:
                pieces = pick(
                    rng, (streetware.cafe, streetware.cafe, streetware.stall, vehicles.random_bicycle)
                )(rng)
                at = (*place, scene.ground(place[0]))
                scene.objects += placed(
                    f"group-{i}", pieces, at, scene.facing(*place) + draw(rng, -30, 30, 1), role="background"
                )


def _people(rng: np.random.Generator, scene: StreetScene, assets: AssetPool, count: int) -> None:
    meshes = assets.with_tags("person", "bike", "street")
    for i in range(count if meshes else 0):
        mesh = pick(rng, meshes)
        place = _kerbside(rng, scene, max(0.4, 0.6 * max(mesh.footprint_m)), (4.0, 16.0))
        if place is not None:
            at = (*place, scene.ground(place[0]))
            scene.objects.append(_mesh(f"figure-{i}", "background", mesh, at, draw(rng, 0, 360, 1)))


def _mesh(name: str, role: Role, mesh: MeshAsset, at: Vec3, turn_deg: float) -> ObjectSpec:
    deform = None
    if mesh.vertices is not None:
        deform = VertexFile(type="vertices", file=mesh.vertices, rate_hz=mesh.rate_hz)
    return ObjectSpec(
        name=name,
        role=role,
        shape=MeshFile(type="mesh", file=mesh.file, height_m=mesh.height_m, file_materials=True),
        position_m=at,
        rotation_deg=(0.0, 0.0, round(turn_deg, 3)),
        deform=deform,
    )
