"""Random views of training photos, and mixup."""

import torch
from torchvision.transforms import v2

from labelwise.spec import ImageSpec
from training.config import AugmentConfig

# Photos are kept this much larger than the model's input, so that crops keep their detail.
OVERSIZE = 1.25
_GREY = 128


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


def mixup(pixels: torch.Tensor, targets: torch.Tensor, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Blend each photo with another of the batch (Zhang et al. 2018); a label unknown in either stays unknown.

    pixels uint8 [b, 3, h, w], targets [b, l] -> float pixels and soft targets of the same shapes.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(pixels), device=pixels.device)
    mixed_pixels = share * pixels.float() + (1 - share) * pixels[order].float()
    mixed_targets = share * targets + (1 - share) * targets[order]
    unknown = (targets < 0) | (targets[order] < 0)
    return mixed_pixels, mixed_targets.masked_fill(unknown, -1)
