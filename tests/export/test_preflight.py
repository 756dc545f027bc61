"""What a Triton could not load is not published."""

import shutil
from pathlib import Path

import pytest

from export.preflight import require_whole
from labelwise.errors import RepositoryError
from labelwise.spec import TaggerSpec
from tests.export.test_publish import add, files


def test_an_exported_repository_passes(exported: Path, spec: TaggerSpec):
    require_whole(exported, spec)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("pets_model/1/model.py", "class TritonPython", "pets_model/1/model.py"),
        ("pets_model/1/model.onnx", "another graph", "SHA-256"),
        ("pets_model/1/model.onnx", None, "model.onnx"),
        ("pets_decode/1/model.py", None, "version 1 has no model.py"),
        ("pets_decode/1/labelwise_image/__init__.py", "def", "is not Python"),
        ("pets_model/config.pbtxt", 'name: "pets_model" no_such_field: 1', "Triton could not read it"),
        ("pets_model/configs/python.pbtxt", 'name: "pets_model" backend: "python"', "max_batch_size"),
        ("pets_decode/config.pbtxt", None, "pets_decode/config.pbtxt is missing"),
        ("pets/config.pbtxt", 'name: "pets" platform: "ensemble"', "max_batch_size"),
        ("pets_model/labels.txt", None, "labels labels.txt are missing"),
    ],
)
def test_files_that_triton_cannot_use_are_refused(
    file: str, content: str | None, words: str, exported: Path, spec: TaggerSpec, tmp_path: Path
):
    stage = Path(shutil.copytree(exported, tmp_path / "stage"))
    (stage / file).unlink() if content is None else (stage / file).write_text(content)
    with pytest.raises(RepositoryError, match="Not published: ") as caught:
        require_whole(stage, spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["pets_decode", "pets_model"])
def test_a_foreign_version_folder_stops_the_export(part: str, spec: TaggerSpec, tmp_path: Path):
    """Triton would load it among the newest, and if it is broken, none of that model."""
    add(tmp_path, spec)
    (tmp_path / part / "7").mkdir()
    (tmp_path / part / "7/notes.txt").touch()
    before = files(tmp_path)
    with pytest.raises(RepositoryError, match=f"{part}/7 belongs to no version of pets, .* Move it"):
        add(tmp_path, spec, 8)
    assert files(tmp_path) == before
    shutil.rmtree(tmp_path / part / "7")
    add(tmp_path, spec, 8)
