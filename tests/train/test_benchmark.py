"""Evaluations: what is computed once, what goes on, what is refused, and what a failure costs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from focuspull.dataset.errors import UserError
from focuspull.dataset.perturb import Perturbation
from focuspull.train import benchmark
from focuspull.train.benchmark import (
    EVALUATION_NAME,
    ITEMS,
    Corruption,
    Outcome,
    TestSet,
    claim,
    estimated_disparity,
    evaluate,
    is_done,
    load_truth,
    open_test_set,
    read_features,
    read_outcome,
)
from focuspull.train.evaluation import EvalOptions, run_evaluation
from focuspull.train.metrics.sets import Extract, FeatureNet
from focuspull.train.results import Results, read_results
from focuspull.train.systems import Predictor, SystemSpec, adapter_systems
from tests.model.checkouts import stand_in
from tests.train.evaluating import METRICS, evaluated, make_corpus, options

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of two targets each."""
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of systems, one for every video that is made."""
    made: list[str] = []
    call = Predictor.__call__

    def counting(self: Predictor, *given: object) -> torch.Tensor:
        made.append(self.spec.name)
        return call(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "__call__", counting)
    return made


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A set metric that is cheap; the list gets an entry for every video that it looks at."""
    seen: list[int] = []

    def opened(weights: Path, device: torch.device) -> Extract:
        def extract(video: torch.Tensor) -> np.ndarray:
            seen.append(len(video))
            return video.mean((2, 3)).numpy()

        return extract

    net = FeatureNet(
        name="colour", protocol="corrected", label="Colour", weights="raft", min_frames=1, open=opened,
        summary="Mean colours.", column=None,
    )  # fmt: skip
    monkeypatch.setitem(benchmark.SET_METRICS, net.protocol + "/" + net.name, net)
    monkeypatch.setattr(benchmark, "_extract", lambda name, *_: net.open(Path(), torch.device("cpu")))
    return seen


# --- What is found ------------------------------------------------------------------------------------


def test_every_item_gets_a_score_in_every_metric(data: Path, tmp_path: Path) -> None:
    results, lines = evaluated(options(data, tmp_path / "e"))
    assert [item.name for item in results.items] == [
        f"clip-00000{clip}/bokeh{target}" for clip in (0, 1) for target in (0, 1)
    ]
    assert set(results.scores) == {"identity", "gather"}
    for system in results.scores:
        assert set(results.scores[system]) == set(METRICS)
    assert results.failures == ()
    assert any(line.startswith("CPU outside systems and metrics: ") for line in lines)
    # With K 0 doing nothing is right; with K it is not.
    psnr = results.scores["identity"]["corrected/psnr"]
    assert psnr[1] == psnr[3] == 100
    assert psnr[0] is not None and psnr[0] < 60
    assert read_results(tmp_path / "e") == results


def test_the_truth_scores_perfectly(data: Path, tmp_path: Path) -> None:
    """The truth handed in as predictions, in every metric that needs no weights."""
    corpus = open_test_set(TestSet(address=str(data), split="test"))
    for row in corpus.rows:
        for target in range(row.num_targets):
            truth, _ = load_truth(corpus, row, target)
            path = tmp_path / "p" / row.key / f"bokeh{target}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, (truth.bokeh * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    system = SystemSpec(name="truth itself", kind="predictions", path=tmp_path / "p")
    names = ("psnr", "ssim", "rm", "vepi", "fd-dis", "radius-error", "edge-bleeding", "flicker")
    results, _ = evaluated(options(data, tmp_path / "e", [system], metrics=names))
    perfect = {
        "psnr": 100,
        "ssim": 1,
        "rm": 0,
        "fd-dis": 0,
        "radius-error": 0,
        "edge-bleeding": 0,
        "flicker": 0,
    }
    for metric, values in results.scores["truth itself"].items():
        name = metric.partition("/")[2]
        if metric == "official/vepi":
            continue  # Of the truth it is not 1: it rewards doing nothing.
        expected = perfect.get(name, 1)
        known = [value for value in values if value is not None]
        assert known or name in ("edge-bleeding", "radius-error")
        assert known == pytest.approx([expected] * len(known), abs=1e-6), metric


def test_workers_find_the_same_as_one_process(data: Path, tmp_path: Path) -> None:
    alone, _ = evaluated(options(data, tmp_path / "a"))
    together, _ = evaluated(options(data, tmp_path / "b", workers=2))
    assert together.scores == alone.scores
    assert together.items == alone.items


# --- What is computed once ----------------------------------------------------------------------------


