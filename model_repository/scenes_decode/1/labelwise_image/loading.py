"""Encoded bytes to a photo's pixels: opening, decoding, turning, colour and size, in this order."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .budget import held_pixels
from .colour import Notes, to_rgb
from .complexity import opening_pixels
from .jpeg import draft
from .opening import MAX_PIXELS, open_header
from .orientation import load_upright, turned_like
from .refusal import refused
from .sizing import at_size

# A JPEG may be decoded at 1/2, 1/4 or 1/8, down to this many times the target. What that changes is bounded by a test,
# and the same in training, in the gateway and in Triton.
_DRAFT_MARGIN = 2


@dataclass(frozen=True)
class Photo:
    """A photo at the model's size, with what has to be known to find a place of it in the original again.

    `pixels` are uint8 [height, width, 3]; `size` is the whole photo's (width, height), upright; `orientation` is the
    EXIF orientation, 1 to 8, that made it upright. `notes` are sentences about what had to be assumed to show it.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    orientation: int
    notes: Notes = ()


Hold = Callable[[int], AbstractContextManager[object]]


def load_pixels(
    data: bytes,
    height: int,
    width: int,
    resize: str = "squash",
    interpolation: str = "bicubic",
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Decode an encoded photo and bring it to the model's size.

    EXIF orientation is applied, colours are converted to sRGB (HDR to SDR), transparency is laid over white, and of an
    animation the first frame counts. `squash` scales both sides to the target; `crop` scales the shorter side and
    keeps the centre.

    Returns uint8 [height, width, 3]; raises an ImageError.
    """
    return load_photo(data, height, width, resize, interpolation, max_pixels).pixels


def load_photo(
    data: bytes,
    height: int,
    width: int,
    resize: str = "squash",
    interpolation: str = "bicubic",
    max_pixels: int = MAX_PIXELS,
    hold: Hold = nullcontext,
) -> Photo:
    """As `load_pixels`; `hold(pixels)` is entered for the time in which the memory of so many pixels is held."""
    with hold(opening_pixels(data)), refused(data):
        image = open_header(data, max_pixels)
        size, whole = image.size, image.width * image.height
        draft(image, _DRAFT_MARGIN * max(height, width))
    with hold(held_pixels(image, data, whole)), refused(data):
        orientation = load_upright(image, data)
        shown, notes = to_rgb(image, data)
        size_shown, pixels = at_size(shown, height, width, resize, interpolation)
        image.close()  # so that nothing is held after `hold`
    return Photo(pixels, turned_like(size_shown, size, orientation), orientation, notes)


def open_rgb(data: bytes, max_pixels: int = MAX_PIXELS, draft_side: int | None = None) -> Image.Image:
    """Decode to an upright sRGB image; with `draft_side` a JPEG may come smaller, no side below it. ImageError."""
    with refused(data):
        image = open_header(data, max_pixels)
        if draft_side is not None:
            draft(image, draft_side)
        load_upright(image, data)
        return to_rgb(image, data)[0]


def open_small(data: bytes, side: int, max_pixels: int = MAX_PIXELS, hold: Hold = nullcontext) -> Image.Image:
    """As `open_rgb`, then made smaller until no side is above `side`; `hold` as in `load_photo`."""
    with hold(opening_pixels(data)), refused(data):
        image = open_header(data, max_pixels)
        whole = image.width * image.height
        draft(image, side)
    with hold(held_pixels(image, data, whole)), refused(data):
        load_upright(image, data)
        shown, _ = to_rgb(image, data)
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
        return shown
