"""Reads and writes the taught labels of an exported graph whose head has independent labels (class-evidence).

What the exporter wrote is not touched. Beside it stands one branch for each group of taught labels. At each of the
three outputs a Concat joins the trained head and the groups, and a Gather puts the labels into the contract's order:

    features  = the classes' log probabilities and the mean of the tokens, each of a fixed length, joined
    here      = the same at each position
    logits    = trained logits @ from_base + features @ weight + bias
    attention = softmax over positions of from_base.T @ trained attention logits + (here @ steering).T
                where steering = weight[:k] + weight[k:2k] for the classes, and weight[2k:] for the tokens
    embedding = normalise(attention @ values)

All of it is fp32, also in graphs of other precisions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from labelwise.errors import LabelwiseError
from labelwise.label_names import some
from labelwise.spec import TAUGHT_OUTPUTS, TaggerSpec
from teaching.label_rows import Group, Lessons, Source

_PREFIX = "taught/"
_BASE = _PREFIX + "base/"  # the trained head's own outputs
_ORDER = _PREFIX + "order"
_FEATURES, _HERE = _PREFIX + "features", _PREFIX + "here"
_SCALE = "tagger.head.class_scale"  # [2k]; the exporter names weights after the network's
_BIAS = "tagger.head.bias"  # [l]

# The lengths of the two parts of the features; tokens tell more (benchmarks/results/teach.md).
_OF_CLASSES, _OF_TOKENS = 1 / 5**0.5, 2 / 5**0.5


class HeadTensors(NamedTuple):
    """The names of the tensors of the trained head that taught labels are computed from."""

    logits: str  # [b, l], of which the scores are the sigmoid
    classes: str  # [b, 2k], the classes' standardised log probabilities, of unit length
    classes_here: str  # [b, t, k], the same at each position
    tokens: str  # [b, t, c]
    attention_logits: str  # [b, l, t]
    values: str  # [b, t, p]


def require_independent(spec: TaggerSpec, others: Sequence[TaggerSpec]) -> None:
    """Raises LabelwiseError if the labels of `spec` share weights; `others` are all taggers of the repository."""
    if spec.is_teachable:
        return
    fit = [other.name for other in others if other.is_teachable]
    choice = f"choose --model {some(fit)}" if fit else "no tagger here can be taught"
    raise LabelwiseError(
        f"{spec.name} cannot be taught, because its labels share weights: {choice}, or train one with "
        "`labelwise train DATA --preset everyday`."
    )


def head_tensors(model: onnx.ModelProto) -> HeadTensors:
    """Finds the head by its structure, the same in fp32, fp16 and int8. Raises LabelwiseError if it is another."""
    graph = _Walk(model.graph)
    bases = {name: _BASE + name if graph.made(_BASE + name) else name for name in TAUGHT_OUTPUTS}
    try:
        whole = graph.reader(_SCALE, "Mul").output[0]
        norm = graph.reader(whole, "ReduceL2").output[0]
        attention = graph.maker(graph.maker(bases["attention"], "Reshape").input[0], "Softmax")
        weighted = graph.maker(graph.maker(bases["embeddings"], "Div").input[0], "MatMul")
        return HeadTensors(
            logits=graph.maker(bases["scores"], "Sigmoid").input[0],
            classes=graph.reader(whole, "Div").output[0],
            classes_here=graph.reader(graph.reader(norm, "Unsqueeze").output[0], "Div").output[0],
            tokens=graph.maker(weighted.input[1], "MatMul").input[0],
            attention_logits=attention.input[0],
            values=weighted.input[1],
        )
    except LookupError as error:
        raise LabelwiseError(
            f"This graph cannot be taught: it has no {error} where labelwise writes one. Export the run again."
        ) from error


class _Walk:
    """Follows a graph's tensors, past what other precisions put between."""

    _BETWEEN = ("Cast", "QuantizeLinear", "DequantizeLinear")

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._nodes = graph.node

    def made(self, tensor: str) -> bool:
        return tensor in self._makers

    def maker(self, tensor: str, kind: str) -> onnx.NodeProto:
        node = self._makers.get(tensor)
        while node is not None and node.op_type in self._BETWEEN:
            node = self._makers.get(node.input[0])
        if node is None or node.op_type != kind:
            raise LookupError(kind)
        return node

    def reader(self, tensor: str, kind: str) -> onnx.NodeProto:
        names = {tensor}
        for node in self._nodes:  # in the order in which they run
            if names.isdisjoint(node.input):
                continue
            if node.op_type == kind:
                return node
            if node.op_type == "Cast":
                names.add(node.output[0])
        raise LookupError(kind)


