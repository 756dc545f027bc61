"""What a user gives: folders and lists, or a table with unknown cells."""

import json
from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import DataError
from labelwise.image import MAX_PIXELS
from teaching import given_photos
from teaching.given_photos import NO, UNKNOWN, YES, GivenPhotos, Seen, from_folders, from_table, joined, merged


def test_a_table_may_leave_cells_unknown(tmp_path: Path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "table.csv").write_text("image,climbing helmet,rope,split\na.jpg,1,,train\nb.jpg,0,yes,val\n")
    given = from_table(tmp_path / "table.csv")
    assert given.labels == ("climbing helmet", "rope")
    assert given.files == (tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert given.answers.tolist() == [[YES, UNKNOWN], [NO, YES]]


def test_an_export_of_label_studio_gives_the_choices_with_enough_photos(tmp_path: Path):
    """One annotator chose `rope` for c.jpg, and the other did not; only one photo shows `snow`."""
    chosen = {"a": [["helmet"]], "b": [["helmet", "snow"]], "c": [["helmet", "rope"], ["helmet"]]}
    chosen |= {name: [["rope"]] for name in "def"} | {"g": []}
    tasks = []
    for name, annotations in chosen.items():
        (tmp_path / f"{name}.jpg").touch()
        results = [[{"type": "choices", "from_name": "x", "value": {"choices": each}}] for each in annotations]
        given = [{"was_cancelled": False, "completed_by": 1, "result": result} for result in results]
        tasks.append({"id": 1, "annotations": given, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.jpg"}})
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    given = from_table(tmp_path / "export.json")
    assert given.labels == ("helmet",)  # rope is absent from two photos only
    assert given.files == tuple(tmp_path / f"{name}.jpg" for name in "abcdef")
    assert given.answers[:, 0].tolist() == [YES, YES, YES, NO, NO, NO]
    (tmp_path / "export.json").write_text(json.dumps(tasks[:3]))
    with pytest.raises(DataError, match="no choice that 3 photos show"):
        from_table(tmp_path / "export.json")


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


def test_large_photos_are_decoded_one_at_a_time():
    hold = given_photos._one_large_at_a_time()
    with hold(MAX_PIXELS), hold(1000):  # a small one does not wait
        assert not hold(MAX_PIXELS).acquire(blocking=False)


def test_what_was_seen_at_two_places_is_joined_and_each_photo_counts_once():
    def seen(files: str, digests: str, answers: list[list[int]]) -> Seen:
        given = GivenPhotos(("a", "b"), tuple(map(Path, files)), np.array(answers, np.int8))
        return Seen(given, tuple(digests), (np.array([[ord(digest)] for digest in digests], np.float32),), ())

    one = seen("12", "xy", [[YES, UNKNOWN], [NO, NO]])
    both = joined(one, seen("34", "zx", [[NO, YES], [UNKNOWN, NO]]))
    assert both.digests == ("x", "y", "z")
    assert both.photos.files == (Path("1"), Path("2"), Path("3"))
    assert both.photos.answers.tolist() == [[YES, NO], [NO, NO], [NO, YES]]
    assert both.values[0][:, 0].tolist() == [ord(digest) for digest in "xyz"]
    assert both.left_out == ((Path("4"), "a copy of 1"),)
    with pytest.raises(DataError, match="given as 'a' and as not: 1 and 3"):
        joined(one, seen("3", "x", [[NO, YES]]))
