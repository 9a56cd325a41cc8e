"""Processes that train together: who they are, and how gradients and weights are shared between them.

The training function is the same however it was started. Alone it needs nothing; under ``torchrun`` the
process group is made from the environment; Ray Train has made one already.

With ``ddp`` every process holds all weights (`DistributedDataParallel`, in which the reducer runs because the
wrapper itself is called). With ``fsdp`` weights, gradients and averages of the U-Net are dealt out block by
block (`fully_shard`, FSDP2) in the stages in which it learns; the VAE has a twentieth of its size and is not.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from focuspull.dataset.errors import UserError
from focuspull.model.presets import Parts
from focuspull.train.stages import Learner

Strategy = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees it.

    Args:
        rank: Number of this process.
        size: How many there are.
        device: Where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.size
        return value


@contextmanager
def join_world(device: str | None) -> Generator[World]:
    """Take part in the processes that were started together.

    Args:
        device: Such as ``cpu`` or ``cuda``; None: ``cuda`` if there is a GPU.

    Raises:
        UserError: If there is no such device.
    """
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if kind.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch finds no GPU here. Use cpu.")
    made = False
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("nccl" if kind.type == "cuda" else "gloo", **_meeting_place())
        made = True
    try:
        shared = dist.is_initialized()
        if kind.type == "cuda" and ":" not in str(kind):
            local = int(os.environ.get("LOCAL_RANK", "0")) if shared else torch.cuda.current_device()
            kind = torch.device("cuda", min(local, torch.cuda.device_count() - 1))
        if kind.type == "cuda":
            torch.cuda.set_device(kind)
        rank, size = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)
        yield World(rank, size, kind)
    finally:
        if made:
            dist.destroy_process_group()


def _meeting_place() -> dict[str, Any]:
    """Arguments that have processes started by torchrun find each other, also when they are started again.

    torchrun gives all starts on one machine the same store, where addresses of processes that are gone may be
    found first (PyTorch issue 135712). So every start gets a part of its own. On several machines counts of
    starts need not agree; there torchrun has to be told not to share its store.
    """
    given = os.environ
    if given.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or given.get("GROUP_WORLD_SIZE") != "1":
        return {}
    # Both are in torch's documentation, but not in the list of what its module exports.
    make, part_of = dist.TCPStore, dist.PrefixStore  # pyright: ignore[reportPrivateImportUsage]
    store = make(given["MASTER_ADDR"], int(given["MASTER_PORT"]), is_master=False)
    return {
        "store": part_of(f"start {given.get('TORCHELASTIC_RESTART_COUNT', '0')}", store),
        "rank": int(given["RANK"]),
        "world_size": int(given["WORLD_SIZE"]),
    }


def share(learner: Learner, parts: Parts, world: World, strategy: Strategy, *, bfloat16: bool) -> nn.Module:
    """Have the processes of a run train one learner.

    Args:
        learner: A `focuspull.train.stages.Learner`.
        parts: Its networks, on their device.
        world: The processes; of one alone nothing is changed, but with ``fsdp`` under a process group.
        strategy: See the module.
        bfloat16: Whether ``fsdp`` computes and sends weights in it.

    Returns:
        What to call in its place.
    """
    if not dist.is_initialized():
        return learner
    if strategy == "ddp" or learner.network is not parts.unet:
        return DistributedDataParallel(learner, device_ids=None, broadcast_buffers=False)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {"mp_policy": policy} if bfloat16 else {}
    mesh = dist.device_mesh.init_device_mesh(world.device.type, (world.size,))
    unet = parts.unet
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        fully_shard(cast(nn.Module, block), mesh=mesh, **options)
    fully_shard(unet, mesh=mesh, **options)
    return learner


def without_sync(module: nn.Module, *, last: bool) -> Any:
    """A context in which gradients are only added up, unless it is the last micro-batch of a step."""
    if isinstance(module, DistributedDataParallel):
        return nullcontext() if last else module.no_sync()
    network = getattr(module, "network", None)
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is dealt out, put together; any other as it is. All processes call it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, put together. All processes call it together."""
    return {name: whole(value.detach()).to("cpu", copy=True) for name, value in tensors.items()}
