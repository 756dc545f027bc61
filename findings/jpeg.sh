#!/usr/bin/env bash
# Pillow refuses a whole JPEG and accepts half of one.
#
# Seen on 2026-11-28 with Pillow 13.0.0 (libjpeg-turbo inside) on Linux x86-64, Python 3.11.
#
# A JPEG that has every pixel and lacks only its end marker (FF D9) is refused: "image file is truncated". Browsers,
# libvips and djpeg show it. The same file cut in the middle and followed by an end marker opens without an error or a
# warning, and its lower half is grey: libjpeg fills the missing part with zeros and issues a warning, which Pillow does
# not pass on.
#
# Why it matters to people who tag photos: cameras and recovery tools write complete photos without an end marker, and
# these get no tags. Broken copies that were "repaired" by appending an end marker get the tags of half a photo.
#
# Output seen:
#   whole, with its end marker: opened, the last row is part of the picture
#   whole, without an end marker: OSError image file is truncated
#   cut in the middle, then an end marker: opened, the last row is grey
#   cut in the middle, then a preview: OSError broken data stream when reading image file
#
# Needs python3 with venv and access to PyPI. Exits 1 if Pillow behaves otherwise.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || { echo "python3 needs its venv module (Debian: apt-get install python3-venv)"; exit 2; }
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

from PIL import Image

END = b"\xff\xd9"


def encoded(picture):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def opened(data):
    try:
        with Image.open(io.BytesIO(data)) as picture:
            last = picture.getpixel((picture.width - 1, picture.height - 1))
    except OSError as error:
        return "OSError " + str(error).partition(" (")[0]
    return "opened, the last row is " + ("grey" if last == (128, 128, 128) else "part of the picture")


noise = Image.effect_noise((320, 240), 90)  # detailed, as a photo is
whole = encoded(Image.merge("RGB", (noise, noise.rotate(90).resize(noise.size), noise.rotate(180))))
assert whole.endswith(END)
half = whole[: len(whole) // 2]
found = {
    "whole, with its end marker": opened(whole),
    "whole, without an end marker": opened(whole.removesuffix(END)),
    "cut in the middle, then an end marker": opened(half + END),
    "cut in the middle, then a preview": opened(half + encoded(Image.new("RGB", (160, 120), "red"))),
}
for name, what in found.items():
    print(f"{name}: {what}")
sys.exit(
    found["whole, without an end marker"] != "OSError image file is truncated"
    or found["cut in the middle, then an end marker"] != "opened, the last row is grey"
)
PYTHON
