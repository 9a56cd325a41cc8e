"""Does a system obey K and the focus on clips it has not seen? Measured in the pixels it makes.

Of every clip one surface is watched, in one narrow band of disparity, while the focus lies at the far end of
the range and K grows: the radius of its blur should grow with it, as ``r = K |d - d_f|``. Then K stays and
the focus wanders through the scene: what is sharpest should wander with it. Renderers without weights go
through the same, which says how far the measurement itself can be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from focuspull.dataset import optics
from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch, unit
from focuspull.train.metrics.bokeh import MIN_PIXELS, fitted_radius, sharpest_disparity
from focuspull.train.validate import Predict

NUM_STEPS = 5
"""Of K, and of the focus."""
NUM_BANDS = 10
"""Of disparity, from 0 to 1."""
MIN_PLANES = 3
"""Different ones that the focus must have in a clip for it to count."""
PERCENTILES = (10, 90)
"""Of a clip's disparity, between which the focus wanders."""


class Obedience(FrozenModel):
    """How a system obeys.

    Args:
        wanted_px: Blur radius that each K asks for, mean over clips.
        measured_px: Radius that was measured, likewise.
        rises: Share of the clips in which every larger K gave a larger radius.
        focus_error: Mean distance between the plane in focus and what is sharpest, in disparity.
        focus_correlation: Spearman's, of the two, over the steps of a clip; mean over clips.
        num_clips: How many could be measured for K, and for focus.
    """

    wanted_px: tuple[float, ...]
    measured_px: tuple[float, ...]
    rises: float
    focus_error: float
    focus_correlation: float
    num_clips: tuple[int, int]


def obedience(systems: Mapping[str, Predict], samples: Iterable[Batch]) -> dict[str, Obedience]:
    """Measure systems on the same clips.

    Args:
        systems: By name.
        samples: Batches of one, of which all-in-focus frames, disparity and the range of K are used; one of
            each clip. A `focuspull.train.validate.Validation` for example.

    Raises:
        UserError: If no clip has a surface that is large enough.
    """
    samples = list(samples)
    strengths = _strengths(samples)
    clips = list({batch.keys[0]: batch for batch in reversed(samples)}.values())[::-1]
    return {name: _one(name, predict, clips, strengths) for name, predict in systems.items()}


def _one(name: str, predict: Predict, clips: Sequence[Batch], strengths: NDArray[np.float64]) -> Obedience:
    wanted: list[NDArray[np.float64]] = []
    measured: list[NDArray[np.float64]] = []
    errors: list[float] = []
    correlations: list[float] = []
    for batch in clips:
        k = optics.k_at_width(strengths, batch.aif.shape[-1])
        watched = _surface(batch.disparity[0], float(k[-1]))
        if watched is not None:
            level, mask = watched
            focus = 1.0 if level < 0.5 else 0.0
            radii = k * abs(level - focus)
            found = [_radius(predict, batch, float(each), focus, mask, float(radii[-1])) for each in k]
            if np.isfinite(found).all():
                wanted.append(radii)
                measured.append(np.array(found))
        planes = np.percentile(batch.disparity.numpy(), np.linspace(*PERCENTILES, NUM_STEPS))
        planes = np.unique(planes.round(2))
        if len(planes) < MIN_PLANES:
            continue
        sharpest = np.array([_sharpest(predict, batch, float(k[-1]), float(plane)) for plane in planes])
        if np.isfinite(sharpest).all():
            errors.append(float(np.abs(sharpest - planes).mean()))
            correlations.append(spearman(planes, sharpest))
    if not measured or not errors:
        raise UserError(
            f"{name}: no clip has a surface of {MIN_PIXELS} pixels with detail in one band of disparity, or "
            f"none has depth. Measure on larger frames or on other clips."
        )
    return Obedience(
        wanted_px=tuple(np.mean(wanted, 0).tolist()),
        measured_px=tuple(np.mean(measured, 0).tolist()),
        rises=float(np.mean([bool((np.diff(radii) > 0).all()) for radii in measured])),
        focus_error=float(np.mean(errors)),
        focus_correlation=float(np.mean(correlations)),
        num_clips=(len(measured), len(errors)),
    )


def obedience_table(found: Mapping[str, Obedience]) -> str:
    """In Markdown, one row per system under one that says what is asked for."""
    first = next(iter(found.values()))
    steps = [f"K{number + 1}: px" for number in range(len(first.wanted_px))]
    header = ["", *steps, "rises", "focus error", "focus correlation", "clips"]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    rows.append(["asked", *(f"{value:.2f}" for value in first.wanted_px), "", "", "", ""])
    for name, one in found.items():
        radii = [f"{value:.2f}" for value in one.measured_px]
        focus = [f"{one.focus_error:.3f}", f"{one.focus_correlation:+.2f}"]
        rows.append([name, *radii, f"{one.rises:.0%}", *focus, "{}, {}".format(*one.num_clips)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; 0 if one of the two does not change.

    Args:
        a: ``[N]``.
        b: ``[N]``; equal values share the mean of their ranks.
    """
    ranks = [np.array([float((x < each).sum() + ((x == each).sum() - 1) / 2) for each in x]) for x in (a, b)]
    if any(rank.std() == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(np.stack(ranks))[0, 1])


def _strengths(samples: Sequence[Batch]) -> NDArray[np.float64]:
    """K at 1024 pixels in even steps over the range that the clips have."""
    values = [float(optics.k_at_1024(float(b.k.mean()), b.aif.shape[-1])) for b in samples]
    low, high = min(values), max(values)
    return np.linspace(low if high > low else high / NUM_STEPS, high, NUM_STEPS)


def _surface(disparity: Tensor, k: float) -> tuple[float, Tensor] | None:
    """The band of disparity with most pixels, away from its edges: its middle and mask; None if too few."""
    best: tuple[float, Tensor] | None = None
    most = MIN_PIXELS - 1
    for number in range(NUM_BANDS):
        low, high = number / NUM_BANDS, (number + 1) / NUM_BANDS
        inside = (disparity >= low) & (disparity <= high)
        level = float(disparity[inside].mean()) if inside.any() else 0.0
        # Half of the largest blur away from everything else.
        reach = round(k * max(level, 1 - level) / 2)
        outside = functional.max_pool2d((~inside).float(), 2 * reach + 1, stride=1, padding=reach)
        mask = outside == 0
        if int(mask.sum()) > most:
            most, best = int(mask.sum()), (level, mask)
    return best


def _made(predict: Predict, batch: Batch, k: float, focus: float) -> Tensor:
    """What a system makes of the frames with one K and one focus, ``[T, 3, H, W]``."""
    like = torch.ones_like(batch.k)
    return predict(replace(batch, k=like * k, focus_disparity=like * focus))[0].float().cpu()


def _radius(predict: Predict, batch: Batch, k: float, focus: float, mask: Tensor, largest: float) -> float:
    candidates = torch.linspace(0, 1.5 * largest, 25)
    return fitted_radius(unit(batch.aif[0]), _made(predict, batch, k, focus), mask, candidates)


def _sharpest(predict: Predict, batch: Batch, k: float, focus: float) -> float:
    made = _made(predict, batch, k, focus)
    return sharpest_disparity(unit(batch.aif[0]), made, batch.disparity[0], num_bands=NUM_BANDS)
