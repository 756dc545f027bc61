"""Damages photos of every kind and decodes them; test_image_fuzz.py runs it in a separate process.

    python tests/labelwise/image_fuzz.py CASES [SEED]      prints one line of JSON; exits 1 at the first wrong outcome

A process of its own, because a codec that crashes takes its process along, and because memory is counted for each.
"""

import io
import json
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from labelwise.image import FORMATS, ImageError, load_pixels
from tests.labelwise.image.tiff_files import tiff

MAX_PIXELS = 4_000_000
_SECONDS = 20  # for one picture, on the busiest machine; a hang takes for ever


def _encode(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def whole_files() -> dict[str, bytes]:
    """A good file of each kind: every format, and the branches of those that have several decoders."""
    Image.init()
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {format: _encode(noise, format) for format in (*FORMATS, "HEIF") if format in Image.SAVE}
    return files | {
        "progressive JPEG": _encode(noise, "JPEG", progressive=True, exif=exif),
        "CMYK JPEG": _encode(noise.convert("CMYK"), "JPEG"),
        "MPO": _encode(noise, "MPO", save_all=True, append_images=[noise]),
        "palette PNG": _encode(noise.quantize(64), "PNG", transparency=3),
        "16-bit PNG": _encode(Image.fromarray(random.integers(0, 65536, (24, 40), dtype=np.uint16)), "PNG"),
        "animated WebP": _encode(noise, "WEBP", save_all=True, append_images=[noise.rotate(90)]),
        "LZW TIFF": _encode(noise, "TIFF", compression="tiff_lzw", exif=exif),
        "JPEG TIFF": _encode(noise, "TIFF", compression="jpeg"),
        "float TIFF": _encode(noise.convert("F"), "TIFF"),
        "tiled TIFF": tiff(np.asarray(noise), 2, 8, tile=(16, 48), compression=8, order=">"),
        "transparent AVIF": _encode(noise.convert("RGBA").rotate(30), "AVIF", speed=10),
    }


def damaged(whole: bytes, cases: int, random: np.random.Generator) -> Iterator[bytes]:
    """Truncates the file, flips bits (half of them in the header, which is short and matters most), or overwrites a run
    of bytes with the largest or smallest values, as in sizes and offsets."""
    for case in range(cases):
        data = bytearray(whole[: random.integers(1, len(whole))] if case % 4 == 0 else whole)
        reach = min(len(data), 96) if case % 2 else len(data)
        for _ in range(random.integers(0 if case % 4 == 0 else 1, 6)):
            data[random.integers(reach)] ^= 1 << int(random.integers(8))
        if case % 5 == 0:
            place = int(random.integers(reach))
            data[place : place + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        yield bytes(data)


def outcome(data: bytes) -> str:
    """Returns `decoded` or the code of the ImageError. Any other exception ends the run."""
    signal.alarm(_SECONDS)
    try:
        pixels = load_pixels(data, 16, 16, max_pixels=MAX_PIXELS)
    except ImageError as error:
        return error.code if "\n" not in str(error) else sys.exit(f"several lines: {error}")
    finally:
        signal.alarm(0)
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
    return "decoded"


def peak_memory() -> int:
    """The most bytes that this process held; rusage would also count the process that it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def main(cases: int, seed: int = 1) -> None:
    warnings.simplefilter("ignore")  # as in production
    files = whole_files()
    assert {outcome(whole) for whole in files.values()} == {"decoded"}
    before = peak_memory()
    outcomes = {}
    for kind, whole in files.items():
        random = np.random.default_rng([seed, *kind.encode()])
        outcomes[kind] = Counter(map(outcome, damaged(whole, cases, random)))
    print(json.dumps({"outcomes": outcomes, "grown_bytes": peak_memory() - before}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
