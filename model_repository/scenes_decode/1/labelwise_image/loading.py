"""From encoded bytes to pixels: open, decode, turn upright, convert colours, resize, in this order."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .budget import held_pixels
from .colour import to_rgb
from .complexity import opening_pixels
from .opening import MAX_PIXELS, open_header, refused
from .orientation import load_upright, turned_like
from .structure import Structure

# A JPEG may be decoded at 1/2, 1/4 or 1/8 scale, but not below this many times the target. A test bounds what that
# changes; it is the same in training, in the gateway and in Triton.
_DRAFT_MARGIN = 2
# What no decoder has reduced, Pillow reduces in two steps from 6 times the target on: first to at least this many times
# the target, by averaging whole pixels. A test bounds what that changes.
_REDUCING_GAP = 3.0
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Photo:
    """A photo at the model's size, and what is needed to map a place in it back to the original.

    `pixels` are uint8 [height, width, 3]. `size` is the whole photo's (width, height), upright. `orientation` is the
    EXIF orientation, 1 to 8, that was applied. `notes` say what had to be assumed to show the photo, a sentence each.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    orientation: int
    notes: tuple[str, ...] = ()


# Called with a number of pixels; the context that it returns is open while the memory of so many pixels is held.
Hold = Callable[[int], AbstractContextManager[object]]


def load_pixels(
    data: bytes,
    height: int,
    width: int,
    resize: str = "squash",
    interpolation: str = "bicubic",
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Decodes a photo to the model's size. Returns uint8 [height, width, 3]. Raises ImageError.

    Applies the EXIF orientation, converts colours to sRGB (HDR to SDR), lays transparency over white, and takes the
    first frame of an animation. `squash` scales both sides to the target; `crop` scales the shorter side to the target
    and keeps the centre.
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
    structure: Structure | None = None,
) -> Photo:
    """As `load_pixels`, with what else is known of the photo. `structure` is that of `data` if it was read before."""
    side = _DRAFT_MARGIN * max(height, width)
    with _decoded(data, side, max_pixels, hold, structure) as (picture, size, orientation, notes):
        box = centre_box(picture.size, width / height) if resize == "crop" else None
        method = _RESAMPLING[interpolation]
        pixels = np.asarray(picture.resize((width, height), method, box=box, reducing_gap=_REDUCING_GAP))
        picture.close()  # so that nothing is held after `hold`
    return Photo(pixels, size, orientation, notes)


def open_rgb(data: bytes, max_pixels: int = MAX_PIXELS, draft_side: int | None = None) -> Image.Image:
    """Decodes to an upright sRGB image. Raises ImageError.

    With `draft_side`, a JPEG may be decoded at a smaller scale, with no side below `draft_side`.
    """
    with _decoded(data, draft_side, max_pixels, nullcontext) as (picture, *_):
        return picture


def open_small(
    data: bytes,
    side: int,
    max_pixels: int = MAX_PIXELS,
    hold: Hold = nullcontext,
    structure: Structure | None = None,
) -> Image.Image:
    """As `open_rgb`, then scales the image down until no side is above `side`."""
    with _decoded(data, side, max_pixels, hold, structure) as (picture, *_):
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
        return picture


@contextmanager
def _decoded(
    data: bytes, draft_side: int | None, max_pixels: int, hold: Hold, structure: Structure | None = None
) -> Iterator[tuple[Image.Image, tuple[int, int], int, tuple[str, ...]]]:
    """A picture in sRGB, perhaps at a reduced scale, and the photo's size, orientation and notes as in Photo.

    The block runs within `hold`. Raises ImageError for whatever the block raises, too.
    """
    with hold(opening_pixels(data)), refused(data):
        image = open_header(data, max_pixels, structure)
        stored = image.size
        if draft_side is not None:
            image.draft(None, (draft_side, draft_side))
    with hold(held_pixels(image, data, stored[0] * stored[1])), refused(data):
        orientation = load_upright(image, data)
        picture, notes = to_rgb(image, data)
        if picture is not image:
            image.close()
        yield (picture, turned_like(picture.size, stored, orientation), orientation, notes)


def centre_box(size: tuple[int, int], ratio: float) -> tuple[float, float, float, float]:
    """Returns the largest centred box (left, top, right, bottom) within `size` whose width / height is `ratio`."""
    width, height = size
    box_width, box_height = min(width, height * ratio), min(height, width / ratio)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height
