"""Random views of training photos, and mixup."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms import v2

from labelwise.spec import ImageSpec
from training.config import AugmentConfig
from training.seeding import seeded

# Photos are kept this much larger than the model's input, so that crops keep their detail.
OVERSIZE = 1.25
_GREY = 128

Transform = Callable[[torch.Tensor], torch.Tensor]


def make_transform(config: AugmentConfig, image: ImageSpec) -> v2.Transform:
    """uint8 [3, H, W] -> uint8 [3, h, w]: crop, flip, RandAugment, erase."""
    steps: list[torch.nn.Module] = [
        v2.RandomResizedCrop((image.height, image.width), scale=(config.min_crop, 1), antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if config.randaugment_ops:
        steps.append(v2.RandAugment(config.randaugment_ops, config.randaugment_magnitude, fill=_GREY))
    if config.erase:
        steps.append(v2.RandomErasing(config.erase, scale=(0.02, 0.2), value=_GREY))
    return v2.Compose(steps)


def mixup(inputs: torch.Tensor, targets: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each photo with another of the batch (Zhang et al. 2018); a label unknown in either stays unknown.

    inputs: pixels uint8 [b, 3, h, w], or features [b, t, c] (manifold mixup, Verma et al. 2019); targets [b, l].
    Returns float inputs and soft targets of the same shapes.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(inputs), device=inputs.device)
    mixed_inputs = share * inputs.float() + (1 - share) * inputs[order].float()
    mixed_targets = share * targets + (1 - share) * targets[order]
    unknown = (targets < 0) | (targets[order] < 0)
    return mixed_inputs, mixed_targets.masked_fill(unknown, -1)


def draw_views(pixels: NDArray[np.uint8], transform: Transform, count: int, *seed: object) -> torch.Tensor:
    """`count` random views of a photo uint8 [H, W, 3] -> uint8 [count, 3, h, w]; the same `seed` gives the same."""
    photo = torch.tensor(pixels).permute(2, 0, 1)  # h w c -> c h w
    with seeded(*seed):
        return torch.stack([transform(photo) for _ in range(count)])
