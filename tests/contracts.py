"""Contracts for graphs that tests make."""

from pathlib import Path
from typing import Any

from labelwise.files import sha256_of
from labelwise.spec import GraphSpec, TaggerSpec


def with_graph(spec: TaggerSpec, file: Path, **changes: Any) -> TaggerSpec:
    """The contract `spec` with other values for some fields, for the one graph in `file`."""
    graph = GraphSpec(precision="fp32", file="model.onnx", sha256=sha256_of(file), differences={"scores": 0.0})
    return spec.model_copy(update=changes | {"graphs": (graph,), "weights_sha256": graph.sha256})
