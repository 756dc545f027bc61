"""Bytes to RGB uint8 pixels: the only decode and resize code of the project.

Training's evaluation, the gateway, the clients and Triton's decode model all call `load_pixels`, so none of them can
see a photo differently from the others. Export copies this file beside Triton's decode model, so it needs nothing but
Pillow and NumPy.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

try:
    from pillow_heif import register_heif_opener
except ImportError:  # Pillow itself reads no HEIC; the extra `heif` brings what does
    pass
else:
    register_heif_opener()

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
SUFFIXES = (*(".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"), ".heic", ".heif")
MAX_PIXELS = 64_000_000
MIN_SIDE = 8

# A JPEG may be decoded at 1/2, 1/4 or 1/8, down to this many times the target. What that changes is bounded by a test,
# and the same in training, in the gateway and in Triton.
_DRAFT_MARGIN = 2
_ROWS = 256
_ORIENTATION = 0x0112  # EXIF's tag
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_SRGB = ImageCms.createProfile("sRGB")


class ImageError(ValueError):
    """An image that cannot be tagged. `code` is stable; the message is one line for whoever sent the image."""

    code = "image_invalid"


class EmptyImageError(ImageError):
    code = "image_empty"


class UnsupportedImageError(ImageError):
    code = "image_format_unsupported"


class BrokenImageError(ImageError):
    code = "image_broken"


class ImageTooLargeError(ImageError):
    code = "image_too_many_pixels"


class ImageTooSmallError(ImageError):
    code = "image_too_small"


@dataclass(frozen=True)
class Photo:
    """A photo at the model's size, with what has to be known to find a place of it in the original again.

    `pixels` are uint8 [height, width, 3]; `size` is the whole photo's (width, height), upright; `orientation` is the
    EXIF orientation, 1 to 8, that made it upright.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    orientation: int


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

    EXIF orientation is applied, ICC profiles are converted to sRGB, transparency is laid over white, and of an
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
    """As `load_pixels`; `hold(pixels)` is entered for the time in which so many pixels are held decoded."""
    with _translated_errors():
        image = _open(data, max_pixels)
        size, whole = image.size, image.width * image.height
        _draft(image, _DRAFT_MARGIN * max(height, width))
    with hold(_held(image, whole)), _translated_errors():
        orientation = _orientation(image)
        size_shown, pixels = _at_size(_decoded(image), height, width, resize, interpolation)
        image.close()  # so that nothing is held after `hold`
    return Photo(pixels, _turned_like(size_shown, size, orientation), orientation)


def open_rgb(data: bytes, max_pixels: int = MAX_PIXELS, draft_side: int | None = None) -> Image.Image:
    """Decode to an upright sRGB image; with `draft_side` a JPEG may come smaller, no side below it. ImageError."""
    with _translated_errors():
        image = _open(data, max_pixels)
        if draft_side is not None:
            _draft(image, draft_side)
        return _decoded(image)


def open_small(data: bytes, side: int, max_pixels: int = MAX_PIXELS, hold: Hold = nullcontext) -> Image.Image:
    """As `open_rgb`, then made smaller until no side is above `side`; `hold` as in `load_photo`."""
    with _translated_errors():
        image = _open(data, max_pixels)
        whole = image.width * image.height
        _draft(image, side)
    with hold(_held(image, whole)), _translated_errors():
        shown = _decoded(image)
        shown.thumbnail((side, side), Image.Resampling.LANCZOS)
        return shown


def _open(data: bytes, max_pixels: int) -> Image.Image:
    """The header is read, the pixels are not yet."""
    if not data:
        raise EmptyImageError("There are no bytes; send an image.")
    image = Image.open(io.BytesIO(data), formats=_accepted_formats())
    _check_size(image.size, max_pixels)
    return image


def _draft(image: Image.Image, side: int) -> None:
    if image.format == "JPEG":
        image.draft(None, (side, side))


def _held(image: Image.Image, whole: int) -> int:
    """Pixels that decoding holds: of a progressive JPEG all coefficients are kept, at whatever scale it comes out."""
    return whole if image.info.get("progressive") else image.width * image.height


