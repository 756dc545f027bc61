"""Cutting a graph from elsewhere to the contract: pixels in, scores out, any batch."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from export.foreign.outputs import OutputForm, last_node
from export.foreign.signature import InputForm
from export.onnx_file import graph_inputs
from export.simplify import remove_unused, rename_input, simplify
from export.tolerances import precision_of
from labelwise.spec import TaggerSpec

_BATCH = "batch"
_WEIGHTS_ALONE = 4  # the IR version from which weights need not be inputs too
_PREFIX = "model/"  # keeps the graph's own names apart from the contract's


def adapt(model: onnx.ModelProto, form: InputForm, outputs: dict[str, OutputForm], spec: TaggerSpec) -> onnx.ModelProto:
    """A copy of `model` that takes the contract's input and gives its outputs, folded and simplified."""
    adapted = onnx.compose.add_prefix(model, _PREFIX)
    adapted.ir_version = max(adapted.ir_version, _WEIGHTS_ALONE)
    if form.batch is not None:
        _free_batch(adapted, form.batch)
    del adapted.graph.value_info[:]  # they may say the old batch
    types = {value.name: value.type.tensor_type.elem_type for value in adapted.graph.output}
    _replace_input(adapted, _PREFIX + form.name, form, spec)
    del adapted.graph.output[:]
    for tensor in spec.outputs:
        output = outputs[tensor.name]
        current = _PREFIX + output.name
        if logits := _half_logits(adapted, current):
            _add_output(adapted, logits, tensor.name, replace(output, logits=True), TensorProto.FLOAT16)
        else:
            _add_output(adapted, current, tensor.name, output, types[current])
        shape = [_BATCH, *tensor.shape]
        adapted.graph.output.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, shape))
    remove_unused(adapted)
    folded = _fold(adapted)
    simplify(folded)
    return folded


def _replace_input(model: onnx.ModelProto, name: str, form: InputForm, spec: TaggerSpec) -> None:
    """uint8 [b, h, w, 3] -> what the graph takes, by nodes of ours; transposed first, while a value is one byte."""
    steps: list[tuple[str, list[str], dict[str, object]]] = []
    if form.channels_first:
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    if form.is_normalised:
        shape = (3, 1, 1) if form.channels_first else (3,)
        for key, values in (("mean", spec.image.mean), ("std", spec.image.std)):
            array = (255 * np.array(values, np.float32)).reshape(shape)
            model.graph.initializer.append(numpy_helper.from_array(array, key))
        steps += [("Cast", [], {"to": TensorProto.FLOAT}), ("Sub", ["mean"], {}), ("Div", ["std"], {})]
    if form.type == TensorProto.FLOAT16:
        steps.append(("Cast", [], {"to": TensorProto.FLOAT16}))
    nodes, current = [], spec.input.name
    for index, (operator, others, attributes) in enumerate(steps):
        following = name if index == len(steps) - 1 else f"prepared_{index}"
        nodes.append(helper.make_node(operator, [current, *others], [following], **attributes))
        current = following
    if not steps:
        rename_input(model, name, spec.input.name)
    kept = [*nodes, *(onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node)]
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend(kept)
    shape = [_BATCH, *spec.input.shape]
    model.graph.input.append(helper.make_tensor_value_info(spec.input.name, TensorProto.UINT8, shape))


def _add_output(model: onnx.ModelProto, name: str, served: str, output: OutputForm, kind: int) -> None:
    """From the graph's tensor `name` to the contract's `served`; an Identity, where nothing is to do, goes later."""
    current = name
    if kind != TensorProto.FLOAT:
        model.graph.node.append(helper.make_node("Cast", [name], [f"{served}_float"], to=TensorProto.FLOAT))
        current = f"{served}_float"
    model.graph.node.append(helper.make_node("Sigmoid" if output.logits else "Identity", [current], [served]))


def _half_logits(model: onnx.ModelProto, name: str) -> str | None:
    """What the last Sigmoid of a graph in half precision takes. It is computed in fp32, for between 0.9995 and 1 half
    precision has no number, and the best scores would be equal."""
    if precision_of(model) != "fp16":
        return None
    last = last_node(model, name, through=("Identity", "Cast"))
    return last.input[0] if last is not None and last.op_type == "Sigmoid" else None


def _free_batch(model: onnx.ModelProto, batch: int) -> None:
    """Let Reshapes that name the fixed batch take it from their input; whether that is right, running it shows."""
    constants = {weights.name: weights for weights in model.graph.initializer}
    constants |= {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    batched = {value.name for value in graph_inputs(model)}
    for node in model.graph.node:  # they stand in the order of computation
        if not batched & {*node.input}:
            continue  # what is made of weights alone has no batch
        batched.update(node.output)
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]])
        if shape.size > 1 and shape[0] == batch and not any(attribute.i for attribute in node.attribute):
            name = f"{node.output[0]}_shape"
            free = np.array([0, *shape[1:]], np.int64)  # 0: as large as in the input
            model.graph.initializer.append(numpy_helper.from_array(free, name))
            node.input[1] = name


def _fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Constants folded and batch norms fused by ONNX Runtime's basic optimisations, which stay standard ONNX.

    Not in lower precisions, which the runtime rewrites for the processor that it runs on here.
    """
    if precision_of(model) != "fp32":
        return model
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            folded = onnx.load_model(options.optimized_model_filepath)
        except Exception:  # the check that follows says what is wrong with it, in better words
            return model
    if {node.domain for node in folded.graph.node} - {node.domain for node in model.graph.node} - {"ai.onnx"}:
        return model
    opsets = [onnx.OperatorSetIdProto.FromString(opset.SerializeToString()) for opset in model.opset_import]
    del folded.opset_import[:]  # the runtime lists every domain it knows
    folded.opset_import.extend(opsets)
    assert len(graph_inputs(folded)) == 1
    return folded
