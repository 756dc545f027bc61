"""Batches of random views, the same for any number of workers: every draw depends on run, epoch and photo alone."""

import signal
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from labelwise.errors import DataError
from labelwise.image import ImageError
from labelwise.spec import ImageSpec
from training.augment import OVERSIZE
from training.data.decode import Pixels, decode, fault
from training.data.labelled_data import LabelledPhotos, counted
from training.data.photo_check import Cache, ProgressBar, keep_pixels
from training.data.seeding import derive_seed
from training.data.views import Transform, draw_views

Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 [b, v, 3, h, w], float32 targets [b, l]


class FileLoader:
    """Shuffled batches of a rank's share of `photos`.

    In each step the ranks take consecutive `batch_size` photos of one joint batch, rank 0 the first ones: together they
    see what a single process with `batch_size * world` would, in the same order. The last, incomplete batch is left
    out; a set smaller than a batch makes one batch. Photos are kept in memory at OVERSIZE times the model's size if
    `cache` says so, or is "auto" and they fit; else the workers decode them each time. Raises DataError.
    """

    def __init__(
        self,
        photos: LabelledPhotos,
        image: ImageSpec,
        transform: Transform,
        *,
        batch_size: int,
        workers: int,
        seed: int,
        cache: Cache = "auto",
        pin_memory: bool = False,
        rank: int = 0,
        world: int = 1,
        skip_broken: bool = False,
        progress: ProgressBar = iter,
    ) -> None:
        photos = keep_pixels(
            photos, image, OVERSIZE, cache=cache, processes=world, skip_broken=skip_broken, progress=progress
        )
        self._plan = _Plan(len(photos), batch_size, seed, rank, world)
        self._loader: DataLoader[Batch] = DataLoader(
            _RandomViews(photos, image, transform, seed),
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            multiprocessing_context=worker_context(workers),
            worker_init_fn=begin_worker,
            generator=torch.Generator(),  # so that starting an epoch draws nothing from the global one
        )

    def __len__(self) -> int:
        """Batches an epoch, on each rank."""
        return self._plan.batches

    def epoch(self, number: int, views: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `skip`-th on; those before it are not decoded.

        Yields uint8 [b, views, 3, h, w] and float32 targets [b, l]. One epoch at a time. The global random generators
        are left as they are. A photo that cannot be decoded (any more) raises DataError.
        """
        self._plan.number, self._plan.views, self._plan.skip = number, views, skip
        yield from batches_of(self._loader)


def share_of(count: int, batch_size: int, world: int) -> tuple[int, int]:
    """The photos in a rank's batch, and the batches each rank has of `count` photos. DataError if there is not one."""
    size = min(batch_size, count // world)
    if not size:
        raise DataError(f"{counted(count, 'photo')} cannot be shared by {world} processes: use fewer processes.")
    return size, count // (size * world)


def begin_worker(_: int) -> None:
    """Signals reach every process of a terminal or of torchrun; when to stop is for the one that trains to say."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def worker_context(workers: int) -> str | None:
    """On Linux workers are forked, so that all read the photos in memory from the same pages."""
    return "fork" if workers and sys.platform == "linux" else None


def batches_of(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Start the loader and pass its batches on; an error that a worker hands over as a value is raised here."""
    with warnings.catch_warnings():
        # Python warns of forking with threads about, whose locks a child may wait for; workers use none of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, DataError):
            raise DataError(str(batch))  # a new one, or its traceback would keep this frame and so the workers
        yield batch


class _Item(NamedTuple):
    """What a worker is asked for; it knows no epoch, so that it can live longer than one."""

    epoch: int
    index: int
    views: int


class _Plan:
    """Which photos make which batch of the epoch `number`; also the batch sampler of torch's DataLoader."""

    def __init__(self, count: int, batch_size: int, seed: int, rank: int, world: int) -> None:
        self.size, self.batches = share_of(count, batch_size, world)
        self._count, self._seed, self._rank, self._world = count, seed, rank, world
        self.number, self.views, self.skip = 0, 1, 0

    def __len__(self) -> int:
        return self.batches - self.skip

    def __iter__(self) -> Iterator[list[_Item]]:
        random = np.random.default_rng(derive_seed(self._seed, self.number, "order"))
        order = random.permutation(self._count).tolist()
        for batch in range(self.skip, self.batches):
            start = (batch * self._world + self._rank) * self.size
            yield [_Item(self.number, index, self.views) for index in order[start : start + self.size]]


class _RandomViews(Dataset[Batch | DataError]):
    """Views uint8 [v, 3, h, w] and targets [l] of one photo, or the error to raise."""

    def __init__(self, photos: LabelledPhotos, image: ImageSpec, transform: Transform, seed: int) -> None:
        self._photos, self._image, self._transform, self._seed = photos, image, transform, seed

    def __getitem__(self, item: _Item) -> Batch | DataError:
        try:
            pixels = self._pixels(item.index)
        except (ImageError, OSError) as error:
            # Raised in a worker it would arrive with a traceback in its text.
            return DataError(f"{self._photos.files[item.index]} cannot be decoded ({fault(error)}).")
        views = draw_views(pixels, self._transform, item.views, self._seed, item.epoch, item.index)
        return views, torch.from_numpy(self._photos.targets[item.index])

    def _pixels(self, index: int) -> Pixels:
        if self._photos.pixels is not None:
            return self._photos.pixels[index]
        return decode(self._photos.files[index].read_bytes(), self._image, OVERSIZE)


def _collate(items: list[Batch | DataError]) -> Batch | DataError:
    pairs = []
    for item in items:
        if isinstance(item, DataError):
            return item
        pairs.append(item)
    return torch.stack([views for views, _ in pairs]), torch.stack([targets for _, targets in pairs])
