"""Training batches: the same for any number of workers, ranks, from the middle, from memory and from files."""

import random
import re
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelwise.errors import DataError
from labelwise.spec import ImageSpec
from tests.training.data.conftest import decoded
from training.augment import make_transform
from training.config import AugmentConfig
from training.data.labelled_data import LabelledPhotos
from training.data.layouts import read_data
from training.data.photo_check import check_photos
from training.data.train_loader import Batch, FileLoader, LoaderSettings

IMAGE = ImageSpec(height=16, width=24)

# torch warns if there are more workers than cores, and a machine may have only one core.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def photos(dataset: Path) -> LabelledPhotos:
    return read_data(dataset).train


def load(photos: LabelledPhotos, **change: Any) -> FileLoader:
    settings = {"transform": make_transform(AugmentConfig(), IMAGE), "batch_size": 4, "workers": 0, "seed": 3} | change
    return FileLoader(photos, LoaderSettings(IMAGE, **settings))


def assert_same(actual: list[Batch], expected: list[Batch]) -> None:
    assert len(actual) == len(expected)
    for batch, other in zip(actual, expected, strict=True):
        assert torch.equal(batch[0], other[0])
        assert torch.equal(batch[1], other[1])


def seen(batches: list[Batch]) -> list[list[float]]:
    """The targets of every photo, which identify it where `numbered` made them."""
    return [target.tolist() for _, targets in batches for target in targets]


def in_memory(photos: LabelledPhotos) -> LabelledPhotos:
    return replace(photos, pixels=decoded(photos.files, IMAGE, scale=1.25))


def numbered(photos: LabelledPhotos) -> LabelledPhotos:
    return LabelledPhotos(photos.files, np.arange(len(photos), dtype=np.float32)[:, None])


def test_batches_are_random_views_with_their_targets(photos: LabelledPhotos):
    loader = load(photos)
    batches = list(loader.epoch(0, views=2))
    assert len(batches) == len(loader) == 4
    for views, targets in batches:
        assert (views.dtype, views.shape) == (torch.uint8, (4, 2, 3, 16, 24))
        assert (targets.dtype, targets.shape) == (torch.float32, (4, photos.targets.shape[1]))
        assert not torch.equal(views[:, 0], views[:, 1])
    assert sorted(seen(batches)) == sorted(photos.targets.tolist())


def test_targets_belong_to_their_photos(photos: LabelledPhotos):
    """With a transform that changes nothing the decoded photo can be recognised."""
    pixels = in_memory(photos).pixels
    loader = load(numbered(photos), transform=lambda photo: photo)
    for views, targets in loader.epoch(5, views=1):
        for view, target in zip(views, targets, strict=True):
            assert np.array_equal(view[0].permute(1, 2, 0).numpy(), pixels[int(target)])


@pytest.mark.parametrize(("workers", "is_in_memory"), [(1, False), (3, False), (0, True), (2, True)])
def test_workers_and_memory_change_nothing(workers: int, is_in_memory: bool, photos: LabelledPhotos):
    expected = [list(load(photos).epoch(number, views=2)) for number in (0, 1)]
    loader = load(in_memory(photos) if is_in_memory else photos, workers=workers)
    for number in (0, 1, 0):  # the workers live on from epoch to epoch
        assert_same(list(loader.epoch(number, views=2)), expected[number])


def test_seed_and_epoch_change_order_and_views(photos: LabelledPhotos):
    orders = set()
    for seed, number in ((3, 0), (3, 1), (4, 0)):
        batches = list(load(numbered(photos), seed=seed).epoch(number, views=1))
        assert sorted(seen(batches)) == [[row] for row in range(16)]
        orders.add(str(seen(batches)))
    assert len(orders) == 3
    one = LabelledPhotos(photos.files[:1], photos.targets[:1])
    views = [next(load(one, seed=seed).epoch(number, views=1))[0] for seed, number in ((3, 0), (3, 1), (4, 0))]
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_begin_in_its_middle_without_what_was_before(workers: int, dataset: Path, tmp_path: Path):
    photos = read_data(shutil.copytree(dataset, tmp_path / "data")).train
    whole = list(load(numbered(photos), workers=workers).epoch(2, views=1))
    for row in seen(whole[:2]):
        photos.files[int(row[0])].unlink()  # a resumed loader must not read these again
    loader = load(numbered(photos), workers=workers)
    assert_same(list(loader.epoch(2, views=1, skip=2)), whole[2:])
    assert list(loader.epoch(2, views=1, skip=4)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_left_and_another_begun(workers: int, photos: LabelledPhotos):
    loader = load(photos, workers=workers)
    list(islice(loader.epoch(0, views=1), 1))
    assert_same(list(loader.epoch(1, views=1)), list(load(photos).epoch(1, views=1)))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_what_one_process_would_see(world: int, photos: LabelledPhotos):
    ranks = [load(photos, batch_size=2, rank=rank, world=world) for rank in range(world)]
    joint = list(load(photos, batch_size=2 * world).epoch(1, views=1))
    assert [len(loader) for loader in ranks] == [len(joint)] * world
    steps = zip(*(loader.epoch(1, views=1) for loader in ranks), strict=True)
    together = [tuple(map(torch.cat, zip(*step, strict=True))) for step in steps]
    assert_same(together, joint)


@pytest.mark.parametrize(
    ("count", "batch_size", "world", "batches", "size"),
    [(16, 5, 1, 3, 5), (3, 8, 1, 1, 3), (16, 16, 1, 1, 16), (7, 8, 2, 1, 3), (2, 8, 2, 1, 1)],
)
def test_the_length_of_an_epoch(
    count: int, batch_size: int, world: int, batches: int, size: int, photos: LabelledPhotos
):
    loader = load(photos.subset(range(count)), batch_size=batch_size, world=world)
    found = list(loader.epoch(0, views=1))
    assert (len(loader), len(found)) == (batches, batches)
    assert {len(targets) for _, targets in found} == {size}
    with pytest.raises(DataError, match="cannot be shared by 20 processes"):
        load(photos, world=20)


def test_the_global_generators_are_left_alone(photos: LabelledPhotos):
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    loader = load(photos)
    list(loader.epoch(0, views=1))
    drawn = torch.rand(2).tolist(), random.random(), np.random.rand()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    assert drawn == (torch.rand(2).tolist(), random.random(), np.random.rand())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_vanishes_is_named_in_one_line(workers: int, dataset: Path, tmp_path: Path):
    photos = read_data(shutil.copytree(dataset, tmp_path / "data")).train
    photos.files[7].unlink()
    with pytest.raises(DataError, match=rf"^{re.escape(str(photos.files[7]))} cannot be decoded \(missing\)\.$"):
        list(load(photos, workers=workers).epoch(0, views=1))


def test_pixels_kept_by_the_check_are_used_and_not_decoded_again(dataset: Path, tmp_path: Path):
    data = read_data(shutil.copytree(dataset, tmp_path / "data"))
    expected = list(load(data.train).epoch(0, views=1))
    checked = check_photos(data, image=IMAGE, cache="memory")
    shutil.rmtree(tmp_path / "data")
    assert_same(list(load(checked.train).epoch(0, views=1)), expected)
