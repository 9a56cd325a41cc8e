"""The focus puller: what a corpus may ask of focus and aperture over time, and how it is drawn.

A target's ``focus`` lists places; without a puller focus goes through all of them in turn. A puller draws
what to do with them, as someone at a camera would: hold, follow, pull, rack, sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from focuspull.dataset.errors import UserError
from focuspull.render.records import Model, Unit
from focuspull.render.spec import Breathing, FilmSpec, FocusKey, World

ROLES = ("subject", "foreground", "background")
Mode = Literal["hold", "follow", "pull", "rack", "sweep", "between", "random"]
Weight = Annotated[float, Field(ge=0.0)]
Seconds = Annotated[float, Field(gt=0.0, le=60.0)]
KCurve = Literal["constant", "ramp", "steps"]
STEP_S = 0.25
"""How long a step of the aperture takes."""
MIN_SWEEP = 0.25
"""Disparity that a sweep covers at least."""


class Puller(Model):
    """How focus moves; ranges are [low, high], drawn evenly.

    Attributes:
        modes: Weights. ``hold``: where a place is at one moment. ``follow``: a place, as it moves. ``pull``:
            from one place to another. ``rack``: to another and back. ``sweep``: evenly through disparity.
            ``between``: midway between two places. ``random``: any disparity.
        pull_s: Duration of a pull, no longer than the clip.
        lag_s: How far behind the puller is.
        breathing: Amplitude of small corrections, in disparity; 0 for none.
    """

    modes: dict[Mode, Weight] = Field(
        default={"hold": 1, "follow": 3, "pull": 3, "rack": 1, "sweep": 1, "between": 1, "random": 2}
    )
    pull_s: tuple[Seconds, Seconds] = (0.3, 1.2)
    lag_s: tuple[Unit, Unit] = (0.0, 0.15)
    breathing: tuple[Unit, Unit] = (0.0, 0.006)

    @model_validator(mode="after")
    def _means_something(self) -> Puller:
        if sum(self.modes.values()) <= 0:
            raise ValueError("modes: give at least one a weight above 0")
        for name in ("pull_s", "lag_s", "breathing"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} needs low <= high, got {[low, high]}")
        return self


@dataclass(frozen=True)
class Pull:
    """What a puller does in one target: fields of `focuspull.render.spec.TargetSpec`."""

    focus: tuple[FocusKey, ...]
    lag_s: float = 0.0
    breathing: Breathing | None = None


def role_and_number(place: str) -> tuple[str, int | None] | None:
    """A place of focus as a role and the number of one of its objects (None: any); None: it is no role."""
    role, colon, number = place.partition(":")
    if role not in ROLES or (colon and not number.isdigit()):
        return None
    return role, int(number) if colon else None


def random_place(rng: np.random.Generator, place: float | str, world: World) -> dict[str, Any]:
    """Where a focus key is: its ``disparity``, or its ``subject``, objects in the order of preference.

    Raises:
        UserError: If the world has no object of the role.
    """
    if not isinstance(place, str):
        return {"disparity": place}
    wanted = role_and_number(place)
    if wanted is None:
        return {"subject": place}
    role, number = wanted
    names = [item.name for item in world.objects if item.role == role]
    if not names:
        raise UserError(f"targets: focus on a '{role}', but the scene has no such object. Use another role.")
    if number is not None:
        # The others stand in where it is hidden or out of view.
        first = number % len(names)
        return {"subject": tuple(names[first:] + names[:first])}
    return {"subject": tuple(str(name) for name in rng.permutation(names))}


def random_pull(
    rng: np.random.Generator, puller: Puller, places: Sequence[float | str], world: World, film: FilmSpec
) -> Pull:
    """How focus moves in one target, drawn.

    Raises:
        UserError: If a place is a role that the world does not have.
    """
    modes, weights = list(puller.modes), np.array(list(puller.modes.values()))
    mode = modes[int(rng.choice(len(modes), p=weights / weights.sum()))]
    last = film.num_frames - 1
    first, second = (random_place(rng, place, world) for place in _two(rng, places))
    keys: list[FocusKey]
    match mode:
        case "hold":
            moment: dict[str, Any] = (
                {"at_frame": int(rng.integers(film.num_frames))} if "subject" in first else {}
            )
            keys = [FocusKey(frame=0, **first, **moment)]
        case "follow":
            keys = [FocusKey(frame=0, **first)]
        case "pull" | "rack":
            times = _pull_frames(rng, puller, film, 2 if mode == "rack" else 1)
            keys = [
                FocusKey(frame=frame, **(second if (i + 1) // 2 % 2 else first))
                for i, frame in enumerate(times)
            ]
        case "sweep":
            span = rng.uniform(MIN_SWEEP, 1.0)
            start = rng.uniform(0.0, 1.0 - span)
            ends = [start, start + span] if rng.random() < 0.5 else [start + span, start]
            keys = [
                FocusKey(frame=frame, disparity=round(end, 4))
                for frame, end in zip((0, last)[: 1 + (last > 0)], ends, strict=False)
            ]
        case "between" if "subject" in first and "subject" in second:
            keys = [FocusKey(frame=0, subject=first["subject"], toward=second["subject"])]
        case _:
            keys = [FocusKey(frame=0, disparity=round(float(rng.random()), 4))]
    amplitude = round(float(rng.uniform(*puller.breathing)), 5)
    seed = int(rng.integers(256))
    lag_s = round(float(rng.uniform(*puller.lag_s)), 3)
    breathing = Breathing(amplitude=amplitude, seed=seed) if amplitude > 0 else None
    return Pull(tuple(keys), lag_s, breathing)


def _two(rng: np.random.Generator, places: Sequence[float | str]) -> list[float | str]:
    """Two places, different ones if there are."""
    order = rng.permutation(len(places))
    return [places[int(order[0])], places[int(order[1 % len(places)])]]


def _pull_frames(rng: np.random.Generator, puller: Puller, film: FilmSpec, pulls: int) -> list[int]:
    """Frames at which pulls begin and end, all different: each pull in a part of the clip of its own."""
    edges = np.linspace(0, film.num_frames - 1, pulls + 1)
    frames: list[int] = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        room = high - low
        length = min(rng.uniform(*puller.pull_s) * film.fps, room)
        begin = low + rng.uniform(0.0, room - length)
        frames += [round(begin), round(begin + length)]
    distinct: list[int] = []
    for frame in frames:
        distinct.append(frame if not distinct else max(frame, distinct[-1] + 1))
    return [frame for frame in distinct if frame < film.num_frames]


def random_k_curve(
    rng: np.random.Generator, curves: Mapping[KCurve, float], k: tuple[float, float], film: FilmSpec
) -> NDArray[np.float64]:
    """K at 1024 px of every frame ``[T]``, from a range [low, high], even in the logarithm.

    ``constant``: one value. ``ramp``: from one to another over the whole clip, smoothly. ``steps``: two to
    four values that are held, each step `STEP_S` long.
    """
    names, weights = list(curves), np.array(list(curves.values()))
    curve = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    num_values = {"constant": 1, "ramp": 2, "steps": int(rng.integers(2, 5))}[curve]
    values = rng.uniform(math.log(k[0]), math.log(k[1]), num_values)
    frames = np.arange(film.num_frames)
    track = np.full(film.num_frames, values[0])
    for number, (before, after) in enumerate(zip(values[:-1], values[1:], strict=True), 1):
        length = film.num_frames - 1 if curve == "ramp" else STEP_S * film.fps
        begin = 0.0 if curve == "ramp" else number / num_values * (film.num_frames - 1) - length / 2
        x = np.clip((frames - begin) / max(length, 1e-9), 0, 1)
        track += (after - before) * x * x * (3 - 2 * x)
    return np.exp(track)
