"""Hand-made TIFF files of any layout that the format allows."""

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

UINT, INT, FLOAT, VOID = 1, 2, 3, 4
_SHORT, _LONG = 3, 4
_TYPES = {_SHORT: "H", _LONG: "I"}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

Tags = dict[int, Sequence[int]]


def tiff(
    samples: NDArray[np.generic],
    photometric: int,
    bits: int,
    sample_format: int = UINT,
    *,
    order: str = "<",
    separate: bool = False,
    compression: int = 1,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    fill_order: int = 1,
    tags: Tags | None = None,
) -> bytes:
    """Returns a TIFF of `samples` [height, width, samples per pixel], each written with so many `bits`.

    `order` is `<` or `>`; `tile` is (height, width); `rows` are the rows of a strip; `tags` are added,
    or replace others; an empty value removes a tag.
    """
    height, width, count = samples.shape
    planes = [samples[..., [plane]] for plane in range(count)] if separate else [samples]
    rows = rows or height
    shape = tile or (rows, width)
    blocks = [_packed(block, bits, sample_format, order) for plane in planes for block in _blocks(plane, *shape, tile)]
    if compression in (8, 32946):
        blocks = [zlib.compress(block) for block in blocks]
    if fill_order == 2:
        blocks = [block.translate(_REVERSED) for block in blocks]
    written = {
        256: [width],
        257: [height],
        258: [bits] * count,
        259: [compression],
        262: [photometric],
        266: [fill_order] if fill_order != 1 else [],
        277: [count],
        284: [2] if separate else [1],
        339: [sample_format] * count,
    }
    written |= {322: [tile[1]], 323: [tile[0]]} if tile else {278: [rows]}
    return assembled(written | (tags or {}), blocks, order, tiled=tile is not None)


def assembled(tags: Tags, blocks: Sequence[bytes], order: str = "<", tiled: bool = False) -> bytes:
    """Returns a TIFF of these tags, with the offsets and the lengths of the encoded `blocks` (strips or tiles)."""
    offsets, lengths = (324, 325) if tiled else (273, 279)
    tags = {offsets: [0] * len(blocks), lengths: [len(block) for block in blocks], **tags}
    entries = {tag: list(values) for tag, values in sorted(tags.items()) if len(values)}
    directory = 2 + 12 * len(entries) + 4
    values_at = 8 + directory
    data_at = values_at + sum(4 * len(values) for values in entries.values())
    place = data_at
    if offsets in entries and not any(entries[offsets]):
        entries[offsets] = [place := place + length for length in [0, *(len(block) for block in blocks[:-1])]]
    head, values_bytes = b"", b""
    for tag, values in entries.items():
        kind = _SHORT if tag not in (offsets, lengths) and max(values) < 1 << 16 else _LONG
        packed = struct.pack(f"{order}{len(values)}{_TYPES[kind]}", *values)
        if len(packed) > 4:
            place_of_values = values_at + len(values_bytes)
            values_bytes += packed.ljust(4 * len(values), b"\0")
            packed = struct.pack(f"{order}I", place_of_values)
        head += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return (start + head + bytes(4) + values_bytes).ljust(data_at, b"\0") + b"".join(blocks)


def _blocks(
    plane: NDArray[np.generic], height: int, width: int, tiled: tuple[int, int] | None
) -> Iterator[NDArray[np.generic]]:
    """The plane's strips or tiles; tiles at the right and at the bottom are filled up."""
    for top in range(0, plane.shape[0], height):
        for left in range(0, plane.shape[1], width):
            block = plane[top : top + height, left : left + width]
            if tiled:
                block = np.pad(block, ((0, height - block.shape[0]), (0, width - block.shape[1]), (0, 0)))
            yield block


def _packed(block: NDArray[np.generic], bits: int, sample_format: int, order: str) -> bytes:
    if sample_format == FLOAT and bits >= 16 and bits != 24:
        return block.astype(f"{order}f{bits // 8}").tobytes()
    values = block.astype(np.int64) if sample_format == INT else block.astype(np.uint64)
    if bits in (8, 16, 32, 64):
        return values.astype(f"{order}{'i' if sample_format == INT else 'u'}{bits // 8}").tobytes()
    values = values.astype(np.uint64)
    if bits % 8 == 0:  # 24 bits
        raw = values.astype(f"{order}u8").reshape(-1, 1).view(np.uint8)
        return (raw[:, : bits // 8] if order == "<" else raw[:, -bits // 8 :]).tobytes()
    wide = values.astype(">u8").reshape(len(block), -1, 1).view(np.uint8)
    return np.packbits(np.unpackbits(wide, axis=2)[..., -bits:].reshape(len(block), -1), axis=1).tobytes()
