"""Which layers of a graph can compute in integers, and how large these may be."""

import numpy as np
import onnx
import pytest

from export.precision.calibrated import _layers, _weight_scales


def test_each_kind_of_weights_has_its_scale():
    """Neighbours are those of the input channels, in the order in which ONNX Runtime multiplies them."""
    graph = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 18]>
        agraph (float[n, 2, 4, 4] x) => (float[n, 2] y) {
          a = Conv (x, full)  b = Conv <group = 2> (a, depthwise)  c = Flatten (b)
          d = MatMul (c, right)  y = Gemm <transB = 1> (d, left) }""")
    full = np.array([[[[1]], [[2]]], [[[3]], [[-4]]]], np.float32)  # o i 1 1
    values = {
        "full": full,
        "depthwise": np.array([[[[1, 2]]], [[[5, -4]]]], np.float32),
        "right": np.array([[1, -1], [2, -2], [0, -5]], np.float32),  # i o
        "left": np.array([[1, 2], [-3, -3]], np.float32),  # o i
    }
    graph.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    for node in graph.graph.node:
        node.name = node.op_type + node.output[0]
    scales = _weight_scales(graph, ["Conva", "Convb", "MatMuld", "Gemmy"])
    ranges = {name: [127 * channel["scale"] for channel in channels] for name, channels in scales.items()}
    assert ranges == {
        name: pytest.approx(values)
        for name, values in {"full": [3, 4], "depthwise": [2, 5], "right": [3, 7], "left": [3, 6]}.items()
    }
    assert {name: channels[0]["axis"] for name, channels in scales.items()} == {
        "full": 0,
        "depthwise": 0,
        "right": 1,
        "left": 0,
    }


def test_probabilities_are_not_quantized():
    graph = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 18]>
        agraph (float[n, 4] x) => (float[n, 2] y) <float[4, 4] classes = {0}, float[4, 2] groups = {0}>
        { logits = MatMul (x, classes)  p = Softmax (logits)  y = MatMul (p, groups) }""")
    for number, node in enumerate(graph.graph.node):
        node.name = f"node_{number}"
    assert _layers(graph, symmetric=False) == ["node_0"]


@pytest.mark.parametrize(("symmetric", "layers"), [(False, ["c", "e", "f"]), (True, ["a", "b", "c", "e", "f"])])
def test_on_a_cpu_convolutions_of_the_image_stay_in_fp32(symmetric: bool, layers: list[str]):
    """Also where there are two; patches that a matrix multiplies are no convolution."""
    graph = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 18]>
        agraph (float[n, 3, 8, 8] image) => (float[n, 2, 8, 8] y) <float[2, 3, 1, 1] w = {0}, float[2, 2, 1, 1] v = {0},
        float[8, 8] m = {0}>
        { scaled = Mul (image, image)  a = Conv (scaled, w)  b = Conv (scaled, w)  r = Relu (a)  c = Conv (r, v)
          d = Add (b, c)  e = Conv (d, v)  f = MatMul (image, m)  y = Add (e, d) }""")
    for node in graph.graph.node:
        node.name = node.output[0]
    assert _layers(graph, symmetric) == layers


def test_a_layer_with_a_computed_bias_stays_in_fp32():
    graph = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 18]>
        agraph (float[n, 4] x) => (float[n, 4] y) <float[4, 4] w = {0}, float[4] bias = {0}>
        { a = Gemm (x, w)  b = Gemm (a, w, bias)  y = Gemm (b, w, a) }""")
    for node in graph.graph.node:
        node.name = node.output[0]
    assert _layers(graph, symmetric=False) == ["a", "b"]
