"""The drawn data set: the same from the same seed, ready for training, never over another."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data import read_data
from training.synth import LABELS, draw_dataset


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_seed_draws_the_same_pictures_and_another_draws_others(dataset: Path, tmp_path: Path):
    draw_dataset(tmp_path / "again", 20, seed=0)
    draw_dataset(tmp_path / "other", 20, seed=1)
    first, again, other = (content(folder) for folder in (dataset, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert len(first) == 21
    assert all(first[name] != other[name] for name in first)


def test_training_reads_it(dataset: Path):
    data = read_data(dataset)
    assert data.labels == LABELS
    assert (len(data.train), len(data.val)) == (16, 4)
    assert (data.train.targets.sum(axis=0) > 0).all()


def test_it_is_not_drawn_over_another(dataset: Path):
    before = content(dataset)
    with pytest.raises(DataError, match="already holds a data set"):
        draw_dataset(dataset, 10, seed=5)
    assert content(dataset) == before
