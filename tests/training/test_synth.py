"""The drawn data set: the same from the same seed, with what it promises about its labels, never over another."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelwise.errors import DataError
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN
from training.data.layouts import read_data
from training.synth import CATALOGUE, draw_dataset, prevalence, scene_of


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def table(folder: Path) -> np.ndarray:
    """The labels' values, int [count, labels], in the pictures' order."""
    with (folder / "labels.csv").open(newline="") as stream:
        return np.array([row[1:-1] for row in list(csv.reader(stream))[1:]], dtype=int)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures with everything as it is unless told otherwise."""
    folder = tmp_path_factory.mktemp("twenty") / "data"
    draw_dataset(folder, 20)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Values of six hundred pictures with the default labels; the pictures are thumbnails, for speed."""
    folder = tmp_path_factory.mktemp("many")
    draw_dataset(folder, 600, seed=1, side=16)
    return table(folder)


def test_a_seed_draws_the_same_pictures_and_another_draws_others(dataset: Path, tmp_path: Path):
    draw_dataset(tmp_path / "again", 20, seed=0)
    draw_dataset(tmp_path / "other", 20, seed=1)
    first, again, other = (content(folder) for folder in (dataset, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert len(first) == 21
    assert all(first[name] != other[name] for name in first)


def test_training_reads_it(dataset: Path):
    data = read_data(dataset)
    assert data.labels == CATALOGUE[:24]
    assert (len(data.train), len(data.val)) == (16, 4)


@pytest.mark.parametrize(("count", "labels"), [(10, 2), (10, 24), (11, 25), (31, 80)])
def test_every_label_is_known_to_be_in_both_splits(count: int, labels: int, tmp_path: Path):
    draw_dataset(tmp_path, count, seed=2, labels=labels, side=32, unknown=0.5)
    data = read_data(tmp_path)
    assert data.labels == CATALOGUE[:labels]
    for photos in (data.train, data.val):
        assert (photos.targets == PRESENT).any(axis=0).all()
    assert (data.train.targets == UNKNOWN).any()


def test_the_catalogue_has_each_shape_in_each_colour_once():
    pairs = [label.split() for label in CATALOGUE]
    colours, shapes = ({pair[place] for pair in pairs} for place in (0, 1))
    assert len({*CATALOGUE}) == len(CATALOGUE) == len(colours) * len(shapes) == 80
    for first in (24, 40):  # so that neither half of a name is enough
        for place in (0, 1):
            halves = [pair[place] for pair in pairs[:first]]
            assert all(halves.count(half) >= 2 for half in halves)


def test_labels_are_as_common_as_stated(many: np.ndarray):
    stated = prevalence(24)
    assert stated[0] == pytest.approx(0.4)
    assert stated[-1] < 0.2 * stated[0]
    assert (np.diff(stated) < 0).all()
    # Six hundred pictures: four standard deviations of the commonest are 0.08.
    np.testing.assert_allclose(many.mean(axis=0), stated, atol=0.08)
    assert prevalence(80).sum() == pytest.approx(5)


def test_labels_of_a_scene_keep_company(many: np.ndarray):
    correlation = np.corrcoef(many[:, :12].T)
    together = scene_of(12)[:, None] == scene_of(12)
    apart = ~together
    np.fill_diagonal(together, False)
    assert correlation[together].min() > 0.05
    assert correlation[apart].mean() < -0.03


def test_hidden_labels_change_nothing_else(tmp_path: Path):
    draw_dataset(tmp_path / "whole", 100, seed=3, side=16)
    draw_dataset(tmp_path / "holes", 100, seed=3, side=16, unknown=0.3)
    whole, holes = table(tmp_path / "whole"), table(tmp_path / "holes")
    hidden = holes == UNKNOWN
    assert hidden.mean() == pytest.approx(0.3, abs=0.05)
    assert set(np.unique(whole)) == {ABSENT, PRESENT}
    assert (holes == np.where(hidden, UNKNOWN, whole)).all()
    del (pictures := content(tmp_path / "whole"))["labels.csv"], (again := content(tmp_path / "holes"))["labels.csv"]
    assert pictures == again


def test_a_picture_has_the_size_asked_for(tmp_path: Path):
    draw_dataset(tmp_path, 10, labels=2, side=50)
    for file in (tmp_path / "images").iterdir():
        with Image.open(file) as picture:
            assert (picture.size, picture.mode, picture.format) == ((50, 50), "RGB", "JPEG")


def test_a_label_shows_in_its_picture(tmp_path: Path):
    """Red clutter is small, so that a red circle is most of the red there is."""
    draw_dataset(tmp_path, 200, seed=4, labels=2, side=64)
    present = table(tmp_path)[:, 0] == PRESENT  # a red circle; the other label is blue
    redness = []
    for number in range(200):
        with Image.open(tmp_path / f"images/{number:05d}.jpg") as picture:
            red, green, blue = np.moveaxis(np.asarray(picture, int), 2, 0)
        redness.append((red - np.maximum(green, blue) > 80).mean())
    assert np.median(np.array(redness)[present]) > 5 * np.median(np.array(redness)[~present])


def test_it_is_not_drawn_over_another(dataset: Path, tmp_path: Path):
    before = content(dataset)
    with pytest.raises(DataError, match="already holds a data set"):
        draw_dataset(dataset, 10, seed=5)
    assert content(dataset) == before
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="already holds a data set"):
        draw_dataset(tmp_path, 10)


@pytest.mark.parametrize(
    ("count", "labels", "words"),
    [
        (100, 1, "From 2 to 80 labels"),
        (100, 81, "From 2 to 80 labels"),
        (10, 25, "draw 11 or more"),
        (30, 80, "draw 31 or more"),
    ],
)
def test_impossible_numbers_are_refused_before_anything_is_written(count: int, labels: int, words: str, tmp_path: Path):
    with pytest.raises(DataError, match=words):
        draw_dataset(tmp_path / "data", count, labels=labels)
    assert not (tmp_path / "data").exists()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="file cannot be written: Not a directory; choose another folder") as error:
        draw_dataset(tmp_path / "file", 10)
    assert "\n" not in str(error.value)
