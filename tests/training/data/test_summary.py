"""What the user reads before the first epoch: the layout, every label with its counts, and what is left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data import LabelledData, LabelledPhotos, check_photos, read_data
from training.data.summary import summary


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
    one = LabelledPhotos((Path("1.jpg"),), np.ones((1, 1000), np.float32))
    (line,) = summary(LabelledData(labels, one, one))
    assert line.startswith("1000 labels, ")
    assert "'a\\u200b' 1 + 1, label 0 1 + 1" in line
    assert line.endswith("label 198 1 + 1, and 800 more.")
