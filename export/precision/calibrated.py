"""A graph whose ranges photos have told, of which any choice of layers can compute in 8-bit integers.

Q/DQ pairs stand around the layers with weights, and ONNX Runtime turns them into integer kernels. Activations are
uint8, which x86 multiplies fastest. CPUs without VNNI add the products of two neighbouring weights in 16 bits, which
saturate: so no two neighbours may add up to more than 128. A channel with two large neighbours gets a wider scale.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from export.onnx_file import GraphError, Pixels, batches_of, load_model, named_copy, write_folded
from labelwise.spec import TrainedSpec

BATCH = 4  # photos at once: a calibrated graph keeps many activations, and more at once is not faster on a CPU

_LAYERS = ["Conv", "Gemm", "MatMul"]
_ACTIVATIONS = ["Clip", "Relu"]  # behind a layer: its output is quantized with their range, which is much smaller
_PROBABILITIES = "Softmax"  # differ in their order of magnitude, so 8 bits cannot hold them


class Calibrated:
    """The layers of a graph, and the range of each of its tensors on photos.

    `layers` names those that can compute in integers, from the image to the outputs. With `symmetric`, integers are
    signed and around zero, also those of activations. Raises GraphError if there are no such layers.
    """

    def __init__(self, model: onnx.ModelProto, spec: TrainedSpec, pixels: Pixels, symmetric: bool) -> None:
        with tempfile.TemporaryDirectory() as scratch, _quiet():
            file = Path(scratch) / "folded.onnx"
            write_folded(named_copy(model), file)
            self._ranges = _ranges(file, spec, pixels)
            folded = load_model(file)
        self.layers = _layers(folded, symmetric)
        self._activations = _activations(folded)
        self._model = onnx.shape_inference.infer_shapes(folded).SerializeToString()
        self._symmetric = symmetric
        self._weights = {} if symmetric else _weight_scales(folded, self.layers)

    def quantized(self, layers: Sequence[str]) -> onnx.ModelProto:
        """Returns the graph with `layers` in integers."""
        symmetric = self._symmetric
        quantizer = QDQQuantizer(
            onnx.ModelProto.FromString(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[*layers, *(self._activations[layer] for layer in layers if layer in self._activations)],
            nodes_to_exclude=[],
            op_types_to_quantize=[*_LAYERS, *_ACTIVATIONS],
            extra_options={
                "MatMulConstBOnly": True,  # products of two activations, as in attention, win no time and lose most
                "ActivationSymmetric": symmetric,
                "AddQDQPairToWeight": symmetric,
                "QuantizeBias": not symmetric,  # TensorRT dequantizes no 32-bit integers
                "TensorQuantOverrides": self._weights,
            },
        )
        with _quiet():
            quantizer.quantize_model()
        return quantizer.model.model


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    def __init__(self, spec: TrainedSpec, pixels: Pixels) -> None:
        self._feeds = iter([{spec.input.name: batch} for batch in batches_of(pixels, spec, BATCH)])

    def get_next(self) -> dict[str, Pixels] | None:
        return next(self._feeds, None)


def _layers(model: onnx.ModelProto, symmetric: bool) -> list[str]:
    """The names of the nodes that multiply with weights, except those that stay in fp32 in any case.

    These read probabilities, or add a bias that is computed: ONNX Runtime has no integer kernel for that, and would
    convert the weights to fp32 in every run. Or they are convolutions of the image: with its three channels a CPU
    convolves it faster in fp32, and a GPU, for which the graph is `symmetric`, does not.
    """
    weights = {"", *(weights.name for weights in model.graph.initializer)}  # "" is a bias left out
    exact = {output for node in model.graph.node if node.op_type == _PROBABILITIES for output in node.output}
    behind: set[str] = set()  # tensors that depend on a layer's output
    layers = []
    for node in model.graph.node:
        is_layer = node.op_type in _LAYERS and node.input[1] in weights
        is_behind = not behind.isdisjoint(node.input)
        if is_layer or is_behind:
            behind.update(node.output)
        reads_image = node.op_type == "Conv" and not is_behind
        has_kernel = weights.issuperset(node.input[1:]) and node.input[0] not in exact
        if is_layer and has_kernel and (symmetric or not reads_image):
            layers.append(node.name)
    if not layers:
        raise GraphError("It has no layer with weights that could compute in 8 bits.")
    return layers


def _weight_scales(model: onnx.ModelProto, layers: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The scale of each channel of the layers' weights, as the quantizer takes it, so that no products saturate.

    A channel's range, which -127..127 stands for, is the largest sum of two neighbours of one sign, in the order in
    which ONNX Runtime multiplies them: input channels fastest. So two neighbours add up to 127, or to 128 once rounded.
    Depthwise layers are multiplied in 32 bits; there the range is the largest weight.

    The quantizer could compute the scale from the range, but takes long, and again for each choice of layers.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    scales = {}
    for node in model.graph.node:
        if node.name not in layers:
            continue
        weights = onnx.numpy_helper.to_array(tensors[node.input[1]])
        axis = _channel_axis(node, weights.ndim)
        rows = np.moveaxis(weights, axis, 0)  # o i h w, or o i
        is_depthwise = weights.ndim > 2 and rows.shape[1] == 1
        rows = np.moveaxis(rows, 1, -1).reshape(len(rows), -1)  # o i h w -> o (h w i)
        most = np.abs(rows).max(axis=1)
        if not is_depthwise:
            pairs = [signed[:, 1:] + signed[:, :-1] for signed in (rows.clip(min=0), -rows.clip(max=0))]
            most = np.concatenate([most[:, None], *pairs], axis=1).max(axis=1)
        steps = (most.astype(np.float64) / 127).astype(np.float32)
        steps[steps < np.finfo(np.float32).tiny] = 1  # a channel of zeros
        channel = {"quant_type": QuantType.QInt8, "axis": axis, "zero_point": 0}
        scales[node.input[1]] = [channel | {"scale": step} for step in steps]
    return scales


def _channel_axis(node: onnx.NodeProto, dimensions: int) -> int:
    """Which axis of a layer's weights has its output channels."""
    if node.op_type == "Conv" or any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        return 0
    return dimensions - 1


def _activations(model: onnx.ModelProto) -> dict[str, str]:
    """The activation behind a layer, by the layer's name."""
    makers = {output: node.name for node in model.graph.node if node.op_type in _LAYERS for output in node.output}
    found = (node for node in model.graph.node if node.op_type in _ACTIVATIONS)
    return {makers[node.input[0]]: node.name for node in found if node.input[0] in makers}


def _ranges(file: Path, spec: TrainedSpec, pixels: Pixels) -> Any:
    calibrator = create_calibrator(
        file,
        [*_LAYERS, *_ACTIVATIONS],
        augmented_model_path=str(file.with_suffix(".aug.onnx")),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.collect_data(_Batches(spec, pixels))
    return calibrator.compute_data()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the quantizer, which logs advice to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
