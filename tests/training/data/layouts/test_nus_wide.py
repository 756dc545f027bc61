"""NUS-WIDE's lists: backslashes in paths, and a file of 0 and 1 per concept and split."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data

LISTS = {
    "ImageList/TrainImagelist.txt": "actor\\0001_21.jpg\r\nactor\\0002_22.jpg\r\n",
    "ImageList/TestImagelist.txt": "zoo\\0003_23.jpg\n",
    "ConceptsList/Concepts81.txt": "sky\nanimal\n",
    "Groundtruth/TrainTestLabels/Labels_sky_Train.txt": "1 \n0 \n",
    "Groundtruth/TrainTestLabels/Labels_sky_Test.txt": "0\n",
    "Groundtruth/TrainTestLabels/Labels_animal_Train.txt": "0\n-1\n",
    "Groundtruth/TrainTestLabels/Labels_animal_Test.txt": "1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in LISTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("actor/0001_21.jpg", "zoo/0003_23.jpg"):  # 0002 is missing: many photos are gone from Flickr
        (tmp_path / "Flickr" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Flickr" / name).touch()
    return tmp_path


def test_lists_and_concepts(folder: Path):
    data = read_data(folder)
    assert data.labels == ("sky", "animal")
    assert data.train.files == (folder / "Flickr/actor/0001_21.jpg", folder / "Flickr/actor/0002_22.jpg")
    assert data.train.targets.tolist() == [[1, 0], [0, -1]]
    assert data.val.files == (folder / "Flickr/zoo/0003_23.jpg",)
    assert data.val.targets.tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("Groundtruth/TrainTestLabels/Labels_sky_Train.txt", "1\n", "has 1 value, but its list names 2 photos"),
        ("Groundtruth/TrainTestLabels/Labels_sky_Test.txt", "yes\n", "not 'yes'"),
        ("ConceptsList/Concepts81.txt", "sea\n", "Labels_sea_Train.txt cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_named(file: str, text: str, words: str, folder: Path):
    (folder / file).write_text(text)
    with pytest.raises(DataError) as caught:
        read_data(folder)
    assert words in str(caught.value)
