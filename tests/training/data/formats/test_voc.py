"""Pascal VOC folders: what is difficult is unknown, unless the label is there plainly as well."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data import read_data

PLAIN, DIFFICULT = 0, 1


def write(root: Path, lists: dict[str, str], photos: dict[str, list[tuple[str, int]]]) -> Path:
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for name, lines in lists.items():
        (root / f"ImageSets/Main/{name}.txt").write_text("\n".join(lines.split()) + "\n")
    for photo, objects in photos.items():
        (root / f"JPEGImages/{photo}.jpg").touch()
        entries = "".join(
            f"<object><name>{label}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
            for label, difficult in objects
        )
        (root / f"Annotations/{photo}.xml").write_text(f"<annotation><source/>{entries}</annotation>")
    return root


PHOTOS = {
    "000001": [("person", PLAIN), ("dog", DIFFICULT)],
    "000002": [("dog", DIFFICULT), ("dog", PLAIN), ("cat", DIFFICULT)],
    "000003": [],
    "000004": [("person", PLAIN)],
}


@pytest.mark.parametrize("place", ["", "VOC2007", "VOCdevkit/VOC2007"])
def test_difficult_objects_alone_leave_a_label_unknown(place: str, tmp_path: Path):
    root = write(tmp_path / "data" / place, {"train": "000001 000002", "val": "000003 000004"}, PHOTOS)
    data = read_data(tmp_path / "data")
    assert data.labels == ("cat", "dog", "person")
    assert data.train.files == (root / "JPEGImages/000001.jpg", root / "JPEGImages/000002.jpg")
    assert data.train.targets.tolist() == [[0, -1, 1], [-1, 1, 0]]
    assert data.val.targets.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_with_the_test_set_there_it_is_the_val_split(tmp_path: Path):
    lists = {"train": "000001", "val": "000002", "trainval": "000001 000002", "test": "000003 000004"}
    data = read_data(write(tmp_path, lists, PHOTOS))
    assert [file.stem for file in data.train.files] == ["000001", "000002"]
    assert [file.stem for file in data.val.files] == ["000003", "000004"]
    assert data.notes[0].startswith("There is no val: test (2 photos) serves as val")


def test_what_is_wrong_is_named(tmp_path: Path):
    root = write(tmp_path / "VOC2007", {"train": "000001 000002 000005", "val": "000004"}, PHOTOS)
    (root / "Annotations/000002.xml").write_text("<annotation>")
    (root / "Annotations/000004.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    for words in ("3 annotations", "000002.xml (no element found", "000005.xml (missing)", "000004.xml (an object has"):
        assert words in str(caught.value)
    (root / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(DataError, match=r"needs train\.txt and val\.txt"):
        read_data(tmp_path)
    write(tmp_path / "VOC2012", {}, {})
    with pytest.raises(DataError, match=r"several years: give one of .*VOC2007, .*VOC2012"):
        read_data(tmp_path)
