"""Each layout is read by its own reader. An unknown layout is refused with a list of the known ones."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import READERS, read_data


@pytest.mark.parametrize("name", ["", "nowhere", "nowhere.csv", "nowhere.json", "file.pdf", "folder"])
def test_an_unknown_layout_lists_the_accepted_ones(name: str, tmp_path: Path):
    (tmp_path / "file.pdf").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="no labelled data at") as caught:
        read_data(tmp_path / name)
    assert all(reader.LAYOUT in str(caught.value) for reader in READERS)
    assert "\n" not in str(caught.value)


def test_what_is_found_is_said_and_a_folder_in_it_that_could_be_read(tmp_path: Path):
    for name in ("set/cat/1.jpg", "set/dog/2.jpg", "3.JPG", "readme.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert ": found 1 folder (set), 1 photo, 1 other file (readme.md); labelled data is in set. Give" in str(
        caught.value
    )


def test_no_folder_is_pointed_out_that_would_be_refused_too(tmp_path: Path):
    """YOLO's folders without data.yaml: images/train holds photos, not labels."""
    for name in ("images/train/1.jpg", "images/val/2.jpg", "labels/train/1.txt", "labels/val/2.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"found 2 folders \(images, labels\)\. Give one"):
        read_data(tmp_path)


def test_an_archive_has_to_be_unpacked(tmp_path: Path):
    (tmp_path / "export.zip").touch()
    with pytest.raises(DataError, match="it is a file, an archive: unpack it first"):
        read_data(tmp_path / "export.zip")
