"""The header of BMP, and the colour profile in it."""

import struct

from .structure import Structure

_RLE = (1, 2)  # compressions
_V5 = struct.Struct("<14xI52xI52xII")  # header's size, kind of colour space, the profile's offset and size
_V5_BYTES, _EMBEDDED = 124, 0x4D424544


def bmp_structure(data: bytes) -> Structure:
    """Reads the structure of a BMP. Bytes after the picture of a run-length coded BMP are not needed."""
    width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
    if int.from_bytes(data[30:34], "little") not in _RLE:
        return Structure(lambda: data, 1, work=width * height)
    # At worst each pixel takes a run of two bytes, and each row two more for its end.
    end = int.from_bytes(data[10:14], "little") + 2 * (width + 4) * (height + 4)
    return Structure(lambda: data[:end], 1, work=width * height)


def bmp_profile(data: bytes) -> bytes | None:
    """Returns the profile in a header of version 5, or None if there is none."""
    if len(data) < _V5.size:
        return None
    size, kind, offset, length = _V5.unpack_from(data)
    return data[14 + offset :][:length] if size == _V5_BYTES and kind == _EMBEDDED else None
