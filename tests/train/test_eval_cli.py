"""The command: what it prints, writes and refuses, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from focuspull.model.pipeline import BokehPipeline
from focuspull.train.eval_cli import main
from focuspull.train.results import read_results
from tests.model.networks import tiny
from tests.train.evaluating import make_corpus

torch.set_num_threads(1)

FAST = ("--metrics", "psnr,corrected/ssim,time", "--workers", "0", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus")


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one line that a wrong command ends in."""
    assert main([str(word) for word in words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.endswith("done already")]
    assert lines[-1].startswith("focuspull-eval: ")
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_run_writes_everything_and_ends_with_zero(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--data", str(data), "--systems", "identity,gather", "--out", str(tmp_path), *FAST]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "| identity |" in printed.out
    assert str(tmp_path / "report.html") in printed.out
    assert "4/4 clip-000001/bokeh1" in printed.err
    assert {path.name for path in tmp_path.iterdir()} == {
        "evaluation.json", "items", "report.html", "results.json", "scores.jsonl", "table.md", "table.tex",
        "times",
    }  # fmt: skip
    results = read_results(tmp_path)
    cell = results.cell("gather", "official/time")
    assert cell is not None and cell.value > 0
    assert (tmp_path / "table.tex").read_text().count("\\begin{tabular}") == 2
    times = (tmp_path / "times/gather.json").read_bytes()
    assert main(words) == 0  # and again: nothing is done twice
    assert "4 of 4 videos are done already" in capsys.readouterr().err
    assert (tmp_path / "times/gather.json").read_bytes() == times


def test_a_network_and_predictions_stand_beside_renderers(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    BokehPipeline.of(tiny()).save_pretrained(tmp_path / "weights")
    for target in (0, 1):
        (tmp_path / "p/clip-000000").mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / f"p/clip-000000/bokeh{target}.npy", np.zeros((3, 32, 48, 3), np.uint8))
    words = ["run", "--data", str(data), "--systems", "gather", "--network", f"ours={tmp_path / 'weights'}"]
    words += ["--predictions", f"theirs={tmp_path / 'p'}", "--num-clips", "1", "--out", str(tmp_path / "e")]
    assert main([*words, *FAST]) == 0
    results = read_results(tmp_path / "e")
    assert [system.name for system in results.systems] == ["gather", "ours", "theirs"]
    assert results.cell("theirs", "official/time") is None  # made elsewhere
    assert "*Any-to-Bokeh, published*" in (tmp_path / "e/table.md").read_text()
    (tmp_path / "p/clip-000000/bokeh1.npy").unlink()
    assert main([*words, *FAST]) == 1
    assert (
        "focuspull-eval: theirs: 1 videos are missing, the first is clip-000000/bokeh1: "
        in capsys.readouterr().err
    )


def test_metrics_without_weights_are_named_with_what_gets_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--data", str(data), "--systems", "identity", "--out", str(tmp_path), "--no-previews"]
    assert main([*words, "--metrics", "fd-raft,psnr", "--workers", "0"]) == 0
    assert (
        "official/fd-raft: missing: weights 'raft' are missing: --weights raft=FILE"
        in capsys.readouterr().err
    )
    results = read_results(tmp_path)
    assert {missing.metric for missing in results.missing} == {"official/fd-raft", "corrected/fd-raft"}
    assert results.cell("identity", "official/fd-raft") is None
    assert results.previews == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no system was given"),
        (["--systems", "gathre"], "--systems gathre: there is no such renderer"),
        (["--network", "weights"], "--network weights: write NAME=FOLDER"),
        (["--predictions", "=x"], "--predictions =x: write NAME=FOLDER"),
        (["--systems", "gather", "--weights", "raft"], "--weights raft: write NAME=FILE"),
        (["--systems", "gather", "--weights", "rafft=x"], "--weights rafft: there is no such network"),
        (["--systems", "gather", "--weights", "raft=/none"], "--weights raft: /none is not a file"),
        (["--systems", "gather", "--metrics", "pnsr"], "--metrics pnsr: there is no such metric"),
        (["--systems", "gather", "--split", "val"], "has no clips of the split 'val'; it has test"),
        (["--systems", "gather", "--official-jitter"], "--official-jitter, --mattes and"),
        (["--adapters", "none.yaml"], "none.yaml"),
        (["--systems", "gather", "--workers", "1", "--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in refused(capsys, "run", "--data", data, "--out", tmp_path / "e", *words)


def test_data_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "run", "--data", tmp_path / "none", "--systems", "gather", "--out", tmp_path / "e")
    assert "none: cannot be read" in line
    assert not (tmp_path / "e").exists()


def test_an_evaluation_of_something_else_is_left_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--data", str(data), "--systems", "identity", "--out", str(tmp_path), "--no-previews"]
    assert main([*words, "--metrics", "psnr", "--workers", "0"]) == 0
    scores = (tmp_path / "scores.jsonl").read_bytes()
    line = refused(capsys, *words, "--metrics", "ssim", "--workers", "0")
    assert "was made with other metrics. Give another --out" in line
    assert (tmp_path / "scores.jsonl").read_bytes() == scores


def test_robustness_prints_levels_side_by_side(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["robustness", "--data", str(data), "--systems", "gather", "--num-clips", "1", "--workers", "0"]
    words += ["--out", str(tmp_path), "--metrics", "corrected/psnr", "--corruptions", "scale-shift,flicker"]
    assert main([*words, "--levels", "4,1"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    assert rows[0] == ["system", "corruption", "exact", "level 1", "level 4"]
    assert [row[:2] for row in rows[2:]] == [["gather", "scale-shift"], ["gather", "flicker"]]
    assert rows[2][2] == rows[3][2] != rows[2][4]
    assert (tmp_path / "corrupted/flicker-4/results.json").exists()
    assert len(read_results(tmp_path).robustness) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--levels", "0"], "--levels 0: every one must be"),
        (["--corruptions", "rain"], "--corruptions rain: there is none. There are: elastic"),
        (["--corruptions", "estimated"], "--corruptions estimated: needs --depth-model"),
        (["--predictions", "p=."], "system 'p': predictions do not follow other disparity"),
    ],
)
def test_corruptions_that_cannot_be_are_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    line = refused(capsys, "robustness", "--data", data, "--systems", "gather", "--out", tmp_path, *words)
    assert message in line


def test_ablation_needs_trained_variants(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "ablation", tmp_path, "--data", data, "--out", tmp_path / "e")
    assert "has no trained variant 'full'" in line
    weights = tmp_path / "full/geometry/checkpoints/last/pipeline"
    BokehPipeline.of(tiny()).save_pretrained(weights)
    words = ["ablation", str(tmp_path), "--data", str(data), "--num-clips", "1", "--out", str(tmp_path / "e")]
    assert main([*words, "--metrics", "corrected/psnr,corrected/fd-dis", "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "| variant | without | FD (DIS) | VFID-I | FVD | PSNR |" in out
    assert "| full | nothing |" in out and "| no-wois | the overlap of windows |" in out
    assert "| *#5* |" in out


def test_self_test_says_how_far_radii_are_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["self-test", "--systems", "scatter,layers", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["scatter", "layers"]
    assert all("radii are off by 0." in line for line in lines)


def test_a_renderer_that_does_not_blur_fails_the_self_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["self-test", "--systems", "identity,scatter", "--device", "cpu"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("scatter: ")
    assert "focuspull-eval: " in printed.err


def test_list_names_metrics_systems_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in ("official/psnr", "corrected/radius-error", "scatter", "bokehme", "any_to_bokeh_official"):
        assert name in out
    assert "missing: weights 'raft' are missing" in out


def test_an_interrupt_keeps_what_is_done(data: Path, tmp_path: Path) -> None:
    """Stopped after the first video, the same command makes the others only."""
    code = (
        "import sys, signal, os\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells have background jobs ignore it
        "from focuspull.train import evaluation, eval_cli\n"
        "say = eval_cli._say\n"
        "def stop(line):\n"
        "    say(line)\n"
        "    if line.startswith('1/4'): os.kill(os.getpid(), signal.SIGINT)\n"
        "eval_cli._say = stop\n"
        "sys.exit(eval_cli.main(sys.argv[1:]))\n"
    )
    words = ["run", "--data", str(data), "--systems", "identity", "--out", str(tmp_path), *FAST]
    stopped = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=120,
    )
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.splitlines()[-1] == "focuspull-eval: stopped; the same command goes on"
    done = [json.loads(path.read_text()) for path in tmp_path.glob("items/*/identity.json")]
    assert len(done) == 1
    assert main(words) == 0
    assert len(list(tmp_path.glob("items/*/identity.json"))) == 4
