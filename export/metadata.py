"""The metadata of an ONNX file: labels, thresholds and origin, for a file that lies somewhere alone."""

import json

import onnx

from labelwise.spec import TrainedSpec
from labelwise.version import VERSION

_PREFIX = "labelwise."


def describe(model: onnx.ModelProto, spec: TrainedSpec, name: str, version: int, libraries: dict[str, str]) -> None:
    """Writes the contract into `model`, and removes every trace of the source code and the machine that made it.

    `name` and `version` are those that it is published under, `libraries` the versions of what exported it.
    """
    model.producer_name, model.producer_version = "labelwise", VERSION
    model.model_version = version
    model.graph.name = name
    model.doc_string = model.graph.doc_string = ""
    graph = model.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    facts = {
        "name": name,
        "version": version,
        "labels": list(spec.labels),
        "thresholds": list(spec.thresholds),
        "image": spec.image.model_dump(),
        "source_sha256": spec.weights_sha256,
        "versions": {"onnx": onnx.__version__, **libraries},
    }
    onnx.helper.set_model_props(model, {_PREFIX + key: json.dumps(value) for key, value in facts.items()})


def carry_over(source: onnx.ModelProto, target: onnx.ModelProto, more: dict[str, object]) -> None:
    """Copies what `describe` wrote into `source` to `target`, which was made from it, and adds `more`."""
    target.producer_name, target.producer_version = source.producer_name, source.producer_version
    target.model_version = source.model_version
    target.graph.name = source.graph.name
    target.doc_string = target.graph.doc_string = ""
    facts = {entry.key: entry.value for entry in source.metadata_props}
    onnx.helper.set_model_props(target, facts | {_PREFIX + key: json.dumps(value) for key, value in more.items()})


def facts_of(model: onnx.ModelProto) -> dict[str, object]:
    """What `describe` wrote; empty for a graph from other software. A value that is not JSON counts as text."""
    facts: dict[str, object] = {}
    for entry in model.metadata_props:
        if entry.key.startswith(_PREFIX):
            try:
                facts[entry.key.removeprefix(_PREFIX)] = json.loads(entry.value)
            except ValueError:
                facts[entry.key.removeprefix(_PREFIX)] = entry.value
    return facts
