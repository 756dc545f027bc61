"""What a user gives: folders and lists, or a table with unknown cells."""

from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import DataError
from teaching.given_photos import NO, UNKNOWN, YES, GivenPhotos, from_folders, from_table, merged


def test_a_table_may_leave_cells_unknown(tmp_path: Path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "table.csv").write_text("image,climbing helmet,rope,split\na.jpg,1,,train\nb.jpg,0,yes,val\n")
    given = from_table(tmp_path / "table.csv")
    assert given.labels == ("climbing helmet", "rope")
    assert given.files == (tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert given.answers.tolist() == [[YES, UNKNOWN], [NO, YES]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image\na.jpg\n", "needs a column `image`"),
        ("image,cat,Cat\na.jpg,1,0\n", "differ only by case"),
        ("image,cat\na.jpg,perhaps\n", "line 2: a label must be 1, 0"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(table: str, message: str, tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "table.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        from_table(tmp_path / "table.csv")


@pytest.mark.parametrize("label", ["", " ", "a\tb", "a\nb", "\u200b"])
def test_a_label_that_cannot_be_shown_is_refused(label: str, pictures: tuple[Path, Path]):
    with pytest.raises(DataError, match="label"):
        from_folders(label, [pictures[0]], [pictures[1]])


def test_folders_without_photos_are_refused(pictures: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no photos"):
        from_folders("stripes", [tmp_path / "empty"], [pictures[1]])


def test_copies_of_a_photo_complete_each_other():
    given = GivenPhotos(("a", "b"), (Path("1"), Path("2")), np.array([[YES, UNKNOWN], [UNKNOWN, NO]], np.int8))
    assert merged(given, given.answers, 0, 1).tolist() == [YES, NO]
