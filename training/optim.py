"""The optimizer and schedule of a stage."""

from typing import Any

import torch
from torch import nn

from training.config import TrainConfig

_MOMENTUM = 0.9
_AT_FULL_RATE = ("head.classifier.", "head.group_classifier", "head.bias", "head.projector.", "prototypes")
_UNDECAYED = ("queries", "position", "prototypes")


def make_optimizer(
    model: nn.Module, criterion: nn.Module, config: TrainConfig, contrastive: bool
) -> torch.optim.Optimizer:
    """The stage's optimizer, over the parameters of model and criterion."""
    peak = config.contrastive_lr if contrastive else config.lr
    groups = _parameter_groups(model, criterion, peak, config, contrastive)
    name = config.contrastive_optimizer if contrastive else config.optimizer
    if name == "sgd":
        return torch.optim.SGD(groups, lr=peak, momentum=_MOMENTUM)
    return torch.optim.AdamW(groups, lr=peak)


def make_schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> torch.optim.lr_scheduler.LRScheduler:
    """Rises to each group's peak rate over the share `warmup` of the steps, then falls by a cosine."""
    steps = max(1, steps) + 1
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=min(1.0, max(warmup, 2 / steps)),  # one step of warm-up would divide by zero
        cycle_momentum=False,
    )


def _parameter_groups(
    model: nn.Module, criterion: nn.Module, peak: float, config: TrainConfig, contrastive: bool
) -> list[dict[str, Any]]:
    """Groups by rate and weight decay. Norms, biases and other vectors are not decayed."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in (*model.named_parameters(), *criterion.named_parameters()):
        if not parameter.requires_grad:  # of a frozen backbone
            continue
        decays = parameter.ndim >= 2 and not any(word in name for word in _UNDECAYED)
        groups.setdefault((_rate_scale(name, config, contrastive), decays), []).append(parameter)
    return [
        {"params": parameters, "lr": peak * scale, "weight_decay": config.weight_decay if decays else 0.0}
        for (scale, decays), parameters in groups.items()
    ]


def _rate_scale(name: str, config: TrainConfig, contrastive: bool) -> float:
    if name.startswith("backbone."):
        return config.backbone_lr_scale
    return config.attention_lr_scale if contrastive and not name.startswith(_AT_FULL_RATE) else 1.0
