"""A folder per label, with and without splits; a photo in several folders has several labels."""

import os
import unicodedata
from pathlib import Path

import pytest

from labelwise.errors import DataError
from labelwise.image import SUFFIXES
from training.data.layouts import read_data
from training.data.photo_check import check_photos


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


@pytest.mark.parametrize("files", [{}, {"images_1": "x"}, {"cat_1": "x"}, {"train_1": "x"}])
def test_one_folder_of_photos_is_no_labelled_data(files: dict[str, str], tmp_path: Path):
    with pytest.raises(DataError, match="no labelled data at"):
        read_data(write(tmp_path, **files))


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "dog", "test"),
        ("bus", "car", "Train"),
        ("test", "train"),
        ("train", "valid", "test"),
        ("TRAINING", "Validation"),
        ("training-set", "test-set"),
        ("train2017", "val2017"),
        ("cat", "dog", "sample"),
        ("dev", "train"),
        ("train-images", "val-images"),
    ],
)
def test_a_folder_named_like_a_split_is_no_label(names: tuple[str, ...], tmp_path: Path):
    write(tmp_path, **{f"{name}_{number}": f"{name} {number}" for name in names for number in range(3)})
    with pytest.raises(DataError, match="named like a split") as caught:
        read_data(tmp_path)
    for words in (f"found {len(names)} folders", *names[-1:], "give its folder another name", "a CSV (image, labels)"):
        assert words in str(caught.value)


def test_an_export_that_nobody_reads_is_refused_with_what_was_found(tmp_path: Path):
    write(tmp_path, train_1="a", train_2="b", valid_3="c")
    (tmp_path / "train/_annotations.createml.json").write_text("[]")
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert "found 2 folders (train, valid); in train found 2 photos, 1 other file (_annotations.create" in str(
        caught.value
    )


def test_words_that_only_hold_a_split_are_labels(tmp_path: Path):
    names = ("test tube", "train station", "valley", "sample jar")
    for name in names:
        for number in range(3):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{number}.jpg").write_text(f"{name} {number}")
    assert read_data(tmp_path).labels == tuple(sorted(names))


@pytest.mark.parametrize(
    "files",
    [
        {"train_train_1": "a", "train_car_2": "b", "val_car_3": "c"},
        {"train_images_1": "a", "train_labels_2": "b", "val_images_3": "c"},
        {"images_1": "a", "labels_2": "b"},
        {"image_1": "a", "mask_2": "b"},
        {"train_cat_1": "a", "train_images_2": "b", "val_cat_3": "c"},
    ],
)
def test_nor_is_what_exports_call_all_their_photos(files: dict[str, str], tmp_path: Path):
    with pytest.raises(DataError, match=r"where label folders are expected: (train|images?)"):
        read_data(write(tmp_path, **files))


def test_a_competition_has_a_test_without_labels_and_a_sample(tmp_path: Path):
    write(
        tmp_path, **{f"train_{label}_{number}": f"{label} {number}" for label in ("cat", "dog") for number in range(5)}
    )
    write(tmp_path, test_1="t1", test_2="t2", sample_cat_1="s1", other_1="o")
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert (len(data.train), len(data.val)) == (8, 2)
    assert data.layout == "a folder per label, in folders for train"
    assert data.notes == (
        "Every photo is of train: a fifth of them, drawn with the seed, is val.",
        "Left out, because nothing here labels them: 4 photos, in other/ (1), sample/ (1), test/ (2).",
    )


def test_a_test_whose_only_folder_is_no_label_is_left_out(tmp_path: Path):
    write(
        tmp_path, **{f"train_{label}_{number}": f"{label} {number}" for label in ("cat", "dog") for number in range(5)}
    )
    data = read_data(write(tmp_path, test_unknown_1="t1", test_unknown_2="t2"))
    assert (data.labels, len(data.train), len(data.val)) == (("cat", "dog"), 8, 2)
    assert "test has none of the labels of train but unknown" in data.notes[0]
    assert data.notes[-1] == "Left out, because nothing here labels them: 2 photos, in test/ (2)."


@pytest.mark.parametrize("split", ["val", "test"])
def test_labels_in_one_split_alone_are_read(split: str, tmp_path: Path):
    write(tmp_path, **{f"{split}_{label}_{number}": f"{label} {number}" for label in "ab" for number in range(5)})
    data = read_data(tmp_path)
    assert (data.labels, len(data.train), len(data.val)) == (("a", "b"), 8, 2)
    assert data.notes == (
        f"Every photo is of {split}: a fifth of them, drawn with the seed, is val; `labelwise evaluate --split all` "
        "scores all.",
    )
    with pytest.raises(DataError, match="A folder named like a split"):
        read_data(write(tmp_path, cat_1="cat"))  # a label beside another label?


def test_a_sample_alone_is_not_labelled_data(tmp_path: Path):
    with pytest.raises(DataError, match=r"A folder named like a split \(sample\) is never a label"):
        read_data(write(tmp_path, sample_cat_1="a", sample_dog_2="b"))


def test_a_label_in_another_case_does_not_hide_its_photos(tmp_path: Path):
    write(tmp_path, train_Cat_1="a", train_Dog_2="b", val_cat_3="c", val_dog_4="d")
    data = read_data(tmp_path)
    assert (data.labels, len(data.val)) == (("Cat", "Dog", "cat", "dog"), 2)
    assert data.notes[-1] == (
        "Warning: labels differ only by case, white space or punctuation: 'Cat' and 'cat'; 'Dog' and 'dog'."
    )


