"""COCO instances: the official files and photos where they are at hand, and made ones for the edges."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelwise.errors import DataError
from labelwise.spec import ImageSpec
from tests.conftest import SHARED
from training.data.layouts import read_data
from training.data.photo_check import check_photos

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


@pytest.fixture(scope="session")
def coco_tiny() -> Path:
    if not (SHARED / "coco_tiny/annotations").is_dir():
        pytest.skip("the COCO photographs are not beside the project")
    return SHARED / "coco_tiny"


def write(folder: Path, name: str, photos: dict[int, str], found: list[tuple[int, int, int]], **more: Any) -> Path:
    """`found` holds (image, category, iscrowd)."""
    content = {
        "images": [{"id": image, "file_name": file} for image, file in photos.items()],
        "annotations": [{"image_id": i, "category_id": c, "iscrowd": crowd} for i, c, crowd in found],
        "categories": CATEGORIES,
        **more,
    }
    (folder / "annotations").mkdir(exist_ok=True)
    file = folder / "annotations" / name
    file.write_text(json.dumps(content))
    return file


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_the_official_files(coco_tiny: Path):
    data = read_data(coco_tiny)
    assert (len(data.labels), data.labels[0], data.labels[-1]) == (80, "person", "toothbrush")
    assert (len(data.train), len(data.val)) == (80, 80)
    official = json.loads((coco_tiny / "annotations/instances_val2017.json").read_text())
    names = {entry["id"]: entry["name"] for entry in official["categories"]}
    for entry in official["images"]:
        row = data.val.files.index(coco_tiny / "val2017" / entry["file_name"])
        expected = {names[a["category_id"]] for a in official["annotations"] if a["image_id"] == entry["id"]}
        assert {data.labels[column] for column in np.flatnonzero(data.val.targets[row])} == expected
    assert set(np.unique(data.train.targets)) == {0, 1}


def test_the_official_photos_decode(coco_tiny: Path):
    data = read_data(coco_tiny)
    assert check_photos(data).describe() == data.describe()


def test_a_single_file_is_split_by_the_seed(coco_tiny: Path):
    data = read_data(coco_tiny / "annotations/instances_train2017.json", seed=1)
    assert (len(data.train), len(data.val)) == (64, 16)
    assert all(file.is_file() and file.parent.name == "train2017" for file in data.train.files)


def test_labels_come_by_id_crowds_count_and_photos_without_instances_have_none(tmp_path: Path):
    write(tmp_path, "instances_train2017.json", {1: "a.jpg", 2: "b.jpg"}, [(1, 7, 1), (1, 7, 0)])
    write(tmp_path, "instances_val2017.json", {1: "c.jpg"}, [(1, 3, 0)])
    touch(tmp_path / "train2017", "a.jpg", "b.jpg")
    touch(tmp_path / "images/val2017", "c.jpg")
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert data.train.targets.tolist() == [[0, 1], [0, 0]]
    assert data.val.targets.tolist() == [[1, 0]]
    assert data.val.files == (tmp_path / "images/val2017/c.jpg",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": [{"image_id": 9, "category_id": 3}]}, "images that it does not list: 9"),
        ({"annotations": [{"image_id": 1, "category_id": 4}]}, "categories that it does not list: 4"),
        ({"images": []}, "lists no photos"),
        ({"images": [{"id": 1}]}, "there is no 'file_name'"),
        (
            {"images": [{"id": 1, "file_name": None}, {"id": 2, "file_name": "b.jpg"}]},
            "images whose name is not text: 1",
        ),
        (
            {"images": [{"id": i, "file_name": f"{n}.jpg"} for i, n in ((1, "a"), (2, "b"), (1, "c"))]},
            "more than once: 1",
        ),
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.jpg"}]},
            "a.jpg. Remove the duplicates",
        ),
        ({"annotations": [{"image_id": [1], "category_id": 3}]}, "not a COCO instances file"),
        ({"annotations": [{"image_id": 1, "category_id": float("inf")}]}, "not a COCO instances file"),
        ({"categories": [{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]}, "lists categories more than once: 3"),
        ({"categories": [{"id": 3, "name": None}]}, "categories whose name is not text: 3"),
        ({"categories": 3}, "not a COCO instances file"),
        (
            {
                "categories": [{"id": 3, "name": "cat"}, {"id": 4, "name": "cat"}],
                "annotations": [{"image_id": 1, "category_id": 3}, {"image_id": 2, "category_id": 4}],
            },
            "more than once: cat (ids 3, 4). Rename all but one",
        ),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], words: str, tmp_path: Path):
    touch(tmp_path, "a.jpg", "b.jpg")
    file = write(tmp_path, "instances_all.json", {1: "a.jpg", 2: "b.jpg"}, [(1, 3, 0), (2, 3, 0)], **change)
    with pytest.raises(DataError) as caught:
        read_data(file)
    assert words in str(caught.value)
    assert "instances_all.json" in str(caught.value)


def test_a_category_is_its_name_whatever_id_each_file_gives_it(tmp_path: Path):
    """FiftyOne numbers the classes of each split that it exports."""
    touch(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg")
    write(tmp_path, "instances_train.json", {1: "a.jpg", 2: "b.jpg"}, [(1, 3, 0), (2, 7, 0)])
    write(tmp_path, "instances_val.json", {1: "c.jpg"}, [(1, 3, 0)], categories=[{"id": 3, "name": " dog"}])
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert data.train.targets.tolist() == [[1, 0], [0, 1]]
    assert data.val.targets.tolist() == [[0, 1]]


@pytest.mark.parametrize("place", ["Train", "train_images", "images/train"])
def test_photos_in_a_folder_named_like_their_split(place: str, tmp_path: Path):
    val = place.replace("rain", "est")
    for split, folder in (("train2017", place), ("test2017", val)):
        touch(tmp_path / folder, "1.jpg", "2.jpg")
        write(tmp_path, f"instances_{split}.json", {1: "1.jpg", 2: "2.jpg"}, [(1, 3, 0), (2, 7, 0)])
    data = read_data(tmp_path)
    assert data.train.files == (tmp_path / place / "1.jpg", tmp_path / place / "2.jpg")
    assert data.val.files == (tmp_path / val / "1.jpg", tmp_path / val / "2.jpg")


def test_one_file_for_photos_in_folders_named_like_splits(tmp_path: Path):
    names = [f"{split}\\{number}.jpg" for split in ("train", "val", "test", "sample") for number in range(2)]
    for name in names:
        touch((tmp_path / "images" / name.replace("\\", "/")).parent, name.rpartition("\\")[2])
    (tmp_path / "all.json").write_text(coco({name: [1] for name in names}, PETS))
    data = read_data(tmp_path)
    assert {file.parent.name for file in data.train.files} == {"train"}
    assert {file.parent.name for file in data.val.files} == {"val"}
    assert "The folder of each photo tells its split: sample, test, train, val." in data.notes
    touch(tmp_path / "images", "loose.jpg")  # of no split, so a fifth of all is drawn
    (tmp_path / "all.json").write_text(coco({name: [1] for name in (*names, "loose.jpg")}, PETS))
    mixed = read_data(tmp_path)
    assert (len(mixed.train), len(mixed.val)) == (7, 2)
    assert any(
        "folders sample, test, train, val do not count as splits because not every" in note for note in mixed.notes
    )


def test_photos_that_lie_elsewhere_are_pointed_out(tmp_path: Path):
    touch(tmp_path / "pictures/2020", "A.JPG")
    write(tmp_path, "instances_all.json", {1: "x/a.jpg"}, [(1, 3, 0)])
    with pytest.raises(DataError, match=r"; x/a\.jpg is in .*pictures/2020: move the photos, or correct"):
        read_data(tmp_path)


def test_files_of_no_split_are_refused(tmp_path: Path):
    touch(tmp_path / "images", "a.jpg", "b.jpg")
    write(tmp_path, "instances_train.json", {1: "a.jpg"}, [(1, 3, 0)])
    write(tmp_path, "instances_more.json", {1: "b.jpg"}, [(1, 3, 0)])
    with pytest.raises(DataError, match=r"instances_more\.json is of no known split"):
        read_data(tmp_path)
    (tmp_path / "annotations/instances_more.json").unlink()
    for text, fault in (("{\n,}", "line 2: Expecting"), ("[" * 100_000, "it is nested too deeply")):
        (tmp_path / "annotations/instances_val.json").write_text(text)
        with pytest.raises(DataError, match=rf"instances_val\.json is not JSON: {fault}"):
            read_data(tmp_path)


def test_a_third_file_for_test_is_left_out(tmp_path: Path):
    for number, split in enumerate(("train", "val", "test2017")):
        touch(tmp_path / "images", f"{number}.jpg")
        write(tmp_path, f"instances_{split}.json", {1: f"{number}.jpg"}, [(1, 3, 0)])
    data = read_data(tmp_path)
    assert [file.name for file in (*data.train.files, *data.val.files)] == ["0.jpg", "1.jpg"]
    assert data.notes[0].startswith("Left out: test (1 photo).")


def test_a_name_that_no_file_can_have_is_a_missing_photo(tmp_path: Path, dataset: Path):
    photo = next(dataset.glob("images/*.jpg"))
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photo, tmp_path / name)
    names = {1: "a.jpg", 2: "b.jpg", 3: "x" * 300 + ".jpg", 4: "nul\0.jpg", 5: "\ud800.jpg"}
    file = write(tmp_path, "instances_all.json", names, [(image, 3, 0) for image in names])
    for image in (None, ImageSpec(height=16, width=16)):
        with pytest.raises(DataError) as caught:
            check_photos(read_data(file), image=image, cache="memory")
        assert str(caught.value).startswith("3 photos cannot be decoded: ")
        assert r"nul\x00.jpg (missing)" in str(caught.value)
        assert str(caught.value).isprintable()


def coco(photos: dict[str, list[int]], categories: list[dict[str, Any]]) -> str:
    """The categories of each photo, in the order that Roboflow writes."""
    names = [*photos]
    pairs = [(image, category) for image, name in enumerate(names) for category in photos[name]]
    return json.dumps(
        {
            "info": {"year": "2026", "description": "Exported from roboflow.com"},
            "licenses": [{"id": 1, "url": "", "name": "Unknown"}],
            "categories": categories,
            "images": [{"id": image, "license": 1, "file_name": name} for image, name in enumerate(names)],
            "annotations": [
                {"id": id_, "image_id": image, "category_id": category, "bbox": [0, 0, 5, 5], "iscrowd": 0}
                for id_, (image, category) in enumerate(pairs)
            ],
        }
    )


def roboflow(root: Path, categories: list[dict[str, Any]], **splits: dict[str, list[int]]) -> Path:
    for split, photos in splits.items():
        touch(root / split, *photos)
        (root / split / "_annotations.coco.json").write_text(coco(photos, categories))
    (root / "README.roboflow.txt").touch()
    return root


PETS = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "pets"},
    {"id": 2, "name": "dog", "supercategory": "pets"},
]


def test_an_export_of_roboflow(tmp_path: Path):
    roboflow(tmp_path, PETS, train={"a.jpg": [1], "b.jpg": [1, 2]}, valid={"c.jpg": [2]}, test={"d.jpg": []})
    touch(tmp_path / "train", "stray.jpg")
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert data.train.targets.tolist() == [[1, 0], [1, 1]]
    assert data.val.files == (tmp_path / "valid/c.jpg",)
    assert data.layout == (
        "COCO instances (test/_annotations.coco.json, train/_annotations.coco.json, valid/_annotations.coco.json)"
    )
    assert data.notes[0] == "Left out: the categories pets, which only group others."
    assert data.notes[1].startswith("Left out: test (1 photo).")
    assert data.notes[2] == "Left out, because nothing here labels them: 1 photo, in train/ (1)."
    alone = read_data(roboflow(tmp_path / "one", PETS, train={f"{n}.jpg": [n % 3] for n in range(10)}))
    assert (alone.labels, len(alone.train), len(alone.val)) == (("pets", "cat", "dog"), 8, 2)  # pets is in use here
    assert "Every photo is of train: a fifth" in alone.notes[0]
    assert len(read_data(tmp_path / "one/train").listed) == 10


@pytest.mark.parametrize("root", [0, 9])
@pytest.mark.parametrize("used", [[1], [1, "root"]])
def test_a_group_may_be_called_like_its_class(root: int, used: list[Any], tmp_path: Path):
    categories = [
        {"id": root, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
        {"id": 2, "name": "dog", "supercategory": "cat"},
    ]
    found = [root if category == "root" else category for category in used]
    roboflow(tmp_path, categories, train={"a.jpg": found, "b.jpg": [2]}, valid={"c.jpg": [1]})
    data = read_data(tmp_path)
    assert sorted(data.labels) == ["cat", "dog"]
    cat = data.labels.index("cat")
    assert data.train.targets[:, cat].tolist() == [1, 0]
    assert data.val.targets[:, cat].tolist() == [1]
    assert not any("which only group" in note for note in data.notes)


def test_a_class_that_is_its_own_group_is_a_label(tmp_path: Path):
    """As COCO's person is."""
    categories = [{"id": 1, "name": "person", "supercategory": "person"}, {"id": 2, "name": "car"}]
    roboflow(tmp_path, categories, train={"a.jpg": [2], "b.jpg": []}, valid={"c.jpg": [2]})
    assert read_data(tmp_path).labels == ("person", "car")


