"""What one device can do at best: multiply-adds per second of large matrices, and bytes per second copied to it.

    python -m benchmarks.gpu.roofline DEVICE PRECISION [--quick]

The matrices are multiplied by ONNX Runtime on that device, as the taggers are. The graph makes them on the device, so
nothing is copied in a run.
"""

import argparse
import functools

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from benchmarks.gpu.driver import Driver
from benchmarks.gpu.tasks import emit
from benchmarks.gpu.timing import measure
from labelwise.cores import usable_cores
from labelwise.devices.choice import Device, choose_device
from labelwise.devices.libraries import rtx_devices
from labelwise.errors import LabelwiseError
from serving.engines.embedded import RUNS_ON_GPU

_SIDES = {"gpu": 8192, "cpu": 1024, "quick": 64}  # of the square matrices
_PRODUCTS = 8  # one after the other in a run
_TYPES = {"fp32": (TensorProto.FLOAT, np.float32), "fp16": (TensorProto.FLOAT16, np.float16)}
_FIRST_PROVIDERS = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "Tensorrt"}


def products_graph(side: int, precision: str) -> bytes:
    """Returns a graph that multiplies a matrix [side, side] by itself again and again: factor [1] -> mean []."""
    kind, dtype = _TYPES[precision]
    # Rows of length 1 on average, so that products stay as large as what was multiplied.
    weights = (np.random.default_rng(0).standard_normal((side, side), np.float32) / side**0.5).astype(dtype)
    nodes = [helper.make_node("Mul", ["weights", "factor"], ["product_0"])]  # depends on the input: no constant
    for number in range(_PRODUCTS):
        nodes.append(helper.make_node("MatMul", [f"product_{number}", "weights"], [f"product_{number + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"product_{_PRODUCTS}"], ["mean"], keepdims=0))
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("factor", kind, [1])],
        [helper.make_tensor_value_info("mean", kind, [])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def open_products(graph: bytes, device: Device) -> ort.InferenceSession:
    """Raises LabelwiseError if ONNX Runtime would not run it on the device."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if device.name == "tensorrt-rtx":
        options.add_provider_for_devices([rtx_devices()[0]], {})
        return ort.InferenceSession(graph, options)
    wanted = f"{_FIRST_PROVIDERS[device.name]}ExecutionProvider"
    providers = [wanted] if wanted.startswith("C") else [wanted, "CUDAExecutionProvider"]
    session = ort.InferenceSession(graph, options, providers=providers)
    if session.get_providers()[0] != wanted:
        raise LabelwiseError(f"ONNX Runtime falls back to {session.get_providers()[0]}")
    return session


def matrix_rate(device: Device, precision: str, is_quick: bool) -> float:
    """Returns multiply-adds per second."""
    side = _SIDES["quick" if is_quick else "cpu" if device.is_cpu else "gpu"]
    session = open_products(products_graph(side, precision), device)
    run = functools.partial(session.run, None, {"factor": np.ones(1, _TYPES[precision][1])})
    speed = measure(run, usable_cores() if device.is_cpu else RUNS_ON_GPU, 0 if is_quick else 2.0)
    return speed.rate * _PRODUCTS * side**3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device")
    parser.add_argument("precision", choices=_TYPES)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    rate = matrix_rate(device, arguments.precision, arguments.quick)
    copied = None if device.is_cpu else Driver().copy_rate()
    emit(
        "roofline",
        device=device.name,
        precision=arguments.precision,
        multiply_adds_per_second=rate,
        copied_bytes_per_second=copied,
    )


if __name__ == "__main__":
    main()
