"""A copy of a whole repository, to be broken."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from export.check import check_repository
from export.check.findings import Finding
from export.triton_config import ensemble_config
from labelwise.repository import Repository
from tests.contracts import with_graph


@pytest.fixture
def repository(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "repository")


@pytest.fixture
def change_graph(repository: Path) -> Callable[[Callable[[onnx.ModelProto], None]], None]:
    """Changes the published graph and its hashes, as another tool that writes repositories would."""

    def change(how: Callable[[onnx.ModelProto], None]) -> None:
        version = Repository.open(repository).taggers["pets"][1]
        model = onnx.load(version.weights)
        how(model)
        onnx.save_model(model, version.weights)
        spec = with_graph(version.spec, version.weights)
        for folder in ("pets", "pets/1", "pets_model"):
            spec.write(repository / folder)
        (repository / "pets/config.pbtxt").write_text(ensemble_config(spec), "utf-8")

    return change


@pytest.fixture
def failures(repository: Path) -> Callable[[], list[Finding]]:
    return lambda: [finding for finding in check_repository(repository) if finding.status == "failed"]
