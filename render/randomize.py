"""`CorpusSpec` and a clip number to `SceneSpec`: pure, and the only place that draws random numbers."""

from __future__ import annotations

import math

import numpy as np

from focuspull.render.corpus import CorpusSpec, KRange, TargetRange
from focuspull.render.families import FamilySpec, random_world
from focuspull.render.puller import Pull, random_k_curve, random_place, random_pull
from focuspull.render.spec import FilmSpec, FocusKey, SceneSpec, TargetSpec, World


def randomize(corpus: CorpusSpec, index: int) -> SceneSpec:
    """The scene of one clip; in a corpus with strata or notes it is labelled with its ``family``.

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
    film = corpus.film_of(index)
    targets: list[TargetSpec] = []
    for ranges in corpus.targets_of(index):
        target = _target(ranges, world, film, target_rng)
        targets += [target, target.twin(len(targets))] if ranges.twin else [target]
    return SceneSpec(
        seed=int(noise_rng.integers(2**32)),
        film=film,
        quality=corpus.quality_of(index),
        world=world,
        targets=tuple(targets),
        labels=_labels(corpus, index, family),
        annotate=corpus.annotate,
    )


def _labels(corpus: CorpusSpec, index: int, family: FamilySpec) -> dict[str, str]:
    stratum = corpus.stratum_of(index)
    if stratum is not None:
        return {"family": family.family, "stratum": stratum.name}
    return {"family": family.family} if corpus.annotate else {}


def _target(ranges: TargetRange, world: World, film: FilmSpec, rng: np.random.Generator) -> TargetSpec:
    if ranges.k_curves is not None:
        assert isinstance(ranges.k_at_1024, tuple)
        k = random_k_curve(rng, ranges.k_curves, ranges.k_at_1024, film)
    else:
        start = _draw_k(ranges.k_at_1024, rng)
        end = start if ranges.k_end_at_1024 is None else _draw_k(ranges.k_end_at_1024, rng)
        k = np.linspace(start, end, film.num_frames)
    if ranges.puller is not None:
        pull = random_pull(rng, ranges.puller, ranges.focus, world, film)
    else:
        frames = np.rint(np.linspace(0, film.num_frames - 1, len(ranges.focus))).astype(int)
        places = zip(ranges.focus, frames, strict=True)
        pull = Pull(tuple(FocusKey(frame=int(f), **random_place(rng, place, world)) for place, f in places))
    return TargetSpec(
        k_at_1024=tuple(k.round(6).tolist()),
        focus=pull.focus,
        lens=ranges.lens,
        domain=ranges.domain,
        lag_s=pull.lag_s,
        breathing=pull.breathing,
    )


def _draw_k(value: KRange, rng: np.random.Generator) -> float:
    if not isinstance(value, tuple):
        return value
    return round(math.exp(rng.uniform(math.log(value[0]), math.log(value[1]))), 3)
