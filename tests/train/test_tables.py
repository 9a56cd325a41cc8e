"""Tables: the paper's columns in its order, published rows beside ours, and nothing that breaks LaTeX."""

from __future__ import annotations

import re

import pytest

from focuspull.train.metrics.registry import metric_infos
from focuspull.train.published import COLUMNS, PUBLISHED, ablation_rows
from focuspull.train.results import Cell, Failure, Item, MissingMetric, Results, SystemInfo
from focuspull.train.tables import extra_table, group_table, latex_table, markdown_table, paper_metrics

OFFICIAL = (
    "fd-raft",
    "rm",
    "vfid-i3d-official",
    "fvd-videomae",
    "ssim",
    "psnr",
    "lpips-squeeze",
    "vepi",
    "time",
)


def make_results(**fields: object) -> Results:
    """Two systems in all official metrics and in two of ours; b is better in every one."""
    infos = metric_infos()
    metrics = [infos[f"official/{name}"] for name in OFFICIAL]
    metrics += [infos["corrected/psnr"], infos["corrected/radius-error"]]
    cells = []
    for metric in metrics:
        for system, worse in (("a_&%", 1.0), ("b", 0.0)):
            value = 1 + (worse if metric.best == "low" else -worse)
            cells.append(
                Cell(
                    system=system,
                    metric=metric.id,
                    group="all",
                    value=value,
                    low=value - 0.5,
                    high=value + 0.5,
                    num_items=1,
                    num_clips=1,
                )  # fmt: skip
            )
    cells.append(
        Cell(
            system="b",
            metric="corrected/psnr",
            group="stratum",
            value_of_group="thin",
            value=30.0,
            num_items=1,
            num_clips=1,
        )  # fmt: skip
    )
    item = Item(
        clip="c", target=0, split="test", k_at_1024=8.0, focus_disparity=0.5, num_frames=1, width=1, height=1
    )
    given: dict[str, object] = {
        "title": "test set",
        "facts": {},
        "metrics": metrics,
        "systems": [
            SystemInfo(name="a_&%", summary="", published="MPIB"),
            SystemInfo(name="b", summary=""),
        ],
        "items": [item],
        "scores": {},
        "cells": cells,
    }
    return Results.model_validate(given | fields)


def rows(table: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]


def test_columns_are_the_paper_s_in_its_order() -> None:
    metrics = paper_metrics(make_results(), "official")
    assert tuple(metric.column for metric in metrics) == COLUMNS
    heading = rows(markdown_table(make_results(), "official"))[0]
    assert [re.split(r"[ (]", name)[0] for name in heading[1:]] == list(COLUMNS)
    assert all(name.endswith(("↑", "↓")) for name in heading[1:])


def test_the_published_row_stands_under_its_system_and_the_others_below() -> None:
    names = [row[0] for row in rows(markdown_table(make_results(), "official"))[2:]]
    rest = [name for name in PUBLISHED if name != "MPIB"]
    assert names == ["a_&%", "*MPIB, published*", "b", *(f"*{name}, published*" for name in rest)]


def test_no_published_number_is_in_the_corrected_table() -> None:
    table = markdown_table(make_results(), "corrected")
    assert "published" not in table
    assert "not comparable with the paper's numbers" in table
    assert len(rows(table)) == 4


def test_the_best_of_what_was_measured_is_bold_and_published_numbers_do_not_compete() -> None:
    table = rows(markdown_table(make_results(), "official"))
    a, published, b = table[2:5]
    assert all(cell.startswith("**") for cell in b[1:])
    assert not any("**" in cell for cell in a + published)
    assert published[6] == "*31.39*"


def test_intervals_stand_beside_values() -> None:
    assert "[0.50, 1.50]" in rows(markdown_table(make_results(), "corrected"))[3][1]


def test_what_is_missing_says_how_to_get_it() -> None:
    missing = (MissingMetric(metric="official/fd-raft", reason="--weights raft=FILE"),)
    table = markdown_table(make_results(missing=missing), "official")
    assert rows(table)[2][1] == rows(table)[4][1] == "missing"
    assert "* Missing: FD (RAFT): --weights raft=FILE" in table
    assert "missing" in latex_table(make_results(missing=missing), "official")


def test_failures_are_counted_below() -> None:
    failures = (Failure(system="b", item="c/bokeh0", reason="broke"),)
    assert "* b: made 0 of 1 videos" in markdown_table(make_results(failures=failures), "official")


@pytest.mark.parametrize("protocol", ["official", "corrected"])
def test_latex_is_whole_and_escaped(protocol: str) -> None:
    text = latex_table(make_results(), protocol)  # type: ignore[arg-type]
    columns = re.search(r"\\begin\{tabular\}\{(l(r+))\}", text)
    assert columns is not None
    body = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert all(len(re.findall(r"(?<!\\)&", line)) == len(columns[2]) for line in body)
    assert r"a\_\&\% &" in text
    assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") == 1
    for line in text.splitlines()[1:]:  # the first one is a comment
        assert not re.search(r"(?<!\\)[%#_^~]", line), line
        assert line.count("{") == line.count("}")
        assert line.isascii(), line


def test_what_only_we_measure_is_apart() -> None:
    table = rows(extra_table(make_results()))
    assert table[0] == ["", "a_&%", "b"]
    assert [row[0] for row in table[2:]] == ["Radius error (px) ↓"]


def test_groups_have_rows_of_their_own() -> None:
    table = rows(group_table(make_results(), "corrected/psnr", "stratum"))
    assert table[2] == ["thin", "-", "30.00"]


def test_published_numbers_are_those_of_the_paper() -> None:
    """Any-to-Bokeh, Table 1: the last row, and the best of the others in every column."""
    assert list(PUBLISHED["Any-to-Bokeh"].values()) == [
        0.431,
        0.007,
        1.479,
        9.005,
        0.974,
        38.899,
        0.019,
        0.944,
        0.363,
    ]
    assert all(tuple(row) == COLUMNS for row in PUBLISHED.values())
    better = {"SSIM": max, "PSNR": max, "VEPI": max}
    for column in COLUMNS[:-1]:
        best = better.get(column, min)(row[column] for row in PUBLISHED.values())
        assert PUBLISHED["Any-to-Bokeh"][column] == best
    assert [name for name, _, _ in ablation_rows()] == ["#1", "#2", "#3", "#4", "#5"]
