"""The memory that decoding takes is known before it begins: at most 18 bytes per counted pixel."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelwise.image import load_photo, open_rgb
from labelwise.image.budget import BYTES_PER_PIXEL
from labelwise.image.image_errors import BrokenImageError, ImageTooLargeError
from tests.labelwise.image.tiff_files import tiff

ROOT = Path(__file__).parents[3]
SIDE = 2500
CODECS_KEEP = 8 * 2**20

# For each file that is named, a fork, because memory is counted for each process and starting Python takes long.
_PEAKS = """
import os, sys, warnings
from contextlib import nullcontext
from PIL import Image
from labelwise.image import load_photo
from tests.labelwise.image_fuzz import peak_memory
warnings.simplefilter("ignore")
Image.init()
for name in sys.stdin:
    child = os.fork()
    if not child:
        data = open(name.rstrip("\\n"), "rb").read()
        held = []
        before = peak_memory()
        load_photo(data, 128, 128, hold=lambda pixels: held.append(pixels) or nullcontext())
        print(peak_memory() - before, *held, flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
"""

Peak = Callable[[bytes], list[int]]


@pytest.fixture(scope="module")
def peak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peak]:
    """peak(data): the bytes by which a process grows that decodes the picture, and what it held at each step."""
    file = tmp_path_factory.mktemp("peak") / "picture"
    command = [sys.executable, "-c", _PEAKS]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forks:

        def measure(data: bytes) -> list[int]:
            file.write_bytes(data)
            forks.stdin.write(f"{file}\n")
            forks.stdin.flush()
            return [*map(int, forks.stdout.readline().split())]

        yield measure
        forks.stdin.close()


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def held_pixels(data: bytes, side: int = 16, max_pixels: int = 64_000_000) -> int:
    held: list[int] = []
    with suppress(BrokenImageError):  # what is held is known before the pixels are decoded
        load_photo(data, side, side, max_pixels=max_pixels, hold=lambda pixels: nullcontext(held.append(pixels)))  # type: ignore[func-returns-value]
    _, pixels = held  # the file is opened, then decoded
    return pixels


def assert_stays_within_what_it_holds(data: bytes, peak: Peak, pixels: int) -> None:
    grown, _, held = peak(data)  # the file is opened, then decoded
    assert 2 * pixels < grown < BYTES_PER_PIXEL * held + CODECS_KEEP, (grown / pixels, held / pixels)


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize(
    ("mode", "format", "options"),
    [
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("I;16", "PNG", {}),
        ("P", "GIF", {"transparency": 0}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0, "quality": 95}),
        ("CMYK", "JPEG", {"progressive": True, "subsampling": 0}),
        ("F", "TIFF", {}),
        ("CMYK", "TIFF", {}),
        ("LAB", "TIFF", {}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: SIDE}}),  # one strip
        ("RGB", "TIFF", {"compression": "jpeg", "tiffinfo": {278: SIDE}}),
        ("YCbCr", "TIFF", {"compression": "tiff_adobe_deflate", "tiffinfo": {278: SIDE}}),
        ("RGB", "WEBP", {"method": 0}),
        ("RGBA", "WEBP", {"method": 0}),
        ("RGBA", "WEBP", {"method": 0, "lossless": True}),
        ("RGB", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
        ("RGBA", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
    ],
)
def test_a_pixel_takes_at_most_18_bytes_while_it_is_decoded(
    mode: str, format: str, options: dict[str, Any], peak: Peak
):
    grey = Image.fromarray(np.full((SIDE, SIDE), 7, np.uint16)) if mode == "I;16" else None
    data = encode(grey or Image.new(mode, (SIDE, SIDE)), format, **options)
    assert_stays_within_what_it_holds(data, peak, SIDE**2)


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_decoding_heic_takes_at_most_the_counted_memory(mode: str, peak: Peak):
    pillow_heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    pixels = bytes(2 * len(mode) * 1536**2)
    pillow_heif.encode(f"{mode};16", (1536, 1536), pixels, stream, quality=30, chroma="444")  # 10 bits, all planes
    assert_stays_within_what_it_holds(stream.getvalue(), peak, 1536**2)


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
def test_tiles_larger_than_the_picture_are_counted(peak: Peak):
    pixels = np.zeros((512, 512, 3), np.uint8)
    data = tiff(pixels, 2, 8, tile=(4096, 4096), compression=8)
    assert held_pixels(data) >= 3 * 4096**2 / BYTES_PER_PIXEL
    assert_stays_within_what_it_holds(data, peak, 4096**2)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF"])
def test_an_ordinary_picture_counts_as_many_pixels_as_it_has(format: str):
    assert held_pixels(encode(Image.new("RGB", (300, 200), "red"), format), 200) == 300 * 200


def test_a_jpeg_of_several_scans_counts_as_a_whole_at_any_scale():
    data = bytearray(encode(Image.new("RGB", (640, 480)), "JPEG"))
    assert held_pixels(bytes(data)) == 80 * 60
    assert held_pixels(encode(Image.new("RGB", (640, 480)), "JPEG", progressive=True)) == 640 * 480
    scan = data.index(b"\xff\xda\x00\x0c\x03")
    data[scan : scan + 14] = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\xff\xff\xff\xff"  # a scan of luma alone
    assert held_pixels(bytes(data)) == 640 * 480


def restated(data: bytes, width: int, height: int) -> bytes:
    """An AVIF whose container states another size than its frames have."""
    assert data.count(b"ispe") == 1
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_avif_whose_frames_are_far_larger_than_it_says_is_refused(mode: str):
    data = encode(Image.new(mode, (640, 512)), "AVIF", speed=10)
    with pytest.raises(BrokenImageError, match="said to be 64x64 pixels, but has frames of 640x512"):
        open_rgb(restated(data, 64, 64))


def test_an_avif_counts_as_its_frames():
    data = encode(Image.new("RGB", (640, 512)), "AVIF", speed=10)
    assert held_pixels(restated(data, 480, 384)) == 640 * 512
    with pytest.raises(ImageTooLargeError, match="480x384 pixels, but its parts take the memory of"):
        held_pixels(restated(data, 480, 384), max_pixels=200_000)


@pytest.mark.parametrize("format", ["AVIF", "HEIF"])
def test_alpha_counts_a_quarter_more(format: str):
    if format == "HEIF":
        pytest.importorskip("pillow_heif")
    transparent = Image.linear_gradient("L").convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L"))
    assert held_pixels(encode(transparent, format)) == 256 * 256 * 5 // 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_the_first_frames_of_a_sequence_count(mode: str):
    first = Image.linear_gradient("L").convert(mode)
    first.putalpha(Image.linear_gradient("L")) if mode == "RGBA" else None
    data = encode(first, "AVIF", speed=10, save_all=True, append_images=[first.rotate(90)])
    assert held_pixels(data) == 256 * 256 * (5 if mode == "RGBA" else 4) // 4


def test_a_grid_counts_the_tiles_that_it_is_made_of(monkeypatch: pytest.MonkeyPatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    if not hasattr(pillow_heif.options, "GRID_TILE_SIZE"):
        pytest.skip("this pillow_heif writes no grids")
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 64)
    data = encode(Image.linear_gradient("L").resize((640, 512)).convert("RGB"), "HEIF", quality=30)
    assert data.count(b"infe") > 80
    assert held_pixels(data) == 640 * 512


@pytest.mark.parametrize("headers", [0, 65])
def test_frames_with_no_header_or_with_many_are_refused(headers: int):
    data = encode(Image.new("RGB", (64, 64)), "AVIF")
    start = data.index(b"mdat") + 4
    first = data.index(b"\x0a", start)  # a sequence header, behind a temporal delimiter of two bytes
    assert first - start in (0, 2)
    header = data[first : first + 2 + data[first + 1]]
    coded = headers * header if headers else data[first + len(header) :]
    item = data.rindex(len(data[start:]).to_bytes(4, "big"), 0, start)  # its length in `iloc`
    changed = data[:item] + len(coded).to_bytes(4, "big") + data[item + 4 : start] + coded
    with pytest.raises(BrokenImageError, match="headers of the image's frames are damaged"):
        open_rgb(changed)
