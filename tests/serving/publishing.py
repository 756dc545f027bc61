"""Publishes new versions of the bundled tagger with the real writer. Each has different scores."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.publish import publish, staging
from export.triton_config import ServingOptions
from labelwise.repository import WEIGHTS_FILE, version_folders
from labelwise.spec import TaggerSpec
from tests.conftest import ROOT
from tests.contracts import with_graph

BUNDLED = ROOT / "model_repository"


def copy_to_change(repository: Path, folder: Path) -> Path:
    """A copy that Triton loads quickly, without warming up."""
    copy = Path(shutil.copytree(repository, folder))
    for file in copy.rglob("*.pbtxt"):
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        config.ClearField("model_warmup")
        file.write_text(text_format.MessageToString(config))
    return copy


def publish_next(
    repository: Path, *, name: str = "scenes", keep: int | None = None, broken: bool = False
) -> TaggerSpec:
    """Publishes the next version of `name`. A broken one has all its files, but its graph is not ONNX."""
    number = 1 + max(version_folders(repository / name), default=0)
    spec = TaggerSpec.read(BUNDLED / "scenes").model_copy(update={"name": name, "version": number})
    with staging(repository) as stage:
        weights = stage / WEIGHTS_FILE
        weights.write_bytes(b"not a graph" if broken else shifted(0.2 * number))
        spec = with_graph(spec, weights)
        publish(repository, stage, spec, "onnxruntime", ServingOptions(warm_up=False), keep=keep)
    return spec


def shifted(by: float) -> bytes:
    """The bundled graph with `by` added to each label's logit."""
    model = onnx.load(BUNDLED / "scenes_model/1" / WEIGHTS_FILE)
    labels = len(json.loads((BUNDLED / "scenes/tagger.json").read_text())["labels"])
    sigmoid = next(node for node in model.graph.node if "scores" in node.output)
    added = onnx.numpy_helper.from_array(np.full(labels, by, np.float32), "shift")
    model.graph.initializer.append(added)
    model.graph.node.insert(
        list(model.graph.node).index(sigmoid), onnx.helper.make_node("Add", [sigmoid.input[0], "shift"], ["shifted"])
    )
    sigmoid.input[0] = "shifted"
    return model.SerializeToString()
