"""Can the network learn one clip by heart? A test of everything between pixels and weights.

What cannot be learned from one clip seen again and again is lost on the way: by the VAE, by how the blur is
asked for, by a loss that wants something else. The recipe is `small`, all four of its stages, scaled to a
CPU: preset `mini`, 96x64, float32, and fewer, larger steps. The table is of the clip itself, all its targets.

Run it from the root of the repository; on two cores it takes about an hour:

    focuspull-render run train-tiny --splits "{train: 1}" --out corpora/one
    python -m tests.benchmarks.overfit --data corpora/one --out runs/one
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from focuspull.dataset.errors import UserError
from focuspull.model.renderer import get_renderer
from focuspull.train.compare import network_predict
from focuspull.train.data import open_sources, parse_source
from focuspull.train.recipe import Recipe, load_recipe
from focuspull.train.run import RunOptions, train
from focuspull.train.validate import Validation, comparison_table, renderer_predict, validate

SCALED = {
    "preset": "mini",
    "precision": "float32",
    "batch_size": "4",
    "micro_batch_size": "4",
    "transform": "{size: [64, 96], position: center}",
    "optimization": "{warmup_steps: 50, schedule: cosine, ema_decay: 0.99}",
    "save_every": "200",
    "validate_every": "100000",
    "stages.0.num_frames": "1",
    "stages.0.crop": "[32, 48]",
    "stages.0.learning_rate": "1.0e-3",
    "stages.1.learning_rate": "1.0e-3",
    "stages.2.learning_rate": "3.0e-4",
    "stages.3.learning_rate": "5.0e-4",
}
STEPS = (1000, 900, 60, 400)
"""Of the four stages."""


def recipe(scale: float) -> Recipe:
    """`small` for a CPU, with so many times the steps."""
    steps = {
        f"stages.{number}.num_steps": str(max(1, round(scale * count))) for number, count in enumerate(STEPS)
    }
    return load_recipe("small", SCALED | steps)


def run(given: argparse.Namespace) -> None:
    """Train and print."""
    data = (parse_source(str(given.data)),)
    corpora = open_sources(data, "train")
    if (count := sum(len(corpus.rows) for corpus in corpora)) != 1:
        raise UserError(f"{given.data}: has {count} clips to train on, and this is about one.")
    chosen = recipe(given.scale)
    options = RunOptions(out=given.out, data=data, device=given.device, num_workers=1, latents=given.latents)
    folder = train(chosen, options)
    validation = Validation(
        corpora,
        num_frames=min(stage.num_frames for stage in chosen.stages if stage.name != "autoencoder"),
        transform=chosen.transform,
        num_samples=2**31,
    )
    reports = {
        "identity": validate(renderer_predict(get_renderer("identity")), validation),
        "gather": validate(renderer_predict(get_renderer("gather")), validation),
        "network": validate(network_predict(folder, given.device), validation),
    }
    print(comparison_table(reports))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.overfit", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="corpus of one clip")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--latents", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scale", type=float, default=1.0, help="times the steps")
    try:
        run(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
