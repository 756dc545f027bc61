"""Converts samples of more than 8 bits to 8 bits."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .tiff import WHITE_IS_ZERO

_BITS, _PHOTOMETRIC = 258, 262  # TIFF's tags
_ROWS = 256
_LEVELS = np.arange(256)


def to_8_bit(image: Image.Image, curve: NDArray[np.uint8] | None = None) -> Image.Image:
    """Converts grey of 12, 16 or 32 bits to 8 bits over its full range; Pillow's own conversion clips at 255.

    Floating-point samples range from 0 to 1, or to the brightest sample if that is above 1. A `curve` of 256 levels
    is applied before the samples are rounded, since rounding leaves few dark levels.
    """
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    if image.mode == "I":
        values = values.view(np.uint32)  # Pillow reads them as signed
    scale = 255 / (_brightest(values) if image.mode == "F" else 2 ** tags.get(_BITS, (16,))[0] - 1)
    offset = 255 if tags.get(_PHOTOMETRIC) == WHITE_IS_ZERO else 0
    scale = -scale if offset else scale
    transparent = image.info.get("transparency")  # in a grey PNG, the one value that is transparent; it becomes white
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):  # in strips: a large picture would take a gigabyte as floats
        strip = values[top : top + _ROWS].astype(np.float32)
        levels = np.nan_to_num(strip * scale + offset).clip(0, 255)
        grey[top : top + _ROWS] = (levels if curve is None else np.interp(levels, _LEVELS, curve)).round()
        if transparent is not None:
            grey[top : top + _ROWS][strip == transparent] = 255
    return Image.fromarray(grey)


def _brightest(values: NDArray[np.float32]) -> float:
    """Returns the largest finite value, but at least 1."""
    return float(max(np.max(strip, initial=1, where=np.isfinite(strip)) for strip in np.array_split(values, _ROWS)))
