"""Pascal VOC folders: a label of only difficult objects is unknown."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data

PLAIN, DIFFICULT = 0, 1


def write(root: Path, lists: dict[str, str], photos: dict[str, list[tuple[str, int]]]) -> Path:
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for name, lines in lists.items():
        (root / f"ImageSets/Main/{name}.txt").write_text("\n".join(lines.split()) + "\n")
    for photo, objects in photos.items():
        (root / f"JPEGImages/{photo}.jpg").touch()
        entries = "".join(
            f"<object><name>{label}</name><difficult>{difficult}</difficult><part><name>head</name></part></object>"
            for label, difficult in objects
        )
        (root / f"Annotations/{photo}.xml").write_text(f"<annotation><source/>{entries}</annotation>")
    return root


PHOTOS = {
    "000001": [("person", PLAIN), ("dog", DIFFICULT)],
    "000002": [("dog", DIFFICULT), ("dog", PLAIN), ("cat", DIFFICULT)],
    "000003": [],
    "000004": [("person", PLAIN)],
}


@pytest.mark.parametrize("place", ["", "VOC2007", "VOCdevkit/VOC2007"])
def test_difficult_objects_alone_leave_a_label_unknown(place: str, tmp_path: Path):
    root = write(tmp_path / "data" / place, {"train": "000001 000002", "val": "000003 000004"}, PHOTOS)
    data = read_data(tmp_path / "data")
    assert data.labels == ("cat", "dog", "person")
    assert data.train.files == (root / "JPEGImages/000001.jpg", root / "JPEGImages/000002.jpg")
    assert data.train.targets.tolist() == [[0, -1, 1], [-1, 1, 0]]
    assert data.val.targets.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_with_the_test_set_there_it_is_the_val_split(tmp_path: Path):
    lists = {"train": "000001", "val": "000002", "trainval": "000001 000002", "test": "000003 000004"}
    data = read_data(write(tmp_path, lists, PHOTOS))
    assert [file.stem for file in data.train.files] == ["000001", "000002"]
    assert [file.stem for file in data.val.files] == ["000003", "000004"]
    assert data.notes[0].startswith("There is no val: test (2 photos) serves as val")


def test_what_is_wrong_is_named(tmp_path: Path):
    root = write(tmp_path / "VOC2007", {"train": "000001 000002 000005", "val": "000004"}, PHOTOS)
    (root / "Annotations/000002.xml").write_text("<annotation>")
    (root / "Annotations/000004.xml").write_text("<annotation><object/></annotation>")
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    for words in ("3 annotations", "000002.xml (no element found", "000005.xml (missing)", "000004.xml (an object has"):
        assert words in str(caught.value)
    for name in ("train", "val"):
        (root / f"ImageSets/Main/{name}.txt").rename(root / f"ImageSets/Main/{name}-list.txt")
    with pytest.raises(DataError, match=r"needs train\.txt and val\.txt"):
        read_data(tmp_path)
    write(tmp_path / "VOC2012", {}, {})
    with pytest.raises(DataError, match=r"several years: give one of .*VOC2007, .*VOC2012"):
        read_data(tmp_path)


def put(root: Path, photo: str, xml: str, filename: str | None, *labels: str) -> None:
    """A photo, and an XML that calls it `filename`."""
    for file in (root / photo, root / xml):
        file.parent.mkdir(parents=True, exist_ok=True)
    (root / photo).touch()
    named = "" if filename is None else f"<filename>{filename}</filename>"
    objects = "".join(f"<object><name>{label}</name></object>" for label in labels)
    (root / xml).write_text(
        f'<annotation verified="yes"><folder>x</folder>{named}{objects}</annotation>', encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("line", "photo", "filename"),
    [
        ("my cat 1", "my cat 1.jpg", "my cat 1.jpg"),
        ('"my cat 1"', "my cat 1.jpg", "my cat 1.jpg"),
        ("a", "a.JPG", "a.JPG"),
        ("a", "a.JPG", None),
        ("a", "a.png", "a.jpg"),  # the XML's suffix is wrong
        ("a", "a.HEIC", "a"),
        ("a", "IMG_7.jpeg", "IMG_7.jpeg"),
        ("a.jpg", "a.jpg", "a.jpg"),
        ("deep/a", "deep/a.webp", "deep/a.webp"),
        ("deep\\a", "deep/a.webp", "a.webp"),
        ("a", "a.jfif", "C:\\photos\\a.jfif"),
        ("a", "café.jpg", "cafe\u0301.jpg"),
        ("a", "a &amp; b.jpg", "a &amp;amp; b.jpg"),
    ],
)
def test_the_photo_is_the_one_that_the_xml_names(line: str, photo: str, filename: str | None, tmp_path: Path):
    name = line.strip('"').replace("\\", "/").removesuffix(".jpg")
    put(tmp_path, f"JPEGImages/{photo}", f"Annotations/{name}.xml", filename, "cat")
    put(tmp_path, "JPEGImages/b.jpg", "Annotations/b.xml", "b.jpg", "dog", "cat")
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text(f"{line}\n\n", encoding="utf-8")
    (tmp_path / "ImageSets/Main/val.txt").write_text("b \r\n")
    data = read_data(tmp_path)
    assert data.train.files == (tmp_path / "JPEGImages" / photo,)
    assert data.labels == ("cat", "dog")


def test_a_name_with_two_photos_is_refused(tmp_path: Path):
    write(tmp_path, {"train": "000001", "val": "000004"}, PHOTOS)
    (tmp_path / "JPEGImages/000001.png").touch()
    with pytest.raises(DataError, match=r"which photo 000001 is: 000001\.jpg, 000001\.png"):
        read_data(tmp_path)


def test_the_lists_of_cvat(tmp_path: Path):
    write(tmp_path, {"default": " ".join(PHOTOS), "dog_default": "000001 000002"}, PHOTOS)
    data = read_data(tmp_path, seed=1)
    assert (len(data.train), len(data.val), data.layout) == (3, 1, "Pascal VOC (default.txt)")
    write(tmp_path / "more", {"Train": "000001 000002", "Validation": "000004", "train_Train": "000003"}, PHOTOS)
    data = read_data(tmp_path / "more")
    assert ([file.stem for file in data.train.files], len(data.val)) == (["000001", "000002"], 1)


def test_an_export_of_roboflow(tmp_path: Path):
    put(tmp_path, "train/a_jpg.rf.1f.jpg", "train/a_jpg.rf.1f.xml", "a_jpg.rf.1f.jpg", "cat")
    put(tmp_path, "train/b.jpg", "train/b.xml", "b.jpg")
    put(tmp_path, "valid/c.jpg", "valid/c.XML", "c.jpg", "dog", "cat")
    put(tmp_path, "test/d.jpg", "test/d.xml", "d.jpg", "dog")
    (tmp_path / "train/unseen.jpg").touch()
    data = read_data(tmp_path)
    assert data.labels == ("cat", "dog")
    assert data.train.targets.tolist() == [[1, 0], [0, 0]]
    assert data.val.targets.tolist() == [[1, 1]]
    assert data.layout == "an XML of Pascal VOC per photo (in test, train, valid)"
    assert data.notes[0].startswith("Left out: test (1 photo).")
    assert data.notes[1] == "Left out, because nothing here labels them: 1 photo, in train/ (1)."


@pytest.mark.parametrize(
    ("photos", "annotations"),
    [
        (".", "."),
        ("images", "annotations"),
        ("images", "Annotations"),
        ("images", "annotations/xmls"),
        ("data", "labels"),
        ("photos", "."),
    ],
)
def test_xml_in_a_folder_of_its_own(photos: str, annotations: str, tmp_path: Path):
    for number in range(5):
        put(tmp_path, f"{photos}/{number}.png", f"{annotations}/{number}.xml", f"{number}.png", "cat", "dog")
    if photos == "photos":  # not one of the usual folders
        with pytest.raises(DataError, match=r"No photo of .* is there"):
            read_data(tmp_path)
    else:
        assert len(read_data(tmp_path).listed) == 5


def test_xml_that_keep_the_name_of_one_photo_are_refused(tmp_path: Path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").touch()
        xml = "<annotation><filename>0.jpg</filename><object><name>cat</name></object></annotation>"
        (tmp_path / f"{number}.xml").write_text(xml)
    with pytest.raises(
        DataError, match=r"0\.xml, 1\.xml, 2\.xml are all of the photo 0\.jpg\. Correct their <filename>"
    ):
        read_data(tmp_path)
