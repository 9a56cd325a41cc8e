"""How systems bear wrong disparity: the same test set, with disparity corrupted in several ways and degrees.

The paper (Any-to-Bokeh, Table 2) names estimated depth, elastic and Gaussian; here are those and the other
ways in which estimates go wrong (`focuspull.dataset.perturb`, every corruption by itself, always on). A
level is the corruption's strength over the `STEP` below; the random draws of an item are the same at all
levels. K and d_f are never corrupted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from focuspull.dataset.errors import UserError
from focuspull.dataset.perturb import Perturbation
from focuspull.train.benchmark import Corruption
from focuspull.train.evaluation import EvalOptions, Say, run_evaluation, write_everything
from focuspull.train.results import Failure, Results, RobustnessPoint

ESTIMATED = "estimated"
METRICS = ("corrected/psnr", "corrected/ssim", "corrected/rm", "corrected/radius-error", "corrected/flicker")
LEVELS = (1.0, 2.0, 4.0)

STEP: dict[str, dict[str, dict[str, Any]]] = {
    "elastic": {"elastic": {"strength": 2.0, "temporal": "correlated"}},
    "noise": {
        "elastic": {"strength": 2.0, "temporal": "correlated"},
        "ring": {"strength": 2.0, "temporal": "correlated"},
    },
    "outline": {"morphology": {"strength": 1.0, "temporal": "correlated"}},
    "gaussian": {"low_pass": {"strength": 1.0, "temporal": "constant"}},
    "scale-shift": {"scale_shift": {"strength": 0.5}},
    "flicker": {"flicker": {"strength": 1.0}},
    "quantization": {"quantization": {"strength": 4.0}},
}
"""Fields of a `Perturbation` at level 1; ``noise`` is Perlin noise around the object."""


def perturbation(name: str, level: float) -> Perturbation:
    """A corruption to a degree.

    Raises:
        UserError: If there is no such corruption.
    """
    if name not in STEP:
        raise UserError(f"--corruptions {name}: there is none. There are: {', '.join([*STEP, ESTIMATED])}.")
    fields = {
        field: {**values, "strength": values["strength"] * level} for field, values in STEP[name].items()
    }
    return Perturbation.model_validate(fields)


def run_robustness(
    options: EvalOptions, names: Sequence[str], levels: Sequence[float], say: Say
) -> tuple[Results, list[Failure]]:
    """Evaluate with exact and with corrupted disparity.

    Args:
        options: As for an evaluation; ``metrics`` None means `METRICS`, ``depth_model`` is what estimates.
        names: Of `STEP`, and ``estimated`` for the depth network.
        levels: Positive, increasing.
        say: Takes lines of progress.

    Returns:
        The evaluation with exact disparity, with `RobustnessPoint`s, also in ``options.out``, which has a
        folder for every corruption and level; and the videos that are missing with corrupted disparity.

    Raises:
        UserError: For an unknown name, and as `run_evaluation` does.
    """
    corruptions = _corruptions(options, names, levels)
    if bad := [system.name for system in options.systems if system.kind == "predictions"]:
        raise UserError(f"system '{bad[0]}': predictions do not follow other disparity. Leave them out.")
    chosen = options.model_copy(update={"metrics": options.metrics or METRICS, "depth_model": None})
    exact = run_evaluation(chosen, say)
    points = [point for name in names for point in _points(exact, name, 0.0)]
    failures: list[Failure] = []
    for corruption in corruptions:
        say(f"{corruption.name}, level {corruption.level:g}")
        folder = options.out / "corrupted" / f"{corruption.name}-{corruption.level:g}"
        update = {"out": folder, "corruption": corruption, "previews": False}
        found = run_evaluation(chosen.model_copy(update=update), say)
        points += _points(found, corruption.name, corruption.level)
        what = f"{corruption.name}, level {corruption.level:g}"
        failures += [gone.model_copy(update={"item": f"{gone.item} ({what})"}) for gone in found.failures]
    results = exact.model_copy(update={"robustness": tuple(points)})
    write_everything(options.out, results)
    return results, failures


def _corruptions(options: EvalOptions, names: Sequence[str], levels: Sequence[float]) -> list[Corruption]:
    found: list[Corruption] = []
    for name in names:
        if name == ESTIMATED:
            if options.depth_model is None:
                raise UserError(f"--corruptions {ESTIMATED}: needs --depth-model.")
            found.append(Corruption(name=name, level=1.0, depth_model=options.depth_model))
        else:
            found += [
                Corruption(name=name, level=level, perturbation=perturbation(name, level)) for level in levels
            ]
    return found


def _points(results: Results, name: str, level: float) -> list[RobustnessPoint]:
    return [
        RobustnessPoint(
            system=cell.system,
            metric=cell.metric,
            corruption=name,
            level=level,
            value=cell.value,
            low=cell.low,
            high=cell.high,
            num_items=cell.num_items,
        )
        for cell in results.cells
        if cell.group == "all" and results.metric(cell.metric).kind != "system"
    ]


def robustness_table(results: Results, metric: str) -> str:
    """A table in Markdown: a row per system and corruption, a column per level."""
    info = results.metric(metric)
    levels = sorted({point.level for point in results.robustness})
    found: Mapping[tuple[str, str, float], float] = {
        (point.system, point.corruption, point.level): point.value
        for point in results.robustness
        if point.metric == metric
    }
    rows = [["system", "corruption", *(f"level {level:g}" if level else "exact" for level in levels)]]
    rows.append(["---", "---", *("---:" for _ in levels)])
    for corruption in dict.fromkeys(point.corruption for point in results.robustness):
        for system in results.systems:
            values = [found.get((system.name, corruption, level)) for level in levels]
            cells = ["-" if value is None else f"{value:.{info.digits}f}" for value in values]
            rows.append([system.name, corruption, *cells])
    heading = f"{info.label} ({info.protocol}{f', {info.unit}' if info.unit else ''}), {info.best} is good"
    return f"{heading}:\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)
