"""No spec to train with may share seeds, files or scenes with the test sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from focuspull.render import cli
from focuspull.render.corpus import load_corpus, shipped_specs
from focuspull.render.held_out import held_out_problems, shipped_test_sets
from tests.render.test_corpus import document, write


def test_the_test_sets_are_found() -> None:
    assert set(shipped_test_sets()) == {"test200", "test200-mini"}


@pytest.mark.parametrize("name", list(shipped_specs()))
def test_no_shipped_spec_shares_anything_with_a_test_set(name: str) -> None:
    assert held_out_problems(load_corpus(name), shipped_test_sets()) == []


def test_the_seed_of_a_test_set_is_found_and_so_are_its_scenes(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["held-out", "train-tiny", "--seed", "200"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train-tiny: seed 200 is that of the test set test200. Take another."
    assert "scenes with the test set test200, the first is that of clip 0, there 0" in lines[1]
    assert cli.main(["held-out", "train-tiny"]) == 0


def test_a_file_of_a_test_set_is_found(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"the same bytes")
    card = {"name": "card", "shape": {"type": "card", "image": "picture.png", "height_m": 1}}
    world = document()["scenes"][0]["world"]
    scenes = [{"family": "world", "world": world | {"objects": [*world["objects"], card]}}]
    test = load_corpus(write(tmp_path, document(scenes=scenes, splits={"test": 1}, name="held")))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "picture.png").write_bytes(b"the same bytes")
    train = load_corpus(write(tmp_path / "other", document(scenes=scenes, seed=4)))
    problems = held_out_problems(train, {"held": test})
    assert problems[0] == "mine: file picture.png is in the test set held. Leave it out."
