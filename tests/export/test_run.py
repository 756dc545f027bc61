"""`labelwise export` as a whole: a checkpoint becomes a version, or the repository stays as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

import export.graph
from export.parity import ParityError
from export.run import Target, export_run
from labelwise import LabelwiseError
from labelwise.errors import RepositoryError
from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from training.checkpoint import load_checkpoint
from training.model import Tagger


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "repository")


@pytest.fixture
def ready_graph(graph: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[onnx.ModelProto], None]], None]:
    """Give the next export this checkpoint's true graph, made once, after a change to it."""

    def prepare(change: Callable[[onnx.ModelProto], None]) -> None:
        def write(tagger: Tagger, spec: TaggerSpec, file: Path) -> None:
            model = onnx.load(graph)
            change(model)
            onnx.save_model(model, file)

        monkeypatch.setattr(export.graph, "write_onnx", write)

    return prepare


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_published_scores_as_the_checkpoint(exported: Path, checkpoint: Path):
    tagger, trained = load_checkpoint(checkpoint)
    version = Repository.open(exported).taggers["pets"][1]
    same = {"name": "pets", "version": 1, "weights_sha256": version.spec.weights_sha256}
    assert version.spec == trained.model_copy(update=same)
    pixels = np.random.default_rng(1).integers(0, 256, (3, *version.spec.input.shape), np.uint8)
    session = ort.InferenceSession(version.weights, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {version.spec.input.name: pixels})
    with torch.inference_mode():
        expected = tagger(torch.from_numpy(pixels).permute(0, 3, 1, 2)).logits.sigmoid()
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def describe(model: onnx.ModelProto) -> None:
    model.model_version = 2


def test_the_next_version_lies_beside_the_first(repository: Path, checkpoint: Path, ready_graph):
    ready_graph(describe)
    before = content(repository)
    result = export_run(checkpoint, Target(repository, "pets", backend="python"))
    assert result.spec.version == 2
    assert {difference.batch for difference in result.differences} == {1, 2, 5}
    taggers = Repository.open(repository).taggers
    assert list(taggers["pets"]) == [1, 2]
    assert taggers["pets"][2].spec == result.spec
    after = content(repository)
    assert all(after[name] == before[name] for name in before if "/1/" in name)
    assert b'backend: "python"' in after["pets_model/config.pbtxt"]


@pytest.mark.parametrize(
    "name", ["", "a/b", "../up", "a.b", ".hidden", "-dash", "a\n", "ä", "a" * 65, "pets_model", "pets_decode"]
)
def test_a_wrong_name_is_refused(name: str, checkpoint: Path, tmp_path: Path, ready_graph):
    ready_graph(describe)
    with pytest.raises(LabelwiseError, match="cannot name a model"):
        export_run(checkpoint, Target(tmp_path / "repository", name))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_checkpoint_makes_no_repository(tmp_path: Path):
    with pytest.raises(LabelwiseError, match="is not a trained run"):
        export_run(tmp_path, Target(tmp_path / "repository", "pets"))
    assert list(tmp_path.iterdir()) == []


def test_other_labels_or_a_taken_version_leave_the_repository_untouched(
    repository: Path, checkpoint: Path, tmp_path: Path, ready_graph
):
    ready_graph(describe)
    before = content(repository)
    with pytest.raises(RepositoryError, match="already has a version 1"):
        export_run(checkpoint, Target(repository, "pets", version=1))
    other = shutil.copytree(checkpoint, tmp_path / "run")
    TaggerSpec.read(other).model_copy(update={"labels": ("cat", "dog", "sea")}).write(other)
    with pytest.raises(RepositoryError, match="other labels or tensors"):
        export_run(other, Target(repository, "pets"))
    assert content(repository) == before


def test_a_graph_that_fails_its_check_leaves_the_repository_untouched(repository: Path, checkpoint: Path, ready_graph):
    def tamper(model: onnx.ModelProto) -> None:
        for weights in model.graph.initializer:
            if weights.data_type == onnx.TensorProto.FLOAT and len(weights.dims) == 4:
                weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.1, weights.name))

    ready_graph(tamper)
    before = content(repository)
    with pytest.raises(ParityError, match="differs from the checkpoint: scores at batch 1 by .* on test picture"):
        export_run(checkpoint, Target(repository, "pets"))
    assert content(repository) == before
    assert {path.name for path in repository.iterdir()} == {"pets", "pets_decode", "pets_model"}
