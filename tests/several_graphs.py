"""Publishes a tagger with several graphs: each takes as long as a test wants, and the scores tell which one ran."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.publish import publish, staging
from labelwise.files import sha256_of
from labelwise.repository import Repository, TaggerVersion
from labelwise.spec import GraphSpec, Precision, TaggerSpec, TensorSpec
from tests.conftest import ROOT

SIZE = 32  # of its photos
SLOW, QUICK = 60, 0  # multiplications of 256 x 256 matrices


def publish_graphs(
    repository: Path, work: Mapping[Precision, int], changes: Mapping[Precision, float], name: str = "made"
) -> TaggerVersion:
    """Publishes version 1 of `name`, with the `work` of each precision, and its change in mAP if that was measured.

    The scores are 0.1 by the first graph, 0.2 by the second.
    """
    base = TaggerSpec.read(ROOT / "model_repository/scenes")
    with staging(repository) as stage:
        graphs = []
        for place, (precision, steps) in enumerate(work.items()):
            file = stage / ("model.onnx" if place == 0 else f"model.{precision}.onnx")
            file.write_bytes(_graph(len(base.labels), steps, 0.1 * (place + 1)))
            graphs.append(
                GraphSpec(
                    precision=precision,
                    file=file.name,
                    sha256=sha256_of(file),
                    differences={"scores": 0.0},
                    map_change=changes.get(precision),
                )
            )
        contract = {
            "name": name,
            "image": base.image.model_copy(update={"height": SIZE, "width": SIZE}),
            "input": TensorSpec(name="image", dtype="uint8", shape=(SIZE, SIZE, 3)),
            "outputs": base.outputs[:1],
            "embedding_dim": None,
            "attention_grid": None,
            "graphs": tuple(graphs),
            "weights_sha256": graphs[0].sha256,
        }
        publish(repository, stage, base.model_copy(update=contract), "python")
    return Repository.open(repository).taggers[name][1]


def _graph(labels: int, work: int, score: float) -> bytes:
    """A graph that gives each label the same `score`, after `work`."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["b", SIZE, SIZE, 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", labels])
    matrix = np.random.default_rng(0).normal(0, 0.05, (256, 256)).astype(np.float32)
    weights = [
        onnx.numpy_helper.from_array(matrix, "matrix"),
        onnx.numpy_helper.from_array(np.zeros((256, labels), np.float32), "zeros"),
        onnx.numpy_helper.from_array(np.full(labels, score, np.float32), "score"),
        onnx.numpy_helper.from_array(np.array([-1, 12, 256]), "rows"),
        onnx.numpy_helper.from_array(np.array([1]), "axis"),
    ]
    nodes = [helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT)]
    nodes.append(helper.make_node("Reshape", ["x", "rows"], ["m0"]))
    nodes += [helper.make_node("MatMul", [f"m{step}", "matrix"], [f"m{step + 1}"]) for step in range(work)]
    nodes.append(helper.make_node("ReduceMean", [f"m{work}", "axis"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("Gemm", ["mean", "zeros", "score"], ["scores"]))
    made = helper.make_graph(nodes, "g", [image], [scores], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
