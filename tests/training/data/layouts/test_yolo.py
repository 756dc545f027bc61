"""YOLO's detection folders: data.yaml as Ultralytics, Roboflow and CVAT write it, and a text file per photo."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data

BOX = "0.5 0.5 0.2 0.2"


def put(root: Path, photo: str, text: str | None = None) -> None:
    """A photo, and unless `text` is None its file in labels."""
    (root / photo).parent.mkdir(parents=True, exist_ok=True)
    (root / photo).touch()
    if text is not None:
        label = root / Path(photo.replace("images", "labels")).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text)


def photos(root: Path, train: str = "images/train", val: str = "images/val") -> Path:
    put(root, f"{train}/1.jpg", f"0 {BOX}\n0 {BOX}\n")
    put(root, f"{train}/2.PNG", f"1 {BOX}\n0 0.1 0.1 0.2 0.1 0.2 0.2\n\n")
    put(root, f"{train}/3.jpg", "")
    put(root, f"{train}/deep/4.jpg")
    put(root, f"{val}/5.jpg", f"1 {BOX}")
    return root


@pytest.mark.parametrize(
    ("config", "train", "val"),
    [
        ("path: .\ntrain: images/train\nval: images/val\n", "images/train", "images/val"),
        ("path: ../datasets/pets\ntrain: images/train\nval: images/val\ntest:\n", "images/train", "images/val"),
        ("train: ../train/images\nval: ../valid/images\n", "train/images", "valid/images"),
        ("train: train/images\nval: valid/images\n", "train/images", "valid/images"),
        ("train: /content/pets/images/train\nval: [/content/pets/images/val]\n", "images/train", "images/val"),
        ("train: C:\\pets\\images\\train\nval: .\\images\\val\n", "images/train", "images/val"),
    ],
)
@pytest.mark.parametrize(
    "names", ["names: [cat, dog]\nnc: 2\n", "names:\n  1: dog\n  0: cat\n", "names:\n- cat\n- dog\n"]
)
def test_what_data_yaml_says(config: str, train: str, val: str, names: str, tmp_path: Path):
    root = photos(tmp_path / "export", train, val)
    (root / "data.yaml").write_text(config + names)
    data = read_data(root)
    assert data.labels == ("cat", "dog")
    assert [str(file.relative_to(root / train)) for file in data.train.files] == [
        "1.jpg",
        "2.PNG",
        "3.jpg",
        "deep/4.jpg",
    ]
    assert data.train.targets.tolist() == [[1, 0], [1, 1], [0, 0], [0, 0]]
    assert data.val.targets.tolist() == [[0, 1]]
    assert data.layout == "YOLO's detection folders (data.yaml)"
    assert data.notes == ("1 photo without a text file in labels: none of the labels is present.",)
    assert read_data(root / "data.yaml").describe() == data.describe()


def test_what_lies_beside_comes_before_what_lies_above(tmp_path: Path):
    photos(tmp_path, "train/images", "valid/images")
    root = photos(tmp_path / "export", "train/images", "valid/images")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n")
    assert all(root in file.parents for file in read_data(root).listed)


def test_a_folder_that_is_train_and_val_is_split(tmp_path: Path):
    for number in range(10):
        put(tmp_path, f"images/train2017/{number}.jpg", f"{number % 2} {BOX}")
    (tmp_path / "coco10.yaml").write_text("train: images/train2017\nval: images/train2017\nnames: [cat, dog]\n")
    data = read_data(tmp_path)
    assert (len(data.train), len(data.val)) == (8, 2)
    assert data.notes[0] == "There is no val: no photos of its own are in images/train2017."


def test_lists_of_photos_as_cvat_writes_them(tmp_path: Path):
    photos(tmp_path, "images/Train", "images/Validation")
    (tmp_path / "train.txt").write_text("data/images/Train/1.jpg\ndata/images/Train/2.PNG\n")
    (tmp_path / "val.txt").write_text("./images/Validation/5.jpg\n")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: train.txt\nval: val.txt\nnames: {0: cat, 1: dog}\n")
    data = read_data(tmp_path)
    assert data.train.files == (tmp_path / "images/Train/1.jpg", tmp_path / "images/Train/2.PNG")
    assert data.notes == ("Left out, because nothing here labels them: 2 photos, in images/ (2).",)


def test_a_test_that_is_not_there_or_has_no_text_files_is_left_out(tmp_path: Path):
    photos(tmp_path)
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n")
    assert read_data(tmp_path).notes[0] == "There is no test: no photos of its own are in images/test."
    put(tmp_path, "images/test/6.jpg")
    data = read_data(tmp_path)
    assert data.notes[0].startswith("Left out: test (1 photo without text files in labels)")
    assert data.notes[-1] == "Left out, because nothing here labels them: 1 photo, in images/ (1)."


@pytest.mark.parametrize(
    ("config", "text", "words"),
    [
        (
            "train: images/train\nval: images/val\nnames: [cat]\n",
            "",
            "2.txt, line 1 must begin with the number of a class",
        ),
        ("train: images/train\nval: images/val\nnames: [cat, dog]\n", "cat 1 2 3 4", "train/3.txt, line 1 must begin"),
        ("train: images/train\nval: images/val\nnames: [cat, dog]\n", "nan 1 2 3 4", "not 'nan'"),
        ("train: nowhere\nval: images/val\nnames: [cat, dog]\n", "", "train are in nowhere, but there is none"),
        ("val: images/val\nnames: [cat, dog]\n", "", "does not say where the photos of `train` are"),
        ("train: images/train\nnames: pets.names\n", "", "must hold `names` (a list"),
        ("train: images/train\nnames: [cat\n", "", "data.yaml is not YAML"),
    ],
)
def test_what_is_wrong_is_named(config: str, text: str, words: str, tmp_path: Path):
    photos(tmp_path)
    put(tmp_path, "images/train/3.jpg", text)
    (tmp_path / "data.yaml").write_text(config)
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert words in str(caught.value)


def test_its_images_alone_are_no_labels(tmp_path: Path):
    photos(tmp_path)
    with pytest.raises(DataError, match="named like a split"):
        read_data(tmp_path / "images")
    with pytest.raises(DataError, match=r"found 2 folders \(images, labels\)"):
        read_data(tmp_path)


@pytest.mark.parametrize(("train", "val"), [("train/images", "valid/images"), ("images/train", "images/val")])
def test_a_data_yaml_that_only_names_the_classes(train: str, val: str, tmp_path: Path):
    """As supervision writes it."""
    photos(tmp_path, train, val)
    (tmp_path / "data.yaml").write_text("nc: 2\nnames: [cat, dog]\n")
    data = read_data(tmp_path)
    assert (len(data.train), [file.name for file in data.val.files]) == (4, ["5.jpg"])


def test_an_export_of_label_studio(tmp_path: Path):
    for number in range(10):
        put(tmp_path, f"images/0a1b2c3d-{number}.jpg", f"{number % 2} {BOX}\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "notes.json").write_text('{"categories": [{"id": 0, "name": "cat"}], "info": {"version": "1.0"}}')
    data = read_data(tmp_path)
    assert (data.labels, len(data.train), len(data.val)) == (("cat", "dog"), 8, 2)
    assert data.layout == "YOLO's detection folders (classes.txt)"
