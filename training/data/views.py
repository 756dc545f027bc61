"""Random views of a photo."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from training.seeding import seeded

Transform = Callable[[torch.Tensor], torch.Tensor]


def draw_views(pixels: NDArray[np.uint8], transform: Transform, count: int, *seed: object) -> torch.Tensor:
    """`count` random views of a photo uint8 [H, W, 3] -> uint8 [count, 3, h, w]; the same `seed` gives the same."""
    photo = torch.tensor(pixels).permute(2, 0, 1)  # h w c -> c h w
    with seeded(*seed):
        return torch.stack([transform(photo) for _ in range(count)])
