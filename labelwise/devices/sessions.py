"""Opens ONNX Runtime's sessions on a device, and nowhere else."""

from pathlib import Path

import onnxruntime as ort

from labelwise.devices.choice import Device, provider_options, rtx_options
from labelwise.devices.libraries import rtx_devices
from labelwise.errors import LabelwiseError
from labelwise.spec import TrainedSpec

_CPU_PROVIDER = "CPUExecutionProvider"


def open_session(
    file: Path, options: ort.SessionOptions, device: Device, gpu: int, spec: TrainedSpec, key: str
) -> ort.InferenceSession:
    """Opens the graph in `file` on the GPU with the number `gpu` of `device`, or on the CPU.

    TensorRT compiles it for the batches of `spec`, for minutes the first time, and keeps the result under `key`. Raises
    LabelwiseError if ONNX Runtime would run it on the CPU instead, and ONNX Runtime's own errors.
    """
    if device.is_cpu:
        return ort.InferenceSession(file, options, providers=[_CPU_PROVIDER])
    if device.name == "tensorrt-rtx":
        options.add_provider_for_devices([rtx_devices()[gpu]], rtx_options(spec, key))
        session = ort.InferenceSession(file, options)
    else:
        providers = provider_options(device, gpu, spec, key)
        session = ort.InferenceSession(file, options, providers=providers, enable_fallback=False)
    _require_gpu(session, device.name)
    return session


def open_exact_session(file: Path, gpu: int | None) -> ort.InferenceSession:
    """Opens a small graph on the GPU with this number, where it multiplies in whole fp32; with None, on the CPU.

    Raises LabelwiseError if ONNX Runtime would run it on the CPU instead, and ONNX Runtime's own errors.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if gpu is None:
        return ort.InferenceSession(file, options, providers=[_CPU_PROVIDER])
    cuda = ("CUDAExecutionProvider", {"device_id": gpu, "use_tf32": "0"})
    session = ort.InferenceSession(file, options, providers=[cuda], enable_fallback=False)
    _require_gpu(session, "cuda")
    return session


def _require_gpu(session: ort.InferenceSession, device: str) -> None:
    if session.get_providers()[0] == _CPU_PROVIDER:  # ONNX Runtime falls back, and only logs it
        raise LabelwiseError(f"it would run on the CPU, not on {device}: see `labelwise doctor`.")
