"""The blocks of GIF."""

from .structure import Structure, require

_MOST_BLOCKS = 200_000  # before the picture
_LARGE = 2**16  # bytes of extensions; more are left out, as the picture does not need them
_IMAGE, _EXTENSION, _CONTROL = 0x2C, 0x21, 0xF9


def gif_structure(data: bytes) -> Structure:
    """Reads the structure of a GIF up to its first picture. Raises ImageTooComplexError."""
    flags = data[10] if len(data) > 10 else 0
    place = start = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    blocks, control = 0, (0, 0)
    while place + 1 < len(data) and data[place] != _IMAGE:
        begun, is_extension = place, data[place] == _EXTENSION
        place += 2 if is_extension else 1
        blocks += 1
        while is_extension and place < len(data) and data[place]:
            place += 1 + data[place]
            blocks += 1
            require(blocks <= _MOST_BLOCKS, "more than {} blocks before the picture", _MOST_BLOCKS)
        require(blocks <= _MOST_BLOCKS, "more than {} blocks before the picture", _MOST_BLOCKS)
        place += is_extension
        if is_extension and data[begun + 1] == _CONTROL:
            control = (begun, place)
    if place - start <= _LARGE:
        return Structure(lambda: data, blocks, place - start)
    return Structure(lambda: data[:start] + data[slice(*control)] + data[place:], blocks, place - start)
