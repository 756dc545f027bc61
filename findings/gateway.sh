#!/usr/bin/env bash
# Found 2026-11-28 with Pillow 13.0.0; ImageMagick's convert (6.9) decodes the same files.
#
# Pillow refuses a whole PNG, picture and all, if one of its metadata chunks unpacks to more than one mebibyte. The
# limit guards against decompression bombs, but it refuses the whole file instead of leaving the chunk out. It applies
# to compressed text (zTXt, iTXt) and to the colour profile (iCCP). The error does not say that the file is damaged.
#
# Why it matters to people who tag photos: profiles that measure a monitor or a printer as a table have two to four
# megabytes; editors and image generators store histories, workflows and previews as compressed text. Such a photo of a
# few kilobytes opens in every browser, but a pipeline based on Pillow drops it as unreadable.
#
# Output seen:
#   text of 1 MB, packed: Pillow opens it
#   text of 2 MB, packed: Pillow refuses it: Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK
#   text of 2 MB, plain: Pillow opens it
#   profile of 2 MB: Pillow refuses it: Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK
#   ImageMagick decodes all of them to the same picture.
#
# Exits 1 if Pillow opens all of them.
set -euo pipefail
command -v convert >/dev/null || { echo "This needs ImageMagick's convert: apt-get install imagemagick"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import random
import struct
import subprocess
import sys
import zlib

from PIL import Image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


picture = Image.new("RGB", (64, 48))
picture.putdata([(x * 4, y * 5, 120) for y in range(48) for x in range(64)])
stream = io.BytesIO()
picture.save(stream, "PNG")
png = stream.getvalue()
table = struct.pack(">I4sI4s4s4s", 2_000_000, b"none", 0x04000000, b"mntr", b"RGB ", b"XYZ ")
table += random.Random(0).randbytes(2_000_000 - len(table))
cases = {
    "text of 1 MB, packed": chunk(b"zTXt", b"history\0\0" + zlib.compress(b"step " * 200_000)),
    "text of 2 MB, packed": chunk(b"zTXt", b"history\0\0" + zlib.compress(b"step " * 400_000)),
    "text of 2 MB, plain": chunk(b"tEXt", b"history\0" + b"step " * 400_000),
    "profile of 2 MB": chunk(b"iCCP", b"monitor\0\0" + zlib.compress(table)),
}
refused = 0
for name, added in cases.items():
    data = png[:33] + added + png[33:]
    with open("photo.png", "wb") as file:
        file.write(data)
    try:
        Image.open("photo.png").load()
        print(f"{name}: Pillow opens it")
    except Exception as error:
        refused += 1
        print(f"{name}: Pillow refuses it: {error}")
    pixels = subprocess.run(["convert", "photo.png", "-strip", "rgb:-"], capture_output=True, check=True).stdout
    assert pixels == picture.tobytes(), f"ImageMagick sees another picture: {name}"
print("ImageMagick decodes all of them to the same picture.")
sys.exit(not refused)
PYTHON
