"""The ``focuspull-train`` command: recipes and corpora to networks.

Exit status: 0 done, 2 the user's mistake or a run that cannot go on (one line on standard error), 130 stopped
by Ctrl-C. A run that has ended, however, goes on when the same command is given again. torch is imported
inside the verbs, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from focuspull.dataset.commands import above_zero, examples, natural, overrides, positive
from focuspull.dataset.errors import UserError

if TYPE_CHECKING:
    from focuspull.train.run import RunOptions

VERBS = {
    "all": "train the stages of a recipe, one after the other",
    "autoencoder": "the VAE, for networks that do not start from Stable Video Diffusion",
    "geometry": "stage 1: where blur belongs",
    "temporal": "stage 2: steadiness, with disparity that is not exact",
    "detail": "stage 3: the decoder and what it gets of the sharp frames",
}


MEASUREMENTS = {
    "compare": "measure the stages of a run beside renderers without weights",
    "obey": "measure whether the blur that a run has learned follows K and the focus",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit status (module docstring).
    """
    parser = _parser()
    arguments, extra = parser.parse_known_args(argv)
    arguments.overrides = overrides(extra, parser, takes_fields="recipe" in arguments)
    logging.basicConfig(level=logging.WARNING, format="focuspull-train: %(message)s")
    try:
        return arguments.run(arguments)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"focuspull-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("focuspull-train: stopped; the same command goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="focuspull-train",
        description="Train the network on corpora, in the three stages of Any-to-Bokeh.",
        epilog=examples(
            "focuspull-train",
            "all tiny --data corpora/train-tiny --out runs/tiny",
            "geometry paper --init weights/svd --data corpora/a=3 --data s3://lab/b=1 --out runs/paper",
            "all small --data corpora/a --out runs/small --batch_size 8 --stages.1.num_steps 20000",
        )
        + "\n\nOptions that are not listed here are fields of the recipe. Under torchrun, several processes\n"
        "train together: torchrun --nproc-per-node 8 -m focuspull.train all ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, text in VERBS.items():
        verb = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        verb.set_defaults(run=_train, stage=None if name == "all" else name)
        _add_data(verb)
        _add_run_options(verb)
    for name, text in MEASUREMENTS.items():
        verb = verbs.add_parser(name, help=text, description=text, allow_abbrev=False)
        verb.set_defaults(run=_measure, measurement=name)
        _add_data(verb)
        verb.add_argument("--num-samples", type=positive, metavar="N", help="at most so many; default: all")
    text = "train a recipe with and without some of its ideas, and print what each is worth"
    verb = verbs.add_parser("ablate", help=text, description=text, allow_abbrev=False)
    verb.set_defaults(run=_ablate)
    verb.add_argument(
        "--variants", metavar="NAME[,NAME]", help="such as no-mpi,multi-step,no-wois,cards; default: all"
    )
    _add_data(verb)
    _add_run_options(verb)
    return parser


def _add_data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("recipe", metavar="RECIPE", help="shipped name (tiny, small, paper) or YAML file")
    verb.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="SOURCE[=WEIGHT]",
        help="corpus (folder, s3://, gs://, https://), or cards[:SPEC.yaml]; may be given several times",
    )
    verb.add_argument(
        "--validation",
        action="append",
        metavar="SOURCE",
        help="corpus to measure on, its split val; default: those of --data",
    )
    verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the run")
    verb.add_argument("--device", help="such as cpu or cuda; default: a GPU if there is one")


def _add_run_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--init", type=Path, metavar="FOLDER", help="weights to start from")
    verb.add_argument(
        "--follow", action="store_true", help="take shards that are committed meanwhile into the next epoch"
    )
    verb.add_argument(
        "--strategy", choices=("ddp", "fsdp"), default="ddp", help="how several processes share the work"
    )
    verb.add_argument(
        "--num-workers",
        type=natural,
        default=2,
        metavar="N",
        help="threads that decode; default: %(default)s",
    )
    verb.add_argument(
        "--latents",
        type=Path,
        metavar="FOLDER",
        help="keep latents of frozen networks there (stages 1 and 2)",
    )
    verb.add_argument("--compile", action="store_true", help="compile the network that learns")
    verb.add_argument("--no-tensorboard", action="store_true", help="write log.jsonl only")
    verb.add_argument("--wandb", metavar="PROJECT", help="log to Weights & Biases too")
    verb.add_argument(
        "--peak-tflops", type=above_zero, metavar="X", help="of the device, for MFU where it is not known"
    )
    verb.add_argument(
        "--skip-damaged", action="store_true", help="replace damaged clips by others instead of ending"
    )
    verb.add_argument(
        "--ray", type=positive, metavar="N", help="train on N workers of a Ray cluster (Ray Train)"
    )
    verb.add_argument(
        "--ray-address",
        default="auto",
        metavar="ADDRESS",
        help="of the cluster, or local; default: %(default)s",
    )
    verb.add_argument(
        "--max-failures", type=natural, default=3, metavar="N", help="lost workers to survive, with --ray"
    )


def _no_bars() -> None:
    """Keep the libraries' progress bars, one per saved file, off standard error."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()


def _measure(arguments: argparse.Namespace) -> int:
    from focuspull.train.compare import compare, obey
    from focuspull.train.data import parse_source
    from focuspull.train.recipe import load_recipe
    from focuspull.train.run import RunOptions

    _no_bars()
    options = RunOptions(
        out=arguments.out,
        data=tuple(parse_source(text) for text in arguments.data),
        validation=arguments.validation and tuple(parse_source(text) for text in arguments.validation),
        device=arguments.device,
    )
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    measure = {"compare": compare, "obey": obey}[arguments.measurement]
    print(measure(recipe, options, num_samples=arguments.num_samples))
    return 0


def _run_options(arguments: argparse.Namespace) -> RunOptions:
    from focuspull.train.data import parse_source
    from focuspull.train.run import RunOptions

    return RunOptions(
        out=arguments.out,
        data=tuple(parse_source(text) for text in arguments.data),
        validation=arguments.validation and tuple(parse_source(text) for text in arguments.validation),
        init=arguments.init,
        follow=arguments.follow,
        device=arguments.device,
        strategy=arguments.strategy,
        num_workers=arguments.num_workers,
        latents=arguments.latents,
        compile=arguments.compile,
        tensorboard=not arguments.no_tensorboard,
        wandb=arguments.wandb,
        peak_tflops=arguments.peak_tflops,
        skip_damaged=arguments.skip_damaged,
    )


def _ablate(arguments: argparse.Namespace) -> int:
    from focuspull.train.ablate import VARIANTS, ablate
    from focuspull.train.recipe import load_recipe

    _no_bars()
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    names = arguments.variants.split(",") if arguments.variants else list(VARIANTS)
    print(ablate(recipe, _run_options(arguments), names))
    return 0


def _train(arguments: argparse.Namespace) -> int:
    from focuspull.train.recipe import load_recipe
    from focuspull.train.run import train

    _no_bars()
    recipe = load_recipe(arguments.recipe, arguments.overrides)
    options = _run_options(arguments)
    stages = None if arguments.stage is None else (arguments.stage,)
    if arguments.ray is not None:
        from focuspull.train.cluster import train_on_ray

        path = train_on_ray(
            recipe, options, stages, arguments.ray, arguments.ray_address, arguments.max_failures
        )
    else:
        path = train(recipe, options, stages)
    if os.environ.get("RANK", "0") == "0":
        print(path)
    return 0
