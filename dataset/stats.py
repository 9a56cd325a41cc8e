"""What is in a corpus: a table from its index, the metadata of its first clips, and what cards count.

The table needs nothing but the index, so that it takes as long for a large corpus as for a small one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from focuspull.dataset.clip import decode_meta
from focuspull.dataset.copying import committed_clips, proven_members
from focuspull.dataset.errors import UserError
from focuspull.dataset.index import DIFFICULTY_COLUMNS, read_index

Row = Mapping[str, Any]

K_EDGES = (0.0, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0)
"""Bins of K at 1024 px in which videos are counted."""
FOCUS_EDGES = tuple(step / 10 for step in range(11))
"""Bins of the disparity in focus."""
_LINE = 110


def corpus_stats(corpus: Path) -> str:
    """A table with a column for all clips and one for each split and backend.

    Raises:
        UserError: If there is no index, or it has no clip.
    """
    rows = indexed_rows(corpus)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        backend = f"{row['backend']} {row['backend_version']} {row['variant']}"
        groups.setdefault((row["split"], backend), []).append(row)
    columns = [
        ("all", "", rows),
        *((split, backend, groups[split, backend]) for split, backend in sorted(groups)),
    ]
    if len(groups) == 1:
        columns = columns[1:]
    facts = [*_FACTS, *_difficulty_facts(rows)]
    lines = [["", *(split for split, _, _ in columns)], ["backend", *(backend for _, backend, _ in columns)]]
    for name, cell in facts:
        lines.append([name, *(cell(group) for _, _, group in columns)])
    return aligned(lines)


def head(corpus: Path, *, num_clips: int, with_scene: bool) -> str:
    """The metadata of the first clips, by split and key, as JSON for eyes: numbers have six digits.

    Args:
        corpus: Folder of the corpus.
        num_clips: How many at most.
        with_scene: Whether the resolved scene and the camera's path are printed too.

    Raises:
        UserError: If there is no clip, or one is damaged.
    """
    texts = []
    for marker, clip in committed_clips(corpus)[:num_clips]:
        (content,) = proven_members(corpus, marker, clip, ["json"]).values()
        try:
            document = _rounded(decode_meta(content).model_dump(mode="json"))
        except ValueError as error:
            raise UserError(f"{corpus / marker.shard}, {clip.key}: {error}.") from error
        if not with_scene:
            length, matrices = len(json.dumps(document["scene"])), len(document["camera"]["camera_to_world"])
            document["scene"] = f"({length} characters, shown with --scene)"
            document["camera"]["camera_to_world"] = f"({matrices} matrices, shown with --scene)"
        texts.append(pretty_json(document))
    return "\n".join(texts)


def indexed_rows(corpus: Path) -> list[dict[str, Any]]:
    """The rows of the index, at least one.

    Raises:
        UserError: If there is no index, or it is empty.
    """
    rows = read_index(corpus)
    if not rows:
        raise UserError(f"{corpus}: its index has no clip. Rebuild it with: focuspull-dataset index {corpus}")
    return rows


def pretty_json(value: Any, indent: str = "", lead: int = 0) -> str:
    """JSON text that breaks only what does not fit into a line that has ``lead`` characters already."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + lead + len(flat) < _LINE or not isinstance(value, dict | list) or not value:
        return flat
    inner = indent + "  "
    if isinstance(value, dict):
        names = [f"{json.dumps(key)}: " for key in value]
        parts = [n + pretty_json(part, inner, len(n)) for n, part in zip(names, value.values(), strict=True)]
        is_flat = all(isinstance(part, int | float | None) for part in value.values())
        opening, closing = "{", "}"
    else:
        parts = [pretty_json(part, inner) for part in value]
        is_flat = all(isinstance(part, int | float | None) for part in value)
        opening, closing = "[", "]"
    lines = _filled(parts) if is_flat else [part + "," for part in parts[:-1]] + parts[-1:]
    return f"{opening}\n" + "\n".join(inner + line for line in lines) + f"\n{indent}{closing}"


def _rounded(value: Any) -> Any:
    """The same with numbers of six digits, for eyes."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def _filled(words: Sequence[str]) -> list[str]:
    lines = [""]
    for number, word in enumerate(words):
        part = word + ("," if number < len(words) - 1 else "")
        if lines[-1] and len(lines[-1]) + 1 + len(part) > _LINE - 10:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + part
    return lines


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of text, padded to their widest cell."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def k_videos(rows: Iterable[Row]) -> list[int]:
    """Bokeh videos with such a K at 1024 px in some frame, for each bin of `K_EDGES`."""
    return _videos(rows, "k_at_1024", K_EDGES)


def focus_videos(rows: Iterable[Row]) -> list[int]:
    """Bokeh videos with such a disparity in focus in some frame, for each bin of `FOCUS_EDGES`."""
    return _videos(rows, "focus_disparity", FOCUS_EDGES)


def _videos(rows: Iterable[Row], what: str, edges: Sequence[float]) -> list[int]:
    """How many videos reach into each bin; a value on an edge is in the upper bin, at the end in the last.

    The index has the least and the largest value of a video. What lies between is counted as passed.
    """
    counts = [0] * (len(edges) - 1)
    for row in rows:
        for low, high in zip(row[f"{what}_min"], row[f"{what}_max"], strict=True):
            for number in range(_bin(low, edges), _bin(high, edges) + 1):
                counts[number] += 1
    return counts


def _bin(value: float, edges: Sequence[float]) -> int:
    return next((n for n, edge in enumerate(edges[1:]) if value < edge), len(edges) - 2)


def size_text(num_bytes: float) -> str:
    """A size for people."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB"


