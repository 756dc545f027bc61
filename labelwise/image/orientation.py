"""Decoding a photo upright, as its EXIF says. HEIF and AVIF state the same by `irot` and `imir`.

Pillow also believes an orientation that stands in XMP alone. Browsers, libvips and ImageMagick do not, and neither does
this module.
"""

from contextlib import suppress

from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from .jpeg import load_jpeg

_ORIENTATION = 0x0112  # EXIF's tag
_EXIF = ("exif", "Raw profile type exif")  # what Pillow's formats call it
_XMP = ("xmp", "XML:com.adobe.xmp")


def load_upright(image: Image.Image, data: bytes) -> int:
    """Decodes `image`, opened from `data`, turns it upright and returns the orientation in the file, 1 to 8."""
    if isinstance(image, TiffImageFile):  # turns itself as it loads, and forgets its orientation
        orientation = _settled_orientation(image)
        image.load()
        return orientation
    if isinstance(image, JpegImageFile):
        load_jpeg(image, data)
    else:
        image.load()  # some parts of a PNG come after its pixels
        _free_decoder(image)
    orientation = _settled_orientation(image)
    for name in _EXIF:  # which Pillow would write again without its orientation, reading all of it for that
        image.info.pop(name, None)
    if orientation != 1:
        with suppress(Exception):  # as below
            ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies the picture
    return orientation


def _free_decoder(image: Image.Image) -> None:
    """Frees what Pillow keeps beside a decoded AVIF or WebP, which is more than the picture itself."""
    if image.format in ("AVIF", "WEBP"):
        vars(image).pop("_decoder", None)  # planes, or two canvases
        if isinstance(image, ImageFile) and image.fp:
            image.fp.close()  # an AVIF's pixels


def _settled_orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, and keeps Pillow from reading another. A broken EXIF block is ignored."""
    hidden = {name: image.info.pop(name) for name in _XMP if name in image.info}
    try:
        with suppress(Exception):  # Pillow's EXIF reader raises anything on hostile bytes
            orientation = int(image.getexif()[_ORIENTATION])  # Pillow keeps what it has read once
            if orientation in range(1, 9):
                return orientation
    finally:
        image.info.update(hidden)
    return 1


def turned_like(shown: tuple[int, int], size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns `size` upright, given the size `shown` of the decoded image, whose sides may be smaller.

    Pillow gives the size of some formats before turning and of others after it, so the decoded sides decide. Only
    where a draft became square does the orientation decide.
    """
    turned = orientation > 4 if shown[0] == shown[1] else (shown[0] < shown[1]) != (size[0] < size[1])
    return (size[1], size[0]) if turned else size
