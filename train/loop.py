"""The one loop that all stages run in.

    with join_world(None) as world:
        train_stage(StageJob(...), world)

An optimiser step sees ``batch_size`` samples, ``micro_batch_size`` at a time and process, and each sample has
the same weight in the gradient whatever the number of processes: which samples those are depends on the seed
and the step alone. Random numbers that a network draws are seeded anew for every step. So a run that was
killed and goes on from its last checkpoint computes what it would have computed anyway; on a CPU to the bit.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch
from focuspull.model.pipeline import BokehPipeline
from focuspull.model.presets import Parts, build
from focuspull.train.checkpoint import Checkpoint, list_checkpoints, load_state, save_checkpoint
from focuspull.train.data import TrainingData
from focuspull.train.distributed import Strategy, World, gathered, share, whole, without_sync
from focuspull.train.latents import LatentCache
from focuspull.train.recipe import Optimization, Recipe
from focuspull.train.stages import (
    STAGES,
    Learner,
    Stage,
    StageName,
    choose_parameters,
    predict,
    reconstruct,
    set_scaling_factor,
    stage_losses,
    total_loss,
    vae_images,
)
from focuspull.train.track import Throughput, Tracker
from focuspull.train.validate import Validation, grid, validate

_log = logging.getLogger(__name__)

SCALING_BATCHES = 8
"""From which the latents' scaling factor is set after the stage ``autoencoder``."""
SMOOTHING = 0.98
"""Of the running mean of the loss that tells whether a run diverges."""
SETTLED = 50
"""Steps before which it tells nothing."""


@dataclass(frozen=True)
class StageJob:
    """One stage of a run, and how it is run here.

    Args:
        recipe: The whole recipe.
        stage: One of its stages.
        folder: For checkpoints, logs and pictures of this stage.
        parts: The networks as the stage before has left them, on the CPU, in float32.
        data: Opens what the stage sees, from its beginning.
        validations: What it is measured on, by name; none if there is nothing.
        strategy: How processes share the work.
        cache: Folder for latents of frozen networks; None: they are computed anew.
        compile: Whether the network that learns is compiled.
        make_tracker: Opens the log, which goes on after the step it is given.
        peak_tflops: Of the device, where it is not known.
        version: Of focuspull, for the checkpoints.
    """

    recipe: Recipe
    stage: Stage
    folder: Path
    parts: Parts
    data: Callable[[], TrainingData]
    validations: Mapping[str, Validation]
    strategy: Strategy
    cache: Path | None
    compile: bool
    make_tracker: Callable[[int], Tracker | None]
    peak_tflops: float | None
    version: str

    @property
    def checkpoints(self) -> Path:
        """Their folder."""
        return self.folder / "checkpoints"


def train_stage(job: StageJob, world: World) -> Path:
    """Train a stage to its end, from its last checkpoint if there is one.

    All processes of a run call it together.

    Returns:
        The last checkpoint.

    Raises:
        UserError: If the loss is not finite or the run diverges, with the last good checkpoint; if data or
            checkpoints cannot be read or written.
    """
    return _Training(job, world).run()


def num_passes(recipe: Recipe, world_size: int) -> int:
    """Micro-batches of a process in an optimiser step.

    Raises:
        UserError: If the batch does not divide.
    """
    per_pass = recipe.micro_batch_size * world_size
    if recipe.batch_size % per_pass:
        raise UserError(
            f"batch_size: {recipe.batch_size} is no multiple of micro_batch_size "
            f"{recipe.micro_batch_size} times {world_size} processes. Change one of the three."
        )
    return recipe.batch_size // per_pass


