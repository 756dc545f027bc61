"""Roboflow's multi-class CSV: a table beside the photos of each split, with spaces after its commas."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data


def put(folder: Path, text: str, *photos: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        (folder / photo).touch()
    (folder / "_classes.csv").write_text(text)
    return folder


def test_an_export(tmp_path: Path):
    put(tmp_path / "train", "filename, cat, big dog\na_jpg.rf.1f.jpg, 1, 0\nb.jpg, 1, 1\n", "a_jpg.rf.1f.jpg", "b.jpg")
    put(tmp_path / "valid", "filename, cat, big dog\nc.jpg, 0, 1\n", "c.jpg", "loose.jpg")
    put(tmp_path / "test", "filename, cat, big dog\nd.jpg, 0, 0\n", "d.jpg")
    (tmp_path / "README.dataset.txt").touch()
    data = read_data(tmp_path)
    assert data.labels == ("cat", "big dog")
    assert data.train.targets.tolist() == [[1, 0], [1, 1]]
    assert data.val.files == (tmp_path / "valid/c.jpg",)
    assert data.val.targets.tolist() == [[0, 1]]
    assert data.layout == "Roboflow's multi-class CSV (test/_classes.csv, train/_classes.csv, valid/_classes.csv)"
    assert data.notes[0].startswith("Left out: test (1 photo).")
    assert data.notes[1] == "Left out, because nothing here labels them: 1 photo, in valid/ (1)."


def test_one_split_alone(tmp_path: Path):
    names = [f"{number}.jpg" for number in range(10)]
    text = "filename, cat\n" + "".join(f"{name}, 1\n" for name in names)
    folder = put(tmp_path / "train", text, *names)
    for source in (tmp_path, folder, folder / "_classes.csv"):
        data = read_data(source)
        assert (data.labels, len(data.train), len(data.val)) == (("cat",), 8, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Pixel Value, Class\n0, background\n1, cat\n", "is not a list of photos: its columns are Pixel Value, Class"),
        ("filename, cat\na.jpg, maybe\n", "line 2: a label must be 1, 0"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str, tmp_path: Path):
    put(tmp_path / "train", text, "a.jpg")
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert words in str(caught.value)
    assert "train/_classes.csv" in str(caught.value)
