"""`labelwise doctor`: what this machine has, what of it works and why not, and what `labelwise serve` would use."""

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import onnxruntime as ort
from PIL import features

from labelwise.cores import core_limit, memory_limit, memory_of_machine, processor, usable_cores
from labelwise.devices.choice import choose_device, fault_of, remedy_for
from labelwise.devices.libraries import count_gpus, driver_fault, driver_version, gpu_names
from labelwise.devices.names import AUTO, DeviceName
from labelwise.errors import LabelwiseError
from labelwise.version import VERSION
from serving.decoding.gpu_photos import open_gpu_photos
from serving.local_triton.install import find_triton

Want = Literal["gpu", "cuda", "tensorrt", "tensorrt-rtx", "nvjpeg", "triton"]
_GPU_DEVICES: tuple[DeviceName, ...] = ("cuda", "tensorrt", "tensorrt-rtx")
_8_BITS = {  # flags of /proc/cpuinfo that make int8 fast
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX VNNI",
    "amx_int8": "AMX",
    "asimddp": "dot product",
    "i8mm": "int8 matrices",
}
_WIDE = {"avx2": "AVX2", "avx512f": "AVX-512", "asimd": "NEON"}


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, whether it works, and what to do if it does not.

    `works` is None for what is only told.
    """

    subject: str
    found: str
    works: bool | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Examination:
    """What was found, by subject, and what `labelwise serve` would use."""

    findings: tuple[Finding, ...]
    serves_on: str

    def lacks(self, want: Want) -> str:
        """Why this machine has not what is wanted; empty if it has."""
        works = {finding.subject: finding for finding in self.findings if finding.works is not None}
        if want == "gpu":
            return "" if any(works[name].works for name in _GPU_DEVICES) else works["cuda"].found
        return "" if works[want].works else works[want].found

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, "findings": [asdict(one) for one in self.findings], "serves_on": self.serves_on}


def examine() -> Examination:
    """Looks at this machine. Loads the libraries of every device, so it takes a few seconds where there are GPUs."""
    facts: Mapping[str, Callable[[], str]] = {
        "labelwise": lambda: f"{VERSION}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "cores": _cores,
        "memory": _memory,
        "instructions": _instructions,
        "decoders": _decoders,
        "GPUs": _gpus,
        "ONNX Runtime": _onnx_runtime,
        "TensorRT": _tensorrt,
    }
    findings = [Finding(subject, look()) for subject, look in facts.items()]
    findings += [_device(name) for name in get_args(DeviceName)]
    device = choose_device(AUTO)
    threads = usable_cores()
    serves_on = f"{device} ({device.reason}), with {threads} decoding thread{'s'[: threads > 1]}"
    return Examination((*findings, _nvjpeg(), _triton()), serves_on)


def _device(name: DeviceName) -> Finding:
    fault = fault_of(name)
    return Finding(name, fault, False, remedy_for(name)) if fault else Finding(name, "works", True)


def _nvjpeg() -> Finding:
    if fault := fault_of("nvjpeg"):
        return Finding("nvjpeg", fault, False, remedy_for("nvjpeg"))
    try:
        open_gpu_photos()
    except LabelwiseError as error:
        return Finding("nvjpeg", str(error).rstrip("."), False)
    return Finding("nvjpeg", "decodes as the CPU does: --decode gpu", True)


def _cores() -> str:
    limit = core_limit()
    limited = f"; the container's limit is {limit:g}" if limit is not None else ""
    return f"{usable_cores()} of the machine's {os.cpu_count()} can be used{limited}"


def _memory() -> str:
    total, limit = memory_of_machine(), memory_limit()
    found = f"{total / 2**30:.1f} GiB" if total else "unknown"
    return found + (f"; the container's limit is {limit / 2**30:.1f} GiB" if limit is not None else "")


def _instructions() -> str:
    """Those that matter for models; only Linux tells them."""
    core = processor()
    flags = core.get("flags", core.get("Features", "")).split()  # the latter on ARM
    if not flags:
        return "unknown on this system"
    wide = [text for flag, text in _WIDE.items() if flag in flags]
    narrow = [text for flag, text in _8_BITS.items() if flag in flags]
    return f"{', '.join(wide) or 'no wide ones'}; for 8 bits {', '.join(narrow) or 'none, so int8 may be slower'}"


def _decoders() -> str:
    known = {"jpg": "JPEG", "webp": "WebP", "avif": "AVIF", "libtiff": "TIFF"}
    found = [name for feature, name in known.items() if features.check(feature)]
    if importlib.util.find_spec("pillow_heif"):
        found.append("HEIC")
    turbo = f", libjpeg-turbo {features.version_feature('libjpeg_turbo')}" if features.check("libjpeg_turbo") else ""
    return f"Pillow {importlib.metadata.version('pillow')}{turbo}: {', '.join(found)}, PNG, GIF, BMP"


def _gpus() -> str:
    if fault := driver_fault():
        return f"none: {fault}"
    return f"{', '.join(gpu_names(count_gpus()))}; driver for CUDA {driver_version()}"


def _onnx_runtime() -> str:
    names = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers()]
    return f"{ort.__version__}, built for {', '.join(names)}"


def _tensorrt() -> str:
    found = []
    plugins = [f"onnxruntime-ep-nv-tensorrt-rtx-cu{cuda}" for cuda in (12, 13)]
    for package in ("tensorrt", "tensorrt-rtx", *plugins):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    if shutil.which("trtexec"):
        found.append("trtexec")
    return ", ".join(found) or "not installed"


def _triton() -> Finding:
    try:
        install = find_triton()
        with contextlib.redirect_stdout(io.StringIO()):
            install.require_numpy()
    except LabelwiseError as error:
        return Finding("triton", str(error).rstrip("."), False)
    where = "in nvidia-pytriton's wheel" if install.stub else str(install.binary)
    backends = ", ".join(sorted(folder.name for folder in install.backends.iterdir() if folder.is_dir()))
    return Finding("triton", f"{where}, with the backends {backends}", True)
