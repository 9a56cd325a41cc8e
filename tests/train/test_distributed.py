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
from focuspull.train.stages import STAGES, Learner, Stage, StageName, choose_parameters, total_loss
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


CASES: list[tuple[StageName, Strategy]] = [
    ("autoencoder", "ddp"),
    ("geometry", "ddp"),
    ("temporal", "fsdp"),
    ("detail", "fsdp"),
]


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD)
    batch = make_batch(batch=4)
    mine = [part(batch, slice(number, number + 1)) for number in range(rank, 4, WORLD)]
    for name, strategy in CASES:
        found = gradients(STAGES[name], mine, World(rank, WORLD, CPU), strategy)
        torch.save(found, folder / f"{name}-{strategy}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the gradients that two processes have found."""
    folder = tmp_path_factory.mktemp("together")
    mp.spawn(work, (folder,), WORLD)  # type: ignore[attr-defined]
    return folder


@pytest.mark.parametrize(("name", "strategy"), CASES)
def test_two_processes_have_the_gradients_of_the_joined_batch(
    name: StageName, strategy: Strategy, together: Path
) -> None:
    expected = gradients(STAGES[name], [make_batch(batch=4)], World(0, 1, CPU), strategy)
    for rank in range(WORLD):
        found = torch.load(together / f"{name}-{strategy}-{rank}.pt")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            scale = value.abs().max().item()
            assert torch.allclose(found[key], value, rtol=1e-3, atol=1e-4 * scale + 1e-9), key


def test_one_process_is_a_world_of_its_own() -> None:
    with join_world("cpu") as world:
        assert (world.rank, world.size, world.device) == (0, 1, CPU) and world.is_first
        assert world.mean(torch.tensor(3.0)) == 3
    assert not dist.is_initialized()
