"""Fits a graph from elsewhere to the contract: pixels in, scores out, any batch size."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass

from export.foreign.outputs import OutputForm, last_node
from export.foreign.signature import InputForm
from export.onnx_file import ONNX_TYPES, write_folded
from export.simplify import simplify
from export.tolerances import precision_of
from labelwise.spec import TensorSpec, TrainedSpec

_BATCH = "batch"
_WEIGHTS_ALONE = 4  # the IR version from which weights need not be inputs too
_PREFIX = "model/"  # keeps the graph's names apart from the contract's


def adapt(
    model: onnx.ModelProto, form: InputForm, outputs: dict[str, OutputForm], spec: TrainedSpec
) -> onnx.ModelProto:
    """Returns a copy of `model` with the contract's input and outputs, folded and simplified."""
    copy = onnx.compose.add_prefix(model, _PREFIX)
    copy.ir_version = max(copy.ir_version, _WEIGHTS_ALONE)
    del copy.graph.value_info[:]  # these shapes, and those of the outputs, may say the old batch
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    adapted = ir.from_proto(copy)
    TopologicalSortPass()(adapted)  # ONNX wants each node behind those that it reads from, ONNX Runtime does not insist
    if form.batch is not None:
        _free_batch(adapted.graph, form.batch)
    _replace_input(adapted.graph, form, spec)
    _replace_outputs(adapted.graph, outputs, spec, precision_of(model) == "fp16")
    return simplify(_fold(ir.to_proto(adapted)))


def _replace_input(graph: ir.Graph, form: InputForm, spec: TrainedSpec) -> None:
    """Adds nodes from uint8 [b, h, w, 3] to what the graph takes; casts first, for TensorRT can only cast uint8."""
    (old,) = (value for value in graph.inputs if value.name == _PREFIX + form.name)
    image = value = _value(spec.input)
    tape = ir.tape.Tape(graph)
    if form.is_normalised:
        value = tape.op("Cast", [value], {"to": ir.DataType.FLOAT})
    if form.channels_first:
        value = tape.op("Transpose", [value], {"perm": [0, 3, 1, 2]})  # b h w c -> b c h w
    if form.is_normalised:
        shape = (3, 1, 1) if form.channels_first else (3,)
        for operator, name, numbers in (("Sub", "mean", spec.image.mean), ("Div", "std", spec.image.std)):
            array = (255 * np.array(numbers, np.float32)).reshape(shape)
            value = tape.op(operator, [value, tape.initializer(ir.tensor(array), name)])
    if form.type == ir.DataType.FLOAT16:
        value = tape.op("Cast", [value], {"to": ir.DataType.FLOAT16})
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.inputs[:] = [image]


def _replace_outputs(graph: ir.Graph, outputs: dict[str, OutputForm], spec: TrainedSpec, is_half: bool) -> None:
    """Adds nodes that give the contract's outputs in fp32; `simplify` removes the Identity among them.

    The last Sigmoid of a graph in half precision is computed in fp32: half precision has no number between 0.9995 and
    1, so the best scores would be equal.
    """
    tape = ir.tape.Tape(graph)
    found = {value.name: value for value in graph.outputs}
    served = []
    for tensor in spec.outputs:
        output = outputs[tensor.name]
        value, logits = found[_PREFIX + output.name], output.logits
        last = last_node(value, through=("Identity", "Cast")) if is_half else None
        if last is not None and last.op_type == "Sigmoid":
            value, logits = last.inputs[0], True
        if value.dtype != ir.DataType.FLOAT:
            value = tape.op("Cast", [value], {"to": ir.DataType.FLOAT})
        served.append(tape.op("Sigmoid" if logits else "Identity", [value], output=_value(tensor)))
    graph.outputs[:] = served


def _value(tensor: TensorSpec) -> ir.Value:
    return ir.val(tensor.name, ir.DataType(ONNX_TYPES[tensor.dtype]), [_BATCH, *tensor.shape])


def _free_batch(graph: ir.Graph, batch: int) -> None:
    """Lets Reshapes that name the fixed batch take it from their input; a later run shows whether that is right."""
    batched = {value for value in graph.inputs if not value.is_initializer()}
    for node in graph:
        if batched.isdisjoint(node.inputs):
            continue  # a node that reads only weights has no batch
        batched.update(node.outputs)
        constant = ir.convenience.get_const_tensor(node.inputs[1]) if node.op_type == "Reshape" else None
        if constant is None or constant.size < 2 or node.attributes.get_int("allowzero", 0):
            continue
        first, *others = constant.numpy()
        if first == batch:
            free = ir.tensor(np.array([0, *others], np.int64))  # 0: as large as in the input
            node.replace_input_with(1, ir.tape.Tape(graph).initializer(free, f"{node.outputs[0].name}_shape"))


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Folds constants and fuses batch norms by ONNX Runtime.

    onnxscript's optimizer folds less: of a vision transformer in the form of torch's older exporter it leaves 285
    nodes, ONNX Runtime 248. Graphs in lower precisions stay as they are: the runtime would rewrite them for this CPU.
    """
    if precision_of(model) != "fp32":
        return model
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "folded.onnx")
        try:
            write_folded(model, file)
            folded = onnx.load_model(file)
        except Exception:  # the check that follows explains the fault better
            return model
    if {node.domain for node in folded.graph.node} - {node.domain for node in model.graph.node} - {"ai.onnx"}:
        return model
    return folded
