"""`--decode gpu`: ordinary JPEGs become pixels on a GPU, and all other photos on the CPU as without it."""

import logging
from collections.abc import Callable
from contextlib import nullcontext
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelwise.devices.choice import fault_of, remedy_for
from labelwise.errors import LabelwiseError
from labelwise.image import MAX_PIXELS, Hold, Photo, centre_box, load_photo
from labelwise.image.plain_jpeg import PlainJpeg, read_plain_jpeg
from labelwise.image.structure import Structure
from serving.decoding.resizing import LONGEST_SIDE, DevicePixels, Resizer, is_vertical_first

logger = logging.getLogger("labelwise.decoder")

# How far the pixels of drawn photos may be from the CPU's, on average, in levels of 255. A decoder with libjpeg-turbo's
# fast transform differs by 0.9, which moves scores of `everyday` by up to 0.13. Swapped colours, a wrong stride or
# pixels that are not there yet differ by far more.
_MOST_DIFFERENT = 0.5
_DRAWN: tuple[tuple[int, int, int, int], ...] = (  # width, height, Pillow's subsampling, orientation
    (640, 480, 2, 1),
    (333, 217, 0, 1),
    (1001, 1500, 1, 6),
)
_SIDE = 224
_GREY = range(126, 130)  # a decoder puts it in place of what a truncated file lacks


class _Unable(Exception):
    """The device did not decode a photo."""


class GpuPhotos:
    """Loads photos as labelwise.image does, on the device that `decode` decodes to and `resizer` resizes on.

    The CPU takes every photo that is not a plain JPEG, and those that the device cannot decode. Safe for several
    threads if `decode` is.
    """

    def __init__(self, decode: Callable[[bytes], DevicePixels | None], resizer: Resizer) -> None:
        self._decode, self._resizer = decode, resizer

    def load_photo(
        self,
        data: bytes,
        height: int,
        width: int,
        resize: str = "squash",
        interpolation: str = "bicubic",
        max_pixels: int = MAX_PIXELS,
        hold: Hold = nullcontext,
        structure: Structure | None = None,
    ) -> Photo:
        """As labelwise.image's `load_photo`. Raises ImageError."""
        plain = read_plain_jpeg(data, max_pixels, structure)
        if plain is not None and max(plain.size) <= LONGEST_SIDE:
            try:
                with hold(plain.size[0] * plain.size[1]):
                    pixels = self._pixels(data, plain, (width, height), resize, interpolation)
            except _Unable as error:
                logger.warning("the CPU decodes a photo of %d bytes, not the GPU: %s", len(data), error)
            else:
                size = plain.size[::-1] if plain.orientation > 4 else plain.size
                return Photo(pixels, size, plain.orientation)
        return load_photo(data, height, width, resize, interpolation, max_pixels, hold, structure)

    def require_same(self) -> None:
        """Raises LabelwiseError if drawn photos do not become the same pixels as on the CPU."""
        for width, height, subsampling, orientation in _DRAWN:
            data, what = _drawn(width, height, subsampling, orientation), f"a drawn photo of {width}x{height} pixels"
            plain = read_plain_jpeg(data, MAX_PIXELS)
            assert plain is not None
            try:
                found = self._pixels(data, plain, (_SIDE, _SIDE), "squash", "bicubic")
            except _Unable as error:
                raise LabelwiseError(f"{what} is not decoded: {error}") from error
            difference = float(np.abs(found.astype(np.int16) - load_photo(data, _SIDE, _SIDE).pixels).mean())
            if difference > _MOST_DIFFERENT:
                raise LabelwiseError(f"{what} differs by {difference:.1f} levels of 255 from the CPU's")

    def _pixels(
        self, data: bytes, plain: PlainJpeg, target: tuple[int, int], resize: str, interpolation: str
    ) -> NDArray[np.uint8]:
        """Returns upright pixels in the size `target` (width, height). Raises _Unable."""
        is_turned = plain.orientation > 4
        stored, upright = (target[::-1], plain.size[::-1]) if is_turned else (target, plain.size)
        vertical_first = is_vertical_first(upright, target) != is_turned  # Pillow turns a photo before it scales it
        box = centre_box(plain.size, stored[0] / stored[1]) if resize == "crop" else None
        try:
            decoded = self._decode(data[: plain.end])
            if decoded is None or decoded.shape[1::-1] != plain.size:
                raise _Unable("nvImageCodec refused it")
            pixels, last = self._resizer.resize(decoded, stored, box, interpolation, vertical_first)
        except Exception as error:  # nvImageCodec and ONNX Runtime raise classes of their own
            raise _Unable(" ".join(str(error).split())[:200].rstrip(".")) from error
        if all(level in _GREY for level in last):
            raise _Unable("its last pixel is grey, as in a photo that is cut off")
        return _upright(pixels, plain.orientation)


def open_gpu_photos() -> GpuPhotos:
    """Raises LabelwiseError, with the reason and what to do, if the first GPU does not decode as the CPU does."""
    if fault := fault_of("nvjpeg"):
        raise LabelwiseError(f"--decode gpu does not work here: {fault}. What to do: {remedy_for('nvjpeg')}.")
    from serving.decoding.nvjpeg import NvJpeg

    try:
        photos = GpuPhotos(NvJpeg(), Resizer("cuda"))
        photos.require_same()
    except Exception as error:  # nvImageCodec and ONNX Runtime raise classes of their own
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise LabelwiseError(f"--decode gpu does not work here: {reason}. What to do: use --decode cpu.") from error
    return photos


def _drawn(width: int, height: int, subsampling: int, orientation: int) -> bytes:
    """Returns a JPEG of three gradients, one for each colour."""
    across = Image.linear_gradient("L").rotate(90)
    picture = Image.merge("RGB", [Image.linear_gradient("L"), across, Image.radial_gradient("L")])
    exif, stream = Image.Exif(), BytesIO()
    exif[0x0112] = orientation
    picture.resize((width, height)).save(stream, "JPEG", quality=95, subsampling=subsampling, exif=exif)
    return stream.getvalue()


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns [h, w, 3] as EXIF's `orientation` says."""
    if orientation > 4:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
