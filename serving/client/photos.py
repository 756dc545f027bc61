"""What a user may give as a photo, and how it becomes bytes to send or pixels of the model's size."""

import io
import os
import stat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelwise import image as decoder
from labelwise.spec import ImageSpec
from serving.errors import ClientError, PhotoError

PhotoLike = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
_SAVED_AS = {"RGBa": "RGBA", "La": "LA", "HSV": "RGB"}  # modes that no format takes
MAX_BYTES = 256 * 2**20  # of one encoded photo; a larger file is not a photo
_ORIENTATION = 0x0112
_UNREADABLE = "The picture cannot be read; give it again, or its bytes."


class BadPhoto(Exception):
    """This photo has no result, for this reason."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.error = PhotoError(code, detail)


def require_many(photos: Any) -> None:
    """Raises ClientError for one photo in place of a list: a path would be taken for a list of letters."""
    single = isinstance(photos, str | os.PathLike | bytes | bytearray | memoryview | Image.Image)
    if single or (isinstance(photos, np.ndarray) and photos.ndim < 4):
        raise ClientError("Give a list of photos; for one, [photo].")
    if not hasattr(photos, "__iter__") and not hasattr(photos, "__aiter__"):
        raise ClientError(f"Give a list of photos, not {type(photos).__name__}.")


def id_of(photo: Any, place: int) -> str | int:
    """The path as it was given. A photo without a path has its place in the input, from 0."""
    return os.fspath(photo) if isinstance(photo, str | os.PathLike) else place


def may_change(photo: Any) -> bool:
    """Whether its owner may write to it while it waits here, such as the next frame of a camera."""
    return isinstance(photo, bytearray | memoryview | np.ndarray | Image.Image)


def kept(photo: Any) -> Any:
    """The photo as it is now: a copy if it `may_change`."""
    if isinstance(photo, bytearray | memoryview):
        return bytes(photo)
    if isinstance(photo, np.ndarray):
        return photo.copy()
    return _copied(photo) if isinstance(photo, Image.Image) else photo


def to_bytes(photo: PhotoLike | BadPhoto, small: bool) -> bytes:
    """Files and bytes as they are; pictures and arrays in a lossless format, a `small` one if they travel."""
    if isinstance(photo, str | os.PathLike):
        return _read(photo)
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes(photo)
    if isinstance(photo, np.ndarray):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            raise BadPhoto("not_a_photo", f"An array must be uint8 [h, w, 3], not {photo.dtype} {list(photo.shape)}.")
        photo = Image.fromarray(np.ascontiguousarray(photo))
    if isinstance(photo, Image.Image):
        return _saved(photo, "PNG" if small and photo.mode in _PNG_MODES else "TIFF")
    if isinstance(photo, BadPhoto):
        raise photo
    raise BadPhoto("not_a_photo", f"A photo is a path, bytes, a PIL image or an array, not {type(photo).__name__}.")


def decoded(photo: bytes, image: ImageSpec, max_pixels: int = decoder.MAX_PIXELS) -> decoder.Photo:
    """At the model's size, by the project's one decoder. Raises BadPhoto."""
    try:
        return decoder.load_photo(photo, image.height, image.width, image.resize, image.interpolation, max_pixels)
    except decoder.ImageError as error:
        raise BadPhoto(error.code, str(error)) from error


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        found = os.stat(path)  # noqa: PTH116 (takes any os.PathLike)
        if stat.S_ISDIR(found.st_mode):
            raise BadPhoto("file_unreadable", f"{path} is a folder: name the photos in it.")
        if not stat.S_ISREG(found.st_mode):  # a pipe may never end
            raise BadPhoto("file_unreadable", f"{path} is not a file.")
        if found.st_size > MAX_BYTES:
            raise BadPhoto("file_too_large", f"{path} has more than {MAX_BYTES // 2**20} MiB.")
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(MAX_BYTES)
    except FileNotFoundError:
        raise BadPhoto("file_missing", f"{path}: there is no such file.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise BadPhoto("file_unreadable", f"{path}: {getattr(error, 'strerror', None) or error}.") from None


def _saved(image: Image.Image, form: str) -> bytes:
    """TIFF takes nearly every mode and is fast, uncompressed; PNG is for sending."""
    buffer = io.BytesIO()
    try:
        image = image.convert(_SAVED_AS[image.mode]) if image.mode in _SAVED_AS else image
        options = {"compress_level": 1} if form == "PNG" else {}
        image.save(buffer, form, exif=image.getexif(), icc_profile=image.info.get("icc_profile"), **options)
    except Exception as error:  # a lazy image decodes only now, and Pillow's plugins may raise anything
        raise BadPhoto("image_broken", _UNREADABLE) from error
    return buffer.getvalue()


def _copied(image: Image.Image) -> Image.Image | BadPhoto:
    try:
        copy = image.copy()
        exif = Image.Exif()
        exif[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)  # a copy of a TIFF lacks it
        copy.info["exif"] = exif.tobytes()
        return copy
    except Exception:  # a lazy image decodes only now, and Pillow's plugins may raise anything
        return BadPhoto("image_broken", _UNREADABLE)
