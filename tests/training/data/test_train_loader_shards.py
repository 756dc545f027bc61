"""Streamed batches: every photo once per epoch, on any rank and worker; resumed in the middle; over HTTP."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelwise.errors import DataError
from labelwise.image import load_pixels
from labelwise.spec import ImageSpec
from training.augment import make_transform
from training.config import AugmentConfig
from training.data.labelled_data import LabelledData
from training.data.layouts import read_data
from training.data.shard_writer import write_shards
from training.data.train_loader import Batch, LoaderSettings, ShardLoader, make_train_loader, views_in_order

IMAGE = ImageSpec(height=16, width=24)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def load(source: Path | str, transform: Any = None, **change: Any) -> ShardLoader:
    settings = {"batch_size": 2, "workers": 0, "seed": 3} | change
    data = read_data(source)
    transform = transform or make_transform(AugmentConfig(), IMAGE)
    loader = make_train_loader(data.train, LoaderSettings(IMAGE, transform, **settings))
    assert isinstance(loader, ShardLoader)
    return loader


def assert_same(actual: list[Batch], expected: list[Batch]) -> None:
    assert len(actual) == len(expected)
    for batch, other in zip(actual, expected, strict=True):
        assert torch.equal(batch[0], other[0])
        assert torch.equal(batch[1], other[1])


def pictures(batches: list[Batch]) -> list[bytes]:
    return [view[0].permute(1, 2, 0).numpy().tobytes() for views, _ in batches for view in views]


@pytest.fixture(scope="module")
def originals(labelled: LabelledData) -> dict[bytes, list[float]]:
    """Pixels, as a transform that changes nothing leaves them, and targets of every training photo."""
    files, targets = labelled.train.files, labelled.train.targets.tolist()
    pixels = [load_pixels(file.read_bytes(), 20, 30).tobytes() for file in files]
    return dict(zip(pixels, targets, strict=True))


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("world", [1, 2])
def test_every_photo_comes_once_with_its_targets(
    world: int, workers: int, shards: Path, originals: dict[bytes, list[float]]
):
    for number in (0, 1):
        batches: list[Batch] = []
        for rank in range(world):
            loader = load(shards, lambda photo: photo, rank=rank, world=world, workers=workers)
            mine = list(loader.epoch(number, views=1))
            assert len(mine) == len(loader) == 8 // world
            batches += mine
        assert sorted(pictures(batches)) == sorted(originals)
        targets = [target.tolist() for _, targets in batches for target in targets]
        assert targets == [originals[picture] for picture in pictures(batches)]


def test_a_large_shard_is_shared_as_well(labelled: LabelledData, tmp_path: Path, originals: dict[bytes, list[float]]):
    write_shards(labelled, tmp_path, 10**9)
    assert len(read_data(tmp_path).train.shards) == 1
    seen = [
        picture
        for rank in range(2)
        for picture in pictures(
            list(load(tmp_path, lambda photo: photo, rank=rank, world=2, workers=2).epoch(0, views=1))
        )
    ]
    assert sorted(seen) == sorted(originals)


def test_shapes_and_the_incomplete_batch(shards: Path):
    loader = load(shards, batch_size=5)
    batches = list(loader.epoch(0, views=2))
    assert [views.shape for views, _ in batches] == [(5, 2, 3, 16, 24)] * 3
    assert {(views.dtype, targets.dtype) for views, targets in batches} == {(torch.uint8, torch.float32)}
    assert not torch.equal(batches[0][0][:, 0], batches[0][0][:, 1])
    assert len(load(shards, batch_size=100)) == 1
    with pytest.raises(DataError, match="cannot be shared by 17 processes"):
        load(shards, world=17)


def test_seed_and_epoch_decide_alone(shards: Path):
    same, again = (list(load(shards).epoch(1, views=1)) for _ in range(2))
    assert_same(same, again)
    orders = [
        pictures(list(load(shards, lambda photo: photo, seed=s).epoch(n, views=1))) for s, n in ((3, 0), (3, 1), (4, 0))
    ]
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("workers", [0, 2, 3])
def test_an_epoch_can_begin_in_its_middle(workers: int, shards: Path):
    loader = load(shards, workers=workers)
    whole = list(loader.epoch(4, views=1))
    for skip in (1, 5, 8):
        assert_same(list(loader.epoch(4, views=1, skip=skip)), whole[skip:])


def test_over_http_each_shard_is_fetched_when_its_turn_comes(server: tuple[str, list[str]], shards: Path, monkeypatch):
    monkeypatch.setattr("training.data.train_loader._SHUFFLE_BUFFER", 3)
    url, asked = server
    loader = load(url)
    asked.clear()
    batches = loader.epoch(0, views=1)
    first = next(batches)
    assert 0 < len(asked) < len(read_data(shards).train.shards) / 2 + 2  # as far as the buffer reaches, not all
    rest = list(batches)
    assert sorted(asked) == sorted([*(shard.url.rpartition("/")[2] for shard in read_data(shards).train.shards)])
    assert_same([first, *rest], list(load(shards).epoch(0, views=1)))


def test_an_epoch_can_be_left(server: tuple[str, list[str]]):
    loader = load(server[0], workers=2)
    list(islice(loader.epoch(0, views=1), 1))
    assert len(list(loader.epoch(1, views=1))) == 8


def test_chosen_labels_come_in_their_order(shards: Path, labelled: LabelledData):
    data = read_data(shards)
    wanted = [labelled.labels[4], labelled.labels[1]]
    everything, chosen = (
        make_train_loader(d.train, LoaderSettings(IMAGE, lambda photo: photo, batch_size=4, workers=0, seed=0))
        for d in (data, data.select(wanted))
    )
    for (_, targets), (_, fewer) in zip(everything.epoch(0, 1), chosen.epoch(0, 1), strict=True):
        assert torch.equal(targets[:, [4, 1]], fewer)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes_is_one_line(workers: int, labelled: LabelledData, tmp_path: Path):
    write_shards(labelled, tmp_path, 6_000)
    loader = load(tmp_path, workers=workers)
    (tmp_path / "train-000001.tar").unlink()
    with pytest.raises(DataError, match=r"^The shard .*train-000001\.tar cannot be read: No such file or directory\.$"):
        list(loader.epoch(0, views=1))


def test_a_photo_that_is_broken_after_all_is_named(labelled: LabelledData, tmp_path: Path):
    write_shards(labelled, tmp_path, 10**9)
    shard = tmp_path / "train-000000.tar"
    content, photo = shard.read_bytes(), labelled.train.files[0].read_bytes()
    assert content.count(photo) == 1
    shard.write_bytes(content.replace(photo, bytes(len(photo))))
    with pytest.raises(DataError, match=rf"^{labelled.train.files[0].name} in .*train-000000\.tar cannot be decoded"):
        list(load(tmp_path).epoch(0, views=1))


def test_the_buffer_shuffles_but_loses_nothing(monkeypatch):
    from random import Random

    from training.data.train_loader import _through_buffer

    monkeypatch.setattr("training.data.train_loader._SHUFFLE_BUFFER", 10)
    out: list[Any] = list(_through_buffer(range(100), Random(0)))  # type: ignore[arg-type]
    assert sorted(out) == list(range(100))
    assert out != list(range(100))
    assert all(np.array(out) <= np.arange(100) + 10)


@pytest.mark.parametrize("workers", [1, 3])
def test_views_in_order_are_those_of_every_photo(
    workers: int, labelled: LabelledData, shards: Path, originals: dict[bytes, list[float]]
):
    """Of files and shards, for any number of workers."""
    plain = LoaderSettings(IMAGE, lambda photo: photo, batch_size=3, workers=workers, seed=3)
    drawn = replace(plain, transform=make_transform(AugmentConfig(), IMAGE))
    for photos in (labelled.train, read_data(shards).train):
        batches = list(views_in_order(photos, 2, plain))
        assert [len(batch) for batch in batches] == [3, 3, 3, 3, 3, 1]
        seen = pictures([(views, torch.empty(0)) for views in batches])
        assert [originals[picture] for picture in seen] == photos.targets.tolist()
        views, alone = (list(views_in_order(photos, 2, replace(drawn, workers=n))) for n in (workers, 0))
        assert torch.equal(torch.cat(views), torch.cat(alone))
        assert not torch.equal(views[0][:, 0], views[0][:, 1])
