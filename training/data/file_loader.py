"""Batches of random views of photo files. Every draw depends only on run, epoch and photo, not on the workers."""

import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from labelwise.errors import DataError
from labelwise.image import ImageError
from labelwise.spec import ImageSpec
from training.augment import OVERSIZE, Transform, draw_views
from training.data.decode import Pixels, decode, fault
from training.data.labelled_data import LabelledPhotos, counted
from training.data.photo_check import Cache, keep_pixels
from training.seeding import derive_seed

Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 [b, v, 3, h, w], float32 targets [b, l]


@dataclass(frozen=True)
class LoaderSettings:
    """How photos become batches of random views. `batch_size` is that of one rank of the `world`."""

    image: ImageSpec
    transform: Transform
    batch_size: int
    workers: int
    seed: int
    pin_memory: bool = False
    rank: int = 0
    world: int = 1


class FileLoader:
    """Shuffled batches of a rank's share of `photos`.

    In each step the ranks take consecutive photos of one joint batch, rank 0 the first ones. Together they see what a
    single process with `batch_size * world` sees, in the same order. The last, incomplete batch is left out, but a set
    smaller than a batch makes one batch. Photos stay in memory at OVERSIZE times the model's size if `cache` is
    "memory", or "auto" and they fit; otherwise the workers decode them each time. Raises DataError.
    """

    def __init__(self, photos: LabelledPhotos, settings: LoaderSettings, cache: Cache = "auto") -> None:
        photos = keep_pixels(photos, settings.image, OVERSIZE, cache, settings.world)
        self._plan = _Plan(len(photos), settings)
        self._loader: DataLoader[Batch] = DataLoader(
            _RandomViews(photos, settings),
            batch_sampler=self._plan,
            num_workers=settings.workers,
            collate_fn=_collate,
            pin_memory=settings.pin_memory,
            persistent_workers=settings.workers > 0,
            multiprocessing_context=worker_context(settings.workers),
            worker_init_fn=begin_worker,
            generator=torch.Generator(),  # so that starting an epoch draws nothing from the global one
        )

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return self._plan.batches

    def epoch(self, number: int, views: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `skip`-th on, without decoding those before it.

        Yields uint8 [b, views, 3, h, w] and float32 targets [b, l]. Run one epoch at a time. Leaves the global random
        generators as they are. Raises DataError if a photo cannot be decoded (any more).
        """
        self._plan.number, self._plan.views, self._plan.skip = number, views, skip
        yield from batches_of(self._loader)


def share_of(count: int, batch_size: int, world: int) -> tuple[int, int]:
    """Of `count` photos: those in a rank's batch, and the batches per rank. Raises DataError if there is none."""
    size = min(batch_size, count // world)
    if not size:
        raise DataError(f"{counted(count, 'photo')} cannot be shared by {world} processes: use fewer processes.")
    return size, count // (size * world)


def begin_worker(_: int) -> None:
    """Ignore signals, which reach every process of a terminal or of torchrun: the training process decides to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def worker_context(workers: int) -> str | None:
    """On Linux workers are forked, so that all share the photos in memory."""
    return "fork" if workers and sys.platform == "linux" else None


def batches_of(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Start the loader and yield its batches. Raises the errors that workers return as values."""
    with warnings.catch_warnings():
        # Python warns of a fork while threads run: a child may wait for their locks. The workers take none of these.
        warnings.simplefilter("ignore", DeprecationWarning)
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, DataError):
            raise DataError(str(batch))  # a new one: the old one's traceback would keep the workers alive
        yield batch


class _Item(NamedTuple):
    """One request to a worker. It names the epoch, so that a worker can live longer than one."""

    epoch: int
    index: int
    views: int


class _Plan:
    """Which photos make which batch of the epoch `number`; also the batch sampler of torch's DataLoader."""

    def __init__(self, count: int, settings: LoaderSettings) -> None:
        self.size, self.batches = share_of(count, settings.batch_size, settings.world)
        self._count, self._settings = count, settings
        self.number, self.views, self.skip = 0, 1, 0

    def __len__(self) -> int:
        return self.batches - self.skip

    def __iter__(self) -> Iterator[list[_Item]]:
        random = np.random.default_rng(derive_seed(self._settings.seed, self.number, "order"))
        order = random.permutation(self._count).tolist()
        for batch in range(self.skip, self.batches):
            start = (batch * self._settings.world + self._settings.rank) * self.size
            yield [_Item(self.number, index, self.views) for index in order[start : start + self.size]]


class _RandomViews(Dataset[Batch | DataError]):
    """Views uint8 [v, 3, h, w] and targets [l] of one photo, or the error to raise."""

    def __init__(self, photos: LabelledPhotos, settings: LoaderSettings) -> None:
        self._photos, self._settings = photos, settings

    def __getitem__(self, item: _Item) -> Batch | DataError:
        try:
            pixels = self._pixels(item.index)
        except (ImageError, OSError) as error:
            # Raised in a worker, it would arrive with a traceback in its text.
            return DataError(f"{self._photos.files[item.index]} cannot be decoded ({fault(error)}).")
        views = draw_views(pixels, self._settings.transform, item.views, self._settings.seed, item.epoch, item.index)
        return views, torch.from_numpy(self._photos.targets[item.index])

    def _pixels(self, index: int) -> Pixels:
        if self._photos.pixels is not None:
            return self._photos.pixels[index]
        return decode(self._photos.files[index].read_bytes(), self._settings.image, OVERSIZE)


def _collate(items: list[Batch | DataError]) -> Batch | DataError:
    pairs = []
    for item in items:
        if isinstance(item, DataError):
            return item
        pairs.append(item)
    return torch.stack([views for views, _ in pairs]), torch.stack([targets for _, targets in pairs])
