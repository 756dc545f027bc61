#!/usr/bin/env bash
# Found 2026-11-28 with Pillow 13.0.0 (LittleCMS 2.19 in its wheel) and NumPy 2.2.6.
#
# Pillow's ImageCms converts an 8-bit grey picture with an ICC profile far less exactly than an RGB picture with the
# same curve. LittleCMS shortens the transform to a table of 33 grey levels and interpolates between them without a
# warning. If the profile's curve is linear (gamma 1.0, as GIMP and scanners write it), the steep dark end is lost:
# level 1 of 255 becomes 6 instead of 13, level 4 becomes 25 instead of 34. With Flags.NOOPTIMIZE both come out right.
#
# Why it matters to people who tag photos: dark parts of scanned or scientific grey pictures come out up to nine levels
# darker than a browser shows them, so a night picture gets other tags as grey than as RGB.
#
# Output seen:
#   level        1   2   3   4   5   6   7   8
#   exact       13  22  28  34  38  42  46  50
#   RGB         13  22  28  34  38  42  46  50
#   grey         6  12  19  25  31  37  43  50
#   grey, exact 13  22  28  34  38  42  46  50
#   The grey picture is up to 10 levels off.
#
# Exits 1 if grey pictures are converted as exactly as RGB ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==13.0.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys

import numpy as np
from PIL import Image, ImageCms

D50 = struct.pack(">4sI3i", b"XYZ ", 0, 63190, 65536, 54061)
LINEAR = struct.pack(">4sIIHxx", b"curv", 0, 1, 256)
COLORANTS = ((28578, 14581, 912), (25241, 46981, 6362), (9376, 3972, 46799))  # sRGB's, adapted to D50


def profile(space, tags):
    table, bodies, start = b"", b"", 132 + 12 * len(tags)
    for kind, body in tags.items():
        table += struct.pack(">4sII", kind, start + len(bodies), len(body))
        bodies += body
    size = start + len(bodies)
    head = struct.pack(">I4xI4s4s4s12x4s28x12s48x", size, 0x02400000, b"mntr", space, b"XYZ ", b"acsp", D50[8:])
    return ImageCms.ImageCmsProfile(io.BytesIO(head + struct.pack(">I", len(tags)) + table + bodies))


grey = profile(b"GRAY", {b"wtpt": D50, b"kTRC": LINEAR})
columns = {
    kind: struct.pack(">4sI3i", b"XYZ ", 0, *column)
    for kind, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), COLORANTS)
}
rgb = profile(b"RGB ", {b"wtpt": D50, **columns, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), LINEAR)})

levels = Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
light = np.arange(256) / 255
exact = (255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).round().astype(int)


def shown(source, mode, flags=ImageCms.Flags.NONE):
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB", flags=flags)
    return np.asarray(transform.apply(levels.convert(mode))).astype(int)[0, :, 1]


rows = {
    "level": np.arange(256),
    "exact": exact,
    "RGB": shown(rgb, "RGB"),
    "grey": shown(grey, "L"),
    "grey, exact": shown(grey, "L", ImageCms.Flags.NOOPTIMIZE),
}
for name, values in rows.items():
    print(f"{name:11}", *(f"{value:3}" for value in values[1:9]))
off = {name: int(np.abs(values - exact).max()) for name, values in rows.items() if name != "level"}
print(f"The grey picture is up to {off['grey']} levels off.")
sys.exit(not (off["RGB"] <= 1 and off["grey, exact"] <= 1 and off["grey"] >= 5))
PYTHON
