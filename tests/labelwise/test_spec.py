"""tagger.json: it is read back as written, and a wrong field is refused by its name."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from labelwise.errors import SpecError
from labelwise.spec import SPEC_FILE, GraphSpec, TaggerSpec, TrainedSpec

GRAPH = GraphSpec(precision="fp32", file="model.onnx", sha256="f" * 64, differences={"scores": 1e-6})

REQUIRED = [name for name, field in TaggerSpec.model_fields.items() if field.is_required()]

WRONG = [
    ("format", 2, "format"),
    ("name", "../pets", "name"),
    ("name", "pets\n", "name"),
    ("version", 0, "version"),
    ("version", "one", "version"),
    ("labels", [], "labels"),
    ("labels", ["cat", ""], "labels.1"),
    ("labels", ["cat", "cat"], "labels"),
    ("labels", ["cat", " dog"], "labels"),
    ("labels", ["cat", "d\nog"], "labels"),
    ("thresholds", [0.5, 1.5], "thresholds.1"),
    ("thresholds", [0.5], "thresholds"),
    ("image.height", 4, "image.height"),
    ("image.height", 64, "input.shape"),
    ("image.resize", "stretch", "image.resize"),
    ("image.mean", [0.5, 0.5], "image.mean.2"),
    ("image.colour", "sRGB", "image.colour"),
    ("input.dtype", "int8", "input.dtype"),
    ("input.shape", [32, 32, 3], "input.shape"),
    ("outputs", [], "outputs"),
    ("outputs.0.name", "logits", "outputs"),
    ("outputs.0.shape", [3], "outputs"),
    ("outputs.1.shape", [2, 0], "outputs.1.shape.1"),
    ("metrics", {"mAP": "good"}, "metrics.mAP"),
    ("data.train_images", -1, "data.train_images"),
    ("weights_sha256", "abc", "weights_sha256"),
    ("colour", "red", "colour"),
]


def changed(spec: TaggerSpec, path: str, value: Any) -> str:
    content = json.loads(spec.to_json())
    *parents, leaf = (int(part) if part.isdecimal() else part for part in path.split("."))
    place = content
    for parent in parents:
        place = place[parent]
    place[leaf] = value
    return json.dumps(content)


def test_what_is_written_is_read_back(spec: TaggerSpec, tmp_path: Path):
    spec.model_copy(update={"version": 7}).write(tmp_path)
    spec.write(tmp_path)
    assert TaggerSpec.read(tmp_path) == TaggerSpec.read(tmp_path / SPEC_FILE) == spec
    assert [file.name for file in tmp_path.iterdir()] == [SPEC_FILE]
    assert spec.output_names == ("scores", "embeddings")


@pytest.mark.parametrize(("path", "value", "field"), WRONG)
def test_a_wrong_or_unknown_field_is_refused_by_name(spec: TaggerSpec, path: str, value: Any, field: str):
    with pytest.raises(SpecError) as caught:
        TaggerSpec.parse(changed(spec, path, value), "there/tagger.json")
    assert str(caught.value).startswith(f"there/tagger.json is not a valid tagger: {field}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_missing_field_is_refused_by_name(spec: TaggerSpec, field: str):
    content = json.loads(spec.to_json())
    del content[field]
    with pytest.raises(SpecError, match=f"is not a valid tagger: {field}: "):
        TaggerSpec.parse(json.dumps(content), "tagger.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"name": "pets"', b"\xff\xfe"])
def test_what_is_no_json_object_is_refused_by_file(content: bytes, tmp_path: Path):
    (tmp_path / SPEC_FILE).write_bytes(content)
    with pytest.raises(SpecError) as caught:
        TaggerSpec.read(tmp_path)
    assert str(tmp_path / SPEC_FILE) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_an_old_release_is_read_without_its_placeholders(spec: TaggerSpec, tmp_path: Path):
    """labelwise 0.1 called every run "untitled", version 1."""
    (tmp_path / SPEC_FILE).write_text(changed(spec, "name", "untitled"), "utf-8")
    trained = TrainedSpec.read(tmp_path)
    assert trained.published(spec.name, spec.version, [GRAPH]).labels == spec.labels
    trained.write(tmp_path)
    assert not {"name", "version"} & json.loads((tmp_path / SPEC_FILE).read_text("utf-8")).keys()
    assert TrainedSpec.read(tmp_path) == trained


def test_what_is_trained_is_not_taken_for_what_is_published(spec: TaggerSpec, tmp_path: Path):
    TrainedSpec.parse(spec.to_json(), "it").write(tmp_path)
    with pytest.raises(SpecError, match="name: Field required"):
        TaggerSpec.read(tmp_path)


def test_publishing_adds_a_name_a_version_and_the_hash_of_the_weights(spec: TaggerSpec):
    trained = TrainedSpec.parse(spec.to_json(), "it")
    published = trained.published("cars", 7, [GRAPH])
    assert (published.name, published.version, published.weights_sha256) == ("cars", 7, "f" * 64)
    assert [*json.loads(published.to_json())][:5] == ["format", "name", "version", "graphs", "taught"]
    for wrong in (("a path/", 7), ("cars", 0)):
        with pytest.raises(ValidationError):
            trained.published(*wrong, [GRAPH])


def test_a_changed_copy_is_validated(spec: TaggerSpec):
    assert spec.changed(thresholds=(0.1, 0.2)).thresholds == (0.1, 0.2)
    with pytest.raises(ValidationError, match="2 needed, one per label, not 1"):
        spec.changed(thresholds=(0.1,))


def test_a_missing_file_is_refused_by_path(tmp_path: Path):
    with pytest.raises(SpecError, match=r"tagger\.json cannot be read: No such file"):
        TaggerSpec.read(tmp_path / SPEC_FILE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / SPEC_FILE)
    with pytest.raises(SpecError, match=r"tagger\.json cannot be read: it is not a regular file"):
        TaggerSpec.read(tmp_path / SPEC_FILE)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_contract_holds_a_number_that_json_cannot(spec: TaggerSpec, value: float):
    content = spec.model_dump() | {"metrics": {"mAP": value}}
    with pytest.raises(ValidationError, match=r"metrics\.mAP"):
        TaggerSpec.model_validate(content)


@pytest.mark.parametrize("std", [0.0, -1.0])
def test_a_deviation_to_divide_by_is_positive(spec: TaggerSpec, std: float):
    with pytest.raises(SpecError, match=r"image\.std"):
        TaggerSpec.parse(changed(spec, "image.std", [std, 1.0, 1.0]), "tagger.json")
