#!/usr/bin/env bash
# The tool that finds which nodes of a network survive half precision tests them on a processor that computes in fp32.
#
# Date: 2026-11-29. Versions: onnxconverter-common 1.16.0, ONNX Runtime 1.31.1, onnx 1.21.0, Python 3.11, Linux x86-64.
#
# What happens: `auto_convert_mixed_precision` converts a graph to fp16, and keeps those nodes in fp32 without which the
# outputs would differ by more than a tolerance. It runs its attempts with ONNX Runtime's CPU provider, also where there
# is a GPU. That provider has few kernels for fp16: it casts around the others, and its optimizer then removes each cast
# to fp16 that is followed by one back. So nothing between two such nodes is ever rounded to fp16. A sum of squares above
# 65504 is then right on a CPU, and infinite by the graph's own types, which is how onnx's reference computes it. The
# tool keeps no node in fp32 and reports "Final model validated successfully".
#
# Why it matters to people who tag photos: contrastive taggers divide an embedding by its length, whose square easily
# exceeds 65504. The graph passes every check on the machine that exports it. Where fp16 is really computed, every
# embedding is 0 and every photo has the same scores. labelwise compares its fp16 graphs as they would be computed.
#
# Output seen:
#   nodes that the tool keeps in fp32: none
#   ONNX Runtime on a CPU: differs from fp32 by at most 0.0001
#   by the graph's types:  differs from fp32 by at most 0.3110, and all photos have the same scores
#
# Exits with 1 if the tool keeps what it must in fp32, or the CPU shows the fault.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q onnxconverter-common==1.16.0 onnxruntime==1.31.1 onnx==1.21.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxconverter_common.auto_mixed_precision import auto_convert_mixed_precision

chance = np.random.default_rng(0)
FEATURES, SIZE, LABELS = 64, 512, 5
matrices = {
    "embed": chance.normal(0, 8, (FEATURES, SIZE)),
    "labels": chance.normal(0, 0.5, (SIZE, LABELS)),
}
nodes = [  # an embedding of length 1, and the scores of five labels
    helper.make_node("MatMul", ["features", "embed"], ["long"], "embedding"),
    helper.make_node("Mul", ["long", "long"], ["squares"], "squares"),
    helper.make_node("ReduceSum", ["squares", "axes"], ["sum"], "sum", keepdims=1),
    helper.make_node("Sqrt", ["sum"], ["length"], "length"),
    helper.make_node("Div", ["long", "length"], ["embeddings"], "divide"),
    helper.make_node("MatMul", ["embeddings", "labels"], ["logits"], "classify"),
    helper.make_node("Sigmoid", ["logits"], ["scores"], "sigmoid"),
]
graph = helper.make_graph(
    nodes,
    "tagger",
    [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["photos", FEATURES])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["photos", LABELS])],
    [numpy_helper.from_array(matrix.astype(np.float32), name) for name, matrix in matrices.items()]
    + [numpy_helper.from_array(np.array([-1]), "axes")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model, full_check=True)
photos = {"features": chance.normal(0, 1, (8, FEATURES)).astype(np.float32)}

printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    half = auto_convert_mixed_precision(model, photos, rtol=0.01, atol=0.01, keep_io_types=True)
assert "Final model validated successfully" in printed.getvalue()
kinds = {value.name: value.type.tensor_type.elem_type for value in onnx.shape_inference.infer_shapes(half).graph.value_info}
kept = [name for name in ("long", "squares", "sum", "length") if kinds.get(name) == TensorProto.FLOAT]

exact = ReferenceEvaluator(model).run(None, photos)[0]
on_cpu = ort.InferenceSession(half.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, photos)[0]
with np.errstate(over="ignore"):
    by_types = ReferenceEvaluator(half).run(None, photos)[0]
differences = [float(np.abs(scores - exact).max()) for scores in (on_cpu, by_types)]
print("nodes that the tool keeps in fp32:", ", ".join(kept) or "none")
print(f"ONNX Runtime on a CPU: differs from fp32 by at most {differences[0]:.4f}")
same = ", and all photos have the same scores" if np.ptp(by_types, axis=0).max() == 0 else ""
print(f"by the graph's types:  differs from fp32 by at most {differences[1]:.4f}{same}")
sys.exit(not (not kept and differences[0] < 0.01 and differences[1] > 0.1 and same))
PYTHON
