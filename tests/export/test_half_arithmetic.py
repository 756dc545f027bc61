"""Half precision on a CPU: results are rounded as NumPy rounds half floats, and overflow where they do on a GPU."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export.half_arithmetic import in_single, open_as_computed
from export.onnx_file import load_model, open_session, session_runner
from export.parity import ParityError, check_parity
from export.pictures import drawn_pictures
from export.precision.half import to_half
from labelwise.spec import TaggerSpec


def half_graph(nodes: list[onnx.NodeProto], **weights: np.ndarray) -> onnx.ModelProto:
    """`nodes` make half floats `y` of half floats `x` [3, 4]; outside both are fp32."""
    first = helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT16)
    last = helper.make_node("Cast", ["y"], ["output"], to=TensorProto.FLOAT)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 4]) for name in ("input", "output")]
    initializers = [numpy_helper.from_array(values.astype(np.float16), name) for name, values in weights.items()]
    graph = helper.make_graph([first, *nodes, last], "half", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def answer(session: ort.InferenceSession, values: np.ndarray) -> np.ndarray:
    return session.run(None, {"input": values})[0]


def test_every_result_is_rounded_as_numpy_rounds_it(tmp_path: Path):
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["m"]),
        helper.make_node("Add", ["m", "term"], ["a"]),
        helper.make_node("Exp", ["a"], ["e"]),
        helper.make_node("Div", ["e", "factor"], ["d"]),
        helper.make_node("Sub", ["d", "x"], ["y"]),
    ]
    random = np.random.default_rng(0)
    model = half_graph(nodes, factor=random.uniform(0.5, 2, (3, 4)), term=random.uniform(-1, 1, (3, 4)))
    onnx.save_model(model, tmp_path / "half.onnx")
    values = random.uniform(-2, 2, (3, 4)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"input": values})  # NumPy's own half floats
    here = answer(open_session(tmp_path / "half.onnx"), values)
    assert (answer(open_as_computed(tmp_path / "half.onnx"), values) == expected).all()
    assert np.abs(here - expected).max() > 1e-3  # what the CPU provider computes is not half precision
    single = in_single(model, rounded=False).SerializeToString()
    assert answer(open_session(single), values) == pytest.approx(here, abs=2e-3)


def test_what_is_too_large_for_half_precision_is_infinite(tmp_path: Path):
    nodes = [helper.make_node("Mul", ["x", "x"], ["m"]), helper.make_node("Sqrt", ["m"], ["y"])]
    onnx.save_model(half_graph(nodes, unused=np.ones(1)), tmp_path / "half.onnx")
    values = np.full((3, 4), 300, np.float32)
    assert (answer(open_session(tmp_path / "half.onnx"), values) == 300).all()
    assert np.isinf(answer(open_as_computed(tmp_path / "half.onnx"), values)).all()


def test_graphs_in_other_precisions_run_as_they_are(graph: Path, spec: TaggerSpec):
    pixels = drawn_pictures(spec.image, 4).pixels
    ours, theirs = (session_runner(open(graph), spec)(pixels) for open in (open_session, open_as_computed))
    assert all((ours[name] == theirs[name]).all() for name in spec.output_names)


def test_parity_sees_what_a_gpu_would_lose(graph: Path, spec: TaggerSpec, tmp_path: Path):
    model = load_model(graph)
    relu = [node for node in model.graph.node if node.op_type == "Relu"][-1]  # the first layers stay in fp32
    name, place = relu.output[0], list(model.graph.node).index(relu) + 1
    for node in model.graph.node:
        node.input[:] = ["root" if read == name else read for read in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.float32(2**15), "large"))
    steps = [
        ("Mul", [name, name], "square"),
        ("Mul", ["square", "large"], "times"),
        ("Mul", ["times", "large"], "more"),
    ]
    steps += [("Div", ["more", "large"], "less"), ("Div", ["less", "large"], "same"), ("Sqrt", ["same"], "root")]
    for kind, inputs, output in reversed(steps):
        model.graph.node.insert(place, helper.make_node(kind, inputs, [output]))
    half = to_half(model)
    onnx.save_model(half, tmp_path / "half.onnx")
    reference, pictures = session_runner(open_session(graph), spec), drawn_pictures(spec.image, 6)
    check_parity(reference, "fp32", spec, tmp_path / "half.onnx", pictures, "fp16")
    with pytest.raises(ParityError, match="embeddings at batch 1 by nan"):
        check_parity(reference, "fp32", spec, tmp_path / "half.onnx", pictures, "fp16", as_computed=True)
