"""How much memory decoding takes, counted in pixels of 18 bytes.

A header's width and height do not tell: decoders allocate tiles, strips, coded frames and coefficients.
"""

from math import ceil

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from . import tiff
from .frame_sizes import Frames, UnreadableFrames, read_frames
from .image_errors import BrokenImageError, ImageTooLargeError
from .jpeg import keeps_coefficients

BYTES_PER_PIXEL = 18  # the most that any mode of an ordinary picture takes, measured in test_budget.py
_PADDING = 64  # by how much a frame's sides may exceed the picture's, since coders work in blocks
_ALPHA = 1.25  # a picture with alpha may hold a quarter more than one without it


def held_pixels(image: Image.Image, data: bytes, whole: int) -> int:
    """Returns how much memory is held while `image` is decoded from `data`, in pixels.

    `whole` is the number of pixels of the image at full scale.
    """
    pixels = image.width * image.height
    if isinstance(image, JpegImageFile):
        return whole if pixels < whole and keeps_coefficients(image, data) else pixels
    if image.format == "TIFF":
        return max(pixels, ceil(tiff.decoding_bytes(tiff.read_layout(data)) / BYTES_PER_PIXEL))
    if image.format in ("AVIF", "HEIF"):
        return max(pixels, _frames(data).area)
    return pixels


def check_memory(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Raises ImageTooLargeError if decoding takes more memory than `max_pixels` do, whatever the header says.

    Raises BrokenImageError if an AVIF's frames are far larger than its header says.
    """
    if isinstance(image, JpegImageFile):
        return  # never more than its width times its height
    width, height = image.size
    if image.format == "AVIF":
        frames = _frames(data)
        if frames.area > 4 * (width + _PADDING) * (height + _PADDING):
            across, down = max(frames.colour + frames.alpha)
            raise BrokenImageError(
                f"The image is said to be {width}x{height} pixels, but has frames of {across}x{down}."
            )
    held = held_pixels(image, data, width * height)
    if held > max(max_pixels, _ALPHA * width * height):
        raise ImageTooLargeError(
            f"The image is {width}x{height} pixels, but its parts take the memory of {held / 1e6:.3g} megapixels; "
            "save it again as an ordinary JPEG or PNG."
        )


def _frames(data: bytes) -> Frames:
    try:
        return read_frames(data)
    except UnreadableFrames as error:
        raise BrokenImageError("The headers of the image's frames are damaged; send it again whole.") from error
