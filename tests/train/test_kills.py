"""Runs that are killed, not asked: the weights in the end are those of a run that nobody touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.train.test_run import assert_same, corpus, make_recipe, weights

__all__ = ["corpus"]

NUM_KILLS = 20


def command(recipe: Path, corpus: Path, out: Path) -> list[str]:
    words = [sys.executable, "-m", "focuspull.train", "all", str(recipe), "--data", str(corpus)]
    return [*words, "--device", "cpu", "--no-tensorboard", "--out", str(out)]


def steps_done(out: Path) -> int:
    return sum(path.read_bytes().count(b'"train/total"') for path in out.glob("*/log.jsonl"))


@pytest.mark.slow
def test_twenty_kills_leave_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    stages = [
        {"name": name, "num_steps": 24, "num_frames": 2, "learning_rate": 1e-3}
        for name in ("autoencoder", "geometry", "temporal", "detail")
    ]
    recipe = make_recipe(stages=stages, save_every=2, validate_every=6)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = command(path, corpus, tmp_path / "undisturbed")
    assert subprocess.run(words, env=environment, check=False, capture_output=True).returncode == 0

    out = tmp_path / "killed"
    rng = np.random.default_rng(0)
    kills = 0
    while kills < NUM_KILLS:
        before = steps_done(out)
        with subprocess.Popen(
            command(path, corpus, out), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as run:
            target, started = before + int(rng.integers(4)), time.monotonic()
            while run.poll() is None and (steps_done(out) < target or time.monotonic() - started < 2):
                time.sleep(0.01)
            # Anywhere between two lines of the log: in a step or a validation, or while saving.
            time.sleep(rng.uniform(0, 0.4))
            if run.poll() is not None:
                break
            run.send_signal(signal.SIGKILL)
            kills += 1
    assert kills == NUM_KILLS, "it was done before it could be killed often enough"
    assert subprocess.run(command(path, corpus, out), env=environment, check=False).returncode == 0
    for stage in ("autoencoder", "geometry", "temporal", "detail"):
        last = Path(stage) / "checkpoints/last/pipeline"
        assert_same(weights(out / last), weights(tmp_path / "undisturbed" / last))


@pytest.mark.slow
def test_torchrun_starts_again_when_a_process_is_lost(corpus: Path, tmp_path: Path) -> None:
    stages = [{"name": "geometry", "num_steps": 12, "num_frames": 2, "learning_rate": 1e-3}]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(make_recipe(stages=stages, save_every=2).model_dump(mode="json")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]

    def start(out: Path) -> subprocess.Popen[bytes]:
        words = [*launcher, "--max-restarts", "2", *command(path, corpus, out)[1:]]
        return subprocess.Popen(words, env=environment, stderr=(tmp_path / "log.txt").open("ab"))

    with start(tmp_path / "undisturbed") as run:
        assert run.wait(200) == 0
    out = tmp_path / "killed"
    with start(out) as run:
        while steps_done(out) < 5 and run.poll() is None:
            time.sleep(0.02)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        lost = [pid for pid in children if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes()]
        assert len(lost) == 1
        os.kill(int(lost[0]), signal.SIGKILL)
        assert run.wait(200) == 0, (tmp_path / "log.txt").read_text()
    last = "geometry/checkpoints/last/pipeline"
    assert_same(weights(out / last), weights(tmp_path / "undisturbed" / last))
