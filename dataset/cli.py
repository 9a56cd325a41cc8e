"""The ``focuspull-dataset`` command: look at a corpus, check and audit it, describe, export and rearrange it.

Exit status: 0 done, 1 the check or the audit found problems, 2 the user's mistake (one line on standard
error), 141 the reader of standard output went away. NumPy, OpenCV and pydantic are imported inside the
verbs, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from focuspull.dataset.commands import examples, natural, positive
from focuspull.dataset.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit status (module docstring).
    """
    arguments = _parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"focuspull-dataset: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Python flushes again at exit; give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="focuspull-dataset",
        description="Look at a corpus of refocusing clips, check and audit it, export and rearrange it.",
        epilog=examples("focuspull-dataset", "preview corpora/tiny", "check corpora/tiny"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(
        name: str,
        run: Callable[[argparse.Namespace], int],
        text: str,
        *commands: str,
        several: bool = False,
    ) -> argparse.ArgumentParser:
        verb = verbs.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=examples("focuspull-dataset", *commands),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if several:
            verb.add_argument("corpora", metavar="DIR", type=Path, nargs="+", help="folders of corpora")
        else:
            verb.add_argument("corpus", metavar="DIR", type=Path, help="folder of the corpus")
        verb.set_defaults(run=run)
        return verb

    preview = add(
        "preview",
        _preview,
        "draw preview.png, a contact sheet, and preview.mp4, clips side by side, or with --html a viewer",
        "preview corpora/tiny",
        "preview corpora/tiny --html --max-clips 24",
    )
    preview.add_argument(
        "--html", action="store_true", help="write preview.html instead: one page that opens offline"
    )
    preview.add_argument("--out", metavar="DIR", type=Path, help="where to write them (default: the corpus)")
    preview.add_argument(
        "--max-clips", metavar="N", type=positive, default=8, help="clips shown (default: 8)"
    )
    add(
        "check",
        _check,
        "verify every byte and value of a corpus, one line per problem; exits with 1 if there is any",
        "check corpora/tiny",
        "check corpora/test200 --manifest test200",
    ).add_argument("--manifest", metavar="NAME", help="compare with a shipped manifest, or with a JSON file")
    audit = add(
        "audit",
        _audit,
        "measure in the pixels whether a corpus obeys its own physics; exits with 1 if it does not",
        "audit corpora/tiny",
        "audit /data/focuspull-v1 --clips 200 --seed 3 --json audit.json",
    )
    audit.add_argument(
        "--clips", metavar="N", type=positive, default=32, help="clips measured, drawn by seed (default: 32)"
    )
    audit.add_argument("--seed", metavar="S", type=natural, default=0, help="of the draw (default: 0)")
    audit.add_argument("--json", metavar="FILE", type=Path, help="write all measurements there too")
    card = add(
        "card",
        _card,
        "write README.md, the dataset card, and croissant.json into a corpus, from its index",
        "card corpora/tiny --name tiny-bokeh --license cc-by-4.0",
    )
    card.add_argument("--name", metavar="NAME", help="of the dataset (default: that of the folder)")
    card.add_argument(
        "--license", metavar="ID", default="other", help="SPDX or Hugging Face name (default: other)"
    )
    export = add(
        "export",
        _export,
        "write a corpus in the layout of other programs",
        "export corpora/tiny --format a2b --out exports/a2b",
        "export corpora/tiny --format frames --split test --out exports/frames",
    )
    export.add_argument(
        "--format",
        choices=("a2b", "frames"),
        required=True,
        help="a2b: folders and CSV of the official Any-to-Bokeh code; frames: PNG and EXR files",
    )
    export.add_argument("--out", metavar="DIR", type=Path, required=True, help="new folder")
    export.add_argument("--split", metavar="NAME", help="only this one")
    merge = add(
        "merge",
        _merge,
        "make one new corpus of several",
        "merge corpora/a corpora/b --out corpora/all",
        several=True,
    )
    merge.add_argument("--out", metavar="DIR", type=Path, required=True, help="new folder")
    split = add(
        "split",
        _split,
        "make a new corpus with other splits; clips that share a scene or a file stay together",
        "split corpora/all --out corpora/resplit --fractions train=0.9,val=0.05,test=0.05 --seed 0",
    )
    split.add_argument("--out", metavar="DIR", type=Path, required=True, help="new folder")
    split.add_argument("--fractions", metavar="NAME=F,...", required=True, help="of the clips, sum 1")
    split.add_argument("--seed", metavar="S", type=natural, default=0, help="of the draw (default: 0)")
    add("stats", _stats, "summarise K, focus, depth, noise, sizes and cost of a corpus", "stats corpora/tiny")
    head = add(
        "head",
        _head,
        "print the metadata of the first clips",
        "head corpora/tiny",
        "head corpora/tiny -n 1 --scene",
    )
    head.add_argument("-n", metavar="N", type=positive, default=1, help="clips (default: 1)")
    head.add_argument("--scene", action="store_true", help="with the whole scene")
    listing = add(
        "ls",
        _ls,
        "list the clips of a corpus",
        "ls corpora/tiny",
        "ls corpora/tiny --where 'motion_px<4'",
    )
    listing.add_argument(
        "--where", metavar="CONDITION", default="", help="only clips that fulfil it, on columns of the index"
    )
    add(
        "index",
        _index,
        "rebuild index.parquet from the shards; render times are lost",
        "index corpora/tiny",
        "index /data/focuspull-v1",
    )
    return parser


def _preview(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.preview import write_contact_sheet, write_side_by_side

    folder = arguments.out or arguments.corpus
    if arguments.html:
        from focuspull.dataset.viewer import write_viewer

        write_viewer(arguments.corpus, folder / "preview.html", max_clips=arguments.max_clips)
        print(folder / "preview.html")
        return 0
    for name, write in (("preview.png", write_contact_sheet), ("preview.mp4", write_side_by_side)):
        write(arguments.corpus, folder / name, max_clips=arguments.max_clips)
        print(folder / name)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.check import check_corpus

    problems = check_corpus(arguments.corpus)
    if arguments.manifest is not None:
        from focuspull.dataset.manifest import check_manifest, contents_note, read_manifest

        manifest = read_manifest(arguments.manifest)
        problems += check_manifest(arguments.corpus, manifest)
        if note := contents_note(arguments.corpus, manifest):
            print(note, file=sys.stderr)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{arguments.corpus}: no problems")
    return 1 if problems else 0


def _audit(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.audit import audit_corpus

    audit = audit_corpus(arguments.corpus, max_clips=arguments.clips, seed=arguments.seed)
    print(audit.table())
    if arguments.json:
        audit.write_json(arguments.json)
    return 1 if audit.problems else 0


def _card(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.card import write_card

    for path in write_card(arguments.corpus, name=arguments.name, license_id=arguments.license):
        print(path)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.export import export_a2b, export_frames

    export = export_a2b if arguments.format == "a2b" else export_frames
    count = export(arguments.corpus, arguments.out, split=arguments.split)
    print(f"{arguments.out}: {count} clips")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.rearrange import merge_corpora

    print(f"{arguments.out}: {merge_corpora(arguments.corpora, arguments.out)} clips")
    return 0


def _split(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.rearrange import parse_fractions, split_corpus

    counts = split_corpus(
        arguments.corpus, arguments.out, fractions=parse_fractions(arguments.fractions), seed=arguments.seed
    )
    print(f"{arguments.out}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    return 0


def _stats(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.stats import corpus_stats

    print(corpus_stats(arguments.corpus))
    return 0


def _head(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.stats import head

    print(head(arguments.corpus, num_clips=arguments.n, with_scene=arguments.scene))
    return 0


def _ls(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.index import read_index
    from focuspull.dataset.where import parse_where

    fulfils = parse_where(arguments.where) if arguments.where else None
    rows = [row for row in read_index(arguments.corpus) if fulfils is None or fulfils(row)]
    heading = [
        "key",
        "split",
        "shard",
        "size",
        "frames",
        "targets",
        "K at 1024",
        "d_f",
        "MB",
        "seconds",
        "backend",
    ]
    table = [heading, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(heading))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    def span(lows: list[float], highs: list[float], digits: int) -> str:
        return f"{min(lows):.{digits}f}..{max(highs):.{digits}f}"

    return [
        row["key"],
        row["split"],
        row["shard"],
        f"{row['width']}x{row['height']}",
        str(row["num_frames"]),
        str(row["num_targets"]),
        span(row["k_at_1024_min"], row["k_at_1024_max"], 1),
        span(row["focus_disparity_min"], row["focus_disparity_max"], 2),
        f"{row['bytes'] / 1e6:.1f}",
        "-" if row["render_seconds"] is None else f"{row['render_seconds']:.1f}",
        f"{row['backend']} {row['backend_version']} {row['variant']}",
    ]


def _index(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.index import INDEX_NAME, read_index, rebuild_index

    rebuild_index(arguments.corpus)
    print(f"{arguments.corpus / INDEX_NAME}: {len(read_index(arguments.corpus))} clips")
    return 0