def span_text(values: Sequence[float], digits: int) -> str:
    """Least and largest of some values, and the median if they differ; ``-`` if there are none."""
    if not values:
        return "-"
    low, mid, high = (f"{x:.{digits}f}" for x in (min(values), median(values), max(values)))
    return low if low == high else f"{low} to {high}, median {mid}"


def per_video(rows: Iterable[Row], *columns: str) -> list[float]:
    """The values of list columns of the index, those that are there, of all clips in one list."""
    return [x for row in rows for column in columns for x in row[column] if x is not None]


def _column(rows: Iterable[Row], name: str) -> list[float]:
    return [row[name] for row in rows if row[name] is not None]


def _distinct(rows: Iterable[Row], text: Callable[[Row], str]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[text(row)] = counts.get(text(row), 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [name if len(counts) == 1 else f"{name} ({count})" for name, count in ordered[:4]]
    return ", ".join([*shown, f"and {len(counts) - 4} more"] if len(counts) > 4 else shown)


def _far(rows: Sequence[Row]) -> str:
    finite, num_sky = _column(rows, "z_far_m"), sum(row["z_far_m"] is None for row in rows)
    return ", ".join(
        part
        for part in (span_text(finite, 2) if finite else "", f"infinite in {num_sky}" if num_sky else "")
        if part
    )


def _noise(values: Sequence[float], num_all: int) -> str:
    text = span_text(values, 1)
    return text if len(values) in (0, num_all) else f"{text}, of {len(values)} measured"


def _difficulty_facts(rows: Sequence[Row]) -> list[tuple[str, Callable[[Sequence[Row]], str]]]:
    """A line for each label that any clip has."""

    def fact(column: str) -> Callable[[Sequence[Row]], str]:
        digits = 1 if column.endswith("_px") else 3
        return lambda group: span_text(_column(group, column), digits)

    return [(name, fact(name)) for name in DIFFICULTY_COLUMNS if _column(rows, name)]


def _cpu(rows: Sequence[Row]) -> str:
    seconds = _column(rows, "render_cpu_seconds")
    if not seconds:
        return "-"
    total = f"{sum(seconds) / 3600:.2f} h" if sum(seconds) >= 3600 else f"{sum(seconds):.0f} s"
    known = "" if len(seconds) == len(rows) else f" of {len(seconds)} clips"
    return f"{total}{known}, {sum(seconds) / len(seconds):.0f} s a clip"


_FACTS: tuple[tuple[str, Callable[[Sequence[Row]], str]], ...] = (
    ("clips", lambda rows: str(len(rows))),
    ("bokeh videos", lambda rows: str(sum(row["num_targets"] for row in rows))),
    ("frames of all-in-focus video", lambda rows: str(sum(row["num_frames"] for row in rows))),
    ("frames a clip", lambda rows: _distinct(rows, lambda row: str(row["num_frames"]))),
    ("size", lambda rows: _distinct(rows, lambda row: f"{row['width']}x{row['height']}")),
    ("frames per second", lambda rows: _distinct(rows, lambda row: f"{row['fps']:g}")),
    ("K at 1024 px", lambda rows: span_text(per_video(rows, "k_at_1024_min", "k_at_1024_max"), 1)),
    ("d_f", lambda rows: span_text(per_video(rows, "focus_disparity_min", "focus_disparity_max"), 2)),
    ("nearest depth, m", lambda rows: span_text(_column(rows, "z_near_m"), 2)),
    ("farthest depth, m", _far),
    ("families", lambda rows: _distinct(rows, lambda row: row["family"] or "none")),
    ("strata", lambda rows: _distinct(rows, lambda row: row["stratum"] or "none")),
    ("method", lambda rows: _distinct(rows, lambda row: row["method"])),
    ("noise floor of AIF, dB", lambda rows: _noise(_column(rows, "noise_floor_db_aif"), len(rows))),
    (
        "noise floor of bokeh, dB",
        lambda rows: _noise(per_video(rows, "noise_floor_db"), sum(row["num_targets"] for row in rows)),
    ),
    ("render time on CPUs", _cpu),
    (
        "bytes",
        lambda rows: (
            f"{size_text(sum(_column(rows, 'bytes')))}, {size_text(median(_column(rows, 'bytes')))} a clip"
        ),
    ),
)
