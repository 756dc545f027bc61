"""Photos with none of the labels, from a folder: split, counted, and never labelled at the same time."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data
from training.data.layouts.background import with_background
from training.data.photo_check import check_photos
from training.data.shard_writer import make_shards


@pytest.fixture
def background(dataset: Path, tmp_path: Path) -> Path:
    """Ten photos in two folders; the data has other photos of these names."""
    for number, file in enumerate(sorted(dataset.glob("images/*.jpg"))[:10]):
        copy = tmp_path / "nothing" / ("indoors" if number % 2 else "") / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() + b"0")
    return tmp_path / "nothing"


def test_a_fifth_of_them_joins_val_and_no_labelled_photo_moves(dataset: Path, background: Path):
    alone, data = read_data(dataset, seed=3), read_data(dataset, seed=3, background=background)
    for before, after, count in ((alone.train, data.train, 8), (alone.val, data.val, 2)):
        assert after.files[: len(before)] == before.files
        assert len(after) == len(before) + count
        assert (after.targets[: len(before)] == before.targets).all()
        assert (after.targets[len(before) :] == 0).all()
    assert data.notes[-1] == (
        f"Background from {background}, with none of the labels: 8 photos to train on + 2 for val."
    )
    assert {*data.train.files, *data.val.files} == {*alone.train.files, *alone.val.files, *background.rglob("*.jpg")}


def test_the_fingerprint_is_of_them_too_but_not_of_their_place(dataset: Path, background: Path, tmp_path: Path):
    data = read_data(dataset, background=background).describe()
    assert (data.train_images, data.val_images) == (24, 6)
    assert data.fingerprint != read_data(dataset).describe().fingerprint
    moved = shutil.copytree(background, tmp_path / "moved")
    assert read_data(dataset, background=moved).describe() == data
    next(moved.rglob("*.jpg")).unlink()
    assert read_data(dataset, background=moved).describe() != data


def test_all_of_them_join_the_only_split(dataset: Path, background: Path):
    alone = read_data(dataset)
    for split in ("train", "val"):
        empty = replace(alone, **{split: alone.train.subset([])})
        data = with_background(empty, background, 3)
        counts = {name: len(getattr(data, name)) - len(getattr(empty, name)) for name in ("train", "val")}
        assert counts == {"train": 10, "val": 10} | {split: 0}


def test_a_folder_beside_the_labels_is_not_said_to_be_left_out(dataset: Path, tmp_path: Path):
    data = shutil.copytree(dataset, tmp_path / "data")
    (data / "nothing").mkdir()
    for file in data.glob("images/*.jpg"):
        (data / "nothing" / f"copy-{file.name}").write_bytes(file.read_bytes() + b"0")
    assert "nothing/ (20)" in read_data(data).notes[-1]
    assert not any("Left out" in note for note in read_data(data, background=data / "nothing").notes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "nowhere: nothing is there"),
        ("file.jpg", "file.jpg: it is a file"),
        ("empty", "empty: the folder is empty"),
        ("one", "one: found 1 photo, 1 other file"),
    ],
)
def test_a_folder_without_photos_is_refused(dataset: Path, tmp_path: Path, name: str, words: str):
    (tmp_path / "file.jpg").touch()
    for file in ("empty", "one/1.jpg", "one/notes.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch() if "." in file else (tmp_path / file).mkdir()
    with pytest.raises(DataError, match=f"--background needs a folder with two photos or more.*{words}"):
        read_data(dataset, background=tmp_path / name)


def test_a_photo_that_is_also_labelled_is_refused(dataset: Path, background: Path):
    with pytest.raises(DataError, match=r"images \(--background\) holds photos that are also labelled: .* 10 more\. "):
        read_data(dataset, background=dataset / "images")
    shutil.copy(dataset / "images/00003.jpg", background / "indoors")  # over one with the same name, and other content
    with pytest.raises(DataError, match=r"also labelled: indoors/00003\.jpg\. Take them out\."):
        read_data(dataset, background=background)


def test_a_broken_one_is_named_like_any_other(dataset: Path, background: Path, monkeypatch: pytest.MonkeyPatch):
    broken = next(background.rglob("*.jpg"))
    broken.write_bytes(b"no photo")
    monkeypatch.chdir(background)
    for path in (background, Path()):  # the data's own path is absolute
        with pytest.raises(DataError, match=f"1 photo cannot be decoded: .*{broken.name}"):
            check_photos(read_data(dataset, background=path))


def test_shards_are_written_with_them_and_take_no_more(dataset: Path, background: Path, tmp_path: Path):
    make_shards(dataset, tmp_path / "shards", 10**6, background=background)
    shards = read_data(tmp_path / "shards")
    assert shards.describe() == read_data(dataset, background=background).describe()
    with pytest.raises(DataError, match="No --background can be added to shards"):
        read_data(tmp_path / "shards", background=background)
