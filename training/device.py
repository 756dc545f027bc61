"""Where and how precisely a run computes, and where its randomness comes from."""

import random

import numpy as np
import torch

from labelwise.errors import LabelwiseError
from training.distributed import World


def pick_device(name: str, world: World = World()) -> torch.device:
    """`auto` is the GPU where there is one, under torchrun the process's own. LabelwiseError for an unusable one."""
    if name == "auto":
        name = f"cuda:{world.local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise LabelwiseError(f"The device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the processor computes it natively; elsewhere it would be slower than float32."""
    if name == "auto":
        name = "bf16" if _has_bf16(device) else "fp32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def step_seed(*place: int) -> int:
    """A seed for one place in a run, such as (seed, epoch, step, rank), unlike that of any other place."""
    return int(np.random.SeedSequence(place).generate_state(1)[0])


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