def _decoded(image: Image.Image) -> Image.Image:
    image.load()
    return _to_rgb(_upright(image))


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError("The image has more pixels than can be decoded here; send a smaller one.") from error
    except UnidentifiedImageError as error:
        names = ", ".join(_accepted_formats())
        raise UnsupportedImageError(f"The bytes are not an image of an accepted format ({names}).") from error
    except MemoryError as error:
        raise ImageTooLargeError("The image needs more memory than there is; send a smaller one.") from error
    except Exception as error:  # Pillow's plugins raise anything, from SyntaxError to struct.error, on hostile bytes
        raise BrokenImageError(
            "The image is damaged or incomplete and cannot be decoded; send it again whole."
        ) from error


def _accepted_formats() -> tuple[str, ...]:
    """FORMATS this Pillow can open; HEIF joins where its plugin registered it."""
    Image.init()
    return tuple(name for name in (*FORMATS, "HEIF") if name in Image.OPEN)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLargeError(f"The image is {width}x{height} pixels: {_too_large(max_pixels)}")
    if min(size) < MIN_SIDE:
        raise ImageTooSmallError(f"The image is {width}x{height} pixels; send at least {MIN_SIDE}x{MIN_SIDE}.")


def _too_large(max_pixels: int) -> str:
    return f"send at most {max_pixels / 1e6:g} megapixels."


def _upright(image: Image.Image) -> Image.Image:
    """By its EXIF orientation; a broken EXIF block says nothing about the pixels, which decoded."""
    with suppress(Exception):  # Pillow's EXIF reader raises anything on hostile bytes
        ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies what was upright already
    return image


def _orientation(image: Image.Image) -> int:
    """As the file says it; to be asked before the pixels are loaded, for then a TIFF forgets it."""
    with suppress(Exception):  # Pillow's EXIF reader raises anything on hostile bytes
        orientation = int(image.getexif()[_ORIENTATION])
        if orientation in range(1, 9):
            return orientation
    return 1


def _turned_like(shown: tuple[int, int], size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """`size` as it is upright, given the decoded image's: its sides may be smaller, but lie in the same order.

    Pillow says the size of some formats before turning, and of others after; only where a draft became square does the
    orientation have to tell.
    """
    turned = orientation > 4 if shown[0] == shown[1] else (shown[0] < shown[1]) != (size[0] < size[1])
    return (size[1], size[0]) if turned else size


def _at_size(
    image: Image.Image, height: int, width: int, resize: str, interpolation: str
) -> tuple[tuple[int, int], NDArray[np.uint8]]:
    """The image's own size, and its pixels at the model's."""
    box = centre_box(image.size, width / height) if resize == "crop" else None
    return image.size, np.asarray(image.resize((width, height), _RESAMPLING[interpolation], box=box))


def _to_rgb(image: Image.Image) -> Image.Image:
    """In sRGB, over white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bit(image).convert("RGB")
    if not image.has_transparency_data:
        return _to_srgb(image.convert("RGB") if image.mode == "P" else image)
    rgba = _in_mode(image, "RGBA")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(_to_srgb(rgba.convert("RGB")), mask=rgba.getchannel("A"))
    return white


def _to_8_bit(image: Image.Image) -> Image.Image:
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


def _to_srgb(image: Image.Image) -> Image.Image:
    """To RGB, by way of the image's ICC profile where it has another than sRGB; a broken profile does not count."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode="RGB")
                return converted or _in_mode(image, "RGB")
        except (ImageCms.PyCMSError, OSError):
            pass
    return _in_mode(image, "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converted; without the copy that Pillow makes of an image that is in this mode already."""
    return image if image.mode == mode else image.convert(mode)


def centre_box(size: tuple[int, int], ratio: float) -> tuple[float, float, float, float]:
    """The largest centred box (left, top, right, bottom) of width/height `ratio` within `size`."""
    width, height = size
    box_width, box_height = min(width, height * ratio), min(height, width / ratio)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height
