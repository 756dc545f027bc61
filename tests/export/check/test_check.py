"""A whole repository passes; of a broken one everything that is wrong is named, and the rest is still checked."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from export.check import check_repository
from export.check.findings import Finding, summary
from export.pictures import Evidence
from labelwise.errors import DataError, LabelwiseError, RepositoryError
from labelwise.spec import TrainedSpec
from tests.conftest import ROOT
from training.synth import draw_dataset

Failures = Callable[[], list[Finding]]


def statuses(findings: list[Finding]) -> dict[tuple[str, str], str]:
    return {(finding.subject, finding.check): finding.status for finding in findings}


def test_an_exported_repository_passes(exported: Path, photos: list[Path]):
    found = statuses(check_repository(exported, Evidence(photos[0].parent)))
    assert {*found.values()} == {"ok"}
    assert {subject for subject, _ in found} == {"pets", "pets_decode", "pets_model", "pets version 1"}
    assert {check for subject, check in found if subject == "pets version 1"} == {
        *("contract", "files", "SHA-256", "ONNX", "external data", "opset", "signature", "metadata", "nodes"),
        *("runs", "scores", "embeddings", "attention", "alone as in a batch"),
    }
    assert {check for subject, check in found if subject == "pets_model"} >= {"config.pbtxt", "configs/python.pbtxt"}


def test_the_bundled_repository_passes(photos: list[Path]):
    findings = check_repository(ROOT / "model_repository", Evidence(photos[0]))  # its graphs take long per photo
    assert len(findings) > 15
    assert {finding.status for finding in findings} == {"ok"}


def test_everything_wrong_is_named_at_once(repository: Path, failures: Failures):
    (repository / "pets/labels.txt").write_text("cat\ndog\nsea\n", "utf-8")
    config = repository / "pets_model/config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 5", "max_batch_size: 6"))
    (repository / "pets_decode/1/labelwise_image/__init__.py").unlink()
    with (repository / "pets_model/1/model.onnx").open("ab") as stream:
        stream.write(b"\n")
    found = failures()
    assert [(finding.subject, finding.check) for finding in found[:2]] == [
        ("pets", "config.pbtxt"),
        ("pets_model", "config.pbtxt"),
    ]
    lines = summary(found).splitlines()
    assert "failed" in lines[0]
    for words in (
        "line 2 of labels.txt is 'dog', the contract says 'großer Hund'",
        "max_batch_size is 6",
        "labelwise_image/__init__.py is missing",
        "the contract says",
    ):
        assert any(words in line for line in lines[1:]), words
    assert {finding.check for finding in found} >= {"config.pbtxt", "files", "SHA-256"}


def test_every_version_is_checked_and_unreadable_ones_too(repository: Path, failures: Failures):
    shutil.copytree(repository / "pets/1", repository / "pets/2")
    (repository / "pets/3").mkdir()
    found = failures()
    assert any("it says 'pets' version 1" in finding.found for finding in found)
    assert ("pets version 3", "contract") in {(finding.subject, finding.check) for finding in found}
    assert any("pets_model/2/model.onnx is missing" in finding.found for finding in found)


@pytest.mark.parametrize("content", [b"", b"class TritonPython", b"\xff\x00\x01"])
@pytest.mark.parametrize(
    "program", ["pets_decode/1/model.py", "pets_decode/1/labelwise_image/__init__.py", "pets_model/1/model.py"]
)
def test_a_truncated_program_is_named(program: str, content: bytes, repository: Path, failures: Failures):
    (repository / program).write_bytes(content)
    (found,) = failures()
    assert (found.check, program in found.found) == ("files", True)


@pytest.mark.parametrize("wrong", ["nowhere", "empty"])
def test_a_folder_without_taggers_is_refused(wrong: str, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepositoryError, match=wrong):
        check_repository(tmp_path / wrong)


def test_photos_that_are_not_there_are_refused(exported: Path, tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        check_repository(exported, Evidence(tmp_path / "nowhere"))


def test_against_the_run_it_came_from(exported: Path, checkpoint: Path, tmp_path: Path):
    found = statuses(check_repository(exported, run=checkpoint))
    assert found["pets version 1", "parity with the run"] == "ok"
    other = shutil.copytree(checkpoint, tmp_path / "run")
    TrainedSpec.read(other).changed(labels=("cat", "dog", "sea")).write(other)
    assert statuses(check_repository(exported, run=other))["pets version 1", "parity with the run"] == "ok"
    with pytest.raises(LabelwiseError, match="is not a trained run"):
        check_repository(exported, run=tmp_path)


def test_a_graph_of_other_weights_differs_from_the_run(
    repository: Path, checkpoint: Path, change_graph: Callable[[Callable[[onnx.ModelProto], None]], None]
):
    def scale(model: onnx.ModelProto) -> None:
        weights = next(part for part in model.graph.initializer if len(part.dims) == 4)
        weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.2, weights.name))

    change_graph(scale)
    failed = [finding for finding in check_repository(repository, run=checkpoint) if finding.status == "failed"]
    (difference,) = failed
    assert difference.check == "parity with the run"
    assert "differs in scores at batch 1" in difference.found
    assert "on test picture" in difference.found


def test_labelled_photos_give_map_and_changed_tags(exported: Path, checkpoint: Path, tmp_path: Path):
    draw_dataset(tmp_path / "data", 20, seed=0, labels=3)
    listing = tmp_path / "data/labels.csv"
    header, *rows = listing.read_text("utf-8").splitlines()
    spec = TrainedSpec.read(checkpoint)
    columns = header.split(",")
    labels = [column for column in columns if column not in ("image", "split")]
    renamed = [dict(zip(labels, spec.labels, strict=True)).get(column, column) for column in columns]
    listing.write_text("\n".join([",".join(renamed), *rows]) + "\n", "utf-8")
    evidence = Evidence(data=str(tmp_path / "data"))
    (alone,) = (one for one in check_repository(exported, evidence) if one.check == "labelled")
    assert alone.found.startswith("mAP 0.")
    assert "on 4 labelled photos; 0.5000 when trained" in alone.found
    (both,) = (one for one in check_repository(exported, evidence, checkpoint) if one.check == "labelled")
    assert "another set of tags on 0 of them" in both.found
    (none,) = (one for one in check_repository(exported, Evidence(data="nowhere")) if one.check == "labelled")
    assert (none.status, "no labelled data" in none.found) == ("failed", True)
