"""Each way in which a config.pbtxt can contradict the contract, or itself, is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from export.check.configs import check_configs
from export.check.findings import Finding
from export.triton_config import ServingOptions, model_config
from labelwise.spec import TaggerSpec

Failures = Callable[[], list[Finding]]


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("pets/config.pbtxt", "max_batch_size", "max_batch", "Triton could not read it"),
        ("pets/config.pbtxt", 'name: "pets"', 'name: "cats"', "it is called 'cats' but lies in pets/"),
        ("pets/config.pbtxt", '"pets_decode"', '"cats_decode"', "its step 'cats_decode' is not a model here"),
        ("pets/config.pbtxt", 'value: "attention"', 'value: "heat"', "the model's outputs go to"),
        ("pets/config.pbtxt", 'key: "IMAGE"', 'key: "PHOTO"', "the decoder's input is"),
        (
            "pets/config.pbtxt",
            'key: "image"\n      value: "image"',
            'key: "image"\n      value: "i"',
            "the decoder gives",
        ),
        ("pets/config.pbtxt", 'label_filename: "labels.txt"', "", "scores has no label_filename"),
        ("pets/config.pbtxt", '"labels.txt"', '"names.txt"', "scores's labels names.txt are missing"),
        ("pets/config.pbtxt", "0.5", "0.6", "parameter tagger is another contract than tagger.json"),
        ("pets/config.pbtxt", r"{\"format\":1", r"{\"format\":2", "parameter tagger is not a valid tagger: format:"),
        ("pets_decode/config.pbtxt", '"bicubic"', '"bilinear"', "parameter interpolation is 'bilinear'"),
        ("pets_decode/config.pbtxt", "dims: 48", "dims: 47", "output image is TYPE_UINT8 [32, 47, 3], the contract"),
        ("pets_model/config.pbtxt", "TYPE_UINT8", "TYPE_FP32", "input image is TYPE_FP32"),
        ("pets_model/config.pbtxt", 'name: "embeddings"', 'name: "vectors"', "output vectors is TYPE_FP32 [3, 8]"),
        (
            "pets_model/config.pbtxt",
            "max_batch_size: 5",
            "max_batch_size: 0",
            "max_batch_size is 0, the contract says 5",
        ),
        ("pets_model/config.pbtxt", '"onnxruntime"', '"tensorrt"', "version 1 has no model.plan for the tensorrt"),
        ("pets_model/configs/python.pbtxt", "TYPE_UINT8", "TYPE_INT8", "input image is TYPE_INT8"),
    ],
)
def test_a_configuration_that_contradicts_the_contract_is_reported(
    file: str, old: str, new: str, words: str, repository: Path, failures: Failures
):
    config = repository / file
    text = config.read_text("utf-8")
    assert old in text
    config.write_text(text.replace(old, new, 1), "utf-8")
    found = failures()
    assert {(finding.subject, finding.check) for finding in found} == {tuple(file.split("/", 1))}
    assert any(words in finding.found for finding in found), found


def test_a_missing_configuration_is_reported(repository: Path, failures: Failures):
    (repository / "pets_decode/config.pbtxt").unlink()
    assert [finding.found for finding in failures() if finding.subject == "pets_decode"] == [
        "pets_decode/config.pbtxt is missing"
    ]


def test_other_models_are_checked_too(repository: Path, failures: Failures):
    other = repository / "detector"
    (other / "1").mkdir(parents=True)
    (other / "config.pbtxt").write_text('name: "detector" backend: "onnxruntime" max_batch_size: 4')
    (found,) = failures()
    assert (found.subject, found.found) == ("detector", "version 1 has no model.onnx for the onnxruntime backend")
    (other / "1/model.onnx").touch()
    assert failures() == []


@pytest.mark.parametrize(("instances", "notes"), [(1, 1), (2, 0)])
def test_a_queue_that_pauses_is_noted(instances: int, notes: int, repository: Path):
    options = ServingOptions(queue_size=512, deadline_s=10, instances=instances)
    spec = TaggerSpec.read(repository / "pets")
    (repository / "pets_model/config.pbtxt").write_text(model_config(spec, "onnxruntime", options))
    found = [finding for finding in check_configs(repository, {"pets": spec}) if finding.status == "note"]
    assert len(found) == notes
    assert all("pauses up to half a second" in finding.found for finding in found)