def test_a_second_run_computes_nothing(data: Path, tmp_path: Path, counted: list[str]) -> None:
    first, _ = evaluated(options(data, tmp_path / "e"))
    assert sorted(counted) == 4 * ["gather"] + 4 * ["identity"]
    counted.clear()
    second, lines = evaluated(options(data, tmp_path / "e"))
    assert counted == []
    assert second.scores == first.scores
    assert "4 of 4 videos are done already" in lines


def test_a_system_that_is_added_costs_only_itself(
    data: Path, tmp_path: Path, counted: list[str], features: list[int]
) -> None:
    chosen = options(data, tmp_path / "e", "identity")
    tasks = [task_of(chosen, clip, 0, sets=("corrected/colour",)) for clip in ("clip-000000", "clip-000001")]
    for task in tasks:
        evaluate(task)
    assert len(features) == 4  # the truth and one system, of two videos
    more = [
        task.model_copy(update={"systems": options(data, tmp_path, "identity,gather").systems})
        for task in tasks
    ]
    counted.clear()
    features.clear()
    for task in more:
        evaluate(task)
    assert counted == ["gather", "gather"]
    assert len(features) == 2  # the truth's are there
    assert read_features(more[0].folder / "truth.npz", "corrected/colour").shape == (3, 3)


def task_of(chosen: EvalOptions, clip: str, target: int, **fields: object) -> benchmark.Task:
    """A task as `run_evaluation` would make it."""
    given = {
        "test_set": chosen.test_set, "clip": clip, "target": target, "systems": chosen.systems,
        "metrics": METRICS, "sets": (), "weights": {}, "device": "cpu", "out": chosen.out, "previews": False,
    }  # fmt: skip
    return benchmark.Task.model_validate(given | fields)


def test_predictions_that_were_replaced_are_measured_again(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for clip in ("clip-000000", "clip-000001"):
        for target in (0, 1):
            (folder / clip).mkdir(parents=True, exist_ok=True)
            np.save(folder / clip / f"bokeh{target}.npy", np.full((3, 32, 48, 3), 100, np.uint8))
    chosen = options(data, tmp_path / "e", [SystemSpec(name="p", kind="predictions", path=folder)])
    before, _ = evaluated(chosen)
    np.save(folder / "clip-000001/bokeh0.npy", np.full((3, 32, 48, 3), 0, np.uint8))
    after, lines = evaluated(chosen)
    assert "3 of 4 videos are done already" in lines
    changed = [
        a != b
        for a, b in zip(
            before.scores["p"]["corrected/psnr"], after.scores["p"]["corrected/psnr"], strict=True
        )
    ]
    assert changed == [False, False, True, False]


# --- What is refused ----------------------------------------------------------------------------------


def test_other_data_and_other_metrics_are_refused(data: Path, tmp_path: Path) -> None:
    chosen = options(data, tmp_path / "e")
    evaluated(chosen)
    with pytest.raises(UserError, match=r"evaluation.json: was made with other metrics. Give another --out"):
        evaluated(options(data, tmp_path / "e", metrics=("corrected/psnr",)))
    other = make_corpus(tmp_path / "other", 1)
    with pytest.raises(UserError, match="was made with other clips"):
        evaluated(options(other, tmp_path / "e"))
    corruption = Corruption(name="flicker", level=1.0, perturbation=Perturbation())
    with pytest.raises(UserError, match="was made with other corruption"):
        evaluated(chosen.model_copy(update={"corruption": corruption}))


@pytest.mark.parametrize(("content", "message"), [("{", "cannot be read"), ("[]", "is not of an evaluation")])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / EVALUATION_NAME).write_text(content)
    with pytest.raises(UserError, match=message):
        claim(tmp_path, {"metrics": "psnr"})
    assert (tmp_path / EVALUATION_NAME).read_text() == content


def test_a_split_that_is_not_there_is_named(data: Path) -> None:
    with pytest.raises(UserError, match="has no clips of the split 'val'; it has test"):
        open_test_set(TestSet(address=str(data), split="val"))
    with pytest.raises(UserError, match="--official-jitter, --mattes and --backgrounds are for cards200"):
        open_test_set(TestSet(address=str(data), split="test", cards=(("official_jitter", True),)))


