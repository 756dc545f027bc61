"""The `nclx` box is found wherever it may be, and a broken file does no harm."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from labelwise.image.cicp import Cicp
from labelwise.image.isobmff import read_nclx
from tests.labelwise.image.hdr_twins import avif


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


def colr(primaries: int, transfer: int) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, 9, 128))


def meta(*parts: bytes) -> bytes:
    return box(b"ftyp", b"avif", bytes(4)) + full(b"meta", *parts)


ICC = box(b"colr", b"prof", bytes(20))


def test_the_properties_of_the_primary_item_count():
    properties = box(b"ipco", colr(1, 13), ICC, box(b"ispe", bytes(12)), colr(9, 16))
    associations = struct.pack(">I HBB HBBBB", 2, 1, 1, 1, 7, 3, 0x82, 3, 0x84)  # of the items 1 and 7
    item = full(b"pitm", struct.pack(">H", 7))
    assert read_nclx(meta(item, box(b"iprp", properties, full(b"ipma", associations)))) == Cicp(9, 16)


def test_large_item_numbers_and_long_lists_of_properties():
    properties = box(b"ipco", *[box(b"free")] * 200, colr(12, 13))
    associations = struct.pack(">I IBHH", 1, 70_000, 2, 5, 0x8000 | 201)
    item = full(b"pitm", struct.pack(">I", 70_000), version=1)
    assert read_nclx(meta(item, box(b"iprp", properties, full(b"ipma", associations, version=1, flags=1)))) == Cicp(
        12, 13
    )


def test_a_grid_may_leave_its_colours_to_its_tiles():
    tiles = full(b"iref", box(b"dimg", struct.pack(">HHHH", 1, 2, 2, 3)))
    associations = struct.pack(">I HBB HBB", 2, 1, 1, 1, 2, 1, 2)
    properties = box(b"iprp", box(b"ipco", box(b"ispe", bytes(12)), colr(9, 18)), full(b"ipma", associations))
    assert read_nclx(meta(full(b"pitm", struct.pack(">H", 1)), tiles, properties)) == Cicp(9, 18)


def test_a_file_of_tracks_only():
    entry = box(b"av01", bytes(78), box(b"av1C", bytes(4)), colr(9, 16))
    track = full(b"stsd", struct.pack(">I", 1), entry)
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        track = box(kind, track)
    assert read_nclx(box(b"ftyp", b"avis", bytes(4)) + track) == Cicp(9, 16)


def test_an_animated_avif_states_its_colours_too():
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    stream = io.BytesIO()
    frames[0].save(stream, "AVIF", save_all=True, append_images=frames[1:], duration=50)
    assert read_nclx(stream.getvalue()) == Cicp(1, 13)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\x08free", bytes(64), struct.pack(">I4sQ", 1, b"meta", 2**63)])
def test_a_file_that_states_no_colours(data: bytes):
    assert read_nclx(data) is None


def test_damaged_files_do_no_harm():
    whole = avif(Image.new("RGB", (32, 32)), 9, 16)
    assert read_nclx(whole) == Cicp(9, 16)
    for length in range(len(whole)):
        assert read_nclx(whole[:length]) in (None, Cicp(9, 16))
    random = np.random.default_rng(0)
    for _ in range(2000):
        broken = bytearray(whole)
        for place in random.integers(0, len(whole), 4):
            broken[place] = random.integers(0, 256)
        read_nclx(bytes(broken))


def test_a_file_of_countless_boxes_is_given_up():
    item = full(b"pitm", struct.pack(">H", 1))
    many = struct.pack(">I", 2**32 - 1) + struct.pack(">HB", 2, 0) * 50_000
    assert read_nclx(meta(item, box(b"iprp", box(b"ipco", colr(9, 16)), full(b"ipma", many)))) is None
    assert read_nclx(box(b"free") * 50_000 + meta(item)) is None
