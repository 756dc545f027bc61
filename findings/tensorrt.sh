#!/usr/bin/env bash
# `pip install onnxruntime-gpu tensorrt` gives two packages that do not fit together, and nothing says so.
#
# Date: 2026-11-29. Versions: onnxruntime-gpu 1.31.1, tensorrt 11.4.0.106 (the newest) and 10.16.1.11, Linux x86-64.
#
# What happens: ONNX Runtime's TensorRT provider in the wheel is linked against libnvinfer.so.10, also in 1.27.0 and
# 1.30.0. pip's newest TensorRT brings libnvinfer.so.11. NVIDIA's guide for TensorRT 11 says that ONNX Runtime from 1.27
# on works with it; that holds for its sources, not for the wheels. The wheel has extras for CUDA and cuDNN, but none for
# TensorRT, so pip cannot know. A session that asks for the provider prints that it falls back, and then works without it.
#
# Why it matters to people who tag photos: those who install TensorRT for speed get answers at the speed of CUDA, or of
# the CPU, and take that for TensorRT's. It fits with 'tensorrt-cu13<11'.
#
# TensorRT's own libraries are not installed here (they have gigabytes): its Python package is linked against the same.
#
# Output seen:
#   onnxruntime-gpu 1.31.1 needs   libnvinfer.so.10
#   tensorrt 11.4.0.106 has        libnvinfer.so.11
#   tensorrt 10.16.1.11 has        libnvinfer.so.10
#   extras of onnxruntime-gpu      symbolic quantization cuda cudnn
#
# Exits with 1 if this is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyelftools==0.32
venv/bin/pip install -q --no-deps --target runtime onnxruntime-gpu==1.31.1
venv/bin/pip install -q --no-deps --target newest tensorrt-cu13-bindings==11.4.0.106
venv/bin/pip install -q --no-deps --target older tensorrt-cu13-bindings==10.16.1.11
venv/bin/python - <<'PYTHON'
import sys
from importlib.metadata import distributions

from elftools.elf.elffile import ELFFile


def nvinfer(library):
    """Which library of TensorRT the linker wrote into `library`."""
    with open(library, "rb") as file:
        needed = [tag.needed for tag in ELFFile(file).get_section_by_name(".dynamic").iter_tags("DT_NEEDED")]
    return next(name for name in needed if name.startswith("libnvinfer.so"))


runtime = nvinfer("runtime/onnxruntime/capi/libonnxruntime_providers_tensorrt.so")
newest, older = (nvinfer(f"{folder}/tensorrt_bindings/tensorrt.so") for folder in ("newest", "older"))
(package,) = distributions(name="onnxruntime-gpu", path=["runtime"])
extras = package.metadata.get_all("Provides-Extra")
print("onnxruntime-gpu 1.31.1 needs  ", runtime)
print("tensorrt 11.4.0.106 has       ", newest)
print("tensorrt 10.16.1.11 has       ", older)
print("extras of onnxruntime-gpu     ", *extras)
sys.exit(not (runtime == older != newest and "tensorrt" not in extras))
PYTHON
