"""Checks an ONNX file without running it: it is valid, ONNX Runtime loads it, and it fits its contract."""

from collections import Counter
from collections.abc import Iterator

import onnx
import onnxruntime as ort

from export.check.contract import Version
from export.check.findings import Finding, verdict
from export.metadata import facts_of
from export.onnx_file import external_files, graph_inputs, one_line, shape_of, signature_faults
from export.simplify import superfluous_nodes
from export.tolerances import precision_of
from labelwise.spec import TaggerSpec


def check_graph(version: Version, model: onnx.ModelProto, runtime_faults: list[str]) -> Iterator[Finding]:
    """The findings that need no picture; `runtime_faults` are what ONNX Runtime says when it loads the graph."""
    subject, external = version.subject, external_files(model)
    faults, stated = _validity_faults(version, not external), version.spec.graph
    if stated and stated.precision != precision_of(model):
        faults.append(f"it is {precision_of(model)}, the contract says {stated.precision}")
    yield verdict(subject, "ONNX", f"valid, {precision_of(model)}", faults)
    yield verdict(subject, "external data", "none", [f"weights lie in {name}" for name in external])
    yield verdict(subject, "opset", _versions(model), runtime_faults)
    tensors = (*graph_inputs(model), *model.graph.output)
    signature = ", ".join(f"{value.name} {shape_of(value)}" for value in tensors)
    yield verdict(subject, "signature", signature, signature_faults(model, version.spec))
    yield _metadata(subject, model, version.spec)
    yield _nodes(subject, model, not faults and not external)


def _validity_faults(version: Version, is_whole: bool) -> list[str]:
    try:  # shapes cannot be inferred from weights in other files
        onnx.checker.check_model(str(version.weights), full_check=is_whole)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return [one_line(error)]
    return []


def _versions(model: onnx.ModelProto) -> str:
    opsets = ", ".join(f"{opset.domain or 'ai.onnx'} {opset.version}" for opset in model.opset_import)
    return f"{opsets}; IR version {model.ir_version}; loaded by ONNX Runtime {ort.__version__}"


def _metadata(subject: str, model: onnx.ModelProto, spec: TaggerSpec) -> Finding:
    facts = facts_of(model)
    if not facts:
        return Finding(subject, "metadata", "none: other software made this graph", "note")
    wanted = {
        "name": spec.name,
        "version": spec.version,
        "labels": list(spec.labels),
        "thresholds": list(spec.thresholds),
        "image": spec.image.model_dump(mode="json"),
    }
    faults = [
        f"{key} is {facts[key]}, the contract says {value}"
        for key, value in wanted.items()
        if key in facts and facts[key] != value
    ]
    faults += [f"{key} is missing" for key in ("labels", "thresholds") if key not in facts]
    return verdict(subject, "metadata", "equals the contract: " + ", ".join(sorted(facts)), faults)


def _nodes(subject: str, model: onnx.ModelProto, is_sound: bool) -> Finding:
    counts = Counter(node.op_type for node in model.graph.node)
    found = f"{len(model.graph.node)} nodes: " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    superfluous = superfluous_nodes(model) if is_sound else []
    if superfluous:
        found += f". These copy or cancel: {', '.join(superfluous)}"
    return Finding(subject, "nodes", found, "note" if superfluous else "ok")
