"""Random views of a photo."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.data.seeding import seeded

Transform = Callable[[torch.Tensor], torch.Tensor]


def draw_views(pixels: NDArray[np.uint8], transform: Transform, count: int, *seed: object) -> torch.Tensor:
    """`count` random views of a photo uint8 [H, W, 3] -> uint8 [count, 3, h, w]; the same from the same `seed`."""
    photo = torch.tensor(pixels).permute(2, 0, 1)  # h w c -> c h w
    with seeded(*seed):
        return torch.stack([transform(photo) for _ in range(count)])


class Views(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decoded photos with `count` random views of each: uint8 [count, 3, h, w] and targets [l] per item."""

    def __init__(
        self, pixels: NDArray[np.uint8], targets: NDArray[np.float32], transform: Transform, count: int
    ) -> None:
        self._pixels = torch.from_numpy(pixels)
        self._targets = torch.from_numpy(targets)
        self._transform = transform
        self._count = count

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        photo = self._pixels[index].permute(2, 0, 1)  # h w c -> c h w
        return torch.stack([self._transform(photo) for _ in range(self._count)]), self._targets[index]
