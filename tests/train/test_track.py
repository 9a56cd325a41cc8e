"""Logs of a run, also of one that was killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from focuspull.dataset.errors import UserError
from focuspull.train import track
from focuspull.train.track import Throughput, Tracker

CPU = torch.device("cpu")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_every_line_has_step_and_time(tmp_path: Path) -> None:
    with Tracker(tmp_path, tensorboard=False) as tracker:
        tracker.log(1, {"train/total": 0.5, "speed/mfu": None})
        # Whoever looks at it while the run goes on sees whole lines.
        assert lines(tmp_path)[0]["train/total"] == 0.5
        tracker.log(2, {"note": "late"})
    assert [(line["step"], line["time_s"] >= 0) for line in lines(tmp_path)] == [(1, True), (2, True)]


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path: Path) -> None:
    with Tracker(tmp_path, tensorboard=False) as tracker:
        for step in range(5):
            tracker.log(step, {"x": step})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 1, "x"')  # killed while it wrote
    with Tracker(tmp_path, tensorboard=False, start_step=2) as tracker:
        tracker.log(3, {"x": 30})
    assert [(line["step"], line["x"]) for line in lines(tmp_path)] == [(0, 0), (1, 1), (2, 2), (3, 30)]


def test_tensorboard_gets_numbers_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (8, 4), (255, 0, 0)).save(tmp_path / "grid.png")
    with Tracker(tmp_path) as tracker:
        tracker.log(3, {"train/total": 0.5, "note": "text", "speed/mfu": None})
        tracker.image(3, "val/grid", tmp_path / "grid.png")
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert found.Tags()["scalars"] == ["train/total"] and found.Tags()["images"] == ["val/grid"]
    assert [(event.step, event.value) for event in found.Scalars("train/total")] == [(3, 0.5)]


def test_wandb_is_told_the_same_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    run = SimpleNamespace(
        id="abc",
        log=lambda values, step: calls.append((step, values)),
        finish=lambda: calls.append("finish"),
    )
    module = ModuleType("wandb")

    def init(**options: Any) -> Any:
        calls.append((options["project"], options["id"], options["config"]))
        return run

    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    for _ in range(2):
        with Tracker(tmp_path, tensorboard=False, wandb="bokeh", config={"a": 1}) as tracker:
            tracker.log(1, {"x": 2.0, "note": "text"})
    assert calls == [
        ("bokeh", None, {"a": 1}), (1, {"x": 2.0}), "finish",
        ("bokeh", "abc", {"a": 1}), (1, {"x": 2.0}), "finish",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "module", "message"),
    [
        ({}, "torch.utils.tensorboard", "pip install tensorboard, or give --no-tensorboard"),
        ({"tensorboard": False, "wandb": "bokeh"}, "wandb", "--wandb bokeh: wandb is not installed"),
    ],
)
def test_a_missing_package_is_one_line(
    options: dict[str, Any], module: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=message):
        Tracker(tmp_path, **options)


def test_speed_is_that_of_the_steps_since_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(track.time, "perf_counter", lambda: now[0])
    speed = Throughput(samples_per_step=8, num_frames=4, flops_per_step=2e12, device=CPU, peak_tflops=10)
    for _ in range(5):
        now[0] += 2
        speed.step(0.5)
    values = speed.values()
    assert values["speed/step_s"] == 2 and values["speed/samples_per_s"] == 4
    assert values["speed/frames_per_s"] == 16 and values["speed/waiting_for_data"] == 0.25
    assert values["speed/mfu"] == pytest.approx(0.1)
    assert "speed/step_s" not in speed.values()
    now[0] += 7
    speed.restart()
    now[0] += 1
    speed.step(0)
    assert speed.values()["speed/step_s"] == 1


def test_mfu_is_unknown_where_the_device_is() -> None:
    speed = Throughput(samples_per_step=1, num_frames=1, flops_per_step=1e12, device=CPU)
    speed.step(0)
    assert speed.values()["speed/mfu"] is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 80GB HBM3", 989), ("Tesla T4", None)],
)
def test_peaks_are_found_by_name(name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert track.known_peak(torch.device("cuda")) == peak
