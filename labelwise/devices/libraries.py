"""Loads the libraries that ONNX Runtime's GPU providers need, and tells why one does not load.

Nothing needs LD_LIBRARY_PATH: NVIDIA's packages put their libraries into site-packages, and what was loaded once is
found by its name. ONNX Runtime itself only logs what is missing, and then runs on the CPU.
"""

import contextlib
import ctypes
import importlib.util
import io
import os
import re
from functools import cache
from pathlib import Path

import onnxruntime as ort

_CAPI = Path(ort.__file__).parent / "capi"
_RTX = "onnxruntime_ep_nv_tensorrt_rtx"
RTX_PROVIDER = "NvTensorRTRTXExecutionProvider"


@cache
def driver_fault() -> str:
    """Why no GPU can be used, whatever is installed; empty if there is one."""
    if fault := _fault_of(Path("libcuda.so.1")):
        return f"there is no NVIDIA driver ({fault})"
    needed = getattr(ort, "cuda_version", "")  # empty in a build for CPUs
    if needed and int(needed.split(".")[0]) > int(driver_version().split(".")[0]):
        return f"the NVIDIA driver knows CUDA {driver_version()}, and this ONNX Runtime needs {needed}"
    return "" if count_gpus() else "the NVIDIA driver finds no GPU"


@cache
def count_gpus() -> int:
    """The GPUs that the driver shows this process; CUDA_VISIBLE_DEVICES hides some. 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def driver_version() -> str:
    """The newest CUDA that the driver knows, as 13.0. Only where there is a driver."""
    version = ctypes.c_int()
    ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def gpu_names(count: int) -> list[str]:
    """The names of the first `count` GPUs; empty texts for those that the driver does not name."""
    if not count:
        return []
    driver = ctypes.CDLL("libcuda.so.1")
    names = []
    for number in range(count):
        name = ctypes.create_string_buffer(256)
        driver.cuDeviceGetName(name, len(name), number)
        names.append(name.value.decode(errors="replace"))
    return names


@cache
def cuda_fault() -> str:
    """Why ONNX Runtime's CUDA provider does not load; empty if it does."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return f"ONNX Runtime {ort.__version__} here is built without CUDA"
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; the last line here says it again
        ort.preload_dlls()
    return _fault_of(_CAPI / "libonnxruntime_providers_cuda.so")


@cache
def tensorrt_fault() -> str:
    """Why ONNX Runtime's TensorRT provider does not load; empty if it does. It needs CUDA's, too."""
    if fault := cuda_fault():
        return fault
    if "TensorrtExecutionProvider" not in ort.get_available_providers():
        return f"ONNX Runtime {ort.__version__} here is built without TensorRT"
    for name in ("libnvinfer.so", "libnvinfer_plugin.so", "libnvonnxparser.so"):
        for file in sorted(_folder_of("tensorrt_libs").glob(f"{name}.*")):
            _fault_of(file)  # the provider's own fault tells what is still missing
    return _fault_of(_CAPI / "libonnxruntime_providers_tensorrt.so")


@cache
def nvjpeg_fault() -> str:
    """Why NVIDIA's decoder of JPEGs does not load; empty if it does. ONNX Runtime's CUDA provider resizes for it."""
    if fault := cuda_fault():
        return fault
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")  # otherwise it prints lines about each damaged photo
    try:
        importlib.import_module("nvidia.nvimgcodec")
    except ImportError as error:
        return f"the package nvidia-nvimgcodec-cu13 does not load ({' '.join(str(error).split())})"
    return ""


@cache
def rtx_fault() -> str:
    """Registers ONNX Runtime's plugin for TensorRT-RTX. Returns why it does not load; empty if it does."""
    folder = _folder_of(_RTX)
    # What pip removed leaves a folder with links, which can still be imported: findings/rtx_plugin.sh.
    if not (folder / "__init__.py").is_file():
        return f"the package {_RTX.replace('_', '-')}-cu13 is not installed"
    for file in sorted(folder.glob("libcudart.so.*")):  # the plugin does not find its own copy
        _fault_of(file)
    try:
        plugin = importlib.import_module(_RTX)
        library = Path(plugin.get_library_path())
        if fault := _fault_of(library):
            return fault
        ort.register_execution_provider_library(RTX_PROVIDER, str(library))
    except Exception as error:  # its own errors, and those of ONNX Runtime
        return " ".join(str(error).split())
    return "" if rtx_devices() else "its plugin finds no GPU of the RTX kind (Ampere or newer)"


def rtx_devices() -> list[ort.OrtEpDevice]:
    return [device for device in ort.get_ep_devices() if device.ep_name == RTX_PROVIDER]


def _folder_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0]) if places else Path("/nonexistent")


def _fault_of(library: Path) -> str:
    """Loads a library so that others find it. Returns the loader's reason if it cannot."""
    try:
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        reason = re.sub(r"\S+/(?=lib)", "", " ".join(str(error).split()))
        return reason.replace(": cannot open shared object file: No such file or directory", " is missing")
    return ""
