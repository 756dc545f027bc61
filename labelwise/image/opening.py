"""Opens a file: reads and checks its header, and does not decode pixels yet."""

import io

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from . import tiff
from .budget import check_memory
from .complexity import needed
from .errors import EmptyImageError, ImageTooLargeError, ImageTooSmallError
from .formats import accepted_formats
from .png import MOST_PROFILE

PngImagePlugin.MAX_TEXT_CHUNK = MOST_PROFILE  # Pillow's own limit is smaller than some monitors' profiles

MAX_PIXELS = 64_000_000
MIN_SIDE = 8


def open_header(data: bytes, max_pixels: int) -> Image.Image:
    """Opens `data` and checks its size. Raises ImageError if the size is refused, and whatever Pillow raises."""
    if not data:
        raise EmptyImageError("There are no bytes; send an image.")
    data = needed(data)
    image = _open_tiff(data) if tiff.is_tiff(data) else Image.open(io.BytesIO(data), formats=accepted_formats())
    _check_size(image.size, max_pixels)
    check_memory(image, data, max_pixels)
    return image


def _open_tiff(data: bytes) -> Image.Image:
    layout = tiff.read_layout(data)
    try:
        image = Image.open(io.BytesIO(data), formats=["TIFF"])
    except UnidentifiedImageError as error:
        raise tiff.unsupported(f"{layout} in this byte or bit order or with these extra samples") from error
    assert isinstance(image, TiffImageFile)
    tiff.correct(image, layout)
    return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        most = f"{max_pixels / 1e6:g} megapixels"
        raise ImageTooLargeError(f"The image is {width}x{height} pixels: send at most {most}.")
    if min(size) < MIN_SIDE:
        raise ImageTooSmallError(f"The image is {width}x{height} pixels; send at least {MIN_SIDE}x{MIN_SIDE}.")
