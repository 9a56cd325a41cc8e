"""Checkpoints are whole or not there, and give back every bit."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from focuspull.dataset.errors import UserError
from focuspull.model.pipeline import BokehPipeline, load_pipeline
from focuspull.train.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_state,
    read_checkpoint,
    save_checkpoint,
)
from tests.model.networks import tiny


def make_state(seed: int) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "model": {"a.weight": torch.randn(3, 4, generator=rng), "gate": torch.randn(1, generator=rng)},
        "optimizer": {"a.weight": {"step": torch.tensor(float(seed)), "m": torch.randn(3, 4, generator=rng)}},
        "rng": rng.get_state(),
        "loader": {"position": seed, "identity": "x" * seed},
    }


def save(folder: Path, step: int, *, keep: int = 9, state: dict[str, Any] | None = None) -> Path:
    checkpoint = Checkpoint(stage="geometry", step=step, version="1")
    return save_checkpoint(
        folder, checkpoint, state or make_state(step), lambda path: path.mkdir(), keep=keep
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_bit_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    assert read_checkpoint(path) == Checkpoint(stage="geometry", step=7, version="1")
    state = make_state(8)
    load_state(path, state)
    expected = make_state(7)
    assert torch.equal(state["model"]["a.weight"], expected["model"]["a.weight"])
    assert torch.equal(state["optimizer"]["a.weight"]["m"], expected["optimizer"]["a.weight"]["m"])
    assert state["optimizer"]["a.weight"]["step"] == 7 and torch.equal(state["rng"], expected["rng"])
    assert state["loader"] == expected["loader"]


def test_the_networks_beside_it_load(tmp_path: Path) -> None:
    parts = tiny()
    checkpoint = Checkpoint(stage="geometry", step=1, version="1")
    write = BokehPipeline.of(parts).save_pretrained
    path = save_checkpoint(tmp_path, checkpoint, make_state(1), write, keep=1)
    loaded = load_pipeline(path / "pipeline").unet.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in parts.unet.state_dict().items())


def test_the_newest_are_kept_and_last_points_to_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        save(tmp_path, step, keep=2)
        assert (tmp_path / "last").resolve() == tmp_path / f"{step:06d}"
    assert list(list_checkpoints(tmp_path)) == [3, 10]
    assert names(tmp_path) == ["000003", "000010", "last"]


def test_a_step_that_is_done_again_replaces_the_old_one(tmp_path: Path) -> None:
    save(tmp_path, 5)
    path = save(tmp_path, 5, state=make_state(6))
    state = make_state(0)
    load_state(path, state)
    assert torch.equal(state["model"]["gate"], make_state(6)["model"]["gate"])


def test_what_a_killed_run_has_left_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".tmp-000004" / "state").mkdir(parents=True)
    (tmp_path / "000005").mkdir()
    assert list_checkpoints(tmp_path) == {}
    save(tmp_path, 6)
    assert list(list_checkpoints(tmp_path)) == [6] and ".tmp-000004" not in names(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    before = save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"000002: cannot be written: .*; the last one is .*000001"
        ) as error:
            save(tmp_path, 2, state=make_state(2) | {"large": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["000001", "last"] and (tmp_path / "last").resolve() == before
    load_state(before, make_state(0))


def test_nothing_is_left_when_the_networks_cannot_be_written(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, os.strerror(13), str(path))

    with pytest.raises(UserError, match=r"cannot be written: Permission denied; there is none before it"):
        save_checkpoint(
            tmp_path, Checkpoint(stage="detail", step=1, version="1"), make_state(1), refuse, keep=1
        )
    assert names(tmp_path) == []


def test_one_of_another_run_is_refused_in_one_line(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    other = make_state(0)
    other["model"]["a.weight"] = torch.zeros(3, 5)
    with pytest.raises(UserError, match=r"'model.a.weight' is of shapes 3x4 and 3x5 there and here"):
        load_state(path, other)
    other = make_state(0)
    del other["model"]["gate"]
    with pytest.raises(UserError, match=r"has, and this run has not, 'model.gate'"):
        load_state(path, other)
    other = make_state(0)
    other["model"]["new"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"lacks 'model.new'"):
        load_state(path, other)


@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp"])
def test_one_that_is_damaged_is_refused_in_one_line(tmp_path: Path, file: str) -> None:
    path = save(tmp_path, 1)
    content = (path / "state" / file).read_bytes()
    (path / "state" / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"state: cannot be read") as error:
        load_state(path, make_state(0))
    assert "\n" not in str(error.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a checkpoint, its meta.json cannot be read"):
        read_checkpoint(tmp_path)
