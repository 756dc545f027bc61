"""The contracts of a tagger's versions."""

from pathlib import Path

from export.check.contract import read_versions
from labelwise.spec import TaggerSpec
from tests.conftest import ROOT


def test_labels_that_differ_only_by_case_are_noted(tmp_path: Path):
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    first, _, *others = spec.labels
    folder = tmp_path / "scenes/1"
    folder.mkdir(parents=True)
    spec.model_copy(update={"labels": (first, first.upper(), *others)}).write(folder)
    (version,), findings = read_versions(tmp_path, "scenes")
    assert version.spec.labels[:2] == (first, first.upper())  # what was published before stays servable
    assert [(finding.check, finding.status) for finding in findings] == [("contract", "ok"), ("labels", "note")]
    assert f"'{first}' and '{first.upper()}' differ only by case" in findings[1].found