def read_lessons(model: onnx.ModelProto, labels: Sequence[str]) -> Lessons:
    """What `write_lessons` wrote into `model`, whose labels are `labels`."""
    arrays = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.name.startswith(_PREFIX)
    }
    if _ORDER not in arrays:
        return Lessons({label: Source(column) for column, label in enumerate(labels)}, {})
    versions = sorted(int(name.split("/")[1]) for name in arrays if name.endswith("/weight"))
    groups = {version: Group(*(arrays[f"{_PREFIX}{version}/{part}"] for part in Group._fields)) for version in versions}
    places = [Source(column) for column in range(base_labels(model))]
    for version, group in groups.items():
        places += [Source(column, version) for column in range(len(group.bias))]
    return Lessons({label: places[place] for label, place in zip(labels, arrays[_ORDER], strict=True)}, groups)


def base_labels(model: onnx.ModelProto) -> int:
    """How many labels the trained head has."""
    return _size(model, _BIAS)


def _size(model: onnx.ModelProto, weights: str) -> int:
    for tensor in model.graph.initializer:
        if tensor.name.partition("/")[0] == weights:  # half_storage.py adds to names
            return int(tensor.dims[0])
    raise LabelwiseError(f"This graph cannot be taught: it has no {weights}. Export the run again.")


def add_features(model: onnx.ModelProto) -> str:
    """Makes `model` compute the features [b, 2k + c] that taught labels are fitted to; returns their name."""
    if not _Walk(model.graph).made(_FEATURES):
        _add_features(model.graph, _in_single(model, head_tensors(model)))
    return _FEATURES


