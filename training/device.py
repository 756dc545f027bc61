"""The device of a run, its threads, and the precision and memory format of its network."""

import torch

from labelwise.cores import usable_cores
from labelwise.errors import LabelwiseError
from training.distributed import World


def pick_device(name: str, world: World = World()) -> torch.device:
    """`auto` is the GPU if there is one, under torchrun that of the process. Raises LabelwiseError if unusable."""
    if name == "auto":
        name = f"cuda:{world.local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise LabelwiseError(f"The device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 if `has_bf16`. On a CPU, training.speed measures instead."""
    if name == "auto":
        name = "bf16" if has_bf16(device) else "fp32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def pick_memory_format(name: str) -> torch.memory_format:
    """`auto` is channels last. On a CPU, training.speed measures instead."""
    return torch.contiguous_format if name == "contiguous" else torch.channels_last


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 natively; otherwise it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def threads_of_each(jobs: int) -> int:
    """Threads for each of `jobs` processes that share this one's cores; OMP_NUM_THREADS is an upper bound."""
    return max(1, min(torch.get_num_threads(), usable_cores() // jobs))
