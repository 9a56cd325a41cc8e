"""`CorpusSpec` and a clip number to `SceneSpec`: pure, and the only place that draws random numbers."""

from __future__ import annotations

import math

import numpy as np

from focuspull.dataset.errors import UserError
from focuspull.render.corpus import CorpusSpec, KRange, TargetRange, role_and_number
from focuspull.render.families import FamilySpec, random_world
from focuspull.render.spec import FocusKey, SceneSpec, TargetSpec, World


def randomize(corpus: CorpusSpec, index: int) -> SceneSpec:
    """The scene of one clip; in a corpus with strata it is labelled with ``family`` and ``stratum``.

    Streams of random numbers are spawned from (seed, clip, purpose), so that no clip depends on another
    and a changed target does not change the world.

    Raises:
        UserError: If a target asks for focus on a role that the drawn world does not have.
    """
    streams = np.random.SeedSequence(corpus.seed, spawn_key=(index,)).spawn(4)
    choose, world_rng, target_rng, noise_rng = (np.random.default_rng(s) for s in streams)
    scenes = corpus.scenes_of(index)
    weights = np.array([family.weight for family in scenes])
    family = scenes[int(choose.choice(len(weights), p=weights / weights.sum()))]
    world = random_world(family, world_rng, corpus.assets)
    targets: list[TargetSpec] = []
    for ranges in corpus.targets_of(index):
        target = _target(ranges, world, corpus.film.num_frames, target_rng)
        targets += [target, target.twin(len(targets))] if ranges.twin else [target]
    return SceneSpec(
        seed=int(noise_rng.integers(2**32)),
        film=corpus.film_of(index),
        quality=corpus.quality_of(index),
        world=world,
        targets=tuple(targets),
        labels=_labels(corpus, index, family),
    )


def _labels(corpus: CorpusSpec, index: int, family: FamilySpec) -> dict[str, str]:
    stratum = corpus.stratum_of(index)
    return {} if stratum is None else {"family": family.family, "stratum": stratum.name}


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
    wanted = role_and_number(place)
    if wanted is None:
        return FocusKey(frame=frame, subject=place)
    role, number = wanted
    names = [item.name for item in world.objects if item.role == role]
    if not names:
        raise UserError(f"targets: focus on a '{role}', but the scene has no such object. Use another role.")
    if number is not None:
        # The others stand in where it is hidden or out of view.
        first = number % len(names)
        return FocusKey(frame=frame, subject=tuple(names[first:] + names[:first]))
    return FocusKey(frame=frame, subject=tuple(str(name) for name in rng.permutation(names)))
