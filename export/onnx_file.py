"""Reads, runs and writes ONNX files; errors say in one line why a file cannot be used."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from export.half_storage import restored
from labelwise.errors import LabelwiseError
from labelwise.spec import TensorSpec, TrainedSpec

OPSET = 18  # what `labelwise export` writes and recommends

# The newest file format that Triton 2.51 reads, by its ONNX Runtime 1.19, and the newest opset of that format. Later
# formats add nothing that a graph of such an opset uses.
_FORMAT, _FORMAT_OPSET = 10, 21

Pixels = NDArray[np.uint8]  # [b, h, w, 3]
Outputs = dict[str, NDArray[np.float32]]  # output name -> [b, ...]
Runner = Callable[[Pixels], Outputs]

ONNX_TYPES = {"uint8": onnx.TensorProto.UINT8, "float32": onnx.TensorProto.FLOAT}
_BATCH = 16
_LARGEST = 2**31 - 1  # protobuf's limit for one message
_LONGEST = 400  # characters of another library's error
_RUNTIME = f"ONNX Runtime {ort.__version__}"


class GraphError(LabelwiseError):
    """An ONNX file cannot be served; the message says why."""


def load_model(file: Path) -> onnx.ModelProto:
    """Reads `file` with its weights, also those in other files or stored as float16 (half_storage.py). GraphError."""
    model = load_structure(file)
    for name in external_files(model):
        if not (file.parent / name).is_file():
            raise GraphError(f"{file} keeps weights in {name}, which is not beside it: copy both files together.")
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except Exception as error:  # onnx raises different exceptions for paths and for sizes
        raise GraphError(f"{file} keeps weights in other files that cannot be read: {one_line(error)}") from error
    _check_size(model)
    return restored(model)


def load_structure(file: Path) -> onnx.ModelProto:
    """Reads `file` without weights that lie in other files. Raises GraphError if it is not ONNX."""
    try:
        model = onnx.load_model(file, load_external_data=False)
    except OSError as error:
        raise GraphError(f"{file} cannot be read: {error.strerror}.") from error
    except Exception as error:  # protobuf's classes differ between its implementations
        raise GraphError(f"{file} is not an ONNX file.") from error
    if not model.graph.node or not model.opset_import:  # protobuf reads many other files as an empty message
        raise GraphError(f"{file} is not an ONNX file, or has no graph.")
    return model


def save_model(model: onnx.ModelProto, file: Path) -> None:
    """Checks `model` and writes it as one file. Raises GraphError, and OSError if the disk is full."""
    _check_size(model)
    if all(opset.domain or opset.version <= _FORMAT_OPSET for opset in model.opset_import):
        model.ir_version = min(model.ir_version, _FORMAT)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise GraphError(f"The graph is not valid ONNX: {one_line(error)}") from error
    onnx.save_model(model, file)


def open_session(model: Path | bytes, threads: int = 0) -> ort.InferenceSession:
    """Opens a session on the CPU; 0 threads means one per core. Raises GraphError, which says what is wrong."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised as well
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own
        message, text = one_line(error), str(error)
        if opset := re.search(r"[Oo]pset (\d+) is under development", text):
            message = f"it needs opset {opset[1]}, which {_RUNTIME} does not know: export it with opset {OPSET}"
        elif version := re.search(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)", text):
            message = f"its IR version is {version[1]}, and {_RUNTIME} knows none after {version[2]}"
        raise GraphError(f"ONNX Runtime cannot load the graph: {message}.") from error


def write_folded(model: onnx.ModelProto, file: Path) -> None:
    """Writes `model` as ONNX Runtime's basic optimisations leave it: constants folded and batch norms fused, but still
    standard ONNX. Raises onnxruntime's errors."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(file)
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def named_copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy in which every node has a name."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for number, node in enumerate(copy.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return copy


def session_runner(session: ort.InferenceSession, spec: TrainedSpec, outputs: tuple[str, ...] = ()) -> Runner:
    """The graph as a function from pixels to `outputs`, or to all; onnxruntime's errors become GraphError."""
    names = outputs or spec.output_names

    def run(pixels: Pixels) -> Outputs:
        try:
            results = session.run(list(names), {spec.input.name: pixels})
        except Exception as error:  # onnxruntime raises classes of its own
            raise GraphError(f"The graph fails at batch {len(pixels)}: {one_line(error)}") from error
        return dict(zip(names, results, strict=True))

    return run


def batches_of(pixels: Pixels, spec: TrainedSpec, size: int = _BATCH) -> list[Pixels]:
    size = min(size, spec.max_batch)
    return [pixels[at : at + size] for at in range(0, len(pixels), size)]


def run_all(run: Runner, batches: list[Pixels]) -> Outputs:
    """The outputs of every picture in `batches`."""
    parts = [run(batch) for batch in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def signature_faults(model: onnx.ModelProto, spec: TrainedSpec) -> list[str]:
    """Where the graph's inputs and outputs differ from the contract, or have a fixed batch."""
    wanted = [(spec.input, graph_inputs(model)), *((output, list(model.graph.output)) for output in spec.outputs)]
    faults = [fault for tensor, values in wanted if (fault := _tensor_fault(tensor, values))]
    names = {spec.input.name, *spec.output_names}
    faults += [
        f"the graph has {value.name!r}, which the contract does not"
        for value in (*graph_inputs(model), *model.graph.output)
        if value.name not in names
    ]
    return faults


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """What a caller must give; before IR version 4 the weights stood among the inputs too."""
    weights = {initializer.name for initializer in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """The sizes of fixed dimensions and the names of free ones; "?" for a dimension without a name."""
    return [
        part.dim_value if part.HasField("dim_value") else part.dim_param or "?"
        for part in value.type.tensor_type.shape.dim
    ]


def external_files(model: onnx.ModelProto) -> list[str]:
    """The other files that hold weights."""
    tensors = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    return sorted({ExternalDataInfo(tensor).location for tensor in tensors})


def one_line(error: Exception) -> str:
    """The error's text on one line, cut if it is long: one bad node can make every later one an error."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def _check_size(model: onnx.ModelProto) -> None:
    if model.ByteSize() > _LARGEST:
        raise GraphError("The graph is larger than 2 GiB, which one ONNX file cannot hold: take a smaller backbone.")


def _tensor_fault(tensor: TensorSpec, values: list[onnx.ValueInfoProto]) -> str | None:
    found = next((value for value in values if value.name == tensor.name), None)
    if found is None:
        have = ", ".join(value.name for value in values)
        return f"its contract says {tensor.name!r}, but the graph has {have}"
    dtype = onnx.TensorProto.DataType.Name(found.type.tensor_type.elem_type).lower()
    batch, *shape = shape_of(found) or ["?"]
    if found.type.tensor_type.elem_type != ONNX_TYPES[tensor.dtype] or tuple(shape) != tensor.shape:
        return f"{tensor.name} is {dtype} {shape}, its contract says {tensor.dtype} {list(tensor.shape)}"
    if isinstance(batch, int):
        return f"the batch dimension of {tensor.name} is fixed at {batch}"
    return None
