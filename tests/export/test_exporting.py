"""`labelwise export` as a whole: a checkpoint becomes a version, or the repository stays as it was."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import export.checkpoint_graph
import export.exporting
from export.check import check_repository
from export.exporting import Target, export_tagger, make_options, parse_precisions
from export.onnx_file import load_model, save_model
from export.parity import ParityError
from export.pictures import Evidence
from export.tensorrt import Plan
from export.tolerances import precision_of
from export.triton_config import ServingOptions
from labelwise import LabelwiseError
from labelwise.errors import DataError, RepositoryError
from labelwise.repository import Repository, TaggerVersion
from labelwise.spec import TrainedSpec
from training.checkpoint import load_checkpoint
from training.model import TaggerNetwork
from training.synth import draw_dataset

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "repository")


@pytest.fixture
def ready_graph(graph: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[onnx.ModelProto], None]], None]:
    """Give the next export this checkpoint's true graph, made once, after a change to it."""

    def prepare(change: Callable[[onnx.ModelProto], None]) -> None:
        def write(tagger: TaggerNetwork, spec: TrainedSpec, name: str, version: int, file: Path) -> None:
            model = onnx.load(graph)
            change(model)
            onnx.save_model(model, file)

        monkeypatch.setattr(export.checkpoint_graph, "write_onnx", write)

    return prepare


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_what_is_published_scores_as_the_checkpoint(exported: Path, checkpoint: Path):
    tagger, trained = load_checkpoint(checkpoint)
    version = Repository.open(exported).taggers["pets"][1]
    assert version.spec == trained.published("pets", 1, version.spec.graphs)
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
    result = export_tagger(checkpoint, None, Target(repository, "pets", backend="python"))
    assert result.spec.version == 2
    assert {difference.batch for difference in result.graphs[0].differences} == {1, 2, 5}
    taggers = Repository.open(repository).taggers
    assert list(taggers["pets"]) == [1, 2]
    assert taggers["pets"][2].spec == result.spec
    after = content(repository)
    assert all(after[name] == before[name] for name in before if "/1/" in name)
    assert b'backend: "python"' in after["pets_model/config.pbtxt"]


