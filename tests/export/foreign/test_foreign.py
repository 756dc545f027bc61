"""A graph from elsewhere becomes a tagger: wrapped, checked against itself as it was, and servable; without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from export.check import check_repository
from export.exporting import Target, export_tagger
from export.foreign import open_foreign
from export.onnx_file import GraphError
from export.pictures import Evidence
from export.simplify import superfluous_nodes
from labelwise.errors import LabelwiseError, SpecError
from labelwise.image import load_pixels
from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from tests.conftest import ROOT


def publish(file: Path, spec_file: Path, repository: Path, **spec: object) -> Repository:
    spec_file.write_text(json.dumps(json.loads(spec_file.read_text("utf-8")) | spec), "utf-8")
    export_tagger(file, spec_file, Target(repository, "foreign"))
    return Repository.open(repository)


def scores(repository: Repository, pixels: np.ndarray) -> np.ndarray:
    version = repository.taggers["foreign"][1]
    return ort.InferenceSession(version.weights, providers=["CPUExecutionProvider"]).run(["scores"], {"image": pixels})[
        0
    ]


def test_a_timm_model_is_served_with_torchs_own_scores(
    timm_onnx: Path, spec_file: Path, classifier: torch.nn.Module, photos: list[Path], tmp_path: Path
):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    image = {"height": 32, "width": 48, "mean": mean, "std": std}
    repository = publish(timm_onnx, spec_file, tmp_path / "repository", image=image, thresholds=[0.1, 0.2, 0.3, 0.4])
    pixels = np.stack([load_pixels(photo.read_bytes(), 32, 48) for photo in photos[:5]])
    with torch.inference_mode():
        normalised = (torch.from_numpy(pixels) / 255 - torch.tensor(mean)) / torch.tensor(std)
        expected = classifier(normalised.permute(0, 3, 1, 2)).sigmoid().numpy()
    assert np.ptp(expected) > 0.2  # scores that a mistake would change
    np.testing.assert_allclose(scores(repository, pixels), expected, atol=1e-5)

    spec = repository.taggers["foreign"][1].spec
    assert (spec.output_names, spec.embedding_dim, spec.attention_grid) == (("scores",), None, None)
    assert (spec.labels, spec.thresholds) == (("cat", "dog", "sea", "tree"), (0.1, 0.2, 0.3, 0.4))
    findings = check_repository(tmp_path / "repository", Evidence(photos[0].parent))
    assert {finding.status for finding in findings} == {"ok"}
    model = onnx.load(repository.taggers["foreign"][1].weights)
    assert [node.op_type for node in model.graph.node][:4] == ["Cast", "Transpose", "Sub", "Div"]
    assert superfluous_nodes(model) == []


def test_the_file_format_is_one_that_triton_reads(timm_onnx: Path, spec_file: Path, tmp_path: Path):
    """The ONNX Runtime in Triton 2.51 reads none after 10, and refuses the version for that alone."""
    model = onnx.load(timm_onnx)
    model.ir_version = 12
    newer = tmp_path / "newer.onnx"
    onnx.save_model(model, newer)
    repository = publish(newer, spec_file, tmp_path / "repository")
    assert onnx.load(repository.taggers["foreign"][1].weights).ir_version == 10


def test_labels_that_differ_only_by_case_are_refused(timm_onnx: Path, spec_file: Path, tmp_path: Path):
    with pytest.raises(LabelwiseError, match="'cat' and 'CAT' differ only by case") as caught:
        publish(timm_onnx, spec_file, tmp_path / "repository", labels=["cat", "dog", "CAT", "tree"])
    assert str(spec_file) in str(caught.value)
    assert not (tmp_path / "repository").exists()


def test_its_own_published_graph_keeps_every_output(exported: Path, spec: TaggerSpec, tmp_path: Path):
    file = exported / "pets_model/1/model.onnx"
    result = export_tagger(file, exported / "pets/tagger.json", Target(tmp_path / "repository", "again"))
    again = result.spec
    same = {"name", "version", "graphs", "weights_sha256", "producer"}
    assert again.model_dump(exclude=same) == spec.model_dump(exclude=same)
    assert {difference.output for difference in result.graphs[0].differences} == {"scores", "embeddings", "attention"}
    assert {finding.status for finding in check_repository(tmp_path / "repository")} == {"ok"}


def test_foreign_graphs_are_exported_and_checked_without_torch(timm_onnx: Path, spec_file: Path, tmp_path: Path):
    repository = tmp_path / "repository"
    code = f"""