class _Training:
    """What lives as long as a stage."""

    def __init__(self, job: StageJob, world: World) -> None:
        self.job, self.world = job, world
        recipe, stage, parts = job.recipe, job.stage, job.parts
        self.num_passes = num_passes(recipe, world.size)
        network = cast(ModelMixin, getattr(parts, stage.network))
        self.before = list_checkpoints(job.checkpoints)
        for part in (parts.unet, parts.vae, parts.image_encoder):
            part.to(world.device)  # pyright: ignore[reportArgumentType]
        self.chosen = choose_parameters(parts, stage)
        if recipe.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        if job.compile:
            network.compile()
        # The VAE is frozen where it only makes latents; skips, which stage 3 needs, are too large to keep.
        folder = job.cache if stage.network == "unet" else None
        self.learner = Learner(parts, stage, None if folder is None else LatentCache(folder, parts.vae))
        self.flops = self._count_flops()
        bfloat16 = recipe.precision == "bfloat16"
        self.module = share(self.learner, parts, world, job.strategy, bfloat16=bfloat16)
        # Wrapping may have put others in their place.
        self.chosen = {name: p for name, p in network.named_parameters() if name in self.chosen}
        self.optimizer = make_optimizer(self.chosen, stage, recipe.optimization)
        averaged = recipe.optimization.ema_decay > 0
        self.ema = {name: p.detach().clone() for name, p in self.chosen.items()} if averaged else {}
        self.data = job.data()
        self.step = 0
        self.mean_loss, self.least_loss = 0.0, math.inf
        if self.before:
            self._resume(self.before[max(self.before)])

    def run(self) -> Path:
        job, stage, recipe = self.job, self.job.stage, self.job.recipe
        last = self.before[max(self.before)] if self.before else None
        if last is not None and self.step >= stage.num_steps:
            return last
        self.tracker = job.make_tracker(self.step) if self.world.is_first else None
        try:
            return self._run(stage, recipe)
        finally:
            if self.tracker is not None:
                self.tracker.close()

    def _run(self, stage: Stage, recipe: Recipe) -> Path:
        batches = iter(self.data)
        throughput: Throughput | None = None
        sums: dict[str, Tensor] = {}
        num_summed = 0
        path: Path | None = None
        if self.step == 0:
            self._validate()
        while self.step < stage.num_steps:
            losses, waited_s = self._one_step(batches)
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            self.step += 1
            num_summed += 1
            if throughput is None:
                # From here on: the first step has compiled kernels and filled caches.
                throughput = Throughput(
                    samples_per_step=recipe.batch_size,
                    num_frames=stage.num_frames,
                    flops_per_step=self.flops,
                    peak_tflops=self.job.peak_tflops,
                    device=self.world.device,
                )
            else:
                throughput.step(waited_s)
            is_last = self.step == stage.num_steps
            if self.step % recipe.log_every == 0 or is_last:
                means = {name: float(value) / num_summed for name, value in sums.items()}
                self._write_log(means, throughput)
                sums, num_summed = {}, 0
            saved = self.step % recipe.save_every == 0 or is_last
            if self.step % recipe.validate_every == 0 or is_last:
                self._validate()
                throughput.restart()
            if saved:
                path = self._save(is_last=is_last)
                throughput.restart()
        assert path is not None
        return path

    def _one_step(self, batches: Iterator[Batch]) -> tuple[dict[str, Tensor], float]:
        """One optimiser step; the losses of all samples, and the seconds it waited for data."""
        recipe, stage = self.job.recipe, self.job.stage
        torch.manual_seed(step_seed(recipe.seed, stage.name, self.step, self.world.rank))
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        waited_s = 0.0
        for number in range(self.num_passes):
            started = time.perf_counter()
            batch = next(batches).to(self.world.device, non_blocking=True)
            waited_s += time.perf_counter() - started
            with without_sync(self.module, last=number == self.num_passes - 1), self._autocast():
                losses = self.module(batch)
                total = total_loss(stage, losses) / self.num_passes
                total.backward()
            for name, value in {**losses, "total": total * self.num_passes}.items():
                part = value.detach() / self.num_passes
                sums[name] = sums[name] + part if name in sums else part
        names = list(sums)
        together = self.world.mean(torch.stack([sums[name] for name in names]))
        sums = dict(zip(names, together, strict=True))
        parameters = self.chosen.values()
        norm = nn.utils.clip_grad_norm_(parameters, recipe.optimization.max_grad_norm)
        sums["grad_norm"] = whole(norm)
        self._stop_if_ill(sums)
        rate = stage.learning_rate * rate_factor(recipe.optimization, self.step, stage.num_steps)
        set_rate(self.optimizer, rate)
        self.optimizer.step()
        if self.ema:
            decay = min(recipe.optimization.ema_decay, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                for name, parameter in self.chosen.items():
                    self.ema[name].lerp_(parameter, 1 - decay)
        return sums, waited_s

    def _stop_if_ill(self, sums: dict[str, Tensor]) -> None:
        """End the run before a step that would spoil the weights; the same in all processes."""
        total, norm = float(sums["total"]), float(sums["grad_norm"])
        where = f"{self.job.stage.name}, step {self.step + 1}"
        if not (math.isfinite(total) and math.isfinite(norm)):
            what = f"loss is {total}" if not math.isfinite(total) else f"norm of the gradients is {norm}"
            raise UserError(
                f"{where}: the {what}. {self._last_good()}. Lower the learning rate or lengthen the warm-up."
            )
        self.mean_loss = total if self.step == 0 else SMOOTHING * self.mean_loss + (1 - SMOOTHING) * total
        if self.step >= SETTLED:
            self.least_loss = min(self.least_loss, self.mean_loss)
            limit = self.job.recipe.stop_above * self.least_loss
            if self.mean_loss > limit:
                raise UserError(
                    f"{where}: diverges, the running mean of the loss is {self.mean_loss:.4g} and was "
                    f"{self.least_loss:.4g}. {self._last_good()}. Lower the learning rate."
                )

    def _last_good(self) -> str:
        saved = list(list_checkpoints(self.job.checkpoints).values())
        return f"The last good checkpoint is {saved[-1]}" if saved else "There is no checkpoint yet"

    def _autocast(self) -> Any:
        enabled = self.job.recipe.precision == "bfloat16"
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=enabled)

    def _count_flops(self) -> float | None:
        """Of one step in this process; None if nothing is known to compare them with."""
        if self.world.device.type != "cuda" and not self.job.peak_tflops:
            return None
        per_pass = count_flops(self.job.recipe, self.job.stage, next(iter(self.job.data())))
        return float(per_pass * self.num_passes)

    def _write_log(self, means: dict[str, float], throughput: Throughput) -> None:
        values: dict[str, Any] = {f"train/{name}": value for name, value in means.items()}
        values["train/learning_rate"] = float(self.optimizer.param_groups[0]["lr"])
        values["data/position"] = self.data.position
        values["data/skipped"] = self.data.num_skipped
        values.update(throughput.values())
        if self.tracker is not None:
            self.tracker.log(self.step, values)

    def _validate(self) -> None:
        """Measure the averaged weights; every process does, since they may share the weights."""
        job = self.job
        if not job.validations:
            return
        with self._averaged():

            def run(batch: Batch) -> Tensor:
                with self._autocast():
                    return self._predict(batch.to(self.world.device)).cpu()

            values: dict[str, float] = {}
            for name, validation in job.validations.items():
                report = validate(run, validation)
                values.update({f"{name}/{key}": value for key, value in report.flat().items()})
            first = next(iter(job.validations.items()))
            picture = job.folder / "grids" / f"{self.step:06d}.png"
            if self.world.is_first or self.job.strategy == "fsdp":
                grid(run, first[1], picture)
        if self.tracker is not None:
            self.tracker.log(self.step, values)
            self.tracker.image(self.step, f"{first[0]}/grid", picture)

    def _predict(self, batch: Batch) -> Tensor:
        if self.job.stage.name == "autoencoder":
            return reconstruct(self.job.parts, batch)
        return predict(self.job.parts, batch)

    @contextmanager
    def _averaged(self) -> Generator[None]:
        """With the averaged weights in place of the others, which come back bit for bit."""
        network = self.learner.network
        network.eval()
        kept = {name: p.detach().clone() for name, p in self.chosen.items()} if self.ema else {}
        with torch.no_grad():
            for name, value in self.ema.items():
                self.chosen[name].copy_(value)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    self.chosen[name].copy_(value)
            network.train()

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "model": {name: p.detach() for name, p in self.chosen.items()},
            # Its settings are the recipe's.
            "optimizer": {name: self.optimizer.state[p] for name, p in self.chosen.items()},
            "data": self.data.state_dict(),
            "mean_loss": self.mean_loss,
            "least_loss": self.least_loss,
        }
        return {**state, "ema": self.ema} if self.ema else state

    def _resume(self, path: Path) -> None:
        # An optimiser makes its averages in its first step; this one goes nowhere. Then all is filled in.
        for parameter in self.chosen.values():
            parameter.grad = torch.zeros_like(parameter)
        set_rate(self.optimizer, 0.0)
        self.optimizer.step()
        state = self._state()
        load_state(path, state)
        self.data.load_state_dict(state["data"])
        self.mean_loss, self.least_loss = state["mean_loss"], state["least_loss"]
        self.step = max(self.before)

    def _save(self, *, is_last: bool) -> Path:
        job = self.job
        if is_last and job.stage.name == "autoencoder":
            with self._averaged():
                self._set_scaling_factor()
        weights = gathered(dict(self.learner.network.named_parameters()) | self.ema)

        def write(folder: Path) -> None:
            mine = cast(Any, self.learner.network)
            # diffusers drops what it has noted as left at its default, even if it was set since.
            config = {key: value for key, value in mine.config.items() if key != "_use_default_values"}
            with torch.device("meta"):
                copy = type(mine).from_config(config)
            copy.load_state_dict(weights, assign=True)
            whole = replace(job.parts, **{job.stage.network: copy})
            BokehPipeline.of(whole).save_pretrained(folder)

        checkpoint = Checkpoint(stage=job.stage.name, step=self.step, version=job.version)
        return save_checkpoint(job.checkpoints, checkpoint, self._state(), write, keep=job.recipe.keep)

    def _set_scaling_factor(self) -> None:
        batches = iter(self.job.data())
        parts = self.job.parts
        images = (
            vae_images(parts, next(batches).to(self.world.device)).flatten(0, 1)[:, None]
            for _ in range(SCALING_BATCHES)
        )
        set_scaling_factor(parts.vae, images)


