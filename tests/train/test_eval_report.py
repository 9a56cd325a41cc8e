"""The report of an evaluation: one page that opens offline, holds all numbers, and keeps to its size."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from focuspull.train.evaluation import REPORT_NAME
from focuspull.train.report import write_report
from focuspull.train.results import Results, RobustnessPoint, read_results
from tests.train.evaluating import evaluated, make_corpus, options


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    """Results with pictures, and the folder that they are in."""
    folder = tmp_path_factory.mktemp("evaluation")
    results, _ = evaluated(options(make_corpus(folder / "c"), folder / "e"))
    return results, folder / "e"


def document(page: str) -> dict[str, Any]:
    """What the page draws everything from."""
    found = re.search(r'<script[^>]*id="document"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_page_holds_all_numbers_and_pictures(evaluation: tuple[Results, Path]) -> None:
    results, folder = evaluation
    page = (folder / REPORT_NAME).read_text()
    found = document(page)
    for field in ("title", "scores", "cells", "metrics", "items", "failures", "missing"):
        assert found[field] == json.loads(results.model_dump_json())[field], field
    assert found["left_out"] == 0
    assert set(found["media"]) == {item.name for item in results.items}
    for media in found["media"].values():
        assert set(media) == {"truth", "aif", "identity", "gather"}
        assert set(media["gather"]) == {"image", "error", "video"}
        kind, _, content = media["gather"]["video"].partition(",")
        assert kind == "data:video/mp4;base64"
        assert base64.b64decode(content)[4:8] == b"ftyp"
    assert found["published"]["rows"]["Any-to-Bokeh"]["PSNR"] == 38.899


def test_the_page_asks_for_nothing_and_runs_its_own_script_only(evaluation: tuple[Results, Path]) -> None:
    page = (evaluation[1] / REPORT_NAME).read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    rules = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(texts) == 1
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in rules
    assert rules.startswith("default-src 'none'")


def test_names_cannot_become_markup(evaluation: tuple[Results, Path], tmp_path: Path) -> None:
    results, folder = evaluation
    evil = "</script><script>alert(1)</script>"
    page = write_report(results.model_copy(update={"title": evil}), folder, tmp_path / "r.html").read_text()
    assert evil not in page
    assert document(page)["title"] == evil


def test_a_page_keeps_to_its_size_and_counts_what_is_left_out(
    evaluation: tuple[Results, Path], tmp_path: Path
) -> None:
    results, folder = evaluation
    whole = (folder / REPORT_NAME).stat().st_size
    bare = write_report(results, folder, tmp_path / "bare.html", max_bytes=0)
    assert document(bare.read_text())["left_out"] == len(results.items) * len(results.systems)
    assert document(bare.read_text())["media"] == {}
    limit = (whole + bare.stat().st_size) // 2
    some = write_report(results, folder, tmp_path / "some.html", max_bytes=limit)
    assert some.stat().st_size <= limit + bare.stat().st_size
    found = document(some.read_text())
    assert 0 < found["left_out"] < len(results.items) * len(results.systems)
    # The worst ones are those that are kept.
    psnr = dict(
        zip([i.name for i in results.items], results.scores["identity"]["corrected/psnr"], strict=True)
    )
    worst = min(psnr, key=lambda name: psnr[name] or 0)
    assert "identity" in found["media"][worst]


def test_robustness_is_in_the_page(evaluation: tuple[Results, Path], tmp_path: Path) -> None:
    results, folder = evaluation
    point = RobustnessPoint(
        system="gather", metric="corrected/psnr", corruption="elastic", level=2.0, value=30.0, num_items=4
    )
    page = write_report(results.model_copy(update={"robustness": (point,)}), folder, tmp_path / "r.html")
    assert document(page.read_text())["robustness"] == [point.model_dump()]


def test_results_are_read_as_they_were_written(evaluation: tuple[Results, Path]) -> None:
    results, folder = evaluation
    assert read_results(folder) == results
