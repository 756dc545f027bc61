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
    if session.get_providers()[0] == _CPU_PROVIDER:  # ONNX Runtime falls back, and only logs it
        raise LabelwiseError(f"it would run on the CPU, not on {device.name}: see `labelwise doctor`.")
    return session
