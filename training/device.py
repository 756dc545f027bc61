"""The device and the precision of a run."""

import torch

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
    """`auto` is bfloat16 if the processor computes it natively; otherwise it would be slower than float32."""
    if name == "auto":
        name = "bf16" if _has_bf16(device) else "fp32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    features = torch.cpu.get_capabilities()
    return any(features.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
