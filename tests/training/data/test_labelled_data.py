"""What holds for labelled photos of any layout: splits, labels, the fingerprint, a choice of labels, the summary."""

import csv
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import DataError
from training.data.labelled_data import ABSENT, LabelledData, LabelledPhotos, assemble, check_case, summary
from training.data.layouts import read_data
from training.data.photo_check import check_photos

FILES = [Path(f"{number}.jpg") for number in range(10)]


def test_the_fingerprint_is_of_the_content_not_of_place_or_order(dataset: Path, tmp_path: Path):
    original = read_data(dataset).describe()
    moved = shutil.copytree(dataset, tmp_path / "moved")
    with (moved / "labels.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    prints = set()
    for case in ("shuffled", "another label", "another split", "another file"):
        changed = [list(row) for row in rows]
        random.Random(0).shuffle(changed)
        if case == "another label":
            changed[0][1] = str(1 - int(changed[0][1]))
        elif case == "another split":
            changed[0][-1] = "val" if changed[0][-1] == "train" else "train"
        elif case == "another file":
            shutil.copy(moved / "images" / changed[0][0], moved / "images" / "new.jpg")
            changed[0][0] = "new.jpg"
        with (moved / "labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([header, *changed])
        description = read_data(moved).describe()
        assert (description == original) == (case == "shuffled"), case
        prints.add(description.fingerprint)
    assert len(prints) == 4


def test_a_choice_of_labels_takes_their_columns_in_its_order():
    train = LabelledPhotos((Path("0.jpg"),), np.array([[1, 0, -1]], np.float32), np.zeros((1, 2, 2, 3), np.uint8))
    val = LabelledPhotos((Path("1.jpg"),), np.array([[0, 1, 0]], np.float32))
    data = LabelledData(("cat", "dog", "bird"), train, val).select(["bird", "cat"])
    assert data.labels == ("bird", "cat")
    assert data.train.targets.tolist() == [[-1, 1]]
    assert data.val.targets.tolist() == [[0, 0]]
    assert data.train.pixels is train.pixels
    assert data.describe().train_counts == {"bird": 0, "cat": 1}
    with pytest.raises(DataError, match="no label wolf, fox; its labels are bird, cat"):
        data.select(["cat", "wolf", "fox"])
    for wrong in ([], ["cat", "cat"]):
        with pytest.raises(DataError, match="each only once"):
            data.select(wrong)


@pytest.mark.parametrize(
    ("splits", "val", "note"),
    [
        (["train"] * 5 + ["val"] * 2 + ["test"] * 3, FILES[5:7], "Left out: test (3 photos)."),
        (["train"] * 7 + ["test"] * 3, FILES[7:], "There is no val: test (3 photos) serves as val"),
        (["train"] * 7 + ["val"] * 3, FILES[7:], ""),
    ],
)
def test_what_is_kept_for_a_last_word_chooses_nothing_where_there_is_a_val(
    splits: list[str], val: list[Path], note: str
):
    data = assemble(["cat"], FILES, np.ones((10, 1), np.float32), splits, 0, Path("source"))
    assert data.train.files == tuple(FILES[: splits.count("train")])
    assert data.val.files == tuple(val)
    assert [text[: len(note)] for text in data.select(["cat"]).notes] == [note] * bool(note)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["cat", "dog", "cat"], "more than once: cat"),
        (["cat", " dog"], "' dog'"),
        (["a\nb"], "printable"),
        ([], "labels"),
    ],
)
def test_labels_that_no_tagger_can_have_are_refused(labels: list[str], words: str):
    with pytest.raises(DataError) as caught:
        assemble(labels, FILES, np.ones((10, len(labels)), np.float32), None, 0, Path("source"))
    assert words in str(caught.value)
    assert "source" in str(caught.value)


def test_labels_that_differ_only_by_case_are_refused_for_training():
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]], np.float32)
    data = assemble(["Cat", "cat", "CAT"], FILES[:4], targets, ["train"] * 3 + ["val"], 0, Path("list"))
    assert data.notes == (
        "Warning: labels differ only by case, white space or punctuation: 'Cat' and 'cat' and 'CAT'.",
    )
    with pytest.raises(DataError, match="'Cat' and 'cat' differ only by case"):  # no photo to train on has CAT
        check_case(data)
    check_case(data.select(["Cat", "CAT"]))


def test_names_are_composed_so_that_one_label_is_one_text():
    with pytest.raises(DataError, match="occur more than once"):
        assemble(["caf\u00e9", "cafe\u0301"], FILES[:2], np.ones((2, 2), np.float32), None, 0, Path("list"))


def test_layout_counts_and_notes_a_line_each(dataset: Path):
    data = replace(read_data(dataset), notes=("Left out: test.",))
    layout, labels, note = summary(data)
    assert layout == "Read as a CSV list."
    counts = data.describe().train_counts
    for column, label in enumerate(data.labels):
        assert f"{label} {counts[label]} + {int(data.val.targets[:, column].sum())}" in labels
    assert labels.startswith("6 labels, ")
    assert note == "Left out: test."


def test_it_is_said_once(dataset: Path):
    said: list[str] = []
    data = read_data(dataset)
    check_photos(check_photos(data, say=said.append), say=said.append)
    assert said == [*summary(data)]


def test_of_shards_too(shards: Path):
    said: list[str] = []
    check_photos(read_data(shards), say=said.append)
    assert said[0] == "Read as shards."
    assert said[1].startswith("6 labels, with their photos to train on + for val: red circle ")


def test_thousands_of_labels_are_counted_and_odd_names_escaped():
    labels = ("a\u200b", *(f"label {number}" for number in range(999)))
    photos = tuple(Path(f"{number}.jpg") for number in range(2))
    targets = np.ones((2, 1000), np.float32)
    targets[1, [0, 999]] = ABSENT
    (line,) = summary(LabelledData(labels, LabelledPhotos(photos, targets), LabelledPhotos(photos[:1], targets[:1])))
    assert line.startswith(
        "1000 labels, with their photos to train on + for val, the most frequent: label 0 2 + 1, label 1 2 + 1, "
    )
    assert "label 14 2 + 1; the rarest: label 985 2 + 1, " in line
    assert line.endswith("label 997 2 + 1, 'a\\u200b' 1 + 1, label 998 1 + 1.")
