"""Where in a photo a label was seen: the model's attention grid, brought back into the photo's own pixels.

The grid covers what the model saw: the upright photo, squashed or cropped to the model's size. Gateway and clients undo
that here, with NumPy and Pillow alone.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelwise.image import centre_box
from labelwise.spec import ImageSpec

Maps = NDArray[np.float32]  # [l, rows, columns]

CLEARLY = 3.0  # a place with this many times its share of the attention counts as looked at
# EXIF orientation -> from upright to stored: whether to swap the axes, then mirror left-right, then top-bottom.
_STORED: dict[int, tuple[bool, bool, bool]] = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Located:
    """Attention in a photo of `size` (width, height).

    `maps` are float32 [l, rows, columns], rows from top to bottom; each map sums to 1. `box` is the part of the photo
    that the grid covers: left, top, right, bottom, in pixels.
    """

    maps: Maps
    size: tuple[int, int]
    box: tuple[float, float, float, float]


def locate(attention: Maps, size: tuple[int, int], image: ImageSpec) -> Located:
    """Brings `attention` [l, rows, columns] into the upright pixels of its photo.

    `size` is the upright photo's (width, height); `image` says how the photo was resized for the model.
    """
    is_whole = image.resize == "squash"
    box = (0.0, 0.0, float(size[0]), float(size[1])) if is_whole else centre_box(size, image.width / image.height)
    sums = attention.sum((1, 2), keepdims=True, dtype=np.float64)
    maps = attention / np.where(sums > 0, sums, 1)
    return Located(maps.astype(np.float32), size, box)


def as_stored(upright: Located, orientation: int) -> Located:
    """Brings `upright` into the pixels that the file stores; EXIF `orientation` (1 to 8) made the photo upright."""
    swap, mirror, flip = _STORED[orientation]
    maps, (width, height), (left, top, right, bottom) = upright.maps, upright.size, upright.box
    if swap:
        maps = maps.swapaxes(1, 2)
        (width, height), (left, top, right, bottom) = (height, width), (top, left, bottom, right)
    if mirror:
        maps, (left, right) = maps[:, :, ::-1], (width - right, width - left)
    if flip:
        maps, (top, bottom) = maps[:, ::-1], (height - bottom, height - top)
    return replace(upright, maps=maps, size=(width, height), box=(left, top, right, bottom))


def spread(located: Located, size: tuple[int, int]) -> Maps:
    """How clearly the model looked at each place of the photo, scaled to `size` (width, height) and smoothed.

    Returns float32 [l, height, width]. A place has 0 if its attention is at most an equal share, and 1 if it is the
    most of its map. Between them counts the logarithm: transformers often rest much attention on a single cell, which
    would otherwise hide all others. A map that reaches CLEARLY times the share nowhere stays faint.
    """
    scale = (size[0] / located.size[0], size[1] / located.size[1]) * 2
    left, top, right, bottom = (round(side * factor) for side, factor in zip(located.box, scale, strict=True))
    spread = np.zeros((len(located.maps), size[1], size[0]), np.float32)
    inside = (max(right - left, 1), max(bottom - top, 1))
    for whole, grid in zip(spread, located.maps, strict=True):
        smooth = Image.fromarray(np.ascontiguousarray(grid) * grid.size).resize(inside, Image.Resampling.BICUBIC)
        times = np.asarray(smooth)[: size[1] - top, : size[0] - left].clip(1)
        most = max(float(times.max(initial=1)), CLEARLY)
        whole[top : top + times.shape[0], left : left + times.shape[1]] = np.log(times) / np.log(most)
    return spread
