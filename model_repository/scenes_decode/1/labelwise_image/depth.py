"""Samples of more than 8 bits to 8 bits."""

import numpy as np
from PIL import Image

_ROWS = 256


def to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit and float images to 8 bits over their full range; Pillow's own conversion clips at 255."""
    values = np.asarray(image)
    brightest = float(np.nanmax(values, initial=0)) if image.mode == "F" else 65535
    scale = 255 / brightest if brightest > 1 else 255
    transparent = image.info.get("transparency")  # in a grey PNG one value, which is laid over white here
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):  # in strips: as floats, a large picture would take a gigabyte
        strip = values[top : top + _ROWS].astype(np.float32)
        grey[top : top + _ROWS] = np.nan_to_num(strip * scale).clip(0, 255).round()
        if transparent is not None:
            grey[top : top + _ROWS][strip == transparent] = 255
    return Image.fromarray(grey)
