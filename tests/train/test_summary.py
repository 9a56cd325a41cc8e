"""From outcomes to results: means, intervals, groups, distances between sets, the noise floor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focuspull.dataset.files import write_atomic
from focuspull.train.benchmark import Outcome, Task, TestSet
from focuspull.train.metrics.frechet import frechet_distance
from focuspull.train.metrics.registry import Choice
from focuspull.train.results import Item, MissingMetric, Results, SystemInfo
from focuspull.train.summary import summarize
from focuspull.train.systems import SystemSpec

PSNR, FVD = "corrected/psnr", "corrected/fvd-i3d"
SYSTEMS = tuple(SystemSpec(name=name, kind="renderer") for name in ("a", "b"))


def evaluation(
    out: Path,
    values: dict[str, list[float | None]],
    *,
    targets: int = 2,
    sets: tuple[str, ...] = (),
    lost: dict[str, str] | None = None,
) -> Results:
    """A summary of made-up scores: clip by clip, target by target; None: the system failed."""
    rng = np.random.default_rng(0)
    count = len(values["a"])
    tasks: list[Task] = []
    for number in range(count):
        clip, target = f"clip-{number // targets:06d}", number % targets
        task = Task(
            test_set=TestSet(address="nowhere", split="test"), clip=clip, target=target, systems=SYSTEMS,
            metrics=(PSNR,), sets=sets, weights={}, device="cpu", out=out,
        )  # fmt: skip
        tasks.append(task)
        if f"{clip}/bokeh{target}" in (lost or {}):
            continue
        item = Item(
            clip=clip, target=target, split="test", stratum="thin" if number < count // 2 else "glass",
            k_at_1024=(8.0, 32.0)[target], focus_disparity=0.5, noise_floor_db=40.0, num_frames=16, width=8,
            height=8,
        )  # fmt: skip
        write_atomic(task.folder / "facts.json", item.model_dump_json().encode())
        features = rng.normal(size=(3, 4))
        if sets:
            np.savez(task.folder / "truth.npz", **{name: features for name in sets})
        for system in SYSTEMS:
            value = values[system.name][number]
            outcome = Outcome(fingerprint="x", failed="it broke")
            if value is not None:
                outcome = Outcome(
                    fingerprint="x", info=SystemInfo(name=system.name, summary="s"), scores={PSNR: value}
                )
                if sets:
                    worse = features + (0 if system.name == "a" else 1)
                    np.savez(task.folder / f"{system.name}.npz", **{name: worse for name in sets})
            write_atomic(task.folder / f"{system.name}.json", outcome.model_dump_json().encode())
    choice = Choice(
        video=(PSNR,), sets=sets, system=("corrected/time",), weights={},
        missing=(MissingMetric(metric="official/fd-raft", reason="no weights"),),
    )  # fmt: skip
    timings = {"a": {"corrected/time": 0.25}}
    return summarize(tasks, title="t", facts={}, choice=choice, timings=timings, lost=lost or {})


def test_means_are_of_items_and_of_groups(tmp_path: Path) -> None:
    results = evaluation(tmp_path, {"a": [10.0, 20.0, 30.0, 50.0], "b": [1.0, 1.0, 1.0, 1.0]})

    def value(group: str = "all", name: str = "") -> tuple[float, int, int]:
        cell = results.cell("a", PSNR, group, name)
        assert cell is not None
        return cell.value, cell.num_items, cell.num_clips

    assert value() == (27.5, 4, 2)
    assert value("stratum", "thin") == (15.0, 2, 1)
    assert value("stratum", "glass") == (40.0, 2, 1)
    bands = [cell.value_of_group for cell in results.cells if cell.group == "k" and cell.system == "a"]
    assert [value("k", band)[0] for band in bands] == [20.0, 35.0]
    assert [value("k", band)[2] for band in bands] == [2, 2]


def test_two_clips_have_no_interval_and_many_have_one(tmp_path: Path) -> None:
    few = evaluation(tmp_path / "few", {"a": [1.0, 2.0], "b": [1.0, 2.0]}, targets=1).cell("a", PSNR)
    assert few is not None and few.low is None and few.high is None
    values: list[float | None] = [20.0 + n % 5 for n in range(20)]
    many = evaluation(tmp_path / "many", {"a": values, "b": values}, targets=1).cell("a", PSNR)
    assert many is not None and many.low is not None and many.high is not None
    assert many.low < many.value == 22.0 < many.high
    # Mean of 20 draws of a standard deviation of 1.41: 95 % within about 0.62.
    assert many.high - many.low == pytest.approx(1.24, abs=0.25)


def test_equal_systems_have_equal_intervals(tmp_path: Path) -> None:
    values: list[float | None] = [20.0 + n for n in range(8)]
    results = evaluation(tmp_path, {"a": values, "b": values}, targets=1)
    first, second = (results.cell(system, PSNR) for system in "ab")
    assert first is not None and second is not None
    assert (first.low, first.high) == (second.low, second.high)


def test_a_failure_is_left_out_of_the_mean_and_named(tmp_path: Path) -> None:
    results = evaluation(tmp_path, {"a": [10.0, None, 30.0, 50.0], "b": [1.0, 1.0, 1.0, 1.0]})
    cell = results.cell("a", PSNR)
    assert cell is not None and (cell.value, cell.num_items) == (30.0, 3)
    (failure,) = results.failures
    assert (failure.system, failure.item, failure.reason) == ("a", "clip-000000/bokeh1", "it broke")


def test_a_task_that_was_lost_fails_for_all_systems(tmp_path: Path) -> None:
    lost = {"clip-000001/bokeh0": "the clip is damaged"}
    results = evaluation(tmp_path, {"a": [10.0, 20.0, 30.0, 50.0], "b": [1.0, 1.0, 1.0, 1.0]}, lost=lost)
    assert [(f.system, f.item, f.reason) for f in results.failures] == [
        (system, "clip-000001/bokeh0", "the clip is damaged") for system in "ab"
    ]
    assert len(results.items) == 3


def test_scores_above_the_noise_floor_are_flagged(tmp_path: Path) -> None:
    results = evaluation(tmp_path, {"a": [39.9, 41.0], "b": [40.0, 100.0]}, targets=2)
    assert [(flag.system, flag.item, flag.psnr_db) for flag in results.above_floor] == [
        ("a", "clip-000000/bokeh1", 41.0),
        ("b", "clip-000000/bokeh1", 100.0),
    ]
    assert {flag.noise_floor_db for flag in results.above_floor} == {40.0}


def test_distances_are_between_sets_of_the_same_items(tmp_path: Path) -> None:
    values: list[float | None] = [1.0] * 8
    results = evaluation(tmp_path, {"a": values, "b": values}, targets=1, sets=(FVD,))
    same, other = (results.cell(system, FVD) for system in "ab")
    assert same is not None and other is not None
    assert same.value == pytest.approx(0, abs=1e-9)
    assert other.value == pytest.approx(4, abs=1e-6)  # means that are apart by 1 in each of 4
    assert other.low is not None and other.high is not None
    assert results.cell("b", f"{FVD}-kernel") is not None
    thin = results.cell("b", FVD, "stratum", "thin")
    assert thin is not None and thin.low is None and thin.num_clips == 4
    first = np.load(tmp_path / "items/clip-000000.bokeh0/truth.npz")[FVD]
    assert frechet_distance(first, first + 1) == pytest.approx(4, abs=1e-6)


def test_a_system_that_failed_has_no_distance(tmp_path: Path) -> None:
    results = evaluation(tmp_path, {"a": [1.0, 1.0, None, 1.0], "b": [1.0] * 4}, targets=1, sets=(FVD,))
    assert results.cell("a", FVD) is None
    assert results.cell("a", FVD, "stratum", "thin") is not None
    assert results.cell("b", FVD) is not None


def test_times_and_missing_metrics_are_listed(tmp_path: Path) -> None:
    results = evaluation(tmp_path, {"a": [1.0, 1.0], "b": [1.0, 1.0]})
    time = results.cell("a", "corrected/time")
    assert time is not None and time.value == 0.25
    assert results.cell("b", "corrected/time") is None
    assert [metric.id for metric in results.metrics] == ["official/fd-raft", PSNR, "corrected/time"]
    assert results.missing[0].reason == "no weights"
