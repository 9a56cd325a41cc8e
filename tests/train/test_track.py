"""Logs: every line is there, whole, and once, whatever ended the run."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from focuspull.dataset.errors import UserError
from focuspull.train import track
from focuspull.train.track import PEAK_TFLOPS, Throughput, Tracker, known_peak


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def log_steps(folder: Path, *steps: int, start_step: int = 0) -> None:
    with Tracker(folder, tensorboard=False, start_step=start_step) as tracker:
        for step in steps:
            tracker.log(step, {"train/total": step / 10})


# --- lines --------------------------------------------------------------------------------------


def test_lines_have_their_step_time_and_values(tmp_path: Path) -> None:
    with Tracker(tmp_path / "new/stage", tensorboard=False) as tracker:
        tracker.log(3, {"train/total": 0.25, "data/position": 12, "speed/mfu": None, "note": "a\u2028b\n"})
        tracker.log(3, {"val/psnr": 30.0})
        # There while the tracker is open: what is killed closes nothing.
        first, second = lines(tmp_path / "new/stage")
    assert first.pop("time_s") == pytest.approx(time.time(), abs=60)
    assert first == {
        "step": 3, "train/total": 0.25, "data/position": 12, "speed/mfu": None, "note": "a\u2028b\n"
    }  # fmt: skip
    assert second["val/psnr"] == 30


def test_lines_stay_json_when_values_are_no_numbers(tmp_path: Path) -> None:
    with Tracker(tmp_path) as tracker:
        tracker.log(1, {"a": float("nan"), "b": float("-inf")})
    assert (lines(tmp_path)[0]["a"], lines(tmp_path)[0]["b"]) == ("nan", "-inf")


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    log_steps(tmp_path, 1, 2, 3, 4)
    log_steps(tmp_path, 3, 4, 5, start_step=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5]
    assert {path.name for path in tmp_path.iterdir()} == {"log.jsonl"}
    log_steps(tmp_path, 1, start_step=0)
    assert [line["step"] for line in lines(tmp_path)] == [1]


@pytest.mark.parametrize("keep", range(1, 30, 4))
def test_a_line_that_a_kill_has_cut_short_goes(keep: int, tmp_path: Path) -> None:
    log_steps(tmp_path, 1, 2)
    path = tmp_path / "log.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:keep])
    log_steps(tmp_path, 3, start_step=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 3]
    assert path.read_bytes().startswith(first)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', '{"step": "1"}', "\x00\x00"])
def test_a_file_that_is_no_log_is_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1}}\n{text}\n{{"step": 2}}\n')
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"log\.jsonl, line 2: is not one of a log, .* Remove the line\.$"):
        Tracker(tmp_path, tensorboard=False, start_step=1)
    assert path.read_bytes() == before


def test_a_full_disk_ends_in_one_line(tmp_path: Path) -> None:
    with Tracker(tmp_path, tensorboard=False) as tracker:
        tracker._file.close()
        tracker._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
        with pytest.raises(UserError, match=r"log\.jsonl: cannot be written: No space left on device\. Mend"):
            tracker.log(1, {})


# --- TensorBoard --------------------------------------------------------------------------------


def test_tensorboard_has_what_the_lines_have(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Image.new("RGB", (6, 4), (255, 0, 0)).save(tmp_path / "1.png")
    with Tracker(tmp_path) as tracker:
        for step in range(1, 5):
            tracker.log(step, {"train/total": step / 10, "speed/mfu": None, "note": "text"})
        tracker.image(4, "val/grid", tmp_path / "1.png")
    with Tracker(tmp_path, start_step=2) as tracker:
        tracker.log(3, {"train/total": 7.0})
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert board.Tags()["scalars"] == ["train/total"]
    found = [(event.step, event.value) for event in board.Scalars("train/total")]
    assert found == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2)), (3, 7.0)]
    assert board.Images("val/grid") == []
    with Tracker(tmp_path) as tracker:
        tracker.image(0, "val/grid", tmp_path / "1.png")
    board.Reload()
    assert board.Scalars("train/total") == []
    assert [(event.step, event.width, event.height) for event in board.Images("val/grid")] == [(0, 6, 4)]


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_steps(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"tensorboard is not installed\. pip .* or give --no-tensorboard"):
        Tracker(tmp_path)
    with pytest.raises(UserError, match=r"--wandb bokeh: wandb is not installed\. pip install wandb"):
        Tracker(tmp_path, tensorboard=False, wandb="bokeh")
    # Nothing was forgotten for a run that did not begin.
    assert len(lines(tmp_path)) == 1


# --- W&B ----------------------------------------------------------------------------------------


class FakeWandb:
    """What of the package is used; keeps what it is given."""

    class Error(Exception):
        pass

    def __init__(self) -> None:
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        if options["project"] == "refused":
            raise self.Error("api_key not configured (no-tty).\n  call wandb.login(key=[your_api_key])")
        self.runs.append(options)
        return SimpleNamespace(
            id=options["id"] or f"id-{len(self.runs)}",
            log=lambda values, step: self.logged.append((step, values)),
            finish=self.finish,
        )

    def finish(self) -> None:
        self.finished += 1

    def Image(self, path: str) -> str:  # noqa: N802
        return f"picture {path}"


def test_wandb_goes_on_with_the_run_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    folder = tmp_path / "stage"
    for start_step in (0, 1):
        options: dict[str, Any] = {"tensorboard": False, "wandb": "bokeh", "config": {"seed": 3}}
        with Tracker(folder, start_step=start_step, **options) as tracker:
            tracker.log(start_step + 1, {"train/total": 0.5, "speed/mfu": None, "note": "text"})
            tracker.image(start_step + 1, "val/grid", Path("1.png"))
    assert [run["id"] for run in fake.runs] == [None, "id-1"]
    assert all(run["resume"] == "allow" and run["project"] == "bokeh" for run in fake.runs)
    assert all(run["config"] == {"seed": 3} and run["dir"] == str(folder) for run in fake.runs)
    assert fake.logged[:2] == [(1, {"train/total": 0.5}), (1, {"val/grid": "picture 1.png"})]
    assert fake.finished == 2 and len(lines(folder)) == 2


def test_what_wandb_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb())
    with pytest.raises(
        UserError, match=r"^--wandb refused: api_key not configured \(no-tty\)\. call [^\n]*offline"
    ):
        Tracker(tmp_path, tensorboard=False, wandb="refused")


# --- speed --------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds, which only pass when they are told to."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(track.time, "perf_counter", lambda: clock.now)
    return clock


def test_speed_is_that_since_it_was_last_asked_for(clock: SimpleNamespace) -> None:
    throughput = Throughput(
        samples_per_step=6,
        num_frames=4,
        flops_per_step=3e12,
        device=torch.device("cpu"),
        peak_tflops=10.0,
    )
    assert set(throughput.values()) == {"memory/peak_rss_gib"}
    for speed in (1, 2):
        clock.now += 50  # something else
        throughput.restart()
        for _ in range(5):
            clock.now += 2 / speed
            throughput.step(waited_s=0.5 / speed)
        values = throughput.values()
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert values.pop("memory/peak_rss_gib") == pytest.approx(peak_kib / 2**20, rel=0.01)
        assert values == pytest.approx(
            {
                "speed/step_s": 2 / speed,
                "speed/samples_per_s": 3 * speed,
                "speed/frames_per_s": 12 * speed,
                "speed/waiting_for_data": 0.25,
                "speed/mfu": 0.15 * speed,
            }
        )


@pytest.mark.parametrize(("flops", "peak"), [(None, 10.0), (1e12, None), (None, None)])
def test_use_of_the_device_is_only_told_where_it_is_known(
    flops: float | None, peak: float | None, clock: SimpleNamespace
) -> None:
    device = torch.device("cpu")
    throughput = Throughput(
        samples_per_step=1, num_frames=1, flops_per_step=flops, device=device, peak_tflops=peak
    )
    clock.now += 1
    throughput.step(0)
    assert throughput.values()["speed/mfu"] is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_peaks_are_known_by_the_whole_name(
    name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert known_peak(torch.device("cuda", 0)) == peak
    assert known_peak(torch.device("cpu")) is None
    assert all(100 < value < 1000 for value in PEAK_TFLOPS.values())
