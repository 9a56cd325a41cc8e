"""``focuspull-eval``: measure refocusing systems on a test set, in the metrics of the paper and in ours.

Exit status: 0, 1 if a system did not make every video, 2 for a mistake in what was asked for, 130 when
stopped.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from focuspull.dataset.commands import above_zero, examples, natural, not_negative, positive
from focuspull.dataset.errors import UserError

if TYPE_CHECKING:
    from focuspull.train.evaluation import EvalOptions
    from focuspull.train.results import Failure, Results
    from focuspull.train.systems import Kind, SystemSpec

PROGRAM = "focuspull-eval"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit status (module docstring).
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format=f"{PROGRAM}: %(message)s")
    try:
        return arguments.run(arguments)
    except UserError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: stopped; the same command goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Measure refocusing systems on a test set.",
        epilog=examples(
            PROGRAM,
            "run --data corpora/test200 --systems all --network ours=weights --out evals/test200",
            "run --data corpora/test200 --predictions theirs=made/elsewhere --out evals/theirs",
            "robustness --data corpora/test200-mini --systems scatter,layers --out evals/robust",
            "self-test --systems scatter,layers",
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, help=text, description=text, allow_abbrev=False)

    run = add("run", "evaluate systems: scores, tables and report; the same command goes on")
    run.set_defaults(run=_run)
    _add_systems(run)
    _add_data(run)

    robustness = add("robustness", "evaluate systems with exact and with corrupted disparity")
    robustness.set_defaults(run=_robustness)
    _add_systems(robustness)
    _add_data(robustness)
    robustness.add_argument(
        "--corruptions",
        metavar="NAME[,NAME]",
        help="such as elastic,gaussian,estimated; default: all, estimated if there is --depth-model",
    )
    robustness.add_argument(
        "--levels", metavar="X[,X]", default="1,2,4", help="degrees of corruption; default: %(default)s"
    )

    ablation = add("ablation", "the paper's ablation table, of variants that focuspull-train ablate trained")
    ablation.set_defaults(run=_ablation)
    ablation.add_argument("folder", type=Path, metavar="RUN", help="--out of focuspull-train ablate")
    _add_data(ablation)

    test = add("self-test", "whether a point of light comes out with radius K |d - d_f|, and the K that fits")
    test.set_defaults(run=_self_test)
    _add_systems(test)
    test.add_argument("--device", help="such as cpu or cuda; default: a GPU if there is one")

    listing = add("list", "metrics, what they need, renderers and published systems")
    listing.set_defaults(run=_list)
    _add_weights(listing)
    return parser


def _add_systems(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--systems", metavar="NAME[,NAME]", help="renderers without weights; all for all of them"
    )
    verb.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="our network with the weights in a folder; several times",
    )
    verb.add_argument(
        "--predictions",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="videos made elsewhere: FOLDER/CLIP/bokeh0/000.png, bokeh0.mp4 or bokeh0.npy; several times",
    )
    verb.add_argument(
        "--adapters", type=Path, metavar="FILE", help="YAML file with checkouts of published systems"
    )
    verb.add_argument(
        "--raw-k",
        action="store_true",
        help="adapters with their own K only, without rows with the K that fits",
    )


def _add_weights(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="of a metric's network, see the verb list; several times",
    )


def _add_data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--data", required=True, metavar="SOURCE", help="corpus, or cards200[:SPEC.yaml]")
    verb.add_argument("--split", default="test", metavar="NAME", help="of the corpus; default: %(default)s")
    verb.add_argument("--num-clips", type=positive, metavar="N", help="the first N only")
    verb.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="of the evaluation")
    verb.add_argument(
        "--metrics", metavar="NAME[,NAME]", help="default: all that are usual, see the verb list"
    )
    _add_weights(verb)
    verb.add_argument(
        "--workers", type=natural, metavar="N", help="videos at a time; 0: without Ray; default: CPU cores"
    )
    verb.add_argument(
        "--address", default="local", metavar="A", help="of a Ray cluster: auto, host:port; default: local"
    )
    verb.add_argument(
        "--gpus", type=not_negative, default=0.0, metavar="N", help="of each worker, such as 0.5"
    )
    verb.add_argument("--device", help="such as cpu or cuda; default: a GPU if there is one")
    verb.add_argument("--no-previews", action="store_true", help="keep no pictures and videos for the report")
    verb.add_argument(
        "--depth-model", metavar="NAME", help="depth network of transformers, a folder or a name on the hub"
    )
    cards = verb.add_argument_group("cards200")
    cards.add_argument(
        "--official-jitter",
        action="store_true",
        help="depth and place jump from frame to frame, as published",
    )
    cards.add_argument(
        "--mattes", type=Path, metavar="FOLDER", help="cut-outs: RGBA PNG files, or folders of them"
    )
    cards.add_argument("--backgrounds", type=Path, metavar="FOLDER", help="pictures")


def _run(arguments: argparse.Namespace) -> int:
    from focuspull.train.evaluation import run_evaluation

    _quiet()
    results = run_evaluation(_options(arguments), _say)
    return _finish(arguments, results)


def _finish(arguments: argparse.Namespace, results: Results) -> int:
    from focuspull.train.evaluation import REPORT_NAME, TABLE_NAME
    from focuspull.train.tables import markdown_table

    print(markdown_table(results, "corrected"))
    print(f"\n{arguments.out / TABLE_NAME}\n{arguments.out / REPORT_NAME}")
    return _failures(results.failures)


def _failures(failures: Sequence[Failure]) -> int:
    """Name the systems that failed; the exit status."""
    for system in dict.fromkeys(failure.system for failure in failures):
        failed = [failure for failure in failures if failure.system == system]
        print(
            f"{PROGRAM}: {system}: {len(failed)} videos are missing, the first is {failed[0].item}: "
            f"{failed[0].reason}",
            file=sys.stderr,
        )
    return 1 if failures else 0


def _robustness(arguments: argparse.Namespace) -> int:
    from focuspull.train.evaluation import REPORT_NAME
    from focuspull.train.robustness import ESTIMATED, STEP, robustness_table, run_robustness

    _quiet()
    names = list(STEP) + ([ESTIMATED] if arguments.depth_model else [])
    if arguments.corruptions:
        names = arguments.corruptions.split(",")
    levels = sorted(_levels(arguments.levels))
    results, more = run_robustness(_options(arguments), names, levels, _say)
    for metric in dict.fromkeys(point.metric for point in results.robustness):
        print(f"{robustness_table(results, metric)}\n")
    print(arguments.out / REPORT_NAME)
    return _failures([*results.failures, *more])


def _levels(text: str) -> list[float]:
    try:
        return [above_zero(part) for part in text.split(",")]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--levels {text}: every one {error}. Write numbers such as 1,2,4.") from None


def _ablation(arguments: argparse.Namespace) -> int:
    from focuspull.train.ablation import ablation_table, variant_systems
    from focuspull.train.evaluation import run_evaluation

    _quiet()
    results = run_evaluation(_options(arguments, variant_systems(arguments.folder)), _say)
    print(ablation_table(results))
    return _failures(results.failures)


def _self_test(arguments: argparse.Namespace) -> int:
    import torch

    from focuspull.train.systems import open_system, probe_renderer, self_test_line

    _quiet()
    device = torch.device(arguments.device or _default_device())
    failed = False
    for system in _systems(arguments, fitted=False):
        try:
            renderer = open_system(system, device).renderer
            if renderer is None:
                raise UserError(f"{system.name}: predictions cannot be asked for a point of light.")
            print(f"{system.name}: {self_test_line(probe_renderer(renderer))}")
        except UserError as error:
            print(f"{PROGRAM}: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


def _list(arguments: argparse.Namespace) -> int:
    from focuspull.model.adapters.systems import SYSTEMS
    from focuspull.model.renderer import RENDERERS, renderer_names
    from focuspull.train.metrics.registry import KERNEL, VIDEO_METRICS, choose, metric_infos

    choice = choose(list(VIDEO_METRICS), _files(arguments.weights), num_frames=25, with_depth=True)
    everything = choose(None, _files(arguments.weights), num_frames=25, with_depth=True)
    missing = {gone.metric: gone.reason for gone in (*choice.missing, *everything.missing)}
    print("Metrics:")
    for name, info in metric_infos().items():
        print(f"  {name:30} {info.summary}")
        if (reason := missing.get(name.removesuffix(KERNEL))) is not None:
            print(f"  {'':30} missing: {reason}")
    print("\nRenderers (--systems):")
    for name in renderer_names():
        print(f"  {name:30} {RENDERERS[name].summary}")
    print("\nPublished systems (--adapters):")
    for name, system in SYSTEMS.items():
        print(f"  {name:30} {system.title}, {system.paper}")
    return 0


# --- What was asked for -------------------------------------------------------------------------------


def _options(arguments: argparse.Namespace, systems: Sequence[SystemSpec] | None = None) -> EvalOptions:
    from focuspull.train.benchmark import TestSet
    from focuspull.train.evaluation import EvalOptions

    cards = {
        "official_jitter": True if arguments.official_jitter else None,
        "cutouts": arguments.mattes and str(arguments.mattes.resolve()),
        "backgrounds": arguments.backgrounds and str(arguments.backgrounds.resolve()),
    }
    given = tuple((name, value) for name, value in cards.items() if value is not None)
    device = arguments.device or _default_device()
    if systems is None:
        systems = _systems(arguments, fitted=not arguments.raw_k)
    return EvalOptions(
        test_set=TestSet(
            address=arguments.data, split=arguments.split, max_clips=arguments.num_clips, cards=given
        ),
        systems=tuple(systems),
        out=arguments.out,
        metrics=tuple(arguments.metrics.split(",")) if arguments.metrics else None,
        weights=_files(arguments.weights),
        workers=(os.cpu_count() or 1) if arguments.workers is None else arguments.workers,
        address=arguments.address,
        gpus=arguments.gpus,
        device=device,
        previews=not arguments.no_previews,
        depth_model=arguments.depth_model,
    )


def _systems(arguments: argparse.Namespace, *, fitted: bool) -> list[SystemSpec]:
    from focuspull.train.systems import SystemSpec, adapter_systems, parse_systems, unique

    systems = parse_systems(arguments.systems) if arguments.systems else []
    folders: tuple[tuple[Kind, list[str]], ...] = (
        ("network", arguments.network),
        ("predictions", arguments.predictions),
    )
    for kind, given in folders:
        for text in given:
            name, equals, folder = text.partition("=")
            if not equals or not name or not folder:
                raise UserError(f"--{kind} {text}: write NAME=FOLDER.")
            systems.append(SystemSpec(name=name, kind=kind, path=Path(folder)))
    if arguments.adapters is not None:
        systems += adapter_systems(arguments.adapters, fitted=fitted, say=_say)
    return unique(systems)


def _files(given: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise UserError(f"--weights {text}: write NAME=FILE.")
        found[name] = Path(path)
    return found


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _say(line: str) -> None:
    print(f"{PROGRAM}: {line}", file=sys.stderr, flush=True)


def _quiet() -> None:
    """Keep the libraries' progress bars off standard error."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
