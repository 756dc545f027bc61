"""Distances, tolerances, which NaN always exceeds, and the precision of a graph."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export.tolerances import TOLERANCES, Precision, Tolerance, coarser, precision_of


def test_every_precision_has_a_tolerance_for_every_output():
    assert TOLERANCES.keys() == {*get_args(Precision)}
    for limits in TOLERANCES.values():
        assert limits.keys() == {"scores", "embeddings", "attention"}
    for name in ("scores", "attention"):
        assert TOLERANCES["fp32"][name].limit < TOLERANCES["fp16"][name].limit < TOLERANCES["int8"][name].limit


def test_there_is_one_distance_per_picture():
    ours = np.array([[[1, 0], [0, 1]], [[3, 4], [1, 0]]], np.float32)
    theirs = np.array([[[2, 0], [0, 1]], [[3, 4], [0, 1]]], np.float32)
    assert Tolerance("absolute", 1).distances(ours, theirs).tolist() == [0.25, 0.25]  # of the largest value, 4
    assert Tolerance("absolute", 1).distances(ours / 8, theirs / 8).tolist() == [0.125, 0.125]
    assert Tolerance("cosine", 1).distances(ours, theirs).tolist() == pytest.approx([0, 1])
    assert Tolerance("absolute", 1, mean_of_labels=True).distances(ours, theirs).tolist() == [0.125, 0.125]
    assert Tolerance("cosine", 1, mean_of_labels=True).distances(ours, theirs).tolist() == pytest.approx([0, 0.5])
    for broken in (np.nan, np.inf):
        for measure in ("absolute", "cosine"):
            (distance, _) = Tolerance(measure, 1).distances(ours, np.where(theirs == 2, np.float32(broken), theirs))
            assert not distance <= 1


def test_precision_is_read_from_the_graph(graph: Path):
    model = onnx.load(graph)
    assert precision_of(model) == "fp32"
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2, np.float16)))
    model.graph.node.append(constant)
    assert precision_of(model) == "fp16"
    model.graph.node.remove(constant)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float16), "half"))
    assert precision_of(model) == "fp16"
    model.graph.node.append(helper.make_node("QuantizeLinear", ["half", "scale"], ["quantised"]))
    assert precision_of(model) == "int8"


def test_the_coarser_precision_has_the_wider_tolerances():
    assert [coarser("fp32", "fp16"), coarser("fp16", "fp32"), coarser("int8", "fp16")] == ["fp16", "fp16", "int8"]
