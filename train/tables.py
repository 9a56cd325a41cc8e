"""Tables of an evaluation: the paper's columns in its order, then what only we measure.

Published rows stand beside ours, in italics, and never compete with them: the best of a column is the best of
what was measured here, under one protocol.
"""

from __future__ import annotations

from collections.abc import Sequence

from focuspull.train.published import COLUMNS, PUBLISHED, SOURCE
from focuspull.train.results import Cell, MetricInfo, Protocol, Results

NOTES: dict[Protocol, str] = {
    "official": "Official protocol: the choices of the paper's evaluation, quirks included. "
    f"In italics: {SOURCE}, on its own videos.",
    "corrected": "Corrected protocol: not comparable with the paper's numbers.",
}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "²": r"$^2$", "é": r"\'e",
}  # fmt: skip


def paper_metrics(results: Results, protocol: Protocol) -> list[MetricInfo]:
    """Metrics of a protocol that are counterparts of the paper's columns, in the paper's order."""
    found = [metric for metric in results.metrics if metric.protocol == protocol and metric.column in COLUMNS]
    return sorted(found, key=lambda metric: COLUMNS.index(metric.column or ""))


def own_metrics(results: Results) -> list[MetricInfo]:
    """Metrics that the paper has no counterpart of."""
    return [metric for metric in results.metrics if metric.column not in COLUMNS]


def markdown_table(results: Results, protocol: Protocol) -> str:
    """The main table of a protocol in Markdown, with what it is of, notes and what is missing."""
    metrics = paper_metrics(results, protocol)
    rows = [["", *(_heading(metric) for metric in metrics)], ["---", *("---:" for _ in metrics)]]
    rows += _system_rows(results, metrics, bold=("**", "**"))
    if protocol == "official":
        ours = {system.published for system in results.systems}
        order = [name for name in PUBLISHED if name in ours] + [
            name for name in PUBLISHED if name not in ours
        ]
        for name in order:
            rows.append([f"*{name}, published*", *(f"*{_published(name, metric)}*" for metric in metrics)])
        rows = _beside(rows, results)
    return "\n".join([f"{_what(results, protocol)}\n", _markdown(rows), *_footnotes(results, metrics)])


