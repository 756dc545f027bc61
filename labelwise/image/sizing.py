"""Resizes a decoded image to the model's size."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def at_size(image: Image.Image, height: int, width: int, resize: str, interpolation: str) -> NDArray[np.uint8]:
    """Returns the image's pixels at the model's size, uint8 [height, width, 3]."""
    box = centre_box(image.size, width / height) if resize == "crop" else None
    return np.asarray(image.resize((width, height), _RESAMPLING[interpolation], box=box))


def centre_box(size: tuple[int, int], ratio: float) -> tuple[float, float, float, float]:
    """Returns the largest centred box (left, top, right, bottom) within `size` whose width / height is `ratio`."""
    width, height = size
    box_width, box_height = min(width, height * ratio), min(height, width / ratio)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height
