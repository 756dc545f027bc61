"""Several processes that train one model: their ranks under torchrun, and tensors joined over all, with gradients."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class World:
    """This process among those that train one model. Only rank 0 writes and prints."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0


@contextmanager
def joined_world(device: str = "auto") -> Iterator[World]:
    """The world that torchrun describes in the environment; without torchrun, this process alone.

    `device` is the setting of that name: processes on GPUs talk through NCCL, all others through gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield World()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available() and device != "cpu"
    if has_gpu:
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if has_gpu else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), local_rank)
    finally:
        distributed.destroy_process_group()


class _Gather(torch.autograd.Function):
    """torch.distributed.nn.functional.all_gather does the same, but torch has deprecated it for a private module."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        context.count = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous()
        distributed.all_reduce(gradient)
        start = distributed.get_rank() * context.count
        return gradient[start : start + context.count]


def gather(tensor: torch.Tensor, world: World) -> torch.Tensor:
    """[n, ...] of each process -> [n * size, ...] of all, in order of rank; n must be the same in every process.

    Each row's gradient flows back to its process, summed over the losses of all processes. If all compute the same loss
    of the joined batch, this sum is `size` times the gradient. DistributedDataParallel averages over the processes,
    which gives the gradient of one process with the whole batch.
    """
    return tensor if world.size == 1 else _Gather.apply(tensor)


def gather_objects(item: Any, world: World) -> list[Any]:
    """The `item` of every process, in order of rank."""
    if world.size == 1:
        return [item]
    items: list[Any] = [None] * world.size
    distributed.all_gather_object(items, item)
    return items


def broadcast_state(module: nn.Module, world: World) -> None:
    """Give every process rank 0's parameters and buffers."""
    if world.size > 1:
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, 0)


def any_of(flag: bool, world: World, device: torch.device) -> bool:
    """Whether `flag` is set in any process; all get the same answer."""
    if world.size == 1:
        return flag
    flags = torch.tensor(int(flag), device=device)
    distributed.all_reduce(flags)
    return bool(flags)
