"""Chooses the device that models run on: the one that is asked for, or the best that loads."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from labelwise.devices.libraries import count_gpus, cuda_fault, driver_fault, nvjpeg_fault, rtx_fault, tensorrt_fault
from labelwise.devices.names import AUTO, DeviceName
from labelwise.errors import LabelwiseError
from labelwise.files import cache_folder
from labelwise.profiles import profile_shapes
from labelwise.spec import Precision, TrainedSpec

Feature = DeviceName | Literal["nvjpeg"]

_FAULTS: dict[Feature, Callable[[], str]] = {
    "cuda": cuda_fault,
    "tensorrt": tensorrt_fault,
    "tensorrt-rtx": rtx_fault,
    "nvjpeg": nvjpeg_fault,
}
_REMEDIES: dict[Feature, str] = {
    "cuda": "pip install 'labelwise[gpu]'",
    "tensorrt": "pip install 'labelwise[tensorrt]'",
    "tensorrt-rtx": "pip install 'labelwise[tensorrt-rtx]'",
    "nvjpeg": "pip install 'labelwise[nvjpeg]'",
}
_DRIVER = "install NVIDIA's newest driver, or give this container its GPU (docker run --gpus all)"
_BEST_FOR_AUTO: DeviceName = "cuda"  # the TensorRTs first compile each model, for seconds to minutes: only if asked for


@dataclass(frozen=True)
class Device:
    """What models run on, with the number of its GPUs, and why it is this one."""

    name: DeviceName
    gpus: int
    reason: str

    @property
    def is_cpu(self) -> bool:
        return self.name == "cpu"

    @property
    def lacks(self) -> tuple[Precision, ...]:
        """Precisions that it does not run: TensorRT takes no int8 graph that was made for CPUs."""
        return ("int8",) if self.name.startswith("tensorrt") else ()

    def __str__(self) -> str:
        return self.name if self.gpus < 2 else f"{self.name} on {self.gpus} GPUs"


CPU = Device("cpu", 0, "as asked")


def fault_of(name: Feature) -> str:
    """Why models cannot run on the device `name` here, or JPEGs are not decoded on a GPU; empty if it works."""
    return "" if name == "cpu" else "; ".join(filter(None, (driver_fault(), _package_fault(name))))


def remedy_for(name: Feature) -> str:
    """What makes `name` work, where `fault_of` tells a fault."""
    driver = _DRIVER if driver_fault() else ""
    return "; then ".join(filter(None, (driver, _REMEDIES[name] if _package_fault(name) else "")))


def _package_fault(name: Feature) -> str:
    """What is wrong beside the driver."""
    fault = _FAULTS[name]()
    return "" if fault.startswith("libcuda.so.1 ") else fault


def choose_device(wanted: str) -> Device:
    """Returns the device `wanted`, or for "auto" CUDA if it loads, otherwise the CPU.

    Raises LabelwiseError, with the reason and what to do, if a device that is asked for by its name does not load.
    """
    if wanted == "cpu":
        return CPU
    if wanted == AUTO:
        fault = fault_of(_BEST_FOR_AUTO)
        return Device("cpu", 0, fault) if fault else Device(_BEST_FOR_AUTO, count_gpus(), "the best that loads")
    name = next(name for name in get_args(DeviceName) if name == wanted)
    if fault := fault_of(name):
        raise LabelwiseError(f"--device {name} does not work here: {fault}. What to do: {remedy_for(name)}.")
    return Device(name, count_gpus(), "as asked")


def provider_options(device: Device, gpu: int, spec: TrainedSpec, key: str) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's providers for one GPU of `device`, the first of which has to be used. Not for tensorrt-rtx.

    What TensorRT compiles is kept under `key`, which has to tell one graph from another.
    """
    cuda = ("CUDAExecutionProvider", {"device_id": gpu, "cudnn_conv_algo_search": "HEURISTIC"})
    if device.name == "cuda":
        return [cuda]
    least, best, most = profile_shapes(spec)
    engines = str(_made(cache_folder() / "tensorrt" / key))
    tensorrt = {
        "device_id": gpu,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": engines,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": engines,
        "trt_profile_min_shapes": least,
        "trt_profile_opt_shapes": best,
        "trt_profile_max_shapes": most,
    }
    return [("TensorrtExecutionProvider", tensorrt), cuda]


def rtx_options(spec: TrainedSpec, key: str) -> dict[str, str]:
    """Options of the TensorRT-RTX plugin: one profile for all batches, and a cache for each graph, by its `key`."""
    least, best, most = profile_shapes(spec)
    return {
        "nv_profile_min_shapes": least,
        "nv_profile_opt_shapes": best,
        "nv_profile_max_shapes": most,
        "nv_runtime_cache_path": str(_made(cache_folder() / "tensorrt-rtx" / key)),
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