def latex_table(results: Results, protocol: Protocol) -> str:
    """The same as a ``tabular`` of the package booktabs."""
    metrics = paper_metrics(results, protocol)
    rows = _system_rows(results, metrics, bold=("\\textbf{", "}"), escape=True)
    if protocol == "official":
        for name in PUBLISHED:
            cells = [f"\\textit{{{_published(name, metric)}}}" for metric in metrics]
            rows.append([f"\\textit{{{_escaped(name)}, published}}", *cells])
        rows = _beside([[], [], *rows], results)[2:]
    lines = [
        f"% {_escaped(_what(results, protocol))}",
        f"\\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        "\\toprule",
        " & ".join(["", *(_escaped(_heading(metric, arrows=False)) for metric in metrics)]) + " \\\\",
        "\\midrule",
        *(" & ".join(row) + " \\\\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines)


def extra_table(results: Results) -> str:
    """What only we measure, in Markdown; a row per metric, since there are many."""
    metrics = [metric for metric in own_metrics(results) if any(_cells(results, metric))]
    rows = [["", *(system.name for system in results.systems)], ["---", *("---:" for _ in results.systems)]]
    for metric in metrics:
        cells = _cells(results, metric)
        best = _best(cells, metric)
        rows.append([_heading(metric), *(_text(cell, metric, best, ("**", "**")) for cell in cells)])
    return f"What only the exact truth can tell:\n\n{_markdown(rows)}"


def group_table(results: Results, metric_id: str, group: str) -> str:
    """One metric by ``stratum`` or ``k``, in Markdown; a column per system."""
    metric = results.metric(metric_id)
    values = list(dict.fromkeys(cell.value_of_group for cell in results.cells if cell.group == group))
    rows = [
        [group, *(system.name for system in results.systems)],
        ["---", *("---:" for _ in results.systems)],
    ]
    for value in values:
        cells = [results.cell(system.name, metric_id, group, value) for system in results.systems]
        best = _best(cells, metric)
        rows.append([value, *(_text(cell, metric, best, ("**", "**")) for cell in cells)])
    return f"{_heading(metric)}, {metric.protocol}:\n\n{_markdown(rows)}"


def _what(results: Results, protocol: Protocol) -> str:
    clips = len({item.clip for item in results.items})
    return (
        f"{results.title}: {len(results.items)} videos of {clips} clips. {NOTES[protocol]} "
        "95 % intervals by bootstrap over clips."
    )


def _footnotes(results: Results, metrics: Sequence[MetricInfo]) -> list[str]:
    shown = {metric.id: metric.label for metric in metrics}
    missing = [f"{shown[gone.metric]}: {gone.reason}" for gone in results.missing if gone.metric in shown]
    failed: dict[str, int] = {}
    for failure in results.failures:
        failed[failure.system] = failed.get(failure.system, 0) + 1
    notes = [f"Missing: {line}" for line in missing]
    notes += [
        f"{system}: made {len(results.items) - count} of {len(results.items)} videos; its means "
        "are of those, and it has no distances between sets."
        for system, count in failed.items()
    ]
    return ["", *(f"* {note}" for note in notes)] if notes else []


def _system_rows(
    results: Results, metrics: Sequence[MetricInfo], *, bold: tuple[str, str], escape: bool = False
) -> list[list[str]]:
    by_metric = {metric.id: _cells(results, metric) for metric in metrics}
    best = {metric.id: _best(by_metric[metric.id], metric) for metric in metrics}
    rows: list[list[str]] = []
    for number, system in enumerate(results.systems):
        cells = [_text(by_metric[m.id][number], m, best[m.id], bold, latex=escape) for m in metrics]
        rows.append([_escaped(system.name) if escape else system.name, *cells])
    missing = {gone.metric for gone in results.missing}
    for column, metric in enumerate(metrics, 1):
        if metric.id in missing:
            for row in rows:
                row[column] = "missing"
    return rows


def _beside(rows: list[list[str]], results: Results) -> list[list[str]]:
    """Rows below a heading and a rule, each published one moved right under the system it belongs to."""
    count = len(results.systems)
    ours, published = rows[2 : 2 + count], rows[2 + count :]
    ordered: list[list[str]] = []
    for system, row in zip(results.systems, ours, strict=True):
        ordered.append(row)
        mine = [
            other
            for other in published
            if system.published and f"{system.published}, published" in _plain(other)
        ]
        ordered += mine
        published = [other for other in published if other not in mine]
    return [*rows[:2], *ordered, *published]


def _plain(row: list[str]) -> str:
    return row[0].replace("\\textit{", "").strip("*}")


def _cells(results: Results, metric: MetricInfo) -> list[Cell | None]:
    return [results.cell(system.name, metric.id) for system in results.systems]


def _best(cells: Sequence[Cell | None], metric: MetricInfo) -> str | None:
    """The text of the best value; None if it is alone."""
    known = [cell.value for cell in cells if cell is not None]
    if len(known) < 2:
        return None
    return _number(max(known) if metric.best == "high" else min(known), metric)


def _text(
    cell: Cell | None, metric: MetricInfo, best: str | None, bold: tuple[str, str], *, latex: bool = False
) -> str:
    if cell is None:
        return "--" if latex else "-"
    text = _number(cell.value, metric)
    shown = f"{bold[0]}{text}{bold[1]}" if text == best else text
    if cell.low is None or cell.high is None:
        return shown
    low, high = _number(cell.low, metric), _number(cell.high, metric)
    return f"{shown} {{\\scriptsize [{low}, {high}]}}" if latex else f"{shown} [{low}, {high}]"


def _number(value: float, metric: MetricInfo) -> str:
    return f"{value:.{metric.digits}f}"


def _published(name: str, metric: MetricInfo) -> str:
    column = metric.column or ""
    return f"{PUBLISHED[name][column]:.{2 if column == 'PSNR' else 3}f}"


def _heading(metric: MetricInfo, *, arrows: bool = True) -> str:
    unit = f" ({metric.unit})" if metric.unit else ""
    arrow = (" ↑" if metric.best == "high" else " ↓") if arrows else ""
    return f"{metric.label}{unit}{arrow}"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
