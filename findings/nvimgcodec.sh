#!/usr/bin/env bash
# nvImageCodec's decoder for the CPU does not work on a machine without a GPU.
#
# Date: 2026-11-29. Versions: nvidia-nvimgcodec-cu13 0.9.0.20, nvidia-cuda-runtime 13.2.86, Python 3.11, Linux x86-64.
#
# What happens: the package has backends of its own for the CPU (libjpeg-turbo, libtiff, OpenCV), which are chosen with
# Backend(CPU_ONLY). But making a Decoder asks CUDA for the device first, whatever the backends, and raises CUDA's error
# 35 (insufficient driver) where there is no driver. So a program cannot use one decoder on machines with and without a
# GPU, and a decoder for the GPU cannot be tested where there is none, not even its fallback.
#
# Why it matters to people who tag photos: a service that decodes JPEGs with nvImageCodec where there is a GPU needs a
# second decoder, with other pixels and so other scores, for every machine that has none: laptops, CI, spare servers.
# labelwise decodes with Pillow everywhere.
#
# Output seen:
#   nvImageCodec 0.9.0, CPU_ONLY: RuntimeError: CUDA Runtime failure: '#35'
#   Pillow decodes the same photo: 64x48
#
# Exits with 1 if this is no longer so, and with 0 and a note where there is a GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
if ldconfig -p | grep -q libcuda.so.1; then echo "this machine has NVIDIA's driver: nothing to see here"; exit 0; fi
python3 -m venv venv
venv/bin/pip install -q nvidia-nvimgcodec-cu13==0.9.0.20 nvidia-cuda-runtime==13.2.86 numpy==2.3.5 pillow==12.3.0
venv/bin/python - 2>/dev/null <<'PYTHON'
import io
import sys

from nvidia import nvimgcodec
from PIL import Image

photo = io.BytesIO()
Image.linear_gradient("L").convert("RGB").resize((64, 48)).save(photo, "JPEG")
try:
    decoder = nvimgcodec.Decoder(backends=[nvimgcodec.Backend(nvimgcodec.CPU_ONLY)])
    found = decoder.decode(photo.getvalue()).shape
except RuntimeError as error:
    found = f"RuntimeError: {str(error).split(' at ')[0]}"
print(f"nvImageCodec {nvimgcodec.__version__}, CPU_ONLY: {found}")
print("Pillow decodes the same photo: {}x{}".format(*Image.open(photo).size))
sys.exit("RuntimeError" not in str(found))
PYTHON
