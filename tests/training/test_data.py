"""Reading labelled photos: whatever is wrong with them is said at once, before the first epoch."""

import csv
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from labelwise.errors import DataError
from labelwise.image import load_pixels
from labelwise.spec import ImageSpec
from training.config import TrainConfig
from training.data import Views, decode_all, read_data
from training.loop import Trainer

NAMES = [f"{number}.jpg" for number in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten empty files: reading the lists looks for them but not into them."""
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def lists(header: str = "image,cat,dog", tail: str = "1,0") -> str:
    return "\n".join([header, *(f"{name},{tail}" for name in NAMES)])


def test_a_folder_and_its_csv_read_the_same(folder: Path):
    text = "\ufeffpath,cat,split,dog\n0.jpg,1,train,\n1.jpg, 0 ,train,-1\n2.jpg,0,val,1\n3.jpg,1,test,0\n"
    data = read_data(write(folder, text))
    assert data.labels == ("cat", "dog")
    assert data.train.files == (folder / "0.jpg", folder / "1.jpg")
    assert data.train.targets.tolist() == [[1, -1], [0, -1]]
    assert data.val.files == (folder / "2.jpg", folder / "3.jpg")
    assert data.val.targets.tolist() == [[0, 1], [1, 0]]
    assert read_data(folder / "labels.csv").describe() == data.describe()
    assert data.describe().train_counts == {"cat": 1, "dog": 0}


def test_without_a_split_a_seeded_fifth_is_val(folder: Path):
    write(folder, lists())
    splits = {seed: read_data(folder, seed).val.files for seed in range(5)}
    assert splits[3] == read_data(folder, 3).val.files
    assert len(set(splits.values())) > 1
    for seed in splits:
        data = read_data(folder, seed)
        assert (len(data.train), len(data.val)) == (8, 2)
        assert not {*data.train.files} & {*data.val.files}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no photos"),
        ("image,cat\n", "lists no photos"),
        ("photo,cat\n0.jpg,1", "no column with the photos' paths"),
        ("image,split\n0.jpg,train", "no label columns"),
        (lists(tail="1,yes"), "line 2: a label must be 1, 0 or, if unknown, -1 or empty; not 'yes'"),
        ("image,cat\n0.jpg,1\n\n1.jpg,2", "line 4: a label must be"),
        ('image,cat\n"0.jpg",1\n1.jpg,"\n0"\n2.jpg,2', "line 5: a label must be"),
        ("image,cat,split\n0.jpg,1,train\n1.jpg,1,train", "2 are train, 0 are val"),
        ("image,cat,split\n0.jpg,1,train\n1.jpg,1,val\n2.jpg,1,trian", "trian"),
        ("image,cat,split\n0.jpg,1,train\n1.jpg,0,val", "val"),  # nothing to score by
        ("image,cat,split\n0.jpg,1,train\n1.jpg,1,val\n0.jpg,1,val", "0.jpg"),  # a photo in both splits
        ("image,cat,cat\n0.jpg,1,1\n1.jpg,0,0", "cat"),  # which of the two?
        ("cat,image\n1,0.jpg\n1\n0,1.jpg", "line 3"),  # a row without its photo
        ("image,cat\n0.jpg,1\n1.jpg,0,1", "line 3"),  # a row with a value too many
    ],
)
def test_what_is_wrong_with_a_list_is_named(text: str, words: str, folder: Path):
    with pytest.raises(DataError) as caught:
        read_data(write(folder, text))
    assert words in str(caught.value)
    assert "labels.csv" in str(caught.value)


def test_a_list_that_is_no_utf8_is_refused_by_name(folder: Path):
    (folder / "labels.csv").write_bytes("image,größe\n0.jpg,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_data(folder)


def test_spaces_around_names_do_not_become_labels(folder: Path):
    """tagger.json refuses them, so they must not get as far as the first epoch."""
    assert read_data(write(folder, lists("image, cat ,dog "))).labels == ("cat", "dog")


def test_missing_photos_are_named_at_once(folder: Path):
    for name in NAMES[:3]:
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"3 photos of .*labels\.csv are missing: 0\.jpg, 1\.jpg, 2\.jpg\."):
        read_data(write(folder, lists()))
    text = "\n".join(["image,cat", *(f"gone{number}.jpg,1" for number in range(12))])
    with pytest.raises(DataError, match=r"12 photos .* gone9\.jpg and 2 more\."):
        read_data(write(folder, text))
    with pytest.raises(DataError, match=r"no labelled data at .*nowhere"):
        read_data(folder / "nowhere")


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


def test_training_sees_what_serving_sees(dataset: Path):
    image = ImageSpec(height=24, width=32, resize="crop", interpolation="bilinear")
    files = read_data(dataset).val.files
    pixels = decode_all(files, image)
    for file, decoded in zip(files, pixels, strict=True):
        assert np.array_equal(decoded, load_pixels(file.read_bytes(), 24, 32, "crop", "bilinear"))
    assert decode_all(files, image, scale=1.25).shape == (4, 30, 40, 3)


def test_broken_photos_are_named_before_the_first_epoch(dataset: Path, config: TrainConfig, tmp_path: Path):
    broken = shutil.copytree(dataset, tmp_path / "broken")
    (broken / "images/00010.jpg").write_bytes(b"no photo")
    whole = (broken / "images/00012.jpg").read_bytes()
    (broken / "images/00012.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"2 photos cannot be decoded: 00010\.jpg \(.*00012\.jpg \("):
        Trainer(config, read_data(broken), tmp_path)


def test_views_of_a_photo_differ_and_keep_its_targets():
    pixels = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    targets = np.array([[1, 0], [0, -1]], np.float32)
    numbers = iter(range(10))
    views, target = Views(pixels, targets, lambda photo: photo + next(numbers), 2)[1]
    assert target.tolist() == [0, -1]
    assert torch.equal(views[0], torch.from_numpy(pixels[1]).permute(2, 0, 1))
    assert torch.equal(views[1], views[0] + 1)
