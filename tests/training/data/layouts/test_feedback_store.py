"""A store of corrections as data to train on: its photos, with unknown labels where nobody answered."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.errors import DataError
from labelwise.feedback import Correction, FeedbackStore
from labelwise.label_names import some
from tests.conftest import ROOT
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN
from training.data.layouts import read_data


def picture(number: int, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (number, 0, 0)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> FeedbackStore:
    return FeedbackStore.create(tmp_path / "feedback.db")


def add(store: FeedbackStore, number: int, content: bytes | None = None, **answers: bool) -> None:
    store.add(Correction(f"{number:064x}", answers, "everyday", 1, content=content))


def test_the_photos_that_are_stored_are_read_with_masked_labels(store: FeedbackStore):
    for number in range(9):
        add(store, number, picture(number, "JPEG"), sea=True)
    add(store, 9, picture(9, "PNG"), sea=True, trees=False)
    add(store, 9, sea=False)
    add(store, 10, sea=True, moon=True)
    for _ in range(2):  # the second time the photos are there
        data = read_data(store.file)
    assert data.layout == "a store of corrections"
    assert data.labels == ("sea", "trees")  # nothing that is only known of photos that are not there
    said = {
        file: targets.tolist()
        for split in (data.train, data.val)
        for file, targets in zip(split.files, split.targets, strict=True)
    }
    folder = store.file.with_name("feedback-photos")
    assert said.keys() == {*folder.iterdir()}
    assert said[folder / f"{9:064x}.png"] == [ABSENT, ABSENT]
    assert said[folder / f"{0:064x}.jpg"] == [PRESENT, UNKNOWN]
    assert (folder / f"{9:064x}.png").read_bytes() == picture(9, "PNG")
    assert "Left out: 1 photo that somebody answered about, but that are not stored." in data.notes
    assert (len(data.train), len(data.val)) == (8, 2)
    assert np.unique([*said.values()]).tolist() == [UNKNOWN, ABSENT, PRESENT]


def test_two_data_sets_are_joined_as_the_document_says(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch):
    store.file.with_name("data").mkdir()
    for number in range(5):
        add(store, number, picture(number, "JPEG"), sea=True, moon=False)
        store.file.with_name("data").joinpath(f"{number}.png").write_bytes(picture(number, "PNG"))
    rows = "".join(f"{number}.png,1\n" for number in range(5))
    store.file.with_name("data").joinpath("labels.csv").write_text(f"image,trees\n{rows}")
    monkeypatch.chdir(store.file.parent)
    (program,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/training.md").read_text(), re.M | re.S)
    exec(program, {})
    data = read_data(Path("both.csv"))
    assert data.labels == ("trees", "sea", "moon")
    assert (len(data.train), len(data.val)) == (8, 2)
    assert {tuple(row) for row in data.train.targets.tolist()} == {
        *((PRESENT, UNKNOWN, UNKNOWN), (UNKNOWN, PRESENT, ABSENT))
    }


def test_without_photos_it_says_what_to_do(store: FeedbackStore):
    add(store, 1, sea=True)
    with pytest.raises(DataError, match="holds no photos, only answers: `labelwise serve --feedback-photos`"):
        read_data(store.file)
    assert some([file.name for file in store.file.parent.iterdir()]) == "feedback.db"


def test_a_folder_that_cannot_be_written_is_one_line(store: FeedbackStore):
    add(store, 1, picture(1, "JPEG"), sea=True)
    store.file.with_name("feedback-photos").touch()
    with pytest.raises(DataError, match=r"cannot be written to .*feedback-photos: File exists"):
        read_data(store.file)