def test_cards_are_a_test_set_too(tmp_path: Path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(
        yaml.safe_dump(
            {"num_clips": 2, "num_frames": 2, "width": 64, "height": 40, "seed": 1, "lens_samples": 16}
        )
    )
    still = open_test_set(TestSet(address=f"cards200:{spec}", split="test", max_clips=1))
    assert len(still.rows) == 1
    cards = (("official_jitter", True),)
    jittered = open_test_set(TestSet(address=f"cards200:{spec}", split="test", max_clips=1, cards=cards))
    depths = [
        load_truth(corpus, corpus.rows[0], 0)[0].focus_disparity.numpy() for corpus in (still, jittered)
    ]
    assert np.ptp(depths[0]) < 1e-6 < np.ptp(depths[1])


def test_what_is_damaged_is_named(data: Path, tmp_path: Path) -> None:
    chosen = options(data, tmp_path / "e", "identity")
    evaluated(chosen)
    folder = tmp_path / "e" / ITEMS / "clip-000000.bokeh0"
    (folder / "identity.json").write_text("{}")
    with pytest.raises(UserError, match=r"identity.json: is damaged: .*Remove it and evaluate again"):
        evaluated(chosen)
    (folder / "x.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"x.npz: cannot be read: .*Remove it and evaluate again"):
        read_features(folder / "x.npz", "a")


# --- What fails ---------------------------------------------------------------------------------------


def predictions(folder: Path, data: Path) -> SystemSpec:
    """Right for the first clip's first target; missing, short and out of range for the others."""
    right = np.full((3, 32, 48, 3), 0.5, np.float32)
    for name, array in {
        "clip-000000/bokeh0": right,
        "clip-000001/bokeh0": right[:2],
        "clip-000001/bokeh1": right + 1,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", array)
    return SystemSpec(name="theirs", kind="predictions", path=folder)


def test_failures_are_counted_and_named_while_others_go_on(data: Path, tmp_path: Path) -> None:
    theirs = predictions(tmp_path / "p", data)
    gone = SystemSpec(name="gone", kind="network", path=tmp_path / "nowhere")
    results, _ = evaluated(options(data, tmp_path / "e", [theirs, gone, *options(data, tmp_path).systems]))
    reasons = {(failure.system, failure.item): failure.reason for failure in results.failures}
    assert set(reasons) == {
        ("theirs", "clip-000000/bokeh1"), ("theirs", "clip-000001/bokeh0"), ("theirs", "clip-000001/bokeh1"),
        *(("gone", item.name) for item in results.items),
    }  # fmt: skip
    assert "is missing. Predict it as bokeh1/000.png" in reasons["theirs", "clip-000000/bokeh1"]
    assert "has 2 frames, the clip has 3" in reasons["theirs", "clip-000001/bokeh0"]
    assert "values span [1.5, 1.5], must be in [0, 1]" in reasons["theirs", "clip-000001/bokeh1"]
    assert "nowhere" in reasons["gone", "clip-000000/bokeh0"]
    scores = results.scores["theirs"]["corrected/psnr"]
    assert scores[0] is not None and scores[1:] == (None, None, None)
    assert None not in results.scores["gather"]["corrected/psnr"]
    cell = results.cell("theirs", "corrected/psnr")
    assert cell is not None and cell.num_items == 1


def test_a_failure_is_tried_again(data: Path, tmp_path: Path, counted: list[str]) -> None:
    theirs = predictions(tmp_path / "p", data)
    chosen = options(data, tmp_path / "e", [theirs])
    evaluated(chosen)
    np.save(tmp_path / "p/clip-000000/bokeh1.npy", np.zeros((3, 32, 48, 3), np.uint8))
    counted.clear()
    results, _ = evaluated(chosen)
    assert len(counted) == 3
    assert [failure.item for failure in results.failures] == ["clip-000001/bokeh0", "clip-000001/bokeh1"]


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("missing", "checkout .*bokehme is missing. Clone JuewenPeng/BokehMe"),
        ("crash", r"its process ended with exit code 1 \(.*broken here"),
        ("hang", "no answer within 15 s"),
    ],
)
def test_published_systems_in_trouble_hold_up_nobody(
    data: Path, tmp_path: Path, trouble: str, message: str
) -> None:
    checkout = stand_in("bokehme", tmp_path / "bokehme")
    mark = str(tmp_path / "has-hung")
    renderer = tmp_path / "bokehme/classical_renderer/scatter.py"
    line = "        radius = defocus.abs()\n"
    what = {
        "crash": "raise RuntimeError('broken here')",
        "hang": f"import os, time; os.path.exists({mark!r}) or (os.mkdir({mark!r}), time.sleep(1000))",
        "missing": "pass",
    }
    renderer.write_text(renderer.read_text().replace(line, f"        {what[trouble]}\n{line}"))
    file = tmp_path / "adapters.yaml"
    entry = {
        "checkout": "bokehme",
        "python": sys.executable,
        "timeout_s": 15,
        "options": dict(checkout.options),
    }
    file.write_text(yaml.safe_dump({"systems": {"bokehme": entry}}))
    systems = [
        *adapter_systems(file, fitted=False, say=pytest.fail),
        *options(data, tmp_path, "gather").systems,
    ]
    if trouble == "missing":
        shutil.rmtree(tmp_path / "bokehme")
    chosen = options(data, tmp_path / "e", systems)
    test_set = chosen.test_set.model_copy(update={"max_clips": 1})
    results, _ = evaluated(chosen.model_copy(update={"test_set": test_set}))
    failed = results.failures
    # The one that hangs does so once only: its process is started anew for the next video.
    items = ["clip-000000/bokeh0", "clip-000000/bokeh1"]
    assert [(failure.system, failure.item) for failure in failed] == [
        ("bokehme", item) for item in items[: 1 if trouble == "hang" else 2]
    ]
    assert re.search(f"^bokehme: .*{message}", failed[0].reason), failed[0].reason
    assert None not in results.scores["gather"]["corrected/psnr"]
    assert (results.cell("bokehme", "corrected/psnr") is None) == (trouble != "hang")


def test_a_clip_that_is_damaged_loses_its_items_only(data: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(data, tmp_path / "broken"))
    (shard,) = broken.rglob("*.tar")
    content = bytearray(shard.read_bytes())
    half = len(content) // 2
    content[half + 4096 : half + 60000] = np.random.default_rng(0).bytes(60000 - 4096)
    shard.write_bytes(bytes(content))
    results, lines = evaluated(options(broken, tmp_path / "e", "identity"))
    lost = {failure.item for failure in results.failures}
    assert lost and len(lost) < 4
    assert any("clip-000001" in line and ":" in line for line in lines)


# --- Disparity ----------------------------------------------------------------------------------------


def test_corrupted_disparity_is_the_same_in_every_run_and_more_of_it_is_worse(
    data: Path, tmp_path: Path
) -> None:
    def psnr(level: float, folder: str) -> float:
        corruption = Corruption(
            name="scale-shift",
            level=level,
            perturbation=Perturbation.model_validate({"scale_shift": {"strength": level}}),
        )
        chosen = options(data, tmp_path / folder, "gather").model_copy(update={"corruption": corruption})
        results = run_evaluation(chosen, lambda line: None)
        assert results.facts["disparity"] == f"scale-shift, level {level:g}"
        cell = results.cell("gather", "corrected/psnr")
        assert cell is not None
        return cell.value

    assert psnr(0.5, "a") == psnr(0.5, "b")
    assert psnr(4.0, "c") < psnr(0.5, "d")


class Estimate:
    """A depth network that is right up to scale and shift, another one in every clip."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.frames = frames

    def predict(self, image: np.ndarray) -> np.ndarray:
        del image
        return 7 - 3 * self.frames.pop(0)


def test_estimates_are_fitted_by_one_scale_and_one_shift(data: Path) -> None:
    corpus = open_test_set(TestSet(address=str(data), split="test"))
    truth, _ = load_truth(corpus, corpus.rows[0], 0)
    network = Estimate([frame.numpy() for frame in truth.disparity[:, 0]])
    found = estimated_disparity(truth, network)  # type: ignore[arg-type]
    torch.testing.assert_close(found, truth.disparity, atol=1e-5, rtol=0)


# --- Records ------------------------------------------------------------------------------------------


def test_outcomes_without_anything_are_none(tmp_path: Path) -> None:
    assert read_outcome(tmp_path, "gather") is None


def test_a_failed_outcome_is_not_done(data: Path, tmp_path: Path) -> None:
    task = task_of(options(data, tmp_path / "e"), "clip-000000", 0)
    system = task.systems[0]
    evaluate(task)
    assert is_done(task, system)
    outcome = read_outcome(task.folder, system.name)
    assert outcome is not None
    failed = Outcome(fingerprint=outcome.fingerprint, failed="no")
    (task.folder / f"{system.name}.json").write_text(failed.model_dump_json())
    assert not is_done(task, system)
    (task.folder / f"{system.name}.json").write_text(
        outcome.model_copy(update={"fingerprint": "other"}).model_dump_json()
    )
    assert not is_done(task, system)


def test_scores_are_lines_of_json(data: Path, tmp_path: Path) -> None:
    theirs = predictions(tmp_path / "p", data)
    results: Results = evaluated(options(data, tmp_path / "e", [theirs]))[0]
    lines = [json.loads(line) for line in (tmp_path / "e/scores.jsonl").read_text().splitlines()]
    scores = [line for line in lines if not line.get("failed")]
    assert len(scores) == len(results.items) * len(METRICS)
    assert len(lines) - len(scores) == 3
    assert scores[0]["clip"] == "clip-000000"
    assert {line["protocol"] for line in scores} == {"official", "corrected"}
