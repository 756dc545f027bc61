"""Stores float32 weights in half the bytes if that changes no bit: as float16, with a Cast back to float32.

Training rounds weights to float16 (`rounded_to_half` in training/checkpoint.py). The exporter then multiplies a
convolution's weights by the batch norm that follows it, one factor per channel, so their values are no longer float16.
They are stored as the rounded weights, a Cast and a Mul by the factors. ONNX Runtime computes both once, when it loads
the file. `load_model` undoes all of it, so only what reads a file in another way sees it.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

Weights = Mapping[str, NDArray]  # name of an initializer -> its values

_HALF, _SCALE = "/labelwise-half", "/labelwise-scale"  # no other software writes such names
_LEAST = 1_000  # elements; the nodes cost more than a smaller tensor saves
_ULPS = (0, 1, -1, 2, -2)  # how far a quotient of two rounded numbers may be from the true factor


def in_halves(model: onnx.ModelProto, rounded: Weights) -> onnx.ModelProto:
    """Returns a copy that stores as float16 each large float32 initializer that this can give back to the bit.

    `rounded`: the weights by the names of their initializers, as they were before an exporter multiplied them.
    """
    copy = ir.from_proto(model)
    graph = copy.graph
    for value in [*graph.initializers.values()]:
        weights = value.const_value.numpy() if value.const_value is not None else None
        if weights is None or weights.dtype != np.float32 or weights.size <= _LEAST or value.is_graph_input():
            continue
        if form := _half_form(weights, rounded.get(value.name or "")):
            _replace(graph, value, *form)
    return ir.to_proto(copy)


def restored(model: onnx.ModelProto) -> onnx.ModelProto:
    """Undoes `in_halves`. Returns `model` itself if it stores nothing so."""
    if not any(is_stored(tensor.name) for tensor in model.graph.initializer):
        return model
    copy = ir.from_proto(model)
    graph = copy.graph
    for value in [*graph.initializers.values()]:
        if not is_stored(value.name or "") or value.const_value is None:
            continue
        (cast,) = value.consumers()
        nodes, weights = [cast], value.const_value.numpy().astype(np.float32)
        scale = graph.initializers.get(_original(value) + _SCALE)
        if scale is not None and scale.const_value is not None:
            nodes = [*scale.consumers(), cast]
            weights = weights * scale.const_value.numpy()
        whole = ir.val(_original(value), const_value=ir.tensor(weights, name=_original(value)))
        nodes[0].outputs[0].replace_all_uses_with(whole)
        graph.remove(nodes, safe=True)
        for old in (value, scale):
            if old is not None:
                del graph.initializers[old.name or ""]
        graph.register_initializer(whole)
    return ir.to_proto(copy)


def halves_of(model: onnx.ModelProto) -> dict[str, NDArray]:
    """The weights that `in_halves` stored, without the factors, by the names of the initializers they came from."""
    return {
        tensor.name.removesuffix(_HALF): onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if is_stored(tensor.name)
    }


def is_stored(name: str) -> bool:
    """Whether the initializer of this name is float16 only in the file; the graph computes with float32."""
    return name.endswith(_HALF)


def _original(value: ir.Value) -> str:
    return (value.name or "").removesuffix(_HALF)


def _half_form(
    weights: NDArray[np.float32], rounded: NDArray | None
) -> tuple[NDArray[np.float16], NDArray[np.float32] | None] | None:
    """The weights as float16, and the factors of their channels unless all are 1. None if they have no such form."""
    if (half := _half(weights)) is not None:
        return half, None
    if rounded is None or rounded.shape != weights.shape or (half := _half(rounded)) is None:
        return None
    scale = _scale(weights, half)
    return None if scale is None else (half, scale)


def _half(weights: NDArray) -> NDArray[np.float16] | None:
    """The same values as float16, None if it does not have all of them."""
    with np.errstate(over="ignore"):
        half = weights.astype(np.float16)
    return half if np.array_equal(half.astype(weights.dtype), weights) else None


def _scale(weights: NDArray[np.float32], half: NDArray[np.float16]) -> NDArray[np.float32] | None:
    """The factors of the channels [c, 1, …] for which half * factors is `weights` [c, …] to the bit, None if none are.

    The largest weight of a channel tells its factor but for the last bits.
    """
    rows, bases = weights.reshape(len(weights), -1), half.reshape(len(half), -1).astype(np.float32)
    largest = np.abs(bases).argmax(axis=1)[:, None]
    base, product = (np.take_along_axis(values, largest, axis=1) for values in (bases, rows))
    quotient = np.divide(product, base, out=np.ones_like(base), where=base != 0)
    scale, found = quotient.copy(), np.zeros_like(base, bool)
    for ulps in _ULPS:
        guess = (quotient.view(np.int32) + np.int32(ulps)).view(np.float32)
        fits = (bases * guess == rows).all(axis=1, keepdims=True)
        scale[fits & ~found] = guess[fits & ~found]
        found |= fits
    return scale.reshape(-1, *[1] * (weights.ndim - 1)) if found.all() else None


def _replace(graph: ir.Graph, value: ir.Value, half: NDArray[np.float16], scale: NDArray[np.float32] | None) -> None:
    """Puts Cast, and Mul if there is a `scale`, in the place of the initializer `value`."""
    name = value.name or ""
    tape = ir.tape.Tape()
    new = tape.op("Cast", [_register(graph, name + _HALF, half)], {"to": ir.DataType.FLOAT})
    if scale is not None:
        new = tape.op("Mul", [new, _register(graph, name + _SCALE, scale)])
    value.replace_all_uses_with(new)
    del graph.initializers[name]
    new.name = name
    graph.insert_before(graph[0], tape.nodes)


def _register(graph: ir.Graph, name: str, array: NDArray) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value
