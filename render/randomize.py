"""`CorpusSpec` and a clip number to `SceneSpec`: pure, and the only place that draws random numbers."""

from __future__ import annotations

import math

import numpy as np

from focuspull.dataset.errors import UserError
from focuspull.render.corpus import ROLES, CorpusSpec, KRange, TargetRange
from focuspull.render.families import random_world
from focuspull.render.spec import FocusKey, SceneSpec, TargetSpec, World


def randomize(corpus: CorpusSpec, index: int) -> SceneSpec:
    """The scene of one clip.

    Streams of random numbers are spawned from (seed, clip, purpose), so that no clip depends on another
    and a changed target does not change the world.

    Raises:
        UserError: If a target asks for focus on a role that the drawn world does not have.
    """
    streams = np.random.SeedSequence(corpus.seed, spawn_key=(index,)).spawn(4)
    choose, world_rng, target_rng, noise_rng = (np.random.default_rng(s) for s in streams)
    weights = np.array([family.weight for family in corpus.scenes])
    family = corpus.scenes[int(choose.choice(len(weights), p=weights / weights.sum()))]
    world = random_world(family, world_rng)
    targets: list[TargetSpec] = []
    for ranges in corpus.targets:
        target = _target(ranges, world, corpus.film.num_frames, target_rng)
        targets += [target, target.twin(len(targets))] if ranges.twin else [target]
    return SceneSpec(
        seed=int(noise_rng.integers(2**32)),
        film=corpus.film,
        quality=corpus.quality,
        world=world,
        targets=tuple(targets),
    )


def _target(ranges: TargetRange, world: World, num_frames: int, rng: np.random.Generator) -> TargetSpec:
    start = _draw_k(ranges.k_at_1024, rng)
    end = start if ranges.k_end_at_1024 is None else _draw_k(ranges.k_end_at_1024, rng)
    frames = np.rint(np.linspace(0, num_frames - 1, len(ranges.focus))).astype(int)
    keys = [_focus_key(place, int(f), world, rng) for place, f in zip(ranges.focus, frames, strict=True)]
    k = np.linspace(start, end, num_frames).round(6)
    return TargetSpec(k_at_1024=tuple(k.tolist()), focus=tuple(keys), lens=ranges.lens, domain=ranges.domain)


def _draw_k(value: KRange, rng: np.random.Generator) -> float:
    if not isinstance(value, tuple):
        return value
    return round(math.exp(rng.uniform(math.log(value[0]), math.log(value[1]))), 3)


def _focus_key(place: float | str, frame: int, world: World, rng: np.random.Generator) -> FocusKey:
    if not isinstance(place, str):
        return FocusKey(frame=frame, disparity=place)
    if place not in ROLES:
        return FocusKey(frame=frame, subject=place)
    names = [item.name for item in world.objects if item.role == place]
    if not names:
        raise UserError(f"targets: focus on a '{place}', but the scene has no such object. Use another role.")
    return FocusKey(frame=frame, subject=tuple(str(name) for name in rng.permutation(names)))
