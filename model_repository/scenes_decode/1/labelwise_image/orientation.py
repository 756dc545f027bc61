"""Decodes a photo upright, as its EXIF orientation says. HEIF and AVIF state the same in `irot` and `imir`.

Pillow also follows an orientation that only XMP states. Browsers, libvips and ImageMagick do not, nor does this module.
"""

from contextlib import suppress

from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .jpeg import load_jpeg

_ORIENTATION = 0x0112  # EXIF's tag
_EXIF = ("exif", "Raw profile type exif")  # the names that Pillow's formats give it
_XMP = ("xmp", "XML:com.adobe.xmp")


def load_upright(image: Image.Image, data: bytes) -> int:
    """Decodes `image`, opened from `data`, turns it upright and returns the orientation in the file, 1 to 8."""
    if isinstance(image, TiffImageFile):  # Pillow turns it on loading and drops its orientation
        orientation = settled_orientation(image)
        image.load()
        return orientation
    if isinstance(image, JpegImageFile):
        load_jpeg(image, data)
    else:
        image.load()  # before EXIF is read: some parts of a PNG come after its pixels
        _free_decoder(image)
    orientation = settled_orientation(image)
    for name in _EXIF:  # otherwise Pillow reads all of it, to write it again without the orientation
        image.info.pop(name, None)
    if orientation != 1:
        with suppress(Exception):  # as in settled_orientation
            ImageOps.exif_transpose(image, in_place=True)  # in place, so that the picture is not copied
    return orientation


def _free_decoder(image: Image.Image) -> None:
    """Frees what Pillow keeps beside a decoded AVIF or WebP, which is larger than the picture itself."""
    if image.format in ("AVIF", "WEBP"):
        vars(image).pop("_decoder", None)  # planes, or two canvases
        if isinstance(image, ImageFile) and image.fp:
            image.fp.close()  # an AVIF's pixels


def settled_orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, and makes Pillow use the same one. Ignores a broken EXIF block."""
    hidden = {name: image.info.pop(name) for name in _XMP if name in image.info}
    try:
        with suppress(Exception):  # on hostile bytes, Pillow's EXIF reader raises anything
            orientation = int(image.getexif()[_ORIENTATION])  # Pillow caches what it reads here
            if orientation in range(1, 9):
                return orientation
    finally:
        image.info.update(hidden)
    return 1


def turned_like(shown: tuple[int, int], size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns `size` upright. `shown` is the size of the decoded image, which may be smaller.

    Pillow gives the size before turning for some formats and after it for others, so the decoded sides decide. The
    orientation decides only if the decoded image is square.
    """
    turned = orientation > 4 if shown[0] == shown[1] else (shown[0] < shown[1]) != (size[0] < size[1])
    return (size[1], size[0]) if turned else size
