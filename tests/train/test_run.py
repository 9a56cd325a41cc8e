"""Whole runs: they learn, they go on exactly where they were, and they end in one line."""

from __future__ import annotations

import itertools
import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from focuspull.dataset.errors import UserError
from focuspull.model.pipeline import BokehPipeline, load_pipeline
from focuspull.model.presets import build
from focuspull.train import loop
from focuspull.train.checkpoint import list_checkpoints
from focuspull.train.cli import main
from focuspull.train.compare import BASELINES, compare
from focuspull.train.data import parse_source
from focuspull.train.loop import rate_factor, step_seed
from focuspull.train.recipe import Optimization, Recipe
from focuspull.train.run import RunOptions, scratch, train
from tests.dataset.conftest import make_clip, publish

STAGES = ("autoencoder", "geometry", "temporal", "detail")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips to learn from and one to measure on."""
    corpus = tmp_path_factory.mktemp("corpus") / "corpus"
    clips = [make_clip(f"clip-{number:06d}", num_frames=4) for number in range(4)]
    publish(corpus, "train-000000", clips[:2])
    publish(corpus, "train-000001", clips[2:])
    publish(corpus, "val-000000", [make_clip("clip-000004", split="val", num_frames=4)])
    (corpus / "corpus.json").write_text(json.dumps({"spec_sha256": "0" * 64}))
    return corpus


def make_recipe(num_steps: int = 4, **changes: Any) -> Recipe:
    document: dict[str, Any] = {
        "description": "a test",
        "start": "scratch",
        "preset": "tiny",
        "transform": {"flip": 0.5},
        "stages": [
            {"name": name, "num_steps": num_steps, "num_frames": 2, "learning_rate": 1e-3} for name in STAGES
        ],
        "batch_size": 2,
        "micro_batch_size": 1,
        "optimization": {"warmup_steps": 1, "schedule": "cosine", "ema_decay": 0.9},
        "save_every": 2,
        "validate_every": 100,
        "validation_samples": 2,
        "log_every": 1,
    }
    return Recipe.model_validate(document | changes)


def options(corpus: Path, out: Path, **changes: Any) -> RunOptions:
    given: dict[str, Any] = {"data": (parse_source(str(corpus)),), "device": "cpu", "num_workers": 0}
    given |= {"out": out, "tensorboard": False, **changes}
    return RunOptions(**given)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    pipeline = load_pipeline(folder)
    networks = {"unet": pipeline.unet, "vae": pipeline.vae}
    return {f"{n}.{k}": v for n, network in networks.items() for k, v in network.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages that nothing has disturbed."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("run") / "run"
    train(make_recipe(), options(corpus, out))
    return out


def test_a_run_leaves_networks_checkpoints_logs_and_pictures(undisturbed: Path) -> None:
    for name in STAGES:
        folder = undisturbed / name
        assert list(list_checkpoints(folder / "checkpoints")) == [2, 4]
        log = lines(folder / "log.jsonl")
        assert [line["step"] for line in log if "train/total" in line] == [1, 2, 3, 4]
        assert [line["step"] for line in log if "val/psnr" in line] == [0, 4]
        assert [path.name for path in sorted((folder / "grids").iterdir())] == ["000000.png", "000004.png"]
    factors = {
        name: load_pipeline(undisturbed / name / "checkpoints/last/pipeline").vae.config["scaling_factor"]
        for name in STAGES
    }
    assert len(set(factors.values())) == 1 and factors["detail"] != 0.18215
    perturbed = [line for line in lines(undisturbed / "temporal/log.jsonl") if "val perturbed/psnr" in line]
    assert len(perturbed) == 2
    assert yaml.safe_load((undisturbed / "recipe.yaml").read_text()) == make_recipe().model_dump(mode="json")
    before, after = (weights(undisturbed / name / "checkpoints/last/pipeline") for name in STAGES[1:3])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("temporal" in name or "time" in name for name in changed)


class Killed(BaseException):
    """What ends a run in a test."""


@pytest.mark.parametrize("steps", [(1,), (2,), (3, 3), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("stage", ["geometry", "detail"])
def test_a_run_that_is_ended_goes_on_to_the_same_bits(
    stage: str,
    steps: tuple[int, ...],
    undisturbed: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    shutil.copytree(undisturbed, out, symlinks=True)
    for name in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(out / name)
    one_step = loop._Training._one_step
    for step in steps:

        def ends(self: Any, batches: Any, at: int = step) -> Any:
            result = one_step(self, batches)
            if self.step == at:
                raise Killed
            return result

        monkeypatch.setattr(loop._Training, "_one_step", ends)
        with pytest.raises(Killed):
            train(make_recipe(), options(corpus, out), (stage,))  # type: ignore[arg-type]
    monkeypatch.setattr(loop._Training, "_one_step", one_step)
    train(make_recipe(), options(corpus, out), (stage,))  # type: ignore[arg-type]
    last = Path(stage) / "checkpoints/last/pipeline"
    assert_same(weights(out / last), weights(undisturbed / last))
    training = [line for line in lines(out / stage / "log.jsonl") if "train/total" in line]
    expected = [line for line in lines(undisturbed / stage / "log.jsonl") if "train/total" in line]
    assert [(x["step"], x["train/total"]) for x in training] == [
        (x["step"], x["train/total"]) for x in expected
    ]


def test_what_is_done_is_not_done_again(
    undisturbed: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr(loop._Training, "_one_step", refuse)
    assert (
        train(make_recipe(), options(corpus, undisturbed)) == undisturbed / "detail/checkpoints/last/pipeline"
    )


def test_accumulated_passes_do_what_one_pass_does(corpus: Path, tmp_path: Path) -> None:
    found = []
    for size in (1, 2):
        recipe = make_recipe(2, stages=[{"name": "geometry", "num_steps": 2, "num_frames": 2}])
        recipe = recipe.model_copy(update={"micro_batch_size": size})
        train(recipe, options(corpus, tmp_path / str(size)))
        found.append([x["train/total"] for x in lines(tmp_path / str(size) / "geometry/log.jsonl")[1:3]])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_latents_on_disk_change_nothing_when_a_run_is_repeated(corpus: Path, tmp_path: Path) -> None:
    recipe = make_recipe(2, stages=[{"name": "geometry", "num_steps": 2, "num_frames": 2}])
    found = []
    for name in "ab":
        out = tmp_path / name
        train(recipe, options(corpus, out, latents=tmp_path / "latents"))
        found.append(weights(out / "geometry/checkpoints/last/pipeline"))
    assert any((tmp_path / "latents").rglob("*.npy"))
    assert_same(*found)


def test_bfloat16_and_checkpointing_train(corpus: Path, tmp_path: Path) -> None:
    # Three frames: of two, the CPU kernel for convolutions over time has gradients of no meaning in bfloat16.
    stages = [{"name": name, "num_steps": 2, "num_frames": 3} for name in STAGES]
    recipe = make_recipe(stages=stages, precision="bfloat16", gradient_checkpointing=True)
    folder = train(recipe, options(corpus, tmp_path / "run"))
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights(folder).values())


def test_two_processes_train_what_one_does(corpus: Path, tmp_path: Path) -> None:
    """Under torchrun, with weights dealt out; and what they leave is continued by one."""
    stage = {"name": "geometry", "num_steps": 4, "num_frames": 2, "learning_rate": 1e-3}
    recipe = make_recipe(stages=[stage])
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    words += ["-m", "focuspull.train", "all", str(path), "--data", str(corpus), "--device", "cpu"]
    words += ["--no-tensorboard", "--strategy", "fsdp", "--out", str(tmp_path / "two")]
    run = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stderr
    train(recipe, options(corpus, tmp_path / "one"))
    one, two = (
        {
            x["step"]: x["train/total"]
            for x in lines(tmp_path / n / "geometry/log.jsonl")
            if "train/total" in x
        }
        for n in ("one", "two")
    )
    assert two == pytest.approx(one, rel=1e-4)
    shutil.rmtree(tmp_path / "two/geometry/checkpoints/000004")
    train(recipe, options(corpus, tmp_path / "two"))
    three = {
        x["step"]: x["train/total"] for x in lines(tmp_path / "two/geometry/log.jsonl") if "train/total" in x
    }
    assert three == pytest.approx(one, rel=1e-4)


# --- mistakes -----------------------------------------------------------------------------------


def refused(recipe: Recipe, given: RunOptions, *stages: Any) -> str:
    with pytest.raises(UserError) as error:
        train(recipe, given, stages or None)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_stage_out_of_order_is_refused(corpus: Path, tmp_path: Path) -> None:
    message = refused(make_recipe(), options(corpus, tmp_path / "run"), "temporal")
    assert "stage 'temporal': starts from the end of 'geometry', of which" in message
    assert "has 0 of 4 steps. Train that first, or all." in message


def test_a_stage_that_the_recipe_lacks_is_refused(corpus: Path, tmp_path: Path) -> None:
    recipe = make_recipe(stages=["geometry", "detail"])
    message = refused(recipe, options(corpus, tmp_path / "run"), "temporal")
    assert message == "stage 'temporal': the recipe has none of that name. It has: geometry, detail."


def test_weights_of_another_network_are_refused(corpus: Path, tmp_path: Path) -> None:
    BokehPipeline.of(build("tiny", num_levels=6, masks="none")).save_pretrained(tmp_path / "weights")
    recipe = make_recipe(start="weights", stages=["geometry"])
    given = options(corpus, tmp_path / "run", init=tmp_path / "weights")
    assert "its unet is not that of the recipe (preset 'tiny'): conv_in_mpi.bias is missing" in refused(
        recipe, given
    )


@pytest.mark.parametrize(("start", "init"), [("weights", None), ("scratch", "weights")])
def test_where_to_start_is_said_once(start: str, init: str | None, corpus: Path, tmp_path: Path) -> None:
    recipe = make_recipe(start=start)
    assert refused(recipe, options(corpus, tmp_path / "run", init=init)).startswith(
        "--init: the recipe starts"
    )


def test_a_run_is_continued_with_its_own_recipe(undisturbed: Path, corpus: Path) -> None:
    message = refused(make_recipe(batch_size=4), options(corpus, undisturbed))
    assert "this run has another recipe, its batch_size is 2, got 4" in message


def test_processes_that_do_not_divide_the_batch_are_refused(corpus: Path, tmp_path: Path) -> None:
    recipe = make_recipe(batch_size=3)
    world = loop.World(0, 2, torch.device("cpu"))
    job: Any = type("Job", (), {"recipe": recipe, "stage": recipe.stages[0], "parts": None})()
    with pytest.raises(
        UserError, match="batch_size: 3 is no multiple of micro_batch_size 1 times 2 processes"
    ):
        loop._Training(job, world)


def test_a_loss_that_is_no_number_ends_the_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total_loss = loop.total_loss

    def spoiled(stage: Any, losses: Any) -> torch.Tensor:
        spoiled.calls += 1  # type: ignore[attr-defined]
        return total_loss(stage, losses) * (float("nan") if spoiled.calls == 7 else 1)  # type: ignore[attr-defined]

    spoiled.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(loop, "total_loss", spoiled)
    message = refused(make_recipe(stages=["geometry"]), options(corpus, tmp_path / "run"))
    assert message.startswith("geometry, step 4: the loss is nan. The last good checkpoint is ")
    assert "geometry/checkpoints/000002" in message
    assert list(list_checkpoints(tmp_path / "run/geometry/checkpoints")) == [2]


def test_a_run_that_diverges_ends(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total_loss, calls = loop.total_loss, itertools.count()
    monkeypatch.setattr(loop, "total_loss", lambda *given: total_loss(*given) * 1.5 ** next(calls))
    monkeypatch.setattr(loop, "SETTLED", 2)
    monkeypatch.setattr(loop, "SMOOTHING", 0.1)
    stage = {"name": "geometry", "num_steps": 40, "num_frames": 1, "learning_rate": 1e-6}
    recipe = make_recipe(stages=[stage], stop_above=30.0)
    message = refused(recipe, options(corpus, tmp_path / "run"))
    assert ": diverges, the running mean of the loss is" in message and "Lower the learning rate." in message
    assert "The last good checkpoint is" in message


def test_the_command_ends_in_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["geometry", "tiny", "--data", str(corpus), "--out", str(tmp_path / "run")]
    assert main([*words, "--batch_sise", "3"]) == 2
    assert capsys.readouterr().err == (
        "focuspull-train: tiny.yaml: unknown field 'batch_sise'. Did you mean 'batch_size'?\n"
    )
    assert main(["temporal", *words[1:]]) == 2
    assert "starts from the end of 'geometry'" in capsys.readouterr().err


def test_a_full_disk_ends_the_command_in_one_line_and_it_goes_on(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    stages = [{"name": "geometry", "num_steps": 3, "num_frames": 1}]
    document = make_recipe(stages=stages, save_every=1).model_dump(mode="json")
    recipe.write_text(yaml.safe_dump(document))
    words = ["all", str(recipe), "--data", str(corpus), "--device", "cpu", "--no-tensorboard", "--out"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        assert main([*words, str(tmp_path / "full")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "checkpoints/000001: cannot be written" in message
    assert not list_checkpoints(tmp_path / "full/geometry/checkpoints")
    for out in ("full", "roomy"):
        assert main([*words, str(tmp_path / out)]) == 0
    last = "geometry/checkpoints/last/pipeline"
    assert_same(weights(tmp_path / "full" / last), weights(tmp_path / "roomy" / last))


# --- parts --------------------------------------------------------------------------------------


def test_from_scratch_videos_are_decoded_frame_by_frame() -> None:
    vae = scratch(make_recipe()).vae
    latents = torch.randn(1, 3, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = vae.decode_video(latents, None)
        alone = torch.cat([vae.decode_video(latents[:, [t]], None) for t in range(3)], 1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert together.std() > 0.05


def test_the_learning_rate_warms_up_and_falls() -> None:
    cosine = Optimization(warmup_steps=4, schedule="cosine")
    rates = [rate_factor(cosine, step, 12) for step in range(12)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[8] == pytest.approx(0.5) and 0 < rates[11] < 0.05
    assert rate_factor(Optimization(), 0, 12) == rate_factor(Optimization(), 11, 12) == 1


def test_every_step_stage_process_and_seed_draws_its_own_numbers() -> None:
    seeds = {
        step_seed(seed, stage, step, rank)
        for seed in range(2)
        for stage in STAGES
        for step in range(5)
        for rank in range(2)
    }
    assert len(seeds) == 80


def test_stages_are_compared_with_renderers_without_weights(undisturbed: Path, corpus: Path) -> None:
    tables = compare(make_recipe(), options(corpus, undisturbed))
    names = [line.split("|")[1].strip() for line in tables.splitlines() if line.startswith("| ")]
    assert names[2:] and [name for name in names if name in BASELINES] == 2 * list(BASELINES)
    assert [name for name in names if name in STAGES] == 2 * list(STAGES[1:])
    assert tables.startswith("True disparity, 2 samples:") and "Perturbed disparity, 2 samples:" in tables


def test_a_run_without_a_trained_stage_cannot_be_compared(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no trained stage. Train first: focuspull-train all"):
        compare(make_recipe(), options(corpus, tmp_path))
