"""The list of clips given up: what is in the file, and files that are not ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from focuspull.dataset.errors import UserError
from focuspull.render.failures import Quarantined, backoff_s, read_quarantine, write_quarantine


def clip(key: str) -> Quarantined:
    """A clip that a renderer crashed on."""
    return Quarantined(
        key=key, scene_sha256="0" * 64, failure="crash", reason="killed by SIGSEGV", attempts=3, log=None
    )


def test_the_list_is_one_line_per_clip_sorted_and_read_back(tmp_path: Path):
    clips = {key: clip(key) for key in ("clip-000003", "clip-000001")}
    write_quarantine(tmp_path, clips.values())
    lines = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert [line[:23] for line in lines] == ['{"key": "clip-000001", ', '{"key": "clip-000003", ']
    assert '"class": "crash"' in lines[0]
    assert read_quarantine(tmp_path) == clips


def test_an_empty_list_is_no_file(tmp_path: Path):
    write_quarantine(tmp_path, [clip("clip-000001")])
    write_quarantine(tmp_path, [])
    assert list(tmp_path.iterdir()) == []
    assert read_quarantine(tmp_path) == {} == read_quarantine(tmp_path / "missing")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x", "Invalid JSON"),
        ("{}", "key: Field required"),
        ('{"key": "a", "scene_sha256": null, "class": "lazy"}', "class: Input should be 'scene'"),
    ],
)
def test_a_line_that_is_not_ours_is_named(tmp_path: Path, line: str, message: str):
    write_quarantine(tmp_path, [clip("clip-000001")])
    with (tmp_path / "quarantine.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError) as caught:
        read_quarantine(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/quarantine.jsonl, line 2: ") and message in text
    assert text.endswith("Remove the line to render its clip again.") and "\n" not in text


def test_only_machine_faults_wait():
    assert [backoff_s("machine", count) for count in (1, 2, 7, 100)] == [1, 2, 60, 60]
    assert backoff_s("crash", 1) == 0
