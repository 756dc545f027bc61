"""JSON lines: names in lists, or a key per label; what is left out is unknown."""

import json
from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data


def write(folder: Path, *rows: object) -> Path:
    for number in range(4):
        (folder / f"{number}.jpg").touch()
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "labels.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_lists_of_names(tmp_path: Path):
    write(
        tmp_path,
        {"image": "0.jpg", "labels": ["dog", "größe"], "unknown": ["cat"], "split": "train"},
        {"image": "1.jpg", "labels": [], "split": "train"},
        "",
        {"image": "2.jpg", "split": "train"},  # nobody looked: all unknown
        {"image": "3.jpg", "labels": ["cat"], "split": "val"},
    )
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog", "größe")
    assert data.train.targets.tolist() == [[-1, 1, 1], [0, 0, 0], [-1, -1, -1]]
    assert data.val.targets.tolist() == [[1, 0, 0]]
    assert read_data(tmp_path / "labels.jsonl").describe() == data.describe()
    (tmp_path / "labels.jsonl").rename(tmp_path / "mine.NDJSON")
    assert read_data(tmp_path / "mine.NDJSON").describe() == data.describe()


def test_a_key_per_label(tmp_path: Path):
    write(
        tmp_path,
        {"path": "0.jpg", "split": "train", "cat": 1, "dog": False},
        {"path": "1.jpg", "split": "train", "cat": -1, "bird": "1"},
        {"path": "2.jpg", "split": "val", "cat": True, "dog": None, "bird": 0},
    )
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog", "bird")
    assert data.train.targets.tolist() == [[1, 0, -1], [-1, -1, 1]]
    assert data.val.targets.tolist() == [[1, -1, 0]]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "lists no photos"),
        (["{"], "line 1 is not JSON: Expecting"),
        (["[" * 100_000], "line 1 is not JSON: it is nested too deeply"),
        (["1" * 5_000], "line 1 is not JSON: a number has too many digits"),
        (['["0.jpg"]'], "line 1 must be a JSON object"),
        ([{"image": "0.jpg", "cat": 1}, {"cat": 1}], "line 2: image must be the path of a photo"),
        ([{"image": "0.jpg", "cat": [1]}], "line 1: a label must be"),
        ([{"image": "0.jpg", "labels": {"cat": 1}}], "line 1: labels must be names"),
        ([{"image": "0.jpg", "cat": 1, "split": "train"}, {"image": "1.jpg", "cat": 1}], "line 2: split must be"),
        ([{"image": "0.jpg", "cat": 1, "split": ["val"]}], "line 1: split must be"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(rows: list[object], words: str, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read_data(write(tmp_path, *rows))
    assert words in str(caught.value)
    assert "labels.jsonl" in str(caught.value)