@pytest.mark.parametrize("above", ["", "train/"])
@pytest.mark.parametrize("name", ["_unlabeled", "Unlabelled", "no_label", "No labels"])
def test_a_folder_of_photos_that_nobody_labelled_is_no_label(above: str, name: str, tmp_path: Path):
    """As FiftyOne, CVAT and others write it beside the folders of labels."""
    for label in ("cat", "dog", name):
        (tmp_path / above / label).mkdir(parents=True)
        for number in range(5):
            (tmp_path / above / label / f"{number}.jpg").write_text(f"{label} {number}")
    data = read_data(tmp_path)
    assert (data.labels, len(data.train), len(data.val)) == (("cat", "dog"), 8, 2)
    assert data.notes[-1] == f"Left out, because nothing here labels them: 5 photos, in {above or name + '/'} (5)."


def test_what_is_true_of_two_splits_is_said_once(tmp_path: Path):
    write(tmp_path, train_pet_cat_1="a", train_dog_2="b", val_pet_cat_3="c", val_dog_4="d")
    assert read_data(tmp_path).notes == ("Photos in subfolders of a label have that label: pet (cat).",)


def test_a_label_that_only_a_left_out_test_has_is_no_label(tmp_path: Path):
    write(tmp_path, train_cat_1="a", train_dog_2="b", val_cat_3="c", test_cat_4="d", test_zebra_5="e")
    assert read_data(tmp_path).labels == ("cat", "dog")


def test_splits_in_a_folder_of_their_name(tmp_path: Path):
    """As the archive of Intel's scenes unpacks: seg_train/seg_train/forest."""
    for split, photos in (
        ("seg_train", ("sea/1", "forest/2")),
        ("seg_test", ("sea/3", "forest/4")),
        ("seg_pred", ("5",)),
    ):
        for photo in photos:
            file = tmp_path / split / split / f"{photo}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(photo)
    data = read_data(tmp_path)
    assert (data.labels, len(data.train), len(data.val)) == (("forest", "sea"), 2, 2)
    assert data.notes[-1] == "Left out, because nothing here labels them: 1 photo, in seg_pred/ (1)."


def test_every_suffix_counts_in_any_case_and_what_has_another_is_said(tmp_path: Path):
    names = [f"{number}{suffix}" for number, suffix in enumerate((*SUFFIXES, *map(str.upper, SUFFIXES)))]
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for name in names:
            (tmp_path / label / name).write_text(f"{label} {name}")
    for name in ("1.CR2", "2.cr2", "notes.txt", "3", "Thumbs.db", ".DS_Store"):
        (tmp_path / "cat" / name).touch()
    data = read_data(tmp_path)
    assert len(data.train) + len(data.val) == 2 * len(names)
    assert data.notes == (
        "Left out: 4 files whose names do not end like a photo's: .cr2 (2), .txt (1), no suffix (1).",
    )


@pytest.mark.parametrize("place", ["", "train/"])
def test_a_folder_without_photos_is_said(place: str, tmp_path: Path):
    write(
        tmp_path / place, **{f"{label}_{number}": f"{label}{number}" for label in ("cat", "dog") for number in range(5)}
    )
    for name in ("raw/1.CR2", "raw/2.nef"):
        (tmp_path / place / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).touch()
    (tmp_path / place / "nothing").mkdir()
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert data.notes[0] == "Left out, because no photo is in them: the folders nothing (empty), raw (.cr2, .nef)."


def test_folders_below_a_label_are_its_photos_and_loose_ones_are_counted(tmp_path: Path):
    write(tmp_path, cat_1="a", cat_2021_2="b", cat_2022_May_3="c", dog_4="d", dog_2021_5="e", bird_old_6="f")
    write(tmp_path, **{str(number): f"loose {number}" for number in range(12)})
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "dog/@eaDir").mkdir()
    for name in (".ipynb_checkpoints/7.jpg", "dog/@eaDir/8.jpg", "dog/._4.jpg"):
        (tmp_path / name).write_text(name)
    data = read_data(tmp_path)
    assert data.labels == ("bird", "cat", "dog")
    assert len(data.train) + len(data.val) == 6
    assert data.notes == (
        "Photos in subfolders of a label have that label: bird (old), cat (2021, 2022), dog (2021).",
        "Left out, because nothing here labels them: 12 photos, in the folder itself (12).",
        "Left out: 2 photos in folders that are hidden or of other programs.",
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"2021_cat_1": "a", "2021_dog_2": "b", "2022_cat_3": "c"}, "2021, 2022 hold the same folders (cat)"),
        ({"cat_train_1": "a", "cat_val_2": "b", "dog_train_3": "c"}, "hold folders named like a split (train, val)"),
    ],
)
def test_folders_that_may_be_the_labels_themselves_are_refused(files: dict[str, str], words: str, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read_data(write(tmp_path, **files))
    assert words in str(caught.value)


def test_an_accent_is_one_label_however_it_is_written(tmp_path: Path):
    for split, form in (("train", "NFC"), ("val", "NFD")):
        for label in ("café", "bar"):
            folder = tmp_path / split / unicodedata.normalize(form, label)
            folder.mkdir(parents=True)
            (folder / "1.jpg").write_text(f"{split} {label}")
    assert read_data(tmp_path).labels == ("bar", "café")


def test_a_link_that_leads_back_is_followed_once(tmp_path: Path):
    write(tmp_path, **{f"{label}_{number}": f"{label} {number}" for label in ("cat", "dog") for number in range(2)})
    (tmp_path / "cat/all").symlink_to(tmp_path / "cat", target_is_directory=True)
    data = read_data(tmp_path)
    assert len(data.train) + len(data.val) == 4


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
