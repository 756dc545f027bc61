"""CVAT's "images 1.1": tags and shapes of all photos in one annotations.xml."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data

META = (
    "<meta><task><id>7</id><labels>"
    "<label><name>sunny</name><color>#fff</color><type>tag</type><attributes/></label>"
    "<label><name>car</name><type>any</type><attributes><attribute><name>model</name></attribute></attributes></label>"
    "<label><name>dog</name></label></labels></task><dumped>2026-11-28</dumped></meta>"
)
TAG = '<tag label="sunny" source="manual"></tag>'
BOX = '<box label="car" source="manual" occluded="0" xtl="1" ytl="1" xbr="5" ybr="5" z_order="0">{}</box>'
ATTRIBUTE = '<attribute name="model">old</attribute>'


def put(root: Path, images: dict[str, str], place: str = "images", meta: str = META) -> Path:
    """`images` holds the elements of each photo; "name|subset" gives it a subset."""
    xml = ""
    for number, (name, elements) in enumerate(images.items()):
        photo, _, subset = name.partition("|")
        (root / place / photo).parent.mkdir(parents=True, exist_ok=True)
        (root / place / photo).touch()
        more = f' subset="{subset}"' if subset else ""
        xml += f'<image id="{number}" name="{photo}"{more} width="9" height="9">{elements}</image>\n'
    declaration = '<?xml version="1.0" encoding="utf-8"?>\n'
    (root / "annotations.xml").write_text(f"{declaration}<annotations><version>1.1</version>{meta}{xml}</annotations>")
    return root


@pytest.mark.parametrize("place", ["images", ".", "images/default"])
def test_tags_and_shapes_are_labels(place: str, tmp_path: Path):
    mask = '<mask label="dog" source="manual" occluded="0" rle="1" left="1" top="1" width="1" height="1"></mask>'
    images = {
        "a b.JPG": TAG + BOX.format(ATTRIBUTE),
        "deep/b.jpg": BOX.format("") + mask,
        "c.jpg": "",
        **{f"{number}.jpg": TAG for number in range(7)},
    }
    data = read_data(put(tmp_path, images, place))
    assert data.labels == ("sunny", "car", "dog")
    files = [*data.train.files, *data.val.files]
    targets = [*data.train.targets.tolist(), *data.val.targets.tolist()]
    found = {str(file.relative_to(tmp_path / place)): target for file, target in zip(files, targets, strict=True)}
    assert [found[name] for name in ("a b.JPG", "deep/b.jpg", "c.jpg")] == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert data.layout == 'CVAT\'s "images 1.1" (annotations.xml)'
    assert data.notes == ("Left out: 1 attribute in annotations.xml: only tags and shapes are labels.",)
    assert read_data(tmp_path / "annotations.xml").describe() == data.describe()


@pytest.mark.parametrize("place", ["images", "images/{}"])
def test_subsets_of_a_project_are_splits(place: str, tmp_path: Path):
    images = {"1.jpg|Train": TAG, "2.jpg|Train": "", "3.jpg|Validation": TAG}
    put(tmp_path, images)
    for name in images:
        photo, _, subset = name.partition("|")
        target = tmp_path / place.format(subset) / photo
        target.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / photo).rename(target)
    data = read_data(tmp_path)
    assert [file.name for file in data.train.files] == ["1.jpg", "2.jpg"]
    assert [file.name for file in data.val.files] == ["3.jpg"]


def test_other_subsets_are_none(tmp_path: Path):
    data = read_data(put(tmp_path, {f"{number}.jpg|default": TAG for number in range(10)}))
    assert (len(data.train), len(data.val)) == (8, 2)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ('<annotations><track id="0" label="car"/></annotations>', 'of a video. Export the task as "CVAT for images'),
        ("<annotations><meta/></annotations>", "lists no photos"),
        ('<annotations><image name="a.jpg"><tag/></image></annotations>', "without a name"),
        ("<annotations><image", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(xml: str, words: str, tmp_path: Path):
    (tmp_path / "annotations.xml").write_text(xml)
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    assert words in str(caught.value)
    assert "annotations.xml" in str(caught.value)
