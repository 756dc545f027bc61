"""Hugging Face's ImageFolder: metadata beside the photos, with names or with a column per label."""

import json
from pathlib import Path
from typing import Any

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def as_jsonl(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def as_csv(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text(text)
    return folder


def test_metadata_in_every_split(tmp_path: Path):
    touch(tmp_path, "train/1.png", "train/deep/2.png", "train/3.png", "validation/4.png", "test/5.png")
    as_csv(tmp_path / "train", 'file_name,text,labels\n1.png,hello,cat\ndeep/2.png,,"cat, dog"\n3.png,x,\n')
    as_csv(tmp_path / "validation", "file_name,labels\n4.png,dog\n")
    as_csv(tmp_path / "test", "file_name,labels\n5.png,dog\n")
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert data.train.files[1] == tmp_path / "train/deep/2.png"
    assert data.train.targets.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert data.val.targets.tolist() == [[0, 1]]
    assert data.layout.startswith("Hugging Face's ImageFolder (test/metadata.csv, train/metadata.csv, valid")
    assert data.notes[0] == "Left out: the columns text."
    assert data.notes[1].startswith("Left out: test (1 photo).")


@pytest.mark.parametrize(
    ("label", "labels", "targets"),
    [
        ([["cat"], ["cat", "dog"], []], ("cat", "dog"), [[1, 0], [1, 1], [0, 0]]),
        (["cat", "dog", None], ("cat", "dog"), [[1, 0], [0, 1], [-1, -1]]),
        ([3, 10, 3], ("10", "3"), [[0, 1], [1, 0], [0, 1]]),
        ([[3, 4], [4], []], ("3", "4"), [[1, 1], [0, 1], [0, 0]]),
    ],
)
@pytest.mark.parametrize("column", ["label", "labels"])
def test_json_lines(label: list[Any], labels: tuple[str, ...], targets: list[list[int]], column: str, tmp_path: Path):
    for split in ("train", "test"):
        touch(tmp_path / split, *(f"{number}.jpg" for number in range(3)))
        as_jsonl(tmp_path / split, *({"file_name": f"{n}.jpg", column: one} for n, one in enumerate(label)))
    data = read_data(tmp_path)
    assert data.labels == labels
    assert data.train.targets.tolist() == targets


def test_one_metadata_above_the_splits(tmp_path: Path):
    touch(tmp_path, "train/1.jpg", "train/2.jpg", "validation/1.jpg")
    as_csv(tmp_path, "file_name,label\ntrain/1.jpg,cat\ntrain/2.jpg,dog\nvalidation/1.jpg,cat\n")
    data = read_data(tmp_path)
    assert [len(data.train), len(data.val)] == [2, 1]
    assert read_data(tmp_path / "metadata.csv").describe() == data.describe()


@pytest.mark.parametrize("path", ["data/train/{}.jpg", "./data/train/{}.jpg", "data\\train\\{}.jpg"])
def test_the_split_of_a_photo_is_the_folder_it_lies_in(path: str, tmp_path: Path):
    touch(tmp_path, *(f"data/{split}/{n}.jpg" for split in ("train", "test") for n in range(3)))
    names = [path.format(n).replace("train", split) for split in ("train", "test") for n in range(3)]
    data = read_data(as_csv(tmp_path, "file_name,label\n" + "".join(f"{name},cat\n" for name in names)))
    assert {file.parent.name for file in data.train.files} == {"train"}
    assert {file.parent.name for file in data.val.files} == {"test"}


def test_a_column_split_and_one_that_ends_like_file_name(tmp_path: Path):
    touch(tmp_path, *(f"{n}.jpg" for n in range(4)))
    rows = [{"image_file_name": f"{n}.jpg", "label": "cat", "Split": "train" if n < 3 else "Test"} for n in range(4)]
    data = read_data(as_jsonl(tmp_path, *rows))
    assert [file.name for file in data.train.files] == ["0.jpg", "1.jpg", "2.jpg"]
    assert [file.name for file in data.val.files] == ["3.jpg"]
    assert data.notes[0].startswith("There is no val: test (1 photo) serves as val")


def test_a_column_of_0_and_1_per_label(tmp_path: Path):
    touch(tmp_path, *(f"images/{number}.jpg" for number in range(5)))
    rows = "".join(f"images/{number}.jpg,{number + 10},1,{number % 2},a photo\n" for number in range(5))
    data = read_data(as_csv(tmp_path, "file_name,width,cat,dog,text\n" + rows))
    assert data.labels == ("cat", "dog")
    assert "Left out: the columns width, text." in data.notes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_name,text\n1.jpg,a cat\n", "has no labels: its columns are file_name, text. Name the labels"),
        ('{"file_name": "1.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [0]}}', "has no labels"),
        ('{"file_name": "1.jpg", "label": {"a": 1}}', "line 1: label must be names"),
        ('{"file_name": 1, "label": "cat"}', "line 1: file_name must be the path of a photo, not 1"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str, tmp_path: Path):
    touch(tmp_path, "1.jpg")
    (tmp_path / ("metadata.jsonl" if text.startswith("{") else "metadata.csv")).write_text(text)
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert words in str(caught.value)
    assert "metadata." in str(caught.value)


def test_a_metadata_of_another_kind_is_none(tmp_path: Path):
    touch(tmp_path, *(f"{number}.jpg" for number in range(5)))
    as_csv(tmp_path, "lesion_id,image_id,age\n1,0,50\n")
    (tmp_path / "labels.csv").write_text("image,cat\n" + "".join(f"{number}.jpg,1\n" for number in range(5)))
    assert read_data(tmp_path).layout == "a CSV list"
