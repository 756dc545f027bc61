"""Batches for scoring: what serving would decode, in order, as often as wanted."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import DataError
from labelwise.spec import ImageSpec
from tests.training.data.conftest import decoded
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledPhotos
from training.data.layouts import read_data
from training.data.photo_check import check_photos

IMAGE = ImageSpec(height=16, width=24, resize="crop")


@pytest.fixture
def photos(dataset: Path, tmp_path: Path) -> LabelledPhotos:
    return read_data(shutil.copytree(dataset, tmp_path / "data")).train


@pytest.mark.parametrize("cache", ["auto", "memory", "none"])
def test_all_photos_in_order_in_every_pass(cache: str, photos: LabelledPhotos):
    expected = decoded(photos.files, IMAGE)
    batches = EvalBatches(photos, IMAGE, 6, cache=cache)
    for _ in range(2):
        found = list(batches)
        assert [len(batch) for batch in found] == [6, 6, 4]
        assert np.array_equal(np.concatenate(found), expected)


def test_only_a_whole_pass_is_kept(photos: LabelledPhotos):
    expected = decoded(photos.files, IMAGE)
    batches = EvalBatches(photos, IMAGE, 6, cache="memory")
    next(iter(batches))
    assert np.array_equal(np.concatenate(list(batches)), expected)
    photos.files[0].unlink()
    assert np.array_equal(np.concatenate(list(batches)), expected)
    with pytest.raises(DataError, match=r"jpg cannot be decoded \(missing\)"):
        list(EvalBatches(photos, IMAGE, 6, cache="memory"))


@pytest.mark.parametrize("world", [1, 3, 20])
def test_ranks_share_the_photos(world: int, photos: LabelledPhotos):
    ranks = [EvalBatches(photos, IMAGE, 4, rank, world) for rank in range(world)]
    assert [row for rank in ranks for row in rank.rows] == list(range(16))
    batches = [batch for rank in ranks for batch in rank]
    assert np.array_equal(np.concatenate(batches), decoded(photos.files, IMAGE))


def test_pixels_that_the_check_kept_are_not_decoded_again(dataset: Path, tmp_path: Path):
    data = read_data(shutil.copytree(dataset, tmp_path / "data"))
    checked = check_photos(data, image=IMAGE, cache="memory")
    expected = decoded(data.val.files, IMAGE)
    train = decoded(data.train.files, IMAGE)
    assert np.array_equal(np.concatenate(list(EvalBatches(checked.train, IMAGE, 4))), train)  # kept at another size
    shutil.rmtree(tmp_path / "data")
    assert np.array_equal(np.concatenate(list(EvalBatches(checked.val, IMAGE, 4))), expected)
