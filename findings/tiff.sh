#!/usr/bin/env bash
# Found 2026-11-28 with Pillow 13.0.0 (libtiff 4.7.2 in its wheel), tifffile 2025.5.10 and NumPy 2.2.6.
#
# Pillow opens two kinds of ordinary TIFF and decodes them to wrong values, without an error or a warning:
#   - Floating-point grey in big-endian order ("MM") with any compression: libtiff returns the samples in the machine's
#     order, and Pillow swaps their bytes once more. The same file without compression decodes correctly.
#   - RGB of 16 bits in separate planes without compression: Pillow takes each byte for a sample, so the picture shows
#     its left half, stretched, with the low bytes in between. The same file with compression decodes correctly.
#
# Why it matters to people who tag photos: Photoshop offers "Per Channel" (separate planes) for 16-bit TIFFs, and
# browser tools write big-endian floats. Such a photo gets the tags of a wrong or black picture, without a warning.
#
# Output seen:
#   float, big-endian, uncompressed:  0.25 0.5 1
#   float, big-endian, deflate:       4.6e-41 8.83e-44 4.6e-41
#   RGB16, separate, uncompressed:   (0, 0, 255) where (255, 128, 0) was written
#   RGB16, separate, deflate:        (255, 128, 0) where (255, 128, 0) was written
#
# Exits 1 if Pillow decodes both correctly.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pillow==13.0.0 tifffile==2025.5.10 numpy==2.2.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

import numpy as np
import tifffile
from PIL import Image

values = np.repeat(np.array([[0.25, 0.5, 1]], np.float32), 8, axis=0)
colours = np.zeros((3, 8, 8), np.uint16)
colours[:, :, :4] = np.array([0, 0, 0xFFFF]).reshape(3, 1, 1)
colours[:, :, 4:] = np.array([0xFFFF, 0x8000, 0]).reshape(3, 1, 1)
wrong = 0
for compression in (None, "zlib"):
    name = compression and "deflate" or "uncompressed"
    tifffile.imwrite("float.tif", values, byteorder=">", compression=compression, photometric="minisblack")
    assert (tifffile.imread("float.tif") == values).all()
    read = np.asarray(Image.open("float.tif"))[0]
    print(f"float, big-endian, {name + ':':14}", *(f"{value:.3g}" for value in read))
    wrong += compression is not None and not np.allclose(read, values[0])
for compression in (None, "zlib"):
    name = compression and "deflate" or "uncompressed"
    tifffile.imwrite("planes.tif", colours, compression=compression, photometric="rgb", planarconfig="separate")
    assert (tifffile.imread("planes.tif") == colours).all()
    read = Image.open("planes.tif").convert("RGB").getpixel((6, 4))
    print(f"RGB16, separate, {name + ':':16}{read} where (255, 128, 0) was written")
    wrong += compression is None and read != (255, 128, 0)
sys.exit(0 if wrong == 2 else 1)
PYTHON