def _add_features(graph: onnx.GraphProto, head: HeadTensors) -> None:
    arrays = {
        "positions": np.array([1], np.int64),
        "channels": np.array([2], np.int64),
        "least": np.array(1e-6, np.float32),
        "of_classes": np.array(_OF_CLASSES, np.float32),
        "of_tokens": np.array(_OF_TOKENS, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(array, _PREFIX + name) for name, array in arrays.items())

    def add(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        graph.node.append(helper.make_node(kind, list(inputs), [_PREFIX + output], **attributes))
        return _PREFIX + output

    positions, channels, least, of_classes, of_tokens = (_PREFIX + name for name in arrays)
    mean = add("ReduceMean", [head.tokens, positions], "mean", keepdims=1)  # b t c -> b 1 c
    length = add("Max", [add("ReduceL2", [mean, channels], "norm", keepdims=1), least], "length")  # b 1 1
    tokens = add("Mul", [add("Div", [head.tokens, length], "unit"), of_tokens], "tokens_here")  # b t c
    pooled = add("ReduceMean", [tokens, positions], "tokens", keepdims=0)  # b c
    add("Concat", [add("Mul", [head.classes, of_classes], "classes"), pooled], "features", axis=-1)
    add("Concat", [add("Mul", [head.classes_here, of_classes], "classes_here"), tokens], "here", axis=-1)


def write_lessons(model: onnx.ModelProto, lessons: Lessons) -> None:
    """Makes `model` compute the labels of `lessons`, in their order. Every other label keeps its outputs to the bit."""
    graph = model.graph
    _take_out(graph)
    head = _in_single(model, head_tensors(model))
    grid = [dimension.dim_value for dimension in _output(graph, "attention").type.tensor_type.shape.dim[2:]]
    for name in TAUGHT_OUTPUTS:
        _rename(graph, name, _BASE + name)
    starts, count = {None: 0}, base_labels(model)
    joined: dict[str, list[str]] = {name: [_BASE + name] for name in TAUGHT_OUTPUTS}
    if lessons.groups:
        _add_features(graph, head)
    for version, group in sorted(lessons.groups.items()):
        starts[version] = count
        count += len(group.bias)
        for name in TAUGHT_OUTPUTS:
            joined[name].append(f"{_PREFIX}{version}/{name}")
        _add_group(graph, f"{_PREFIX}{version}/", group, head, _steering(group, _size(model, _SCALE) // 2), grid)
    order = np.array([starts[source.version] + source.column for source in lessons.sources.values()], np.int64)
    graph.initializer.append(numpy_helper.from_array(order, _ORDER))
    for name, parts in joined.items():
        whole = parts[0]
        if len(parts) > 1:
            whole = f"{_PREFIX}all/{name}"
            graph.node.append(helper.make_node("Concat", parts, [whole], axis=1))
        graph.node.append(helper.make_node("Gather", [whole, _ORDER], [name], axis=1))
        _output(graph, name).type.tensor_type.shape.dim[1].dim_value = len(order)


def _steering(group: Group, classes: int) -> NDArray[np.float32]:
    """The weights [k + c, m] of a position's features."""
    whole, best, tokens = np.split(group.weight, [classes, 2 * classes])
    return np.concatenate([whole + best, tokens])


def _add_group(
    graph: onnx.GraphProto,
    prefix: str,
    group: Group,
    head: HeadTensors,
    steering: NDArray[np.float32],
    grid: Sequence[int],
) -> None:
    arrays = {
        **group._asdict(),
        "steering": steering,
        "base_to_m": np.ascontiguousarray(group.from_base.T),  # m l
        "shape": np.array([0, -1, *grid], np.int64),
    }
    for name, array in arrays.items():
        graph.initializer.append(numpy_helper.from_array(array, prefix + name))

    def add(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        graph.node.append(helper.make_node(kind, list(inputs), [prefix + output], **attributes))
        return prefix + output

    own = add("MatMul", [_FEATURES, prefix + "weight"], "own")  # b d, d m -> b m
    base = add("MatMul", [head.logits, prefix + "from_base"], "from_trained")  # b l, l m -> b m
    logits = add("Add", [add("Add", [own, prefix + "bias"], "biased"), base], "logits")
    add("Sigmoid", [logits], "scores")
    steered = add("MatMul", [_HERE, prefix + "steering"], "steered")  # b t e, e m -> b t m
    turned = add("Transpose", [steered], "turned", perm=[0, 2, 1])  # b m t
    seen = add("MatMul", [prefix + "base_to_m", head.attention_logits], "seen")  # m l, b l t -> b m t
    attention = add("Softmax", [add("Add", [turned, seen], "attention_logits")], "softmax", axis=-1)
    add("Reshape", [attention, prefix + "shape"], "attention")  # b m t -> b m th tw
    weighted = add("MatMul", [attention, head.values], "weighted")  # b m t, b t p -> b m p
    add("LpNormalization", [weighted], "embeddings", axis=-1, p=2)


def _in_single(model: onnx.ModelProto, head: HeadTensors) -> HeadTensors:
    """The head's tensors as fp32: a graph of half floats gets Casts."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    names = []
    for field, tensor in head._asdict().items():
        if types.get(tensor) == TensorProto.FLOAT16:
            single = f"{_PREFIX}single/{field}"
            model.graph.node.append(helper.make_node("Cast", [tensor], [single], to=TensorProto.FLOAT))
            tensor = single
        names.append(tensor)
    return HeadTensors(*names)


def _take_out(graph: onnx.GraphProto) -> None:
    """Leaves what the exporter wrote."""
    if not any(tensor.name == _ORDER for tensor in graph.initializer):
        return
    for parts in (graph.node, graph.initializer):
        kept = [part for part in parts if not any(map(_is_taught, _names_of(part)))]
        del parts[:]
        parts.extend(kept)
    for name in TAUGHT_OUTPUTS:
        _rename(graph, _BASE + name, name)


def _names_of(part: onnx.NodeProto | TensorProto) -> Sequence[str]:
    return part.output if isinstance(part, onnx.NodeProto) else [part.name]


def _is_taught(name: str) -> bool:
    return (name.startswith(_PREFIX) and not name.startswith(_BASE)) or name in TAUGHT_OUTPUTS


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new


def _output(graph: onnx.GraphProto, name: str) -> onnx.ValueInfoProto:
    return next(output for output in graph.output if output.name == name)
