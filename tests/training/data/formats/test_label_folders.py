"""A folder per label, with and without splits; a photo in several folders has several labels."""

import os
from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data import check_photos, read_data


def write(root: Path, **files: str) -> Path:
    """`cat_1="x"` writes x into cat/1.jpg."""
    for name, content in files.items():
        file = root / (name.replace("_", "/") + ".jpg")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def test_the_same_file_under_several_labels_is_one_photo(tmp_path: Path):
    write(tmp_path, train_cat_1="both", train_dog_1="both", train_cat_2="a cat", train_dog_2="a dog", val_cat_3="c")
    (tmp_path / "train/dog/notes.txt").touch()
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    found = {
        str(f.relative_to(tmp_path)): t.tolist() for f, t in zip(data.train.files, data.train.targets, strict=True)
    }
    assert found == {"train/cat/1.jpg": [1, 1], "train/cat/2.jpg": [1, 0], "train/dog/2.jpg": [0, 1]}
    assert data.val.targets.tolist() == [[1, 0]]


def test_without_splits_a_seeded_fifth_is_val(tmp_path: Path):
    write(tmp_path, **{f"{label}_{number}": label for label in ("cat", "dog") for number in range(5)})
    data = read_data(tmp_path, seed=3)
    assert (len(data.train), len(data.val)) == (8, 2)
    assert data.describe() == read_data(str(tmp_path), seed=3).describe()


def test_split_folders_in_any_case_and_test_is_left_out(tmp_path: Path):
    write(tmp_path, Train_cat_1="a", Train_dog_2="b", VAL_cat_3="c", validation_cat_5="e", test_dog_4="d")
    data = read_data(tmp_path)
    assert [file.stem for file in data.train.files] == ["1", "2"]
    assert [file.stem for file in data.val.files] == ["3", "5"]
    assert data.notes[0].startswith("Left out: test (1 photo).")


def test_a_photo_in_two_splits_is_refused(tmp_path: Path):
    write(tmp_path, train_cat_1="same", train_dog_2="b", val_cat_1="also", val_dog_2="c")
    assert len(read_data(tmp_path).train) == 2  # the names alone prove nothing
    write(tmp_path, val_dog_1="same")
    with pytest.raises(DataError, match=r"more than one split: train/cat/1\.jpg, val/dog/1\.jpg\. Remove"):
        read_data(tmp_path)


@pytest.mark.parametrize("files", [{}, {"images_1": "x"}, {"train_images_1": "x", "val_images_2": "y"}])
def test_one_folder_of_photos_is_no_labelled_data(files: dict[str, str], tmp_path: Path):
    with pytest.raises(DataError, match="no labelled data at"):
        read_data(write(tmp_path, **files))


def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path):
    write(tmp_path, **{f"{label}_{number}": f"{label} {number}" for label in ("cat", "dog") for number in range(2)})
    before = read_data(tmp_path).describe()
    odd = os.fsdecode(b"caf\xe9.jpg")
    try:
        (tmp_path / "cat/0.jpg").rename(tmp_path / "cat" / odd)
    except OSError:
        pytest.skip("this file system has no such names")
    data = read_data(tmp_path)
    assert odd in {file.name for file in (*data.train.files, *data.val.files)}
    assert data.describe().fingerprint != before.fingerprint
    with pytest.raises(DataError, match=r"4 photos cannot be decoded: .*caf\\udce9\.jpg") as caught:
        check_photos(data)
    assert str(caught.value).encode()  # so that it can be printed
