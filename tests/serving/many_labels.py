"""A tagger with many labels: a real graph that scores a photo by its colours, without any meaning."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.publish import publish, staging
from labelwise.repository import WEIGHTS_FILE
from labelwise.spec import TaggerSpec, TensorSpec
from tests.conftest import ROOT
from tests.contracts import with_graph

SIZE, CELLS = 32, 4
# COCO's categories, and at the end the kind of names that teams give their labels.
LABELS = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant"),
    *("bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard"),
    *("sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle"),
    *("wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli"),
    *("carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    *("tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "clock"),
    *("refrigerator", "book"),
    *(
        "vase",
        "scissors",
        "teddy bear",
        "<b>hair</b> drier",
        "Überraschung, groß: ein langer Name ohne Ende",
        "日本の風景",
    ),
)


# A thousand short names, many of which contain another, as "red car" and "car".
THOUSAND = tuple(
    f"{colour} {thing}".strip()
    for colour in (
        "",
        "black",
        "blue",
        "brown",
        "green",
        "grey",
        "orange",
        "pink",
        "red",
        "white",
        "yellow",
        "old",
        "new",
    )
    for thing in LABELS[:77]
)[:1000]


def publish_many_labels(
    repository: Path, name: str = "things", attention: bool = True, labels: Sequence[str] = LABELS
) -> TaggerSpec:
    """Version 1 of `name` in `repository`; it crops photos to a square. Without `attention` it has scores only.

    However many `labels` there are, about twenty are tags of a photo.
    """
    scores = TensorSpec(name="scores", dtype="float32", shape=(len(labels),))
    looked = TensorSpec(name="attention", dtype="float32", shape=(len(labels), CELLS, CELLS))
    scenes = TaggerSpec.read(ROOT / "model_repository/scenes")
    contract = {
        "name": name,
        "version": 1,
        "labels": tuple(labels),
        "thresholds": (0.5,) * len(labels),
        "image": scenes.image.model_copy(update={"height": SIZE, "width": SIZE, "resize": "crop"}),
        "input": TensorSpec(name="image", dtype="uint8", shape=(SIZE, SIZE, 3)),
        "embedding_dim": None,
        "attention_grid": (CELLS, CELLS) if attention else None,
        "outputs": (scores, looked) if attention else (scores,),
    }
    spec = scenes.model_copy(update=contract)
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        weights.write_bytes(_graph(len(labels), attention).SerializeToString())
        spec = with_graph(spec, weights)
        publish(repository, stage, spec, "onnxruntime")
    return spec


def _graph(count: int, attention: bool) -> onnx.ModelProto:
    """image uint8 [b, h, w, 3] -> scores [b, l], attention [b, l, 4, 4], from the mean colours of 4 by 4 cells."""
    outputs = {"scores": ["batch", count], "attention": ["batch", count, CELLS, CELLS]}
    asked = list(outputs)[: 1 + attention]
    random = np.random.default_rng(0)
    values = 3 * CELLS * CELLS
    constants = {
        "full": np.float32(255),
        "weights": random.normal(0, 0.9, (values, count)).astype(np.float32),
        "bias": np.full(count, -2 - 1.7 * np.log(count / len(LABELS)), np.float32),
        "queries": random.normal(0, 6, (count, 3)).astype(np.float32),
        "cells": np.array([0, 3, CELLS * CELLS], np.int64),
        "grid": np.array([0, count, CELLS, CELLS], np.int64),
    }
    pool = {"kernel_shape": [SIZE // CELLS] * 2, "strides": [SIZE // CELLS] * 2}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "full"], ["unit"]),
        helper.make_node("Transpose", ["unit"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["colours"], **pool),
        helper.make_node("Flatten", ["colours"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["scores"]),
        helper.make_node("Reshape", ["colours", "cells"], ["tokens"]),
        helper.make_node("MatMul", ["queries", "tokens"], ["match"]),
        helper.make_node("Softmax", ["match"], ["looked"], axis=-1),
        helper.make_node("Reshape", ["looked", "grid"], ["attention"]),
    ]
    graph = helper.make_graph(
        nodes if attention else nodes[:7],
        "many_labels",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, outputs[name]) for name in asked],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