@pytest.mark.parametrize("splits", [("",), ("train", "validation")])
def test_an_export_of_fiftyone(splits: tuple[str, ...], tmp_path: Path):
    for split in splits:
        names = [f"{split}{number}.jpg" for number in range(5)]
        touch(tmp_path / split / "data", *names)
        (tmp_path / split / "labels.json").write_text(coco({name: [1] for name in names}, PETS))
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert all(file.parent.name == "data" and file.is_file() for file in data.listed)
    assert (len(data.train), len(data.val)) == ((4, 1) if splits == ("",) else (5, 5))


@pytest.mark.parametrize(
    ("subset", "place"), [("default", "images"), ("default", "images/default"), ("Train", "images/Train")]
)
def test_an_export_of_cvat(subset: str, place: str, tmp_path: Path):
    names = [f"deep/{number}.jpg" for number in range(5)]
    for name in names:
        touch((tmp_path / place / name).parent, Path(name).name)
    (tmp_path / "annotations").mkdir()
    (tmp_path / f"annotations/instances_{subset}.json").write_text(coco({name: [1] for name in names}, PETS))
    data = read_data(tmp_path)
    assert {*data.listed} == {tmp_path / place / name for name in names}


def test_files_named_after_splits(tmp_path: Path):
    for split in ("train", "val"):
        touch(tmp_path / split, f"{split}.jpg")
        (tmp_path / f"{split}.json").write_text(coco({f"{split}.jpg": [1]}, PETS))
    data = read_data(tmp_path)
    assert (data.train.files, data.val.files) == ((tmp_path / "train/train.jpg",), (tmp_path / "val/val.jpg",))


