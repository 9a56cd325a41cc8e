"""An evaluation from beginning to end: tasks on workers, times, summary, tables and report.

Everything that costs is in `focuspull.train.benchmark`; this file decides what is to be done and writes what
is read by people: ``results.json``, ``scores.jsonl``, ``table.md``, ``table.tex`` and ``report.html``.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from focuspull.dataset.clip import FrozenModel
from focuspull.dataset.corpus import Corpus
from focuspull.dataset.errors import UserError
from focuspull.dataset.files import write_atomic
from focuspull.train.benchmark import (
    Corruption,
    Cost,
    Task,
    TestSet,
    claim,
    depth_network,
    estimated_disparity,
    evaluate,
    identity,
    is_done,
    load_truth,
    open_test_set,
)
from focuspull.train.cluster import TasksOnRay
from focuspull.train.metrics.base import Truth
from focuspull.train.metrics.registry import Choice, choose
from focuspull.train.metrics.timing import timed
from focuspull.train.report import write_report
from focuspull.train.results import PROTOCOLS, Results, write_results
from focuspull.train.sources import full_address
from focuspull.train.summary import summarize, write_scores
from focuspull.train.systems import SystemSpec, fingerprint, open_system
from focuspull.train.tables import extra_table, latex_table, markdown_table

REPORT_NAME, TABLE_NAME, LATEX_NAME = "report.html", "table.md", "table.tex"
TIMES = "times"


class EvalOptions(FrozenModel):
    """What to evaluate, on what and how.

    Args:
        test_set: The videos.
        systems: What to measure.
        out: Folder of the evaluation.
        metrics: Ids or names; None for all that are usual.
        weights: Files of metric networks, by name.
        workers: Items at a time; 0: in this process, without Ray.
        address: Of a Ray cluster; ``local`` to start one here.
        gpus: Of each worker.
        device: Where networks compute.
        previews: Whether pictures and videos are kept and the report shows them.
        depth_model: A depth network, to be timed before every system.
        corruption: Of the disparity that systems are given.
    """

    test_set: TestSet
    systems: tuple[SystemSpec, ...]
    out: Path
    metrics: tuple[str, ...] | None = None
    weights: dict[str, Path] = Field(default_factory=dict)
    workers: int = Field(default=1, ge=0)
    address: str = "local"
    gpus: float = Field(default=0.0, ge=0)
    device: str = "cpu"
    previews: bool = True
    depth_model: str | None = None
    corruption: Corruption = Corruption()

    def seen_from_anywhere(self) -> EvalOptions:
        """The same with full names of folders: workers start elsewhere."""
        address = full_address(self.test_set.address)
        systems = [
            system if system.path is None else system.model_copy(update={"path": system.path.resolve()})
            for system in self.systems
        ]
        return self.model_copy(
            update={
                "test_set": self.test_set.model_copy(update={"address": address}),
                "systems": tuple(systems),
                "out": self.out.resolve(),
                "weights": {name: path.resolve() for name, path in self.weights.items()},
            }
        )


Say = Callable[[str], None]


def run_evaluation(options: EvalOptions, say: Say) -> Results:
    """Evaluate, or go on with an evaluation, and write what was found.

    Args:
        options: What, on what and how.
        say: Takes lines of progress.

    Returns:
        What was found; also in ``options.out``.

    Raises:
        UserError: If the test set, weights or folder cannot be used, or every system failed to open.
    """
    options = options.seen_from_anywhere()
    corpus = open_test_set(options.test_set)
    choice = choose(
        options.metrics,
        options.weights,
        num_frames=min(row.num_frames for row in corpus.rows),
        with_depth=options.depth_model is not None,
    )
    for gone in choice.missing:
        say(f"{gone.metric}: missing: {gone.reason}")
    facts = identity(options.test_set, corpus.rows, choice.identity())
    if options.corruption.name:
        facts["corruption"] = options.corruption.model_dump_json()
    claim(options.out, facts)
    tasks = _tasks(corpus, options, choice)
    lost, cost = _run(tasks, options, say)
    timings = _timings(corpus, options, choice, say)
    results = summarize(
        tasks,
        title=_title(options.test_set),
        facts=_facts(options, cost),
        choice=choice,
        timings=timings,
        lost=lost,
    )
    write_everything(options.out, results)
    if cost.total:
        say(f"CPU outside systems and metrics: {_overhead(cost):.1%} of {cost.total:.0f} s")
    return results


def write_everything(out: Path, results: Results) -> None:
    """Write results, scores, tables and report."""
    write_results(out, results)
    write_scores(out, results)
    tables = [markdown_table(results, protocol) for protocol in PROTOCOLS]
    write_atomic(out / TABLE_NAME, "\n\n".join([*tables, extra_table(results), ""]).encode())
    latex = "\n\n".join(latex_table(results, protocol) for protocol in PROTOCOLS)
    write_atomic(out / LATEX_NAME, f"{latex}\n".encode())
    write_report(results, out, out / REPORT_NAME)


def _tasks(corpus: Corpus, options: EvalOptions, choice: Choice) -> list[Task]:
    return [
        Task(
            test_set=options.test_set,
            clip=row.key,
            target=target,
            systems=options.systems,
            metrics=choice.video,
            sets=choice.sets,
            weights=choice.weights,
            device=options.device,
            out=options.out,
            corruption=options.corruption,
            previews=options.previews,
        )
        for row in corpus.rows
        for target in range(row.num_targets)
    ]


def _run(tasks: Sequence[Task], options: EvalOptions, say: Say) -> tuple[dict[str, str], Cost]:
    """Run what is not done; items that were lost by name with the reason, and what everything cost."""
    todo = [task for task in tasks if not all(is_done(task, system) for system in task.systems)]
    if len(todo) < len(tasks):
        say(f"{len(tasks) - len(todo)} of {len(tasks)} videos are done already")
    lost: dict[str, str] = {}
    spent = {"systems": 0.0, "metrics": 0.0, "total": 0.0}
    for count, (number, cost) in enumerate(_outcomes(todo, options), 1):
        task = todo[number]
        name = f"{task.clip}/bokeh{task.target}"
        if isinstance(cost, UserError):
            lost[name] = str(cost)
        else:
            spent = {what: seconds + getattr(cost, what) for what, seconds in spent.items()}
        say(f"{count}/{len(todo)} {name}" + (f": {lost[name]}" if name in lost else ""))
    return lost, Cost(**spent)


def _outcomes(todo: Sequence[Task], options: EvalOptions) -> Iterator[tuple[int, Cost | UserError]]:
    if not todo:
        return
    if options.workers == 0:
        for number, task in enumerate(todo):
            try:
                yield number, evaluate(task)
            except UserError as error:
                yield number, error
        return
    pool = TasksOnRay(options.address, options.workers, options.gpus)
    try:
        yield from pool.run(evaluate, todo)
    finally:
        pool.close()


def _timings(corpus: Corpus, options: EvalOptions, choice: Choice, say: Say) -> dict[str, dict[str, float]]:
    """Every system on one video, alone; kept, so that it is not done twice."""
    if not choice.system:
        return {}
    row = corpus.rows[0]
    device = torch.device(options.device)
    truth: Truth | None = None
    found: dict[str, dict[str, float]] = {}
    for system in options.systems:
        if system.kind == "predictions":
            continue  # They were made elsewhere.
        path = options.out / TIMES / f"{system.name}.json"
        mark = f"{fingerprint(system, row.key, 0)} {options.device} {options.depth_model or ''}"
        kept = _kept_times(path, mark)
        if kept is None:
            say(f"timing {system.name}")
            truth = truth or load_truth(corpus, row, 0)[0]
            try:
                kept = _time(system, truth, device, options)
            except UserError:
                continue  # Named as a failure of its videos.
            write_atomic(path, Times(mark=mark, values=kept).model_dump_json().encode())
        found[system.name] = {name: kept[name] for name in choice.system if name in kept}
    return found


class Times(FrozenModel):
    """Times of a system that were taken before.

    Args:
        mark: Of what they depend on.
        values: By id of the metric.
    """

    mark: str
    values: dict[str, float]


def _kept_times(path: Path, mark: str) -> dict[str, float] | None:
    if not path.exists():
        return None
    times = Times.model_validate_json(path.read_bytes())
    return dict(times.values) if times.mark == mark else None


def _time(system: SystemSpec, truth: Truth, device: torch.device, options: EvalOptions) -> dict[str, float]:
    predictor = open_system(system, device, options.out / "logs")
    num_frames = len(truth.bokeh)
    timing = timed(lambda: predictor(truth, truth.disparity), num_frames=num_frames, device=device)
    values = {"official/time": timing.seconds_per_frame, "corrected/time": timing.seconds_per_frame}
    if timing.peak_memory_bytes is not None:
        values["corrected/peak-memory"] = timing.peak_memory_bytes / 2**20
    if options.depth_model is not None:
        network = depth_network(options.depth_model, options.device)
        depth = timed(lambda: estimated_disparity(truth, network), num_frames=num_frames, device=device)
        values["corrected/time-with-depth"] = timing.seconds_per_frame + depth.seconds_per_frame
    return values


def _title(test_set: TestSet) -> str:
    return f"{test_set.address.rstrip('/').rpartition('/')[2]}, {test_set.split}"


def _facts(options: EvalOptions, cost: Cost) -> dict[str, str]:
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    facts = {
        "focuspull": version("focuspull"),
        "Python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": f"{options.device} ({name})",
        "machine": f"{platform.system()} {platform.machine()}",
        "official protocol": "H.264 (CRF 10) on both sides, and the quirks that focuspull-eval list names",
        "corrected protocol": "lossless, all frames; not comparable with the paper's numbers",
    }
    if options.corruption.name:
        facts["disparity"] = f"{options.corruption.name}, level {options.corruption.level:g}"
    if cost.total:
        facts["CPU"] = (
            f"systems {cost.systems:.0f} s, metrics {cost.metrics:.0f} s, everything else "
            f"{cost.total - cost.systems - cost.metrics:.0f} s ({_overhead(cost):.1%}), in the last run"
        )
    return facts


def _overhead(cost: Cost) -> float:
    return (cost.total - cost.systems - cost.metrics) / cost.total