def count_flops(recipe: Recipe, stage: Stage, batch: Batch) -> int:
    """Floating-point operations of a pass forward and back, without what checkpointing repeats.

    Counted on networks without memory, so that it costs none.

    Args:
        recipe: Says which networks.
        stage: What learns.
        batch: For its shape; on any device.
    """
    with torch.device("meta"):
        parts = build(recipe.preset, **recipe.unet)
    for network in (parts.unet, parts.vae, parts.image_encoder):
        # diffusers makes some of its parameters on the CPU whatever it is told.
        network.to("meta")  # pyright: ignore[reportArgumentType]
    choose_parameters(parts, stage)
    with FlopCounterMode(display=False) as counter:
        total_loss(stage, stage_losses(parts, stage, batch.to("meta"))).backward()
    return counter.get_total_flops()


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], stage: Stage, optimization: Optimization
) -> torch.optim.Optimizer:
    """The optimiser of a stage.

    Args:
        parameters: What learns.
        stage: Whose learning rate it has.
        optimization: Its other settings.

    Raises:
        UserError: If it needs a package that is not installed.
    """
    options: dict[str, Any] = {
        "lr": stage.learning_rate,
        "betas": optimization.betas,
        "eps": optimization.eps,
        "weight_decay": optimization.weight_decay,
    }
    if optimization.optimizer == "adamw":
        return torch.optim.AdamW(parameters.values(), **options)
    try:
        from torchao.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "optimization.optimizer: 'adamw8bit' needs torchao. Install it: pip install torchao"
        ) from error
    return cast(torch.optim.Optimizer, AdamW8bit(parameters.values(), **options))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give an optimiser another learning rate; some keep it in a tensor, which has to stay the same one."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def rate_factor(optimization: Optimization, step: int, num_steps: int) -> float:
    """What the learning rate of a step is multiplied by.

    Args:
        optimization: Warm-up and schedule.
        step: From 0.
        num_steps: Of the stage.

    Returns:
        In (0, 1].
    """
    if step < optimization.warmup_steps:
        return (step + 1) / (optimization.warmup_steps + 1)
    if optimization.schedule == "constant":
        return 1.0
    span = max(num_steps - optimization.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * (step - optimization.warmup_steps) / span))


def step_seed(seed: int, stage: StageName, step: int, rank: int) -> int:
    """Seed of what networks draw in one step of one process."""
    entropy = (seed, list(STAGES).index(stage), step, rank)
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1