def test_other_json_beside_is_no_list(tmp_path: Path):
    roboflow(tmp_path, PETS, train={"a.jpg": [1]}, valid={"b.jpg": [1]})
    (tmp_path / "package.json").write_text('{"name": "images"}')
    (tmp_path / "train/captions.json").write_text('{"images": [], "annotations": [{"caption": "a cat"}]}')
    assert len(read_data(tmp_path).listed) == 2


def test_names_from_other_systems(tmp_path: Path):
    names = {"sub\\a.jpg": "sub/a.jpg", "b%20c.jpg": "b c.jpg", "cafe\u0301.jpg": "café.jpg", "D:\\set\\d.JPG": "d.jpg"}
    for file in names.values():
        touch((tmp_path / "train" / file).parent, Path(file).name)
    (tmp_path / "train/_annotations.coco.json").write_text(coco({name: [1] for name in names}, PETS))
    assert {*read_data(tmp_path).listed} == {tmp_path / "train" / file for file in names.values()}


def test_a_table_as_json_is_told_how_it_is_read(tmp_path: Path):
    (tmp_path / "labels.json").write_text('[{"image": "0.jpg", "labels": ["cat"]}]')
    with pytest.raises(
        DataError, match=r"is a list, not a COCO instances file\. A table of photos is read from \.jsonl"
    ):
        read_data(tmp_path / "labels.json")
