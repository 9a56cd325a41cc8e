"""Things on a table that fell, or fall while one looks: props dropped, simulated, left as they lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from focuspull.render.families import props
from focuspull.render.families.layout import draw, pick
from focuspull.render.physics import Start, at_rest, settled, simulate
from focuspull.render.spec import Box, Color, MaterialSpec, ObjectSpec, ProceduralTexture, Vec3

SMALL_KINDS = ("ball", "fruit", "fruit", "fruit", "block", "ring", "cup")
LONG_ENOUGH_S = 2.5
"""After this, what was dropped from a hand's height lies still but for a last wobble."""
# Where things of a role may end up, seen from the camera: the others are taken away.
PLACES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "subject": ((-0.36, 0.36), (-0.2, 0.34)),
    "background": ((-0.75, 0.75), (0.34, 1.2)),
}


def random_settled(
    rng: np.random.Generator, standing: Sequence[ObjectSpec], palette: tuple[Color, ...]
) -> list[ObjectSpec]:
    """Subjects and background as they fell, among fruit and books; what stands is returned if none is left.

    Args:
        rng: Source of all that is drawn.
        standing: The objects of a tabletop; those without a role and the foreground stay as they are.
        palette: Colours of what is added.
    """
    fixed = [item for item in standing if item.role not in PLACES]
    upright = [item for item in standing if item.role in PLACES]
    bodies = [_tipped(rng, item) for item in upright]
    bodies += _heap(rng, "subject", (draw(rng, -0.12, 0.12), draw(rng, 0.0, 0.12)), palette)
    bodies += _heap(rng, "background", (draw(rng, -0.4, 0.4), draw(rng, 0.5, 0.8)), palette)
    starts = [Start(density_kg_m3=900.0, bounce=0.15, friction=0.7)] * len(bodies)
    falls = simulate(bodies, starts, fixed, duration_s=LONG_ENOUGH_S)
    lying = [
        settled(item, fall)
        for item, fall in zip(bodies, falls, strict=True)
        if at_rest(fall) and _in_place(item, settled(item, fall).position_m)
    ]
    if {item.role for item in lying} != {item.role for item in bodies}:
        return list(standing)
    return [*fixed, *lying]


def random_dropped(
    rng: np.random.Generator, standing: Sequence[ObjectSpec], count: int, palette: tuple[Color, ...]
) -> list[ObjectSpec]:
    """A table onto which things fall during the clip, and subjects that they push about.

    Args:
        rng: Source of all that is drawn.
        standing: The objects of a tabletop. What turns by itself, and what is no subject, does not give way.
        count: How many fall, from above the picture.
        palette: Their colours.
    """
    bodies = [item for item in standing if item.role == "subject" and not item.motion]
    fixed = [item for item in standing if item not in bodies]
    still = Start(density_kg_m3=900.0, bounce=0.2)
    # Uneven things stand a little too deep or too high: let them find their place before the clip.
    if bodies:
        rested = simulate(bodies, [still] * len(bodies), fixed, duration_s=LONG_ENOUGH_S)
        bodies = [settled(item, fall) for item, fall in zip(bodies, rested, strict=True)]
    starts = [still] * len(bodies)
    for i in range(count):
        prop = props.random_prop(rng, palette, draw(rng, 0.07, 0.11), SMALL_KINDS)
        place = (draw(rng, -0.2, 0.2), draw(rng, -0.12, 0.22), round(0.45 + 0.1 * i, 4))
        bodies.append(_body(rng, f"falling-{i}", "set", prop, place))
        starts.append(
            Start(
                velocity_m_s=(draw(rng, -0.3, 0.3), draw(rng, -0.2, 0.2), draw(rng, -1.2, 1.6)),
                spin_deg_s=(draw(rng, -300, 300), draw(rng, -300, 300), draw(rng, -300, 300)),
                density_kg_m3=600.0,
                bounce=draw(rng, 0.2, 0.55),
            )
        )
    falls = simulate(bodies, starts, fixed, duration_s=LONG_ENOUGH_S)
    moving = [item.model_copy(update={"motion": (fall,)}) for item, fall in zip(bodies, falls, strict=True)]
    return [*fixed, *moving]


def _tipped(rng: np.random.Generator, item: ObjectSpec) -> ObjectSpec:
    """Held above its place: now and then upright, else askew."""
    x, y, z = item.position_m
    upright = rng.random() < 0.35
    tilt = draw(rng, -4, 4, 1) if upright else draw(rng, 40, 140, 1)
    lifted = z + 0.005 if upright else z + draw(rng, 0.1, 0.16)
    turned = (tilt, 0.0, draw(rng, 0, 360, 1))
    return item.model_copy(
        update={"position_m": (x, y, round(lifted, 4)), "rotation_deg": turned, "motion": ()}
    )


def _heap(
    rng: np.random.Generator, role: str, place: tuple[float, float], palette: tuple[Color, ...]
) -> list[ObjectSpec]:
    """Fruit and such, one above the other over a place, and a book or two that fall against them."""
    things = []
    for i in range(int(rng.integers(4, 8))):
        prop = props.random_prop(rng, palette, draw(rng, 0.08, 0.13), SMALL_KINDS)
        at = (place[0] + draw(rng, -0.05, 0.05), place[1] + draw(rng, -0.05, 0.05), 0.3 + 0.1 * i)
        things.append(_body(rng, f"{role}-heap-{i}", role, prop, at))
    for i in range(int(rng.integers(1, 3))):
        side = float(rng.choice([-1.0, 1.0]))
        at = (place[0] + side * draw(rng, 0.1, 0.16), place[1] + draw(rng, -0.06, 0.1), 0.13)
        things.append(
            ObjectSpec(
                name=f"{role}-book-{i}",
                role=role,  # type: ignore[arg-type]
                shape=_book(rng),
                material=_cover(rng, palette),
                position_m=(round(at[0], 4), round(at[1] + 0.35 * i, 4), at[2]),
                # On its edge, leaning towards the heap.
                rotation_deg=(0.0, round(-side * draw(rng, 12, 30, 1), 1), draw(rng, -25, 25, 1)),
            )
        )
    return things


def _body(
    rng: np.random.Generator, name: str, role: str, prop: props.Prop, place: tuple[float, float, float]
) -> ObjectSpec:
    turn: Vec3 = (draw(rng, 0, 360, 1), draw(rng, -60, 60, 1), draw(rng, 0, 360, 1))
    x, y, z = (round(v, 4) for v in place)
    return ObjectSpec(
        name=name,
        role=role,  # type: ignore[arg-type]
        shape=prop.shape,
        material=prop.material,
        position_m=(x, y, z),
        rotation_deg=turn,
    )


def _book(rng: np.random.Generator) -> Box:
    return Box(
        type="box", size_m=(draw(rng, 0.018, 0.04), draw(rng, 0.1, 0.14), draw(rng, 0.15, 0.2)), bevel_m=0.003
    )


def _cover(rng: np.random.Generator, palette: tuple[Color, ...]) -> MaterialSpec:
    """Cloth of one colour, a little worn."""
    color = pick(rng, palette)
    cloth = ProceduralTexture(
        type="perlin",
        color_a=props.shaded(color, 0.8, 0.0),
        color_b=props.shaded(color, 1.1, 0.02),
        cells=24,
        resolution=256,
        seed=int(rng.integers(256)),
    )
    return MaterialSpec(base_color=cloth, roughness=0.7)


def _in_place(item: ObjectSpec, position: Vec3) -> bool:
    (left, right), (front, back) = PLACES[item.role]
    return left < position[0] < right and front < position[1] < back and position[2] > -0.01
