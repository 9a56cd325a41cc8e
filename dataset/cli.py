"""The ``focuspull-dataset`` command: look at a corpus, check it, list it.

Exit status: 0 done, 1 the check found problems, 2 the user's mistake (one line on standard error), 141 the
reader of standard output went away. NumPy, OpenCV and pydantic are imported inside the verbs, so that
``--help`` is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from focuspull.dataset.commands import examples, positive
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
        description="Look at a corpus of refocusing clips, check it, list it.",
        epilog=examples("focuspull-dataset", "preview corpora/tiny", "check corpora/tiny"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str, *commands: str
    ) -> argparse.ArgumentParser:
        verb = verbs.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=examples("focuspull-dataset", *commands),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_argument("corpus", metavar="DIR", type=Path, help="folder of the corpus")
        verb.set_defaults(run=run)
        return verb

    preview = add(
        "preview",
        _preview,
        "draw preview.png, a contact sheet, and preview.mp4, clips side by side",
        "preview corpora/tiny",
        "preview corpora/tiny --out /tmp/look --max-clips 4",
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
        "check /data/focuspull-v1 > problems.txt",
    )
    add("ls", _ls, "list the clips of a corpus", "ls corpora/tiny", "ls corpora/tiny | sort -k 9 -n")
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
    for name, write in (("preview.png", write_contact_sheet), ("preview.mp4", write_side_by_side)):
        write(arguments.corpus, folder / name, max_clips=arguments.max_clips)
        print(folder / name)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.check import check_corpus

    problems = check_corpus(arguments.corpus)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{arguments.corpus}: no problems")
    return 1 if problems else 0


def _ls(arguments: argparse.Namespace) -> int:
    from focuspull.dataset.index import read_index

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
    table = [heading, *(_cells(row) for row in read_index(arguments.corpus))]
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
