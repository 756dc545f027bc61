"""Where in a photo a label was seen: the model's attention grid, brought back into the photo's own pixels.

The grid lies over what the model saw: the photo upright, and squashed or cropped to the model's size. Gateway and
clients undo that here, with NumPy and Pillow alone.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelwise.image import centre_box

Maps = NDArray[np.float32]  # [l, rows, columns]
Box = tuple[float, float, float, float]

CLEARLY = 3.0  # times its share, from which a place may count as looked at
# EXIF orientation -> how upright becomes stored: swap the axes, then mirror left and right, then top and bottom.
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

    `maps` are float32 [l, rows, columns], rows from top to bottom, each map with the sum 1. `box` (left, top, right,
    bottom), in pixels, is the part of the photo that the grid covers.
    """

    maps: Maps
    size: tuple[int, int]
    box: Box


def locate(attention: Maps, size: tuple[int, int], resize: str, ratio: float) -> Located:
    """`attention` [l, rows, columns] of one photo, whose upright `size` is (width, height), in its upright pixels.

    `resize` is the model's rule, `squash` or `crop`; `ratio` its width/height.
    """
    box = centre_box(size, ratio) if resize == "crop" else (0.0, 0.0, float(size[0]), float(size[1]))
    sums = attention.sum((1, 2), keepdims=True, dtype=np.float64)
    maps = attention / np.where(sums > 0, sums, 1)
    return Located(maps.astype(np.float32), size, box)


def as_stored(upright: Located, orientation: int) -> Located:
    """The same in the pixels that the file stores, for a photo that EXIF `orientation` (1 to 8) made upright."""
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
    """How clearly each place was looked at, over the whole photo at `size` (width, height), smooth: float32
    [l, height, width], 0 to 1.

    0 is no more than the place's share if all were looked at alike, and 1 the most of that map: by the logarithm of the
    times more, or a single cell that much attention rests on, as transformers often have one, would hide all others.
    A map without CLEARLY times its share anywhere stays faint.
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
