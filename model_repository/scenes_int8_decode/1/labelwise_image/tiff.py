"""TIFF: how the samples are stored, and which kinds of samples are decoded correctly.

Pillow opens more kinds of TIFF than it decodes correctly, and libtiff allocates whole tiles and strips whatever the
size of the picture. So the directory is read and checked here first.
"""

import struct
from dataclasses import dataclass
from math import ceil

from PIL import ImagePalette
from PIL.ImageFile import _Tile
from PIL.TiffImagePlugin import TiffImageFile

from .image_errors import BrokenImageError, ImageTooLargeError, UnsupportedImageError
from .tiff_tags import Tags, read_tags

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _SAMPLES, _ROWS_PER_STRIP, _PLANAR, _COLOR_MAP = 273, 277, 278, 284, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _INK_SET, _EXTRA, _SAMPLE_FORMAT = 322, 323, 324, 332, 338, 339
_YCBCR_COEFFICIENTS, _YCBCR_SUBSAMPLING, _REFERENCE_BLACK_WHITE = 529, 530, 532
_DEFAULTS: Tags = {
    _BITS: (1,),
    _COMPRESSION: (1,),
    _FILL_ORDER: (1,),
    _SAMPLES: (1,),
    _ROWS_PER_STRIP: (2**32 - 1,),  # the whole picture
    _PLANAR: (1,),
    _INK_SET: (1,),
    _EXTRA: (),
    _SAMPLE_FORMAT: (1,),
    _YCBCR_COEFFICIENTS: (0.299, 0.587, 0.114),
    _YCBCR_SUBSAMPLING: (2, 2),
    _REFERENCE_BLACK_WHITE: (0, 255, 128, 255, 128, 255),
}
_REQUIRED = {_WIDTH, _HEIGHT, _PHOTOMETRIC}
_OPTIONAL = {_STRIP_OFFSETS, _COLOR_MAP, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS}

WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB = 0, 1, 2, 3, 5, 6, 8
_COLOURS = {
    WHITE_IS_ZERO: "WhiteIsZero grey",
    _BLACK_IS_ZERO: "grey",
    _RGB: "RGB",
    _PALETTE: "palette",
    4: "transparency mask",
    _CMYK: "CMYK",
    _YCBCR: "YCbCr",
    _CIELAB: "CIELab",
    9: "ICCLab",
    10: "ITULab",
    32803: "raw sensor",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_UINT, _FLOAT = 1, 3
_FORMATS = {_UINT: "", 2: "signed ", _FLOAT: "floating-point ", 4: "untyped ", 5: "complex ", 6: "complex "}
_NONE, _JPEG, _ZSTD = 1, 7, 50000
_COMPRESSIONS = {_NONE, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, _ZSTD}
_OTHER_COMPRESSIONS = {
    6: "old-style JPEG",
    34661: "JBIG",
    34676: "SGILog",
    34677: "SGILog24",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",  # its header alone may ask for 4 GiB of memory
    50001: "WebP",  # the libtiff in Pillow's wheels lacks it
    50002: "JPEG XL",
}
_DECODED = {  # the depths that are decoded correctly; a table test compares them with what other programs show
    (WHITE_IS_ZERO, _UINT): {1, 2, 4, 8, 16},
    (_BLACK_IS_ZERO, _UINT): {1, 2, 4, 8, 12, 16, 32},
    (_BLACK_IS_ZERO, _FLOAT): {32},
    (_RGB, _UINT): {8, 16},
    (_PALETTE, _UINT): {1, 2, 4, 8},
    (_CMYK, _UINT): {8, 16},
    (_YCBCR, _UINT): {8},
    (_CIELAB, _UINT): {8},
}
_UNASSOCIATED_ALPHA = 2
_LARGE_TILE = 4096**2


@dataclass(frozen=True)
class Layout:
    """How the first picture of a TIFF is stored. `size` and `block`, of a tile or strip, are (width, height)."""

    size: tuple[int, int]
    colour: int
    bits: int
    sample_format: int
    samples: int
    extra: tuple[int, ...]
    separate: bool
    compression: int
    fill_order: int
    tiled: bool
    block: tuple[int, int]

    def __str__(self) -> str:
        colour = _COLOURS.get(self.colour, f"photometric interpretation {self.colour}")
        samples = f"{self.samples} x {self.bits}" if self.samples > 1 else f"{self.bits}"
        return f"{colour} {samples}-bit {_FORMATS.get(self.sample_format, 'unknown ')}samples"

    @property
    def planes(self) -> int:
        return self.samples if self.separate else 1

    @property
    def blocks(self) -> int:
        (width, height), (across, down) = self.size, self.block
        return ceil(width / across) * ceil(height / down) * self.planes


def read_layout(data: bytes) -> Layout:
    """Returns how the samples are stored.

    Raises UnsupportedImageError if Pillow does not decode them correctly, BrokenImageError if the directory is damaged
    or contradicts itself, and ImageTooLargeError if the tiles are far larger than the picture.
    """
    try:
        tags, counts = read_tags(data, _REQUIRED | _OPTIONAL | set(_DEFAULTS))
        layout = _layout(_DEFAULTS | tags)
        _check_samples(layout, _DEFAULTS | tags)
        _check_blocks(layout, counts)
    except (struct.error, LookupError, ZeroDivisionError) as error:
        raise BrokenImageError("The TIFF's directory is damaged or incomplete; send the image again whole.") from error
    return layout


def unsupported(what: object) -> UnsupportedImageError:
    return UnsupportedImageError(f"TIFF with {what} is not supported; save it as 8-bit RGB with LZW compression.")


def decoding_bytes(layout: Layout) -> int:
    """Returns how many bytes decoding the picture allocates at most, before its conversion to RGB."""
    (width, height), (across, down) = layout.size, layout.block
    block = down * ceil(across * (layout.samples / layout.planes) * layout.bits / 8)
    if layout.compression == _JPEG:
        block *= 3  # and a progressive JPEG's coefficients
    elif layout.compression == _ZSTD:
        block *= 2  # and its window
    if layout.colour == _YCBCR and layout.compression not in (_NONE, _JPEG):
        block += 4 * width * down  # libtiff converts it to RGBA
    return 4 * width * height + block


def correct(image: TiffImageFile, layout: Layout) -> None:
    """Corrects what Pillow gets wrong when it opens a picture, before the picture is decoded."""
    if image.mode in ("P", "PA"):
        colours = image.tag_v2[_COLOR_MAP]
        if max(colours) < 256:  # as old programs wrote them; TIFF has 16 bits
            image.palette = ImagePalette.raw("RGB;L", bytes(colours))
    if layout.sample_format == _FLOAT and layout.compression != _NONE:  # libtiff returns the machine's byte order
        image.tile = [_in_raw_mode(tile, "F;32NF") for tile in image.tile]
    elif layout.colour == _YCBCR and layout.compression == _NONE:
        # Pillow 12 takes it for the RGBX that libtiff returns.
        image._mode = "YCbCr"
        image.tile = [_in_raw_mode(tile, "YCbCr") for tile in image.tile]


def _in_raw_mode(tile: _Tile, raw_mode: str) -> _Tile:
    assert isinstance(tile.args, tuple)
    return tile._replace(args=(raw_mode, *tile.args[1:]))


def _layout(tags: Tags) -> Layout:
    first = {tag: int(values[0]) for tag, values in tags.items() if values}
    if _PHOTOMETRIC not in first:
        raise BrokenImageError("The TIFF does not say what its samples mean (PhotometricInterpretation is missing).")
    if len({*tags[_BITS]}) != 1 or len({*tags[_SAMPLE_FORMAT]}) != 1:
        raise unsupported("samples of several kinds")
    width, height = first[_WIDTH], first[_HEIGHT]
    tiled = _TILE_WIDTH in first or _TILE_HEIGHT in first
    strip = width, min(first[_ROWS_PER_STRIP], height)
    return Layout(
        size=(width, height),
        colour=first[_PHOTOMETRIC],
        bits=first[_BITS],
        sample_format=first[_SAMPLE_FORMAT],
        samples=first[_SAMPLES],
        extra=tuple(map(int, tags[_EXTRA])),
        separate=first[_PLANAR] == 2 and first[_SAMPLES] > 1,
        compression=first[_COMPRESSION],
        fill_order=first[_FILL_ORDER],
        tiled=tiled,
        block=(first[_TILE_WIDTH], first[_TILE_HEIGHT]) if tiled else strip,
    )


def _check_samples(layout: Layout, tags: Tags) -> None:
    if layout.compression not in _COMPRESSIONS:
        number = layout.compression
        raise unsupported(f"{_OTHER_COMPRESSIONS.get(number, f'number {number}')} compression")
    if layout.bits not in _DECODED.get((layout.colour, layout.sample_format), ()):
        raise unsupported(layout)
    if layout.colour == _CMYK and tags[_INK_SET] != (1,):
        raise unsupported("inks other than CMYK")
    if layout.colour == _YCBCR and (layout.samples != 3 or not _ycbcr_is_decoded(layout, tags)):
        raise unsupported(f"{layout} that are subsampled or of limited range, without compression,")
    if layout.separate and not _separate_is_decoded(layout):
        raise unsupported(f"{layout} in separate planes")


def _ycbcr_is_decoded(layout: Layout, tags: Tags) -> bool:
    """Whether Pillow decodes it: without compression, it assumes full-range samples for every pixel."""
    if layout.compression != _NONE:
        return True
    expected = {tag: _DEFAULTS[tag] for tag in (_YCBCR_COEFFICIENTS, _REFERENCE_BLACK_WHITE)}
    expected |= {_YCBCR_SUBSAMPLING: (1, 1), _PLANAR: (1,)}
    return all(tuple(round(value, 4) for value in tags[tag]) == values for tag, values in expected.items())


def _separate_is_decoded(layout: Layout) -> bool:
    if layout.colour == _YCBCR:
        return layout.compression != _NONE
    if layout.colour not in (_RGB, _CMYK) or layout.extra not in ((), (_UNASSOCIATED_ALPHA,)):
        return False
    if layout.samples != (4 if layout.colour == _CMYK else 3) + len(layout.extra):
        return False
    return layout.compression != _NONE or (layout.bits == 8 and layout.fill_order == 1)


def _check_blocks(layout: Layout, counts: dict[int, int]) -> None:
    (width, height), (across, down) = layout.size, layout.block
    kind = "tiles" if layout.tiled else "strips"
    found = counts[_TILE_OFFSETS if layout.tiled else _STRIP_OFFSETS]
    if found < layout.blocks or (found > layout.blocks and layout.compression == _NONE):
        raise BrokenImageError(f"The TIFF has {found} {kind} where its size needs {layout.blocks}.")
    if layout.tiled and _STRIP_OFFSETS in counts:
        raise BrokenImageError("The TIFF has both strips and tiles.")
    if layout.tiled and across * down > max(_LARGE_TILE, 4 * width * height):
        raise ImageTooLargeError(
            f"The TIFF's tiles are {across}x{down} pixels, far larger than its picture of {width}x{height}; "
            "save it with smaller tiles."
        )
    if layout.colour == _PALETTE and counts[_COLOR_MAP] != 3 << layout.bits:
        raise BrokenImageError(f"The TIFF's palette has {counts[_COLOR_MAP]} values, not {3 << layout.bits}.")
