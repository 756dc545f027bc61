"""Raises a graph's opset to the first in which its weights may have a scale for each channel."""

import numpy as np
import onnx
from onnx import version_converter

from export.onnx_file import OPSET, GraphError, Pixels, one_line, open_session, session_runner
from export.tolerances import TOLERANCES, precision_of
from labelwise.spec import TrainedSpec

_PER_CHANNEL = 13


def raise_opset(model: onnx.ModelProto, spec: TrainedSpec, pixels: Pixels) -> onnx.ModelProto:
    """Returns the graph in an opset in which it can be quantized; an old exporter may have written an older one.

    Raises GraphError if onnx cannot convert it, or if the converted graph gives other scores for `pixels`.
    """
    version = next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    if version >= _PER_CHANNEL:
        return model
    refusal = f"int8 needs opset {_PER_CHANNEL}, and the graph has {version}: export it again with opset {OPSET}"
    try:
        raised = version_converter.convert_version(model, _PER_CHANNEL)
    except Exception as error:  # RuntimeError for an operator that onnx has no rule for, among others
        reason = one_line(error).rpartition("failed: ")[2]  # without the place in onnx's sources
        raise GraphError(f"{refusal}, because it cannot be converted: {reason}.") from error
    tolerance = TOLERANCES[precision_of(model)]["scores"]
    before, after = (session_runner(open_session(graph.SerializeToString()), spec)(pixels) for graph in (model, raised))
    distance = float(np.max(tolerance.distances(before["scores"], after["scores"])))
    if not distance <= tolerance.limit:  # false for NaN
        raise GraphError(f"{refusal}, because its scores differ by {distance:.2g} once it is converted.")
    return raised
