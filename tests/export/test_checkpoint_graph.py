"""The ONNX file: the contract's names and types, any batch, and nothing in it but the tagger."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from export.onnx_file import OPSET, external_files, load_model
from export.simplify import superfluous_nodes
from labelwise.files import sha256_of
from labelwise.spec import TaggerSpec
from training.model import TaggerNetwork

ROOT = Path(__file__).parent.parent.parent


def dimensions(value: onnx.ValueInfoProto) -> list[int | str]:
    return [part.dim_param or part.dim_value for part in value.type.tensor_type.shape.dim]


def test_inputs_and_outputs_are_the_contracts(graph: Path, spec: TaggerSpec):
    model = onnx.load(graph)
    assert [opset.version for opset in model.opset_import if not opset.domain] == [OPSET]
    (image,) = model.graph.input
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    batch, *shape = dimensions(image)
    assert isinstance(batch, str)
    assert tuple(shape) == spec.input.shape
    for output, tensor in zip(model.graph.output, spec.outputs, strict=True):
        assert (output.name, dimensions(output)) == (tensor.name, [batch, *tensor.shape])
        assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_it_scores_any_batch_as_the_checkpoint_does(graph: Path, tagger: TaggerNetwork, spec: TaggerSpec):
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (7, *spec.input.shape), np.uint8)
    with torch.inference_mode():
        expected = tagger(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    for batch in (1, 2, 3, 7):
        scores, embeddings, attention = session.run(list(spec.output_names), {"image": pixels[:batch]})
        np.testing.assert_allclose(scores, expected.logits[:batch].sigmoid(), atol=1e-5)
        np.testing.assert_allclose(embeddings, expected.embeddings[:batch], atol=1e-5)
        np.testing.assert_allclose(attention, expected.attention[:batch], atol=1e-5)


def test_metadata_holds_the_contract_and_no_trace_of_the_machine(graph: Path, spec: TaggerSpec, checkpoint: Path):
    model = onnx.load(graph)
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["labelwise.labels"] == list(spec.labels)
    assert facts["labelwise.thresholds"] == list(spec.thresholds)
    assert facts["labelwise.image"]["width"] == 48
    assert (facts["labelwise.name"], facts["labelwise.version"]) == ("pets", 1)
    assert facts["labelwise.source_sha256"] == sha256_of(checkpoint / "model.safetensors")
    assert facts["labelwise.versions"]["torch"] == torch.__version__.partition("+")[0]
    assert (model.graph.name, model.producer_name) == ("pets", "labelwise")
    content = graph.read_bytes()
    for trace in (str(ROOT), "site-packages", ".py", "pkg.torch"):  # the file must not tell where it was made
        assert trace.encode() not in content


def test_the_graph_has_no_superfluous_nodes(graph: Path):
    model = load_model(graph)  # without the Casts of weights stored as float16
    assert superfluous_nodes(model) == []
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["Conv"]  # it is the network that was counted
    assert counts["Cast"] == 1  # pixels to floats
    assert [node.op_type for node in model.graph.node if "image" in node.input] == ["Cast"]  # TensorRT allows no other
    assert not {"Identity", "Constant", "BatchNormalization", "Dropout", "Where", "ConstantOfShape"} & {*counts}
    assert not counts["Expand"]
    assert not model.functions
    assert not external_files(model)
