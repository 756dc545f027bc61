"""What a model takes and gives back."""

import numpy as np
from numpy.typing import NDArray

from labelwise.spec import TaggerSpec

Pixels = NDArray[np.uint8]  # [b, h, w, 3]
Outputs = dict[str, NDArray[np.float32]]  # output name -> [b, ...]


def require_fitting(pixels: Pixels, spec: TaggerSpec) -> None:
    """Raises ValueError for pixels that are not of the model's size, or more of them than its `max_batch`."""
    if not 1 <= len(pixels) <= spec.max_batch or pixels.shape[1:] != spec.input.shape or pixels.dtype != np.uint8:
        raise ValueError(f"{spec.name} takes uint8 [1..{spec.max_batch}, {spec.input.shape}], not {pixels.shape}")
