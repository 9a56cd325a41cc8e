"""What does a training step cost? Time, share of the device's peak and memory, stage by stage.

The stages of a recipe at their real shapes, on noise and with weights drawn at random, one micro-batch per
step, its optimiser included: as the recipe has it, without gradient checkpointing, and compiled. The first
two steps of each are not counted. Floating-point operations are those of one pass forward and back without
what checkpointing repeats (model FLOPs), so that MFU is comparable between the three.

Run it from the root of the repository:

    python -m tests.benchmarks.train paper                     # full size, needs CUDA
    python -m tests.benchmarks.train tiny --device cpu --peak-tflops 0.2
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import sys
import time
from typing import Any

import torch

from focuspull.dataset.errors import UserError
from focuspull.dataset.loader import Batch
from focuspull.train.loop import count_flops, make_optimizer
from focuspull.train.recipe import Recipe, load_recipe
from focuspull.train.stages import Learner, Stage, choose_parameters, total_loss
from focuspull.train.track import known_peak
from tests.benchmarks.network import make_parts

VARIANTS: dict[str, dict[str, bool]] = {
    "as it is": {},
    "without checkpointing": {"gradient_checkpointing": False},
    "with checkpointing": {"gradient_checkpointing": True},
    "compiled": {"compile": True},
}


def noise(recipe: Recipe, stage: Stage, device: torch.device) -> Batch:
    """A micro-batch of the stage's shape."""
    height, width = stage.crop or recipe.transform.size or (576, 1024)
    size, frames = recipe.micro_batch_size, stage.num_frames
    rng = torch.Generator(device).manual_seed(0)
    aif, bokeh = (
        torch.randint(
            0, 256, (size, frames, 3, height, width), generator=rng, device=device, dtype=torch.uint8
        )
        for _ in range(2)
    )
    numbers = torch.zeros(size, dtype=torch.int64, device=device)
    return Batch(
        keys=("noise",) * size,
        corpora=numbers,
        targets=numbers,
        frames=torch.arange(frames, device=device).expand(size, -1),
        aif=aif,
        bokeh=bokeh,
        disparity=torch.rand(size, frames, 1, height, width, generator=rng, device=device),
        k=torch.full((size, frames), 16.0, device=device),
        focus_disparity=torch.full((size, frames), 0.5, device=device),
        focus_mask=None,
        instance=None,
        skipped=(),
    )


def measure(recipe: Recipe, stage: Stage, given: argparse.Namespace, change: dict[str, bool]) -> str:
    """One row."""
    device = torch.device(given.device)
    parts = make_parts(recipe.preset, device, torch.float32, recipe.seed)
    chosen = choose_parameters(parts, stage)
    network: Any = getattr(parts, stage.network)
    learner, batch = Learner(parts, stage), noise(recipe, stage, device)
    autocast: Any = {
        "device_type": device.type,
        "dtype": torch.bfloat16,
        "enabled": recipe.precision == "bfloat16",
    }

    def losses() -> torch.Tensor:
        with torch.autocast(**autocast):
            return total_loss(stage, learner(batch))

    if change.get("gradient_checkpointing", recipe.gradient_checkpointing):
        network.enable_gradient_checkpointing()
    if change.get("compile"):
        network.compile()
    optimizer = make_optimizer(chosen, stage, recipe.optimization)
    took = []
    for number in range(2 + given.steps):
        if number == 2 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        losses().backward()
        torch.nn.utils.clip_grad_norm_(chosen.values(), recipe.optimization.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            took.append(time.perf_counter() - started)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = statistics.median(took)
    limit = given.peak_tflops or known_peak(device)
    flops = count_flops(recipe, stage, batch)
    mfu = f"{flops / seconds / (limit * 1e12):.1%}" if limit else "-"
    return f"| {seconds:.3f} s | {flops / 1e12:.2f} | {mfu} | {peak:.1f} GiB |"


def run(given: argparse.Namespace) -> None:
    """Measure and print."""
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("train: there is no CUDA here; measure on the CPU with tiny --device cpu")
    recipe = load_recipe(given.recipe)
    where = torch.cuda.get_device_name() if given.device.startswith("cuda") else "CPU"
    print(
        f"{given.recipe}, micro-batch {recipe.micro_batch_size}, {recipe.precision}, {where}, "
        f"PyTorch {torch.__version__}"
    )
    print("\n| stage | | step | TFLOP | MFU | peak memory |\n| --- | --- | ---: | ---: | ---: | ---: |")
    repeated = "without checkpointing" if recipe.gradient_checkpointing else "with checkpointing"
    for stage in recipe.stages:
        if given.stages and stage.name not in given.stages:
            continue
        for name in ("as it is", repeated, "compiled"):
            if name == "compiled" and given.no_compile:
                continue
            try:
                row = measure(recipe, stage, given, VARIANTS[name])
            except torch.OutOfMemoryError:
                row = "| out of memory | | | |"
            print(f"| {stage.name} | {name} {row}", flush=True)
            gc.collect()
            if given.device.startswith("cuda"):
                torch.cuda.empty_cache()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.train", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("recipe")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=5, help="that are counted")
    parser.add_argument("--stages", nargs="+", help="only these")
    parser.add_argument("--peak-tflops", type=float, help="of the device, where it is not known")
    parser.add_argument("--no-compile", action="store_true")
    try:
        run(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