def test_older_versions_go_and_options_reach_the_configuration(repository: Path, checkpoint: Path, ready_graph):
    for version in (2, 3):
        ready_graph(lambda model: None)
        options = make_options(["instances=2", "device=cpu"])
        export_tagger(checkpoint, None, Target(repository, "pets", options=options, keep=2))
        assert version in Repository.open(repository).taggers["pets"]
    assert list(Repository.open(repository).taggers["pets"]) == [2, 3]
    config = text_format.Parse((repository / "pets_model/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert config.instance_group[0].count == 2


def test_a_run_of_an_old_release_is_published(repository: Path, checkpoint: Path, tmp_path: Path, ready_graph):
    """labelwise 0.1 wrote a placeholder for a name and a version into a run's tagger.json."""
    ready_graph(describe)
    run = shutil.copytree(checkpoint, tmp_path / "run")
    trained = json.loads((run / "tagger.json").read_text("utf-8"))
    (run / "tagger.json").write_text(json.dumps({"name": "untitled", "version": 1, **trained}), "utf-8")
    assert export_tagger(run, None, Target(repository, "pets")).spec.version == 2
    assert Repository.open(repository).taggers["pets"][2].spec.labels == tuple(trained["labels"])


def test_labels_that_differ_only_by_case_are_not_published(checkpoint: Path, tmp_path: Path):
    run = shutil.copytree(checkpoint, tmp_path / "run")
    spec = TrainedSpec.read(run)
    first, second, *others = spec.labels
    spec.changed(labels=(first, first.upper(), *others)).write(run)
    with pytest.raises(
        LabelwiseError, match=rf"'{first}' and '{first.upper()}' differ only by case.* Rename one of"
    ) as e:
        export_tagger(run, None, Target(tmp_path / "repository", "pets"))
    assert str(run / "tagger.json") in str(e.value)
    assert not (tmp_path / "repository").exists()
    spec.changed(labels=(first, f"other {second}", *others)).write(run)
    assert load_checkpoint(run)[1].labels[1] == f"other {second}"  # the way out that the message names


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("instances", "'instances' is not key=value"),
        ("instance=2", "The setting instance: Unexpected"),
        ("instances=many", "The setting instances: Input should be a valid integer"),
        ("instances=0", "The setting instances: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_option_is_named(setting: str, words: str):
    with pytest.raises(LabelwiseError, match=words):
        make_options([setting])


def test_a_plan_without_tensorrt_publishes_nothing(repository: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    if importlib.util.find_spec("tensorrt"):
        pytest.skip("TensorRT is installed here")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(export.checkpoint_graph, "write_onnx", pytest.fail)  # refused before anything slow
    before = content(repository)
    with pytest.raises(LabelwiseError, match="TensorRT"):
        export_tagger(checkpoint, None, Target(repository, "pets", plan="fp16"))
    assert content(repository) == before


@pytest.mark.parametrize(
    "name", ["", "a/b", "../up", "a.b", ".hidden", "-dash", "a\n", "ä", "a" * 65, "pets_model", "pets_decode"]
)
def test_a_wrong_name_is_refused(name: str, checkpoint: Path, tmp_path: Path, ready_graph):
    ready_graph(describe)
    with pytest.raises(LabelwiseError, match="cannot name a model"):
        export_tagger(checkpoint, None, Target(tmp_path / "repository", name))
    assert list(tmp_path.iterdir()) == []


def test_without_a_checkpoint_no_repository_is_made(tmp_path: Path):
    with pytest.raises(LabelwiseError, match="is not a trained run"):
        export_tagger(tmp_path, None, Target(tmp_path / "repository", "pets"))
    assert list(tmp_path.iterdir()) == []


def test_other_labels_or_a_taken_version_leave_the_repository_untouched(
    repository: Path, checkpoint: Path, tmp_path: Path, ready_graph
):
    ready_graph(describe)
    before = content(repository)
    with pytest.raises(RepositoryError, match="already has a version 1"):
        export_tagger(checkpoint, None, Target(repository, "pets", version=1))
    other = shutil.copytree(checkpoint, tmp_path / "run")
    TrainedSpec.read(other).changed(labels=("cat", "dog", "sea")).write(other)
    with pytest.raises(RepositoryError, match="other labels or tensors"):
        export_tagger(other, None, Target(repository, "pets"))
    assert content(repository) == before


def test_a_graph_that_fails_its_check_leaves_the_repository_untouched(repository: Path, checkpoint: Path, ready_graph):
    def tamper(model: onnx.ModelProto) -> None:
        for weights in model.graph.initializer:
            if weights.data_type == onnx.TensorProto.FLOAT and len(weights.dims) == 4:
                weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.1, weights.name))

    ready_graph(tamper)
    before = content(repository)
    with pytest.raises(ParityError, match=r"differs from the checkpoint: scores at batch 1 by .* on test picture"):
        export_tagger(checkpoint, None, Target(repository, "pets"))
    assert content(repository) == before
    assert {path.name for path in repository.iterdir()} == {"pets", "pets_decode", "pets_model"}


def run(code: str, cwd: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def refused(code: str, cwd: Path, *arguments: object) -> str:
    """The one line that `code` ends with, run in another process."""
    answer = run(code, cwd, *arguments)
    assert answer.returncode == 1, answer.stderr
    assert answer.stderr.count("\n") == 1, answer.stderr
    return answer.stderr.rstrip()


AGAIN = """
import os, resource, signal, sys
from commands import main
graph, spec, limit, repository = sys.argv[1:]
{prepare}
sys.argv = ["labelwise", "export", graph, "--spec", spec, "--to", repository, "--name", "again"]
main()
"""


def test_a_disk_without_room_is_one_line(exported: Path, graph: Path, tmp_path: Path):
    """A limit on the size of files stands in for the full disk: to a program both are an OSError in mid-write."""
    prepare = """
import export.foreign, export.exporting
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
"""
    limit = graph.stat().st_size // 2
    line = refused(AGAIN.format(prepare=prepare), tmp_path, graph, exported / "pets/tagger.json", limit, "repository")
    assert line.startswith("labelwise: Not published: repository cannot be written: ")
    assert not (tmp_path / "repository").exists()


def test_stopped_it_leaves_nothing_behind(exported: Path, graph: Path, tmp_path: Path):
    """By SIGTERM as by Ctrl-C; here during the check of the new graph."""
    stop = "import export.exporting; export.exporting.check_parity = lambda *_: signal.raise_signal(signal.SIGTERM)"
    answer = run(AGAIN.format(prepare=stop), tmp_path, graph, exported / "pets/tagger.json", 0, "repository")
    assert (answer.returncode, answer.stderr) == (130, "")
    assert not (tmp_path / "repository").exists()


def test_a_repository_that_is_read_only_is_one_line(exported: Path, graph: Path, tmp_path: Path):
    shutil.copyfile(graph, tmp_path / "model.onnx")
    shutil.copyfile(exported / "pets/tagger.json", tmp_path / "spec.json")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository").chmod(0o555)
    tmp_path.chmod(0o755)
    prepare = """
import encodings.utf_8_sig, export.foreign, export.exporting  # other users may not be able to read Python's folder
if os.geteuid() == 0:
    os.seteuid(65534)  # root may write anywhere
"""
    line = refused(AGAIN.format(prepare=prepare), tmp_path, "model.onnx", "spec.json", 0, "repository")
    assert line == "labelwise: Not published: repository cannot be written: Permission denied."


def test_photos_and_labels_that_the_user_names_are_compared(
    repository: Path, checkpoint: Path, photos: list[Path], ready_graph, tmp_path: Path
):
    ready_graph(describe)
    draw_dataset(tmp_path / "data", 20, seed=0, labels=3)
    listing = tmp_path / "data/labels.csv"
    names = [name for name in listing.read_text("utf-8").splitlines()[0].split(",") if name not in ("image", "split")]
    run = shutil.copytree(checkpoint, tmp_path / "run")
    TrainedSpec.read(run).changed(labels=tuple(names)).write(run)
    result = export_tagger(
        run, None, Target(repository, "shapes"), Evidence(photos[0].parent, data=str(tmp_path / "data"))
    )
    assert {Path(difference.image).suffix for difference in result.graphs[0].differences} == {".jpg"}
    change = result.graphs[0].change
    assert change is not None
    assert (change.photos, change.changed) == (4, 0)
    assert 0 < change.graph_map == pytest.approx(change.reference_map, abs=1e-3)


def test_an_8_bit_version_lies_beside_an_fp32_one(repository: Path, checkpoint: Path, photos: list[Path], ready_graph):
    ready_graph(describe)
    evidence = Evidence(calibrate=photos[0].parent)
    result = export_tagger(checkpoint, None, Target(repository, "pets", precisions=("int8",)), evidence)
    assert result.spec.version == 2
    assert result.graphs[0].quantization is not None
    assert {difference.tolerance.limit for difference in result.graphs[0].differences} == {0.25, 0.1}
    precisions = [precision_of(onnx.load(version.weights)) for version in versions(repository)]
    assert precisions == ["fp32", "int8"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_plan_is_built_from_a_graph_that_says_its_precision(
    precision, repository: Path, checkpoint: Path, photos: list[Path], ready_graph, monkeypatch: pytest.MonkeyPatch
):
    ready_graph(describe)
    built = []

    def build(graph: Path, spec: TrainedSpec, folder: Path) -> Plan:
        built.append(onnx.load(graph))
        (folder / "model.plan").write_bytes(b"engine")
        return Plan(folder / "model.plan", "9.0")

    monkeypatch.setattr(export.exporting, "find_builder", lambda: None)  # there is no TensorRT here
    monkeypatch.setattr(export.exporting, "build_plan", build)
    target = Target(repository, "pets", plan=precision)
    result = export_tagger(checkpoint, None, target, Evidence(calibrate=photos[0].parent))
    (model,) = built
    assert precision_of(model) == precision
    kinds = {onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer}
    assert kinds - {"INT64"} == {"FLOAT", *{"fp32": [], "fp16": ["FLOAT16"], "int8": ["INT8"]}[precision]}
    assert precision_of(onnx.load(versions(repository)[-1].weights)) == "fp32"
    assert result.graphs[0].quantization is None


def test_a_plan_is_not_built_from_a_graph_that_differs(
    repository: Path, checkpoint: Path, ready_graph, monkeypatch: pytest.MonkeyPatch
):
    ready_graph(describe)
    before = content(repository)

    def convert(file: Path, graph: Path, *others: object) -> None:
        model = load_model(file)
        model.graph.node[-1].op_type = "Tanh"
        save_model(model, graph)

    monkeypatch.setattr(export.exporting, "find_builder", lambda: None)
    monkeypatch.setattr(export.exporting, "build_plan", pytest.fail)
    monkeypatch.setattr(export.exporting, "convert_for_tensorrt", convert)
    with pytest.raises(ParityError, match="the graph differs from the checkpoint"):
        export_tagger(checkpoint, None, Target(repository, "pets", plan="fp16"))
    assert content(repository) == before


def test_int8_without_enough_photos_publishes_nothing(
    repository: Path, checkpoint: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(export.checkpoint_graph, "write_onnx", pytest.fail)  # refused before anything slow
    before = content(repository)
    (tmp_path / "few.txt").write_text(str(photos[0]))
    for evidence in (Evidence(), Evidence(calibrate=tmp_path / "few.txt")):
        with pytest.raises(DataError, match="int8 needs --calibrate"):
            export_tagger(checkpoint, None, Target(repository, "pets", precisions=("int8",)), evidence)
    assert content(repository) == before


def versions(repository: Path) -> list[TaggerVersion]:
    return list(Repository.open(repository).taggers["pets"].values())


def test_every_setting_is_documented():
    documented = (ROOT / "docs/export.md").read_text("utf-8")
    assert not [field.name for field in fields(ServingOptions) if f"`{field.name}`" not in documented]


def test_several_precisions_lie_in_one_version(
    repository: Path, checkpoint: Path, photos: list[Path], ready_graph, tmp_path: Path
):
    ready_graph(describe)
    draw_dataset(tmp_path / "data", 20, seed=0, labels=3)
    names = (tmp_path / "data/labels.csv").read_text("utf-8").splitlines()[0].split(",")
    run = shutil.copytree(checkpoint, tmp_path / "run")
    TrainedSpec.read(run).changed(labels=tuple(name for name in names if name not in ("image", "split"))).write(run)
    evidence = Evidence(calibrate=photos[0].parent, data=str(tmp_path / "data"))
    target = Target(repository, "shapes", precisions=parse_precisions("int8, fp32,fp16"))
    export_tagger(run, None, target, evidence)
    version = Repository.open(repository).taggers["shapes"][1]
    files = ["model.onnx", "model.fp16.onnx", "model.int8.onnx"]
    assert [graph.file for graph in version.spec.graphs] == files
    assert [precision_of(onnx.load(version.weights.with_name(file))) for file in files] == ["fp32", "fp16", "int8"]
    for graph in version.spec.graphs:
        assert graph.labelled_photos == 4
        assert graph.map_change is not None
        assert set(graph.differences) == {"scores", "embeddings", "attention"}
    exact, _, int8 = (graph.differences["scores"] for graph in version.spec.graphs)
    assert exact < 1e-4 < int8
    failed = {finding.check for finding in check_repository(repository) if finding.status == "failed"}
    assert failed == {"metadata"}  # `ready_graph` gives the graph of another tagger
    config = (repository / "shapes_model/configs/cpu_int8.pbtxt").read_text("utf-8")
    assert 'default_model_filename: "model.int8.onnx"' in config


def test_an_unknown_precision_is_named():
    with pytest.raises(LabelwiseError, match="no precision 'int4': choose among fp32, fp16, int8"):
        parse_precisions("fp32,int4")


def test_a_version_without_int8_leaves_no_configuration_for_it(
    repository: Path, checkpoint: Path, photos: list[Path], ready_graph
):
    ready_graph(describe)
    evidence = Evidence(calibrate=photos[0].parent)
    export_tagger(checkpoint, None, Target(repository, "pets", precisions=("fp32", "int8")), evidence)
    assert (repository / "pets_model/configs/cpu_int8.pbtxt").is_file()
    export_tagger(checkpoint, None, Target(repository, "pets"))
    assert not (repository / "pets_model/configs/cpu_int8.pbtxt").exists()


def test_a_graph_that_is_not_the_exported_one_breaks_the_version(
    repository: Path, checkpoint: Path, photos: list[Path], ready_graph
):
    ready_graph(describe)
    evidence = Evidence(calibrate=photos[0].parent)
    export_tagger(checkpoint, None, Target(repository, "pets", precisions=("fp32", "int8")), evidence)
    file = repository / "pets_model/2/model.int8.onnx"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(RepositoryError, match=r"model\.int8\.onnx of version 2 is not the file that was exported"):
        Repository.open(repository)
    file.unlink()
    with pytest.raises(RepositoryError, match=r"pets_model/2/model\.int8\.onnx is missing"):
        Repository.open(repository)
