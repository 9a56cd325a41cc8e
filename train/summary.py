"""From what tasks have left to one `Results`: means, distances between sets, intervals, groups."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from focuspull.dataset.files import write_atomic
from focuspull.train.benchmark import AIF, ITEMS, TRUTH, Outcome, Task, read_features, read_outcome
from focuspull.train.metrics.bootstrap import interval, mean_interval
from focuspull.train.metrics.frechet import frechet_distance, kernel_distance
from focuspull.train.metrics.image import k_band
from focuspull.train.metrics.registry import KERNEL, SET_METRICS, Choice, metric_infos
from focuspull.train.metrics.sets import FeatureNet, repeated
from focuspull.train.results import (
    SCORES_NAME,
    AboveFloor,
    Cell,
    Failure,
    Item,
    Preview,
    Results,
    SystemInfo,
)
from focuspull.train.systems import SystemSpec

PSNR = "corrected/psnr"
MIN_GROUP_CLIPS = 2
"""Of fewer clips no distance between sets is computed."""
_SEED = 0

Group = tuple[Literal["all", "stratum", "k"], str]


def summarize(
    tasks: Sequence[Task],
    *,
    title: str,
    facts: Mapping[str, str],
    choice: Choice,
    timings: Mapping[str, Mapping[str, float]],
    lost: Mapping[str, str],
) -> Results:
    """Everything that was found.

    Args:
        tasks: All of them, done or not.
        title: Of the test set.
        facts: To print at the end of the report.
        choice: Of metrics.
        timings: By system, then id of a metric of systems.
        lost: Why the task of an item did not run, by the item's name.

    Raises:
        UserError: If something that was written cannot be read.
    """
    systems = tasks[0].systems
    outcomes = {system.name: [read_outcome(task.folder, system.name) for task in tasks] for system in systems}
    items = [_item(task) for task in tasks]
    known = [number for number, item in enumerate(items) if item is not None]
    failures = [
        Failure(system=name, item=_name(task), reason=reason)
        for name, found in outcomes.items()
        for task, outcome in zip(tasks, found, strict=True)
        if (reason := _failed(outcome, lost.get(_name(task)))) is not None
    ]
    there = [item for item in items if item is not None]
    scores = {
        name: {metric: tuple(_score(found[number], metric) for number in known) for metric in choice.video}
        for name, found in outcomes.items()
    }
    groups = _groups(there)
    cells = [
        *_video_cells(there, scores, groups),
        *_set_cells([tasks[number] for number in known], there, scores, systems, choice.sets, groups),
    ]
    num_clips = len({item.clip for item in there})
    cells += [
        Cell(
            system=system, metric=metric, group="all", value=value, num_items=len(there), num_clips=num_clips
        )
        for system, values in timings.items()
        for metric, value in values.items()
    ]
    computed = {*choice.video, *choice.sets, *(f"{name}{KERNEL}" for name in choice.sets)}
    computed |= {name for name in choice.system if any(name in values for values in timings.values())}
    missing = {missing.metric for missing in choice.missing}
    return Results(
        title=title,
        facts=dict(facts),
        metrics=tuple(info for name, info in metric_infos().items() if name in computed | missing),
        systems=tuple(_info(system, outcomes[system.name]) for system in systems),
        items=tuple(there),
        scores=scores,
        cells=tuple(cells),
        failures=tuple(failures),
        missing=choice.missing,
        above_floor=tuple(_above_floor(there, scores)),
        previews=tuple(_previews(tasks)),
    )


def write_scores(folder: Path, results: Results) -> Path:
    """Write ``scores.jsonl``: one line per system, item and metric, then one per failure.

    Raises:
        UserError: If the operating system refuses.
    """
    lines: list[dict[str, Any]] = []
    for system, by_metric in results.scores.items():
        for metric, values in by_metric.items():
            info = results.metric(metric)
            for item, value in zip(results.items, values, strict=True):
                lines.append(
                    {
                        "system": system,
                        "clip": item.clip,
                        "target": item.target,
                        "protocol": info.protocol,
                        "metric": info.name,
                        "value": value,
                        "k_at_1024": item.k_at_1024,
                        "stratum": item.stratum,
                    }
                )
    lines += [failure.model_dump() | {"failed": True} for failure in results.failures]
    path = folder / SCORES_NAME
    write_atomic(path, "".join(f"{json.dumps(line)}\n" for line in lines).encode())
    return path


def _item(task: Task) -> Item | None:
    path = task.folder / "facts.json"
    return Item.model_validate_json(path.read_bytes()) if path.exists() else None


def _name(task: Task) -> str:
    return f"{task.clip}/bokeh{task.target}"


def _failed(outcome: Outcome | None, lost: str | None) -> str | None:
    if outcome is None:
        return lost or "was not evaluated"
    return outcome.failed


def _score(outcome: Outcome | None, metric: str) -> float | None:
    return None if outcome is None or outcome.failed is not None else outcome.scores.get(metric)


def _info(system: SystemSpec, outcomes: Sequence[Outcome | None]) -> SystemInfo:
    found = [outcome.info for outcome in outcomes if outcome is not None and outcome.info is not None]
    return found[0] if found else SystemInfo(name=system.name, summary=f"{system.kind}, made no video")


def _groups(items: Sequence[Item]) -> dict[Group, list[int]]:
    """Numbers of items by group; groups of which all items are members are left out."""
    groups: dict[Group, list[int]] = {("all", ""): list(range(len(items)))}
    strengths = {k_band(item.k_at_1024): item.k_at_1024 for item in items}
    for band in sorted(strengths, key=lambda band: strengths[band]):
        groups["k", band] = [n for n, item in enumerate(items) if k_band(item.k_at_1024) == band]
    for stratum in dict.fromkeys(item.stratum for item in items):
        if stratum is not None:
            groups["stratum", stratum] = [n for n, item in enumerate(items) if item.stratum == stratum]
    return groups


def _video_cells(
    items: Sequence[Item],
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    groups: Mapping[Group, Sequence[int]],
) -> list[Cell]:
    cells: list[Cell] = []
    for system, by_metric in scores.items():
        for metric, values in by_metric.items():
            for (kind, name), members in groups.items():
                by_clip: dict[str, list[float]] = {}
                for number in members:
                    if (value := values[number]) is not None:
                        by_clip.setdefault(items[number].clip, []).append(value)
                known = [value for clip in by_clip.values() for value in clip]
                if not known:
                    continue
                # The same draws for all systems, so that their intervals can be compared.
                span = mean_interval(list(by_clip.values()), np.random.default_rng(_SEED))
                cells.append(
                    Cell(
                        system=system,
                        metric=metric,
                        group=kind,
                        value_of_group=name,
                        value=float(np.mean(known)),
                        low=span and span[0],
                        high=span and span[1],
                        num_items=len(known),
                        num_clips=len(by_clip),
                    )
                )
    return cells


def _set_cells(
    tasks: Sequence[Task],
    items: Sequence[Item],
    scores: Mapping[str, Mapping[str, Sequence[float | None]]],
    systems: Sequence[SystemSpec],
    sets: Sequence[str],
    groups: Mapping[Group, Sequence[int]],
) -> list[Cell]:
    cells: list[Cell] = []
    for metric in sets:
        net = SET_METRICS[metric]
        real = [read_features(task.folder / f"{TRUTH}.npz", metric) for task in tasks]
        for system in systems:
            done = {
                number for number, task in enumerate(tasks) if (task.folder / f"{system.name}.npz").exists()
            }
            fake = {
                number: read_features(tasks[number].folder / f"{system.name}.npz", metric) for number in done
            }
            for (kind, name), members in groups.items():
                # Sets of different items would differ in content: a system that failed on some has no
                # distance.
                clips: dict[str, list[int]] = {}
                for number in members:
                    clips.setdefault(items[number].clip, []).append(number)
                if len(clips) < MIN_GROUP_CLIPS or not done.issuperset(members):
                    continue
                for suffix, distance in (("", frechet_distance), (KERNEL, kernel_distance)):
                    found = _distance(list(clips.values()), real, fake, distance, net)
                    span = None
                    if kind == "all":
                        span = interval(
                            len(clips),
                            _resampled(list(clips.values()), real, fake, distance, net),
                            np.random.default_rng(_SEED),
                        )
                    cells.append(
                        Cell(
                            system=system.name,
                            metric=f"{metric}{suffix}",
                            group=kind,
                            value_of_group=name,
                            value=found,
                            low=span and span[0],
                            high=span and span[1],
                            num_items=len(members),
                            num_clips=len(clips),
                        )
                    )
    return cells


Distance = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


def _distance(
    clips: Sequence[Sequence[int]],
    real: Sequence[NDArray[np.float64]],
    fake: Mapping[int, NDArray[np.float64]],
    distance: Distance,
    net: FeatureNet,
) -> float:
    members = [number for clip in clips for number in clip]
    a = np.concatenate([real[number] for number in members])
    b = np.concatenate([fake[number] for number in members])
    return distance(repeated(a, net.repeat_real), repeated(b, net.repeat_fake))


def _resampled(
    clips: Sequence[Sequence[int]],
    real: Sequence[NDArray[np.float64]],
    fake: Mapping[int, NDArray[np.float64]],
    distance: Distance,
    net: FeatureNet,
) -> Callable[[Sequence[int]], float]:
    def statistic(drawn: Sequence[int]) -> float:
        return _distance([clips[number] for number in drawn], real, fake, distance, net)

    return statistic


def _above_floor(
    items: Sequence[Item], scores: Mapping[str, Mapping[str, Sequence[float | None]]]
) -> list[AboveFloor]:
    return [
        AboveFloor(system=system, item=item.name, psnr_db=value, noise_floor_db=item.noise_floor_db)
        for system, by_metric in scores.items()
        for item, value in zip(items, by_metric.get(PSNR, ()), strict=False)
        if value is not None and item.noise_floor_db is not None and value > item.noise_floor_db
    ]


def _previews(tasks: Sequence[Task]) -> list[Preview]:
    found: list[Preview] = []
    for task in tasks:
        for name in (TRUTH, AIF, *(system.name for system in task.systems)):
            files = {kind: f"{name}{kind}" for kind in (".webp", ".error.webp", ".mp4")}
            there = {
                kind: f"{ITEMS}/{task.folder.name}/{file}"
                for kind, file in files.items()
                if (task.folder / file).exists()
            }
            if ".webp" in there:
                found.append(
                    Preview(
                        system=name,
                        item=_name(task),
                        image=there[".webp"],
                        error=there.get(".error.webp"),
                        video=there.get(".mp4"),
                    )
                )
    return found
