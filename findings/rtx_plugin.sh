#!/usr/bin/env bash
# Importing NVIDIA's TensorRT-RTX plugin for ONNX Runtime changes the installed package, and pip cannot take that away.
#
# Date: 2026-11-29. Versions: onnxruntime-ep-nv-tensorrt-rtx-cu13 0.5.0, Python 3.11, Linux x86-64.
#
# What happens: `import onnxruntime_ep_nv_tensorrt_rtx` makes four links in its own folder in site-packages, which no
# RECORD names, and puts that folder in front of LD_LIBRARY_PATH in the environment of this process and its children.
# `pip uninstall` then leaves the folder with the links, and since Python takes any folder for a namespace package, the
# import still succeeds afterwards: a program that asks "is it installed?" that way is told yes. The folder also holds
# libcudart, but the import does not load it, so registering the plugin fails where no CUDA is installed beside it.
#
# Why it matters to people who tag photos: an image that is built as root and run as another user, or read-only, behaves
# differently from the machine where it was tried, because there the import cannot make its links; and what looks at
# the GPU of a server may call a plugin installed that was removed. `labelwise doctor` looks for the package's code, and
# labelwise loads libcudart itself.
#
# Output seen:
#   links that the import made: libtensorrt_onnxparser_rtx.so libtensorrt_onnxparser_rtx.so.1 libtensorrt_rtx.so libtensorrt_rtx.so.1
#   in RECORD: none
#   LD_LIBRARY_PATH starts with the package's folder: True
#   after pip uninstall, import succeeds: True; it has get_library_path: False
#
# Exits with 1 if this is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q --no-deps onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0
cat > look.py <<'PYTHON'
import importlib.metadata
import os
import sysconfig
from pathlib import Path

package = Path(sysconfig.get_path("purelib"), "onnxruntime_ep_nv_tensorrt_rtx")
before = {file.name for file in package.iterdir()}
import onnxruntime_ep_nv_tensorrt_rtx

made = sorted(file.name for file in package.iterdir() if file.name not in before and file.is_symlink())
files = importlib.metadata.files("onnxruntime-ep-nv-tensorrt-rtx-cu13")
recorded = sorted({file.name for file in files} & set(made))
is_first = os.environ["LD_LIBRARY_PATH"].split(os.pathsep)[0] == str(package)
print("links that the import made:", *made)
print("in RECORD:", *recorded or ["none"])
print("LD_LIBRARY_PATH starts with the package's folder:", is_first)
assert len(made) == 4 and not recorded and is_first
PYTHON
env -u LD_LIBRARY_PATH venv/bin/python look.py
venv/bin/pip uninstall -q -y onnxruntime-ep-nv-tensorrt-rtx-cu13
venv/bin/python - <<'PYTHON'
import onnxruntime_ep_nv_tensorrt_rtx as left

has_it = hasattr(left, "get_library_path")
print(f"after pip uninstall, import succeeds: True; it has get_library_path: {has_it}")
assert not has_it
PYTHON