import sys
for name in ("torch", "timm", "torchvision", "sklearn", "training"):
    sys.modules[name] = None  # importing it fails
from commands import app
export = ["export", {str(timm_onnx)!r}, "--spec", {str(spec_file)!r}, "--to", {str(repository)!r}, "--name", "a"]
for command in (export, ["check", {str(repository)!r}]):
    try:
        app(command)
    except SystemExit as stop:
        assert not stop.code, stop.code
print([name for name in ("torch", "training") if sys.modules[name] is not None])
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "Published a version 1" in answer.stdout
    assert "0 failed" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "[]"


def test_weights_in_another_file_are_included_or_reported_missing(timm_onnx: Path, spec_file: Path, tmp_path: Path):
    apart = tmp_path / "apart.onnx"
    onnx.save_model(onnx.load(timm_onnx), apart, save_as_external_data=True, location="apart.bin", size_threshold=0)
    repository = publish(apart, spec_file, tmp_path / "repository")
    assert [file.name for file in (repository.path / "foreign_model/1").iterdir() if "apart" in file.name] == []
    assert len(scores(repository, np.zeros((2, 32, 48, 3), np.uint8))) == 2
    (tmp_path / "apart.bin").unlink()
    with pytest.raises(GraphError, match=r"keeps weights in apart\.bin, which is not beside it"):
        open_foreign(apart, spec_file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ["cat", "dog", "sea"]}, r"labels: it has 3, the graph gives output \['b', 4\]"),
        ({"labels": ["cat", "dog", "sea", "sea"]}, "labels: each label must be unique"),
        ({"image": {"height": 64, "width": 48}}, "image.height: it says 64, the graph takes 32"),
        ({"logits": False}, "logits: it says false, but output reaches from -"),
        ({"scores": "probabilities"}, "scores: it says 'probabilities', the graph gives output"),
    ],
)
def test_a_spec_that_disagrees_with_the_graph_is_refused(
    change: dict[str, object], words: str, timm_onnx: Path, spec_file: Path, tmp_path: Path
):
    with pytest.raises(SpecError, match=words):
        publish(timm_onnx, spec_file, tmp_path / "repository", **change)
    assert not (tmp_path / "repository").exists()


def test_a_whole_contract_that_disagrees_is_refused(exported: Path, timm_onnx: Path, spec_file: Path, tmp_path: Path):
    spec = TaggerSpec.read(exported / "pets")
    outputs = (spec.outputs[0], spec.outputs[1].model_copy(update={"shape": (3, 16)}), spec.outputs[2])
    spec.model_copy(update={"outputs": outputs}).write(tmp_path)
    with pytest.raises(SpecError, match=r"outputs: it says .*embeddings \[3, 16\].*, the graph gives"):
        open_foreign(exported / "pets_model/1/model.onnx", tmp_path / "tagger.json")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("opset", "needs opset 99, which ONNX Runtime .* does not know: export it with opset 18"),
        ("text", "is not an ONNX file"),
        ("absent", "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(damage: str, words: str, timm_onnx: Path, spec_file: Path, tmp_path: Path):
    file = tmp_path / "model.onnx"
    model = onnx.load(timm_onnx)
    if damage == "opset":
        model.opset_import[0].version = 99
        onnx.save_model(model, file)
    elif damage == "text":
        file.write_text("weights")
    with pytest.raises(GraphError, match=words) as caught:
        open_foreign(file, spec_file)
    assert "\n" not in str(caught.value)
