"""A partial tagger.json: what may be left out, and the errors for a wrong one."""

import json
from pathlib import Path

import pytest

from export.foreign.partial_spec import read_foreign_spec
from labelwise.errors import SpecError
from labelwise.spec import TrainedSpec

LEAST = {"labels": ["cat", "sea"], "image": {"height": 32, "width": 48}}


def read(tmp_path: Path, content: object):
    (tmp_path / "spec.json").write_text(json.dumps(content), "utf-8")
    return read_foreign_spec(tmp_path / "spec.json")


def test_labels_and_image_are_enough(tmp_path: Path):
    spec, complete = read(tmp_path, LEAST)
    assert complete is None
    assert spec.label_thresholds == (0.5, 0.5)
    assert spec.image.mean == (0.485, 0.456, 0.406)
    assert spec.max_batch == 32
    assert read(tmp_path, LEAST | {"thresholds": 0.3})[0].label_thresholds == (0.3, 0.3)
    assert read(tmp_path, LEAST | {"thresholds": [0.1, 0.2]})[0].label_thresholds == (0.1, 0.2)


def test_a_byte_order_mark_is_accepted(tmp_path: Path):
    (tmp_path / "spec.json").write_text(json.dumps(LEAST), "utf-8-sig")
    assert read_foreign_spec(tmp_path / "spec.json")[0].labels == ("cat", "sea")


def test_labels_are_composed_as_training_writes_them(tmp_path: Path):
    assert read(tmp_path, LEAST | {"labels": ["cafe\u0301", "sea"]})[0].labels == ("caf\u00e9", "sea")


def test_a_whole_contract_is_accepted_too(exported: Path):
    spec, complete = read_foreign_spec(exported / "pets/tagger.json")
    assert complete == TrainedSpec.read(exported / "pets")
    assert (spec.labels, spec.max_batch, spec.metrics) == (complete.labels, 5, {"mAP": 0.5})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "labels: Field required; at least"),
        ({"labels": ["cat"]}, "image: Field required; at least"),
        ([], "at least"),
        (LEAST | {"labels": []}, "labels"),
        (LEAST | {"thresholds": [0.5]}, "thresholds: 2 needed"),
        (LEAST | {"thresholds": 2}, "thresholds"),
        (LEAST | {"treshold": 0.5}, "treshold"),
        ({"format": 1}, "Field required"),
    ],
)
def test_the_wrong_field_is_named(content: object, words: str, tmp_path: Path):
    with pytest.raises(SpecError, match=f"spec.json is not a valid tagger: .*{words}") as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path):
    for content in (b"\xff labels: cat", b"[" * 100_000):
        (tmp_path / "spec.json").write_bytes(content)
        with pytest.raises(SpecError, match="it is not JSON; at least"):
            read_foreign_spec(tmp_path / "spec.json")
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_foreign_spec(tmp_path / "nowhere.json")
