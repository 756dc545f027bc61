"""The contracts of a tagger's versions."""

from pathlib import Path

from export.check.contract import read_versions
from labelwise.spec import TaggerSpec


def test_labels_that_differ_only_by_case_are_noted(repository: Path):
    spec = TaggerSpec.read(repository / "pets/1")
    first, _, *others = spec.labels
    spec.model_copy(update={"labels": (first, first.upper(), *others)}).write(repository / "pets/1")
    (version,), findings = read_versions(repository, "pets")
    assert version.spec.labels[:2] == (first, first.upper())  # what was published before stays servable
    assert [(finding.check, finding.status) for finding in findings] == [("contract", "ok"), ("labels", "note")]
    assert f"'{first}' and '{first.upper()}' differ only by case" in findings[1].found
