"""Taking out of a graph what computes nothing: the runtime would, at every load, and a reader of the graph cannot."""

from collections.abc import Iterator

import onnx

from export.onnx_file import shape_of

# Operators that broadcast, so that an operand need not be expanded to the other one's shape first.
_BROADCASTING = {"Add", "Sub", "Mul", "Div"}


def simplify(model: onnx.ModelProto) -> None:
    """Remove, in place: Identity, Casts to the type a tensor has, pairs of Transposes, Expands that broadcasting does
    anyway, and whatever then feeds nothing. Results stay the same to the bit."""
    while _remove_expands(model) or _merge_transposes(model) or _remove_copies(model):
        pass
    remove_unused(model)


def useless_nodes(model: onnx.ModelProto) -> list[str]:
    """Node pairs and nodes that cancel out or copy, each named with its operator; none in a graph of ours."""
    kinds = _types(model)
    by_output = _producers(model)
    found = [f"{node.op_type} {node.output[0]}" for node in model.graph.node if _is_copy(node, kinds)]
    for node in model.graph.node:
        before = by_output.get(node.input[0]) if node.input else None
        if before is not None and node.op_type == before.op_type and node.op_type in ("Transpose", "Cast"):
            found.append(f"{before.op_type} {before.output[0]} -> {node.op_type} {node.output[0]}")
    return found


def remove_unused(model: onnx.ModelProto) -> None:
    """Nodes, weights and notes on tensors that no output depends on."""
    needed = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if needed & {*node.output}:
            kept.append(node)
            needed.update(_read_by(node))
    for field, values in (
        (model.graph.node, kept[::-1]),
        (model.graph.initializer, [weights for weights in model.graph.initializer if weights.name in needed]),
        (model.graph.value_info, [value for value in model.graph.value_info if value.name in needed]),
    ):
        if len(field) != len(values):
            copies = [type(value).FromString(value.SerializeToString()) for value in values]
            del field[:]
            field.extend(copies)


def rename_input(model: onnx.ModelProto, old: str, new: str) -> None:
    """Let every node, those of inner graphs too, read tensor `new` where it read `old`."""
    for graph in all_graphs(model.graph):
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new
        if graph is not model.graph:  # what a branch passes through without computing
            for value in graph.output:
                if value.name == old:
                    value.name = new


def _remove_copies(model: onnx.ModelProto) -> bool:
    outputs = {value.name for value in model.graph.output}
    kinds = _types(model)
    for node in model.graph.node:
        if not _is_copy(node, kinds):
            continue
        source, target = node.input[0], node.output[0]
        if target not in outputs:
            rename_input(model, target, source)
        elif source not in _fixed_names(model):  # then what computes it can carry the output's name
            producer = _producers(model)[source]
            producer.output[list(producer.output).index(source)] = target
            rename_input(model, source, target)
        else:
            continue
        model.graph.node.remove(node)
        return True
    return False


def _merge_transposes(model: onnx.ModelProto) -> bool:
    """A Transpose of a Transpose is one, or none."""
    producers = _producers(model)
    for node in model.graph.node:
        before = producers.get(node.input[0]) if node.op_type == "Transpose" else None
        if before is not None and before.op_type == "Transpose" and _perm(node) and _perm(before):
            perm = [_perm(before)[axis] for axis in _perm(node)]
            node.input[0] = before.input[0]
            node.attribute[0].CopyFrom(onnx.helper.make_attribute("perm", perm))
            remove_unused(model)
            return True
    return False


def _remove_expands(model: onnx.ModelProto) -> bool:
    """Where broadcasting x and y alone gives the shape that x and Expand(y) give, the Expand is none of it."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    shapes = {value.name: shape_of(value) for value in values}
    shapes |= {weights.name: list(weights.dims) for weights in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    for node in model.graph.node:
        target = node.output[0]
        if node.op_type != "Expand" or target in outputs:
            continue
        readers = [reader for reader in _all_nodes(model.graph) if target in reader.input]
        if readers and all(_broadcasts(reader, node, shapes) for reader in readers):
            rename_input(model, target, node.input[0])
            remove_unused(model)
            return True
    return False


def _broadcasts(reader: onnx.NodeProto, expand: onnx.NodeProto, shapes: dict[str, list[int | str]]) -> bool:
    others = [name for name in reader.input if name != expand.output[0]]
    if reader.op_type not in _BROADCASTING or len(others) != 1:
        return False
    result = shapes.get(reader.output[0])
    small, other = shapes.get(expand.input[0]), shapes.get(others[0])
    known = result and small is not None and other is not None and "?" not in result
    return bool(known) and _broadcast(small, other) == result


def _broadcast(a: list[int | str], b: list[int | str]) -> list[int | str] | None:
    """The shape of a + b; None where sizes differ, or may."""
    length = max(len(a), len(b))
    pairs = list(zip([1] * (length - len(a)) + a, [1] * (length - len(b)) + b, strict=True))
    if any(1 not in pair and pair[0] != pair[1] for pair in pairs):
        return None
    return [left if right == 1 else right for left, right in pairs]


def _is_copy(node: onnx.NodeProto, kinds: dict[str, int]) -> bool:
    if node.op_type == "Identity":
        return True
    if node.op_type == "Transpose":
        return bool(_perm(node)) and _perm(node) == sorted(_perm(node))
    target = next((attribute.i for attribute in node.attribute if attribute.name == "to"), None)
    return node.op_type == "Cast" and target is not None and kinds.get(node.input[0]) == target


def _perm(node: onnx.NodeProto) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), [])


def _types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {weights.name: weights.data_type for weights in model.graph.initializer}


def _fixed_names(model: onnx.ModelProto) -> set[str]:
    graph = model.graph
    return {value.name for value in (*graph.input, *graph.output)} | {weights.name for weights in graph.initializer}


def _producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def _read_by(node: onnx.NodeProto) -> set[str]:
    inner = [child for attribute in node.attribute for graph in _inner(attribute) for child in _all_nodes(graph)]
    results = {value.name for attribute in node.attribute for graph in _inner(attribute) for value in graph.output}
    return {*node.input}.union(results, *(child.input for child in inner))


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for part in all_graphs(graph):
        yield from part.node


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and those inside its Ifs and Loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in _inner(attribute):
                yield from all_graphs(inner)


def _inner(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else list(attribute.graphs)
