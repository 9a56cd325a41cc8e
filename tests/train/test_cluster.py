"""Training on Ray: the same losses, also when a worker is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from focuspull.train.run import train
from tests.train.test_run import assert_same, corpus, lines, make_recipe, options, weights

__all__ = ["corpus"]

torch.set_num_threads(1)

STAGE = {"name": "geometry", "num_steps": 6, "num_frames": 2, "learning_rate": 1e-3}
LAST = Path("geometry/checkpoints/last/pipeline")


def command(recipe: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "focuspull.train", "all", str(recipe), "--data", str(corpus)]
    words += ["--device", "cpu", "--no-tensorboard", "--ray-address", "local", "--out", str(out)]
    return [*words, *more]


def workers(out: Path) -> list[int]:
    """Processes that Ray Train has started for a run, which write its log."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(
                os.readlink(link) == str(out / "geometry/log.jsonl") for link in (process / "fd").iterdir()
            ):
                found.append(int(process.name))
        except OSError:
            continue  # it has ended since
    return found


def test_a_lost_worker_is_replaced_and_the_weights_are_the_same(corpus: Path, tmp_path: Path) -> None:
    recipe = make_recipe(stages=[STAGE])
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    out = tmp_path / "ray"
    with subprocess.Popen(
        command(path, corpus, out, "--ray", "1"), env=environment, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            deadline = time.monotonic() + 300
            checkpoint = out / "geometry/checkpoints/000002"
            while not (found := workers(out)) or not checkpoint.exists():
                assert run.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(found[0], signal.SIGKILL)
            _, error = run.communicate(timeout=120)
        finally:
            run.kill()
    assert run.returncode == 0, error
    train(recipe, options(corpus, tmp_path / "alone"))
    assert_same(weights(out / LAST), weights(tmp_path / "alone" / LAST))
    steps = [line["step"] for line in lines(out / "geometry/log.jsonl") if "train/total" in line]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ray-address", "127.0.0.1:1"], "--ray-address 127.0.0.1:1: no Ray cluster answers there"),
        (["--batch_size", "3"], "batch_size: 3 is no multiple of micro_batch_size 1 times 2 processes"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(make_recipe(stages=[STAGE]).model_dump(mode="json")))
    run = subprocess.run(
        command(path, corpus, tmp_path / "ray", "--ray", "2", *words),
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert run.stderr.splitlines()[-1].startswith(f"focuspull-train: {message}")
