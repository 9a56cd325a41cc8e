"""Processes that train together do what one alone does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from focuspull.dataset.loader import Batch
from focuspull.train.distributed import Strategy, World, gathered, join_world, share, without_sync
from focuspull.train.stages import (
    AUTOENCODER,
    DETAIL,
    GEOMETRY,
    STAGES,
    TEMPORAL,
    Learner,
    Stage,
    choose_parameters,
    total_loss,
)
from tests.model.networks import tiny
from tests.train.test_stages import make_batch, part

WORLD = 2
CPU = torch.device("cpu")


def gradients(stage: Stage, batches: list[Batch], world: World, strategy: Strategy) -> dict[str, Tensor]:
    """Of the mean loss over batches that are passed one after the other, by parameter name."""
    parts = tiny()
    chosen = choose_parameters(parts, stage)
    learner = Learner(parts, stage)
    module = share(learner, parts, world, strategy, bfloat16=False)
    for number, batch in enumerate(batches):
        with without_sync(module, last=number == len(batches) - 1):
            (total_loss(stage, module(batch)) / len(batches)).backward()
    named = dict(learner.network.named_parameters())
    return gathered({name: named[name].grad for name in chosen})  # type: ignore[arg-type]


def work(rank: int, folder: Path, stage_name: str, strategy: Strategy) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD)
    batch = make_batch(batch=4)
    mine = [part(batch, slice(number, number + 1)) for number in range(rank, 4, WORLD)]
    found = gradients(STAGES[stage_name], mine, World(rank, WORLD, CPU), strategy)  # type: ignore[index]
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("stage", "strategy"),
    [(AUTOENCODER, "ddp"), (GEOMETRY, "ddp"), (TEMPORAL, "fsdp"), (DETAIL, "fsdp")],
    ids=["autoencoder-ddp", "geometry-ddp", "temporal-fsdp", "detail-fsdp"],
)
def test_two_processes_have_the_gradients_of_the_joined_batch(
    stage: Stage, strategy: Strategy, tmp_path: Path
) -> None:
    expected = gradients(stage, [make_batch(batch=4)], World(0, 1, CPU), strategy)
    mp.spawn(work, (tmp_path, stage.name, strategy), WORLD)  # type: ignore[attr-defined]
    for rank in range(WORLD):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            scale = value.abs().max().item()
            assert torch.allclose(found[name], value, rtol=1e-3, atol=1e-4 * scale + 1e-9), name


def test_one_process_is_a_world_of_its_own() -> None:
    with join_world("cpu") as world:
        assert (world.rank, world.size, world.device) == (0, 1, CPU) and world.is_first
        assert world.mean(torch.tensor(3.0)) == 3
    assert not dist.is_initialized()
