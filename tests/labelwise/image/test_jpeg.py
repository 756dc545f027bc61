"""JPEGs as cameras, phones and broken downloads leave them: whole or truncated, with or without a trailer."""

import io
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelwise.image import load_pixels, open_rgb
from labelwise.image.image_errors import BrokenImageError

END = b"\xff\xd9"
CODINGS: dict[str, dict[str, Any]] = {
    "baseline": {"quality": 90},
    "no-subsampling": {"quality": 95, "subsampling": 0},
    "optimised": {"optimize": True},
    "restart-markers": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
}


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def is_refused(data: bytes) -> bool:
    try:
        open_rgb(data)
    except BrokenImageError:
        return True
    return False


@pytest.fixture(scope="module")
def picture(photos: list[Path]) -> Image.Image:
    """A picture whose sides are not multiples of 8 or 16, so its last blocks reach beyond it."""
    with Image.open(photos[0]) as photo:
        return photo.convert("RGB").crop((0, 0, 333, 251))


def small(colour: tuple[int, int, int]) -> bytes:
    return jpeg(Image.new("RGB", (160, 120), colour))


def trailers() -> dict[str, bytes]:
    """Trailers that real files have after the picture's data."""
    noise = random.Random(0).randbytes(3000)
    return {
        "nothing": b"",
        "half a marker": b"\xff",
        "zeros": bytes(5000),
        "erased flash memory": b"\xff" * 500,
        "a maker's text": b"SEFH\x6a\x00\x00\x00Image_UTC_Data1700000000000SEFT" * 20,
        "a maker's binary data with markers": b"\xff\xc0\xff\xe1\x00" + noise.replace(END, b""),
        "a maker's binary data with restart markers": b"\x17\x2a\xff\xd3" + noise.replace(END, b""),
        "a maker's data with an end marker": b"MAKR" + bytes(40) + END,
        "a preview": small((200, 30, 30)),
        "a film": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + noise,
    }


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_whole_picture_without_end_marker_is_decoded_whatever_follows(picture: Image.Image, coding: str, mode: str):
    whole = jpeg(picture.convert(mode), **CODINGS[coding])
    expected = np.asarray(open_rgb(whole))
    for name, trailer in trailers().items():
        assert (np.asarray(open_rgb(whole.removesuffix(END) + trailer)) == expected).all(), name
    assert (load_pixels(whole.removesuffix(END), 48, 48) == load_pixels(whole, 48, 48)).all()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_picture_that_lacks_rows_is_refused_whatever_follows(picture: Image.Image, coding: str):
    whole = jpeg(picture, **CODINGS[coding])
    for cut in (len(whole) // 3, len(whole) // 2, len(whole) - 1500):
        for name, trailer in trailers().items():
            if name == "a maker's text" and cut > len(whole) // 2:
                continue  # long enough to be read as the missing rows: only a person can tell
            if coding == "progressive" and trailer.endswith(END) and not trailer.startswith(b"\xff"):
                continue  # coarser than it was, but every row is there
            assert is_refused(whole[:cut] + trailer), (cut, name)


@pytest.mark.parametrize("coding", CODINGS)
def test_even_the_last_block_must_be_there(picture: Image.Image, coding: str):
    scans = jpeg(picture, **CODINGS[coding]).removesuffix(END)
    assert open_rgb(scans).size == picture.size
    for missing in range(3, 40):
        with pytest.raises(BrokenImageError):
            open_rgb(scans[:-missing])


@pytest.mark.parametrize("coding", CODINGS)
def test_a_truncated_photo_is_found_at_any_scale(picture: Image.Image, coding: str):
    scans = jpeg(picture.resize((1203, 905)), **CODINGS[coding]).removesuffix(END)
    assert load_pixels(scans, 48, 48).shape == (48, 48, 3)
    for missing in (100, 1000):
        with pytest.raises(BrokenImageError):
            load_pixels(scans[:-missing], 48, 48)


def test_a_truncated_picture_with_an_end_marker_is_refused(picture: Image.Image):
    whole = jpeg(picture)
    with pytest.raises(BrokenImageError):
        open_rgb(whole[: len(whole) // 2] + END)


def test_a_whole_picture_may_end_in_grey(picture: Image.Image):
    grey = picture.copy()
    grey.paste((128, 128, 128), (0, 150, 333, 251))
    for options in CODINGS.values():
        for data in (jpeg(grey, **options), jpeg(grey, **options).removesuffix(END)):
            assert open_rgb(data).getpixel((330, 248)) == (128, 128, 128)


@pytest.mark.parametrize("colour", [(0, 0, 0), (250, 250, 250), (200, 30, 30)])
def test_a_picture_of_one_colour_may_end_in_zeros(colour: tuple[int, int, int]):
    for options in CODINGS.values():
        data = jpeg(Image.new("RGB", (320, 240), colour), **options).removesuffix(END)
        assert np.abs(np.subtract(open_rgb(data).getpixel((319, 239)), colour)).max() <= 2


def test_a_whole_thumbnail_does_not_replace_a_truncated_photo(picture: Image.Image):
    exif = b"Exif\0\0" + b"MM\0*\0\0\0\x08" + bytes(6) + small((9, 9, 9))
    whole = jpeg(picture, exif=exif)
    assert open_rgb(whole.removesuffix(END)).size == picture.size
    for rest in (b"", bytes(9000)):
        with pytest.raises(BrokenImageError):
            open_rgb(whole[: len(whole) // 2] + rest)


@pytest.mark.skipif(not shutil.which("djpeg"), reason="djpeg (libjpeg-turbo-progs) is not installed")
def test_the_result_agrees_with_the_warning_of_libjpeg(picture: Image.Image):
    for coding in ("baseline", "no-subsampling", "restart-markers"):
        scans = jpeg(picture, **CODINGS[coding]).removesuffix(END)
        for missing in (0, 1, 2, 3, 5, 20, 33, 34, 35, 36, 37, 200):
            cut = scans[: len(scans) - missing]
            run = subprocess.run(["djpeg"], input=cut + END, capture_output=True, check=False)
            assert is_refused(cut) is (b"premature end" in run.stderr), (coding, missing)


def mpo(picture: Image.Image, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "MPO", save_all=True, append_images=[picture.resize((160, 120))], **options)
    return stream.getvalue()


GAIN_MAP_XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" %s</rdf:Description></rdf:RDF></x:xmpmeta>"""


def test_every_kind_of_jpeg_is_decoded_at_the_same_scale(photos: list[Path]):
    with Image.open(photos[0]) as photo:
        large = photo.convert("RGB").resize((4000, 3000))
    plain = jpeg(large, quality=80)
    kinds = {
        "two photos": mpo(large, quality=80),
        "Ultra HDR": mpo(large, quality=80, xmp=GAIN_MAP_XMP % b'hdrgm:Version="1.0">'),
        "Ultra HDR as exiftool writes it again": mpo(
            large, quality=80, xmp=GAIN_MAP_XMP % b"><hdrgm:Version>1.0</hdrgm:Version>"
        ),
        "two photos, the second cut": mpo(large, quality=80)[:-500],
    }
    opened = {name: Image.open(io.BytesIO(data)).format for name, data in kinds.items()}
    assert set(opened.values()) == {"MPO", "JPEG"}, opened
    expected = load_pixels(plain, 224, 224)
    for name, data in kinds.items():
        assert open_rgb(data, draft_side=448).size == open_rgb(plain, draft_side=448).size == (1000, 750), name
        assert (load_pixels(data, 224, 224) == expected).all(), name


def test_a_whole_mpo_without_end_marker_and_a_truncated_one(picture: Image.Image):
    data = mpo(picture)
    first, second = data.index(END, 2000), data.rindex(b"\xff\xd8")
    expected = np.asarray(open_rgb(data))
    assert (np.asarray(open_rgb(data[:first] + data[second:])) == expected).all()
    with pytest.raises(BrokenImageError):
        open_rgb(data[: first - 100] + data[second:])


@pytest.mark.skipif(not shutil.which("jpegtran"), reason="jpegtran (libjpeg-turbo-progs) is not installed")
@pytest.mark.parametrize("options", [(), ("-progressive",)])
def test_arithmetic_coding_is_decoded_at_any_length(picture: Image.Image, options: tuple[str, ...]):
    huffman = jpeg(picture.resize((1000, 750)), quality=95)
    run = subprocess.run(["jpegtran", "-arithmetic", *options], input=huffman, capture_output=True, check=True)
    assert len(run.stdout) > 2**16 + 2**14  # more than Pillow reads at once
    assert (np.asarray(open_rgb(run.stdout)) == np.asarray(open_rgb(huffman))).all()
    with pytest.raises(BrokenImageError):
        open_rgb(run.stdout[: len(run.stdout) // 2])


@pytest.mark.skipif(not shutil.which("jpegtran"), reason="jpegtran (libjpeg-turbo-progs) is not installed")
@pytest.mark.parametrize("options", [(), ("-progressive",)])
def test_a_whole_arithmetic_picture_may_end_in_grey(options: tuple[str, ...]):
    huffman = small((128, 128, 128))
    run = subprocess.run(["jpegtran", "-arithmetic", *options], input=huffman, capture_output=True, check=True)
    assert (np.asarray(open_rgb(run.stdout)) == 128).all()
