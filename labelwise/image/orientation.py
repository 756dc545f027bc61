"""Turning a photo upright by its EXIF orientation."""

from contextlib import suppress

from PIL import Image, ImageOps

_ORIENTATION = 0x0112  # EXIF's tag


def upright(image: Image.Image) -> Image.Image:
    """Turns the image by its EXIF orientation. A broken EXIF block is ignored: the pixels did decode."""
    with suppress(Exception):  # Pillow's EXIF reader raises anything on hostile bytes
        ImageOps.exif_transpose(image, in_place=True)  # otherwise it copies what was upright already
    return image


def stored_orientation(image: Image.Image) -> int:
    """Returns the orientation in the file, 1 to 8. Call it before the pixels are loaded: a TIFF then forgets it."""
    with suppress(Exception):  # Pillow's EXIF reader raises anything on hostile bytes
        orientation = int(image.getexif()[_ORIENTATION])
        if orientation in range(1, 9):
            return orientation
    return 1


def turned_like(shown: tuple[int, int], size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Returns `size` upright, given the size `shown` of the decoded image, whose sides may be smaller.

    Pillow gives the size of some formats before turning and of others after it, so the decoded sides decide. Only
    where a draft became square does the orientation decide.
    """
    turned = orientation > 4 if shown[0] == shown[1] else (shown[0] < shown[1]) != (size[0] < size[1])
    return (size[1], size[0]) if turned else size
