"""Training batches of random views, from photo files or from a stream of shards.

Every draw depends only on run, epoch and photo; for shards, the order also depends on ranks and workers.
"""

import random
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from labelwise.errors import DataError
from labelwise.image import ImageError
from labelwise.spec import ImageSpec
from training.augment import OVERSIZE, Transform, draw_views
from training.data.decode import Pixels, decode, fault
from training.data.labelled_data import LabelledPhotos, counted, targets_of_names
from training.data.shard_reader import Sample, ShardedPhotos, read_rows
from training.memory import return_freed_memory
from training.seeding import derive_seed

Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 [b, v, 3, h, w], float32 targets [b, l]

_SHUFFLE_BUFFER = 1024


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
    smaller than a batch makes one batch. The workers decode photos without pixels in memory each time.
    """

    def __init__(self, photos: LabelledPhotos, settings: LoaderSettings) -> None:
        self._count, self._settings = len(photos), settings
        self._size, self._batches = _share_of(self._count, settings)
        self._plan: list[_Request] = []  # of the current epoch
        views = _RandomViews(photos, settings)
        self._loader = _data_loader(views, settings, sampler=self._plan, persistent_workers=settings.workers > 0)

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return self._batches

    def epoch(self, number: int, views: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `skip`-th on, without decoding those before it.

        Yields uint8 [b, views, 3, h, w] and float32 targets [b, l]. Run one epoch at a time. Leaves the global random
        generators as they are. Raises DataError if a photo cannot be decoded (any more).
        """
        settings = self._settings
        order = np.random.default_rng(derive_seed(settings.seed, number, "order")).permutation(self._count)
        parts = [order[start : start + self._size] for start in range(0, self._count, self._size)]
        mine = parts[settings.rank : self._batches * settings.world : settings.world]
        self._plan[:] = [_Request(number, views, rows) for rows in mine[skip:]]
        yield from _batches_of(self._loader)


class ShardLoader(IterableDataset[Batch | DataError]):
    """Batches of a rank's share of photos in shards; the same interface as FileLoader.

    Each epoch lays the shards end to end in another order and cuts this sequence into equal parts, one for each worker
    of each rank. So every photo is seen at most once per epoch, whatever the number of shards; if a cut goes through a
    shard, both sides read it. Within its part a worker shuffles through a buffer of 1024 encoded photos. Batches depend
    only on run, epoch, ranks and the number of workers.
    """

    def __init__(self, photos: ShardedPhotos, settings: LoaderSettings) -> None:
        self._photos, self._settings = photos, settings
        self._size, self._batches = _share_of(len(photos), settings)
        self._number, self._views, self._skip = 0, 1, 0

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return self._batches

    def epoch(self, number: int, views: int, skip: int = 0) -> Iterator[Batch]:
        """As `FileLoader.epoch`, but reads what is skipped. Raises DataError if a shard or photo cannot be read."""
        self._number, self._views, self._skip = number, views, skip
        if self._settings.workers:  # they are forked for each epoch
            return_freed_memory()
        yield from _batches_of(_data_loader(self, self._settings))

    def __iter__(self) -> Iterator[Batch | DataError]:
        """All batches of the epoch; in one of n workers, every n-th of them."""
        worker = get_worker_info()
        workers, place = (worker.num_workers, worker.id) if worker else (1, 0)
        # torch takes the first batch from worker 0, but after `skip` batches another part is next.
        part = (place + self._skip) % workers
        try:
            samples = self._shuffled(*self._bounds(part, workers))
            for _ in islice(samples, len(range(part, self._skip, workers)) * self._size):
                pass  # before `skip`: the buffer needs them, but they are never decoded
            while batch := list(islice(samples, self._size)):
                yield self._batch(batch)
        except DataError as error:
            yield error  # raised in a worker, it would arrive with a traceback in its text

    def _bounds(self, part: int, workers: int) -> tuple[int, int]:
        """Start and end of this part in the epoch's sequence. Worker i has the batches i, i + workers, …"""
        before = sum(len(range(other, self._batches, workers)) for other in range(part))
        start = (self._settings.rank * self._batches + before) * self._size
        return start, start + len(range(part, self._batches, workers)) * self._size

    def _shuffled(self, start: int, stop: int) -> Iterator[Sample]:
        order = np.random.default_rng(derive_seed(self._settings.seed, self._number, "shards"))
        shards = [self._photos.shards[index] for index in order.permutation(len(self._photos.shards))]
        chance = random.Random(derive_seed(self._settings.seed, self._number, "buffer", start))
        return _through_buffer(read_rows(shards, start, stop), chance)

    def _batch(self, samples: list[Sample]) -> Batch:
        views = torch.stack([self._draw(sample) for sample in samples])
        known = set(self._photos.labels)
        present = [known.intersection(sample.present) for sample in samples]
        unknown = [known.intersection(sample.unknown) for sample in samples]
        return views, torch.from_numpy(targets_of_names(self._photos.labels, present, unknown))

    def _draw(self, sample: Sample) -> torch.Tensor:
        try:
            pixels = decode(sample.read(), self._settings.image, OVERSIZE)
        except ImageError as error:
            raise DataError(f"{sample.place} cannot be decoded ({fault(error)}).") from error
        settings = self._settings
        return draw_views(pixels, settings.transform, self._views, settings.seed, self._number, sample.row)


class _OrderedViews(IterableDataset[torch.Tensor | DataError]):
    """Random views of every photo, in the order of the photos."""

    def __init__(self, photos: LabelledPhotos | ShardedPhotos, views: int, settings: LoaderSettings) -> None:
        self._photos, self._views, self._settings = photos, views, settings

    def __iter__(self) -> Iterator[torch.Tensor | DataError]:
        """All batches; in one of n workers, every n-th of them, which is how torch puts them in order again."""
        worker = get_worker_info()
        workers, place = (worker.num_workers, worker.id) if worker else (1, 0)
        size, count = self._settings.batch_size, len(self._photos)
        starts = range(place * size, count, workers * size)
        drawn = self._draw([row for start in starts for row in range(start, min(start + size, count))])
        try:
            while batch := list(islice(drawn, size)):
                yield torch.stack(batch)
        except DataError as error:
            yield error  # raised in a worker, it would arrive with a traceback in its text

    def _draw(self, rows: list[int]) -> Iterator[torch.Tensor]:
        settings = self._settings
        for row, pixels in self._decoded(rows):
            yield draw_views(pixels, settings.transform, self._views, settings.seed, row)

    def _decoded(self, rows: list[int]) -> Iterator[tuple[int, Pixels]]:
        if isinstance(self._photos, LabelledPhotos) and self._photos.pixels is not None:
            yield from ((row, self._photos.pixels[row]) for row in rows)
            return
        for photo in self._photos.encoded(rows):
            try:
                yield photo.row, decode(photo.read(), self._settings.image, OVERSIZE)
            except (ImageError, OSError) as error:
                raise DataError(f"{photo.place} cannot be decoded ({fault(error)}).") from error


def views_in_order(
    photos: LabelledPhotos | ShardedPhotos, views: int, settings: LoaderSettings
) -> Iterator[torch.Tensor]:
    """Random views of every photo, once and in order: uint8 [b, views, 3, h, w]; the last batch may be smaller.

    The draws depend only on the seed and the photo's row. Raises DataError if a photo cannot be decoded.
    """
    return _batches_of(_data_loader(_OrderedViews(photos, views, settings), settings))


def make_train_loader(photos: LabelledPhotos | ShardedPhotos, settings: LoaderSettings) -> FileLoader | ShardLoader:
    return ShardLoader(photos, settings) if isinstance(photos, ShardedPhotos) else FileLoader(photos, settings)


def _share_of(count: int, settings: LoaderSettings) -> tuple[int, int]:
    """Of `count` photos: those in a rank's batch, and the batches per rank. Raises DataError if there is none."""
    world = settings.world
    size = min(settings.batch_size, count // world)
    if not size:
        raise DataError(f"{counted(count, 'photo')} cannot be shared by {world} processes: use fewer processes.")
    return size, count // (size * world)


def _begin_worker(_: int) -> None:
    """Ignore signals, which reach every process of a terminal or of torchrun: the training process decides to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def _data_loader(batches: Dataset[Batch | DataError], settings: LoaderSettings, **options: Any) -> DataLoader[Batch]:
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=settings.workers,
        pin_memory=settings.pin_memory,
        # On Linux workers are forked, so that all share the photos in memory.
        multiprocessing_context="fork" if settings.workers and sys.platform == "linux" else None,
        worker_init_fn=_begin_worker,
        generator=torch.Generator(),  # so that starting an epoch draws nothing from the global one
        **options,
    )


def _batches_of(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """Start the loader and yield its batches. Raises the errors that workers return as values."""
    with warnings.catch_warnings():
        # Python warns of a fork while threads run: a child may wait for their locks. The workers take none of these.
        warnings.simplefilter("ignore", DeprecationWarning)
        batches = iter(loader)
    for batch in batches:
        if isinstance(batch, DataError):
            raise DataError(str(batch))  # a new one: the old one's traceback would keep the workers alive
        yield batch


class _Request(NamedTuple):
    """The batch that a worker is to make. It names the epoch, so that a worker can live longer than one."""

    epoch: int
    views: int
    rows: NDArray[np.int64]


class _RandomViews(Dataset[Batch | DataError]):
    """A batch of photos by request, or the error to raise."""

    def __init__(self, photos: LabelledPhotos, settings: LoaderSettings) -> None:
        self._photos, self._settings = photos, settings

    def __getitem__(self, request: _Request) -> Batch | DataError:
        settings = self._settings
        drawn = []
        for row in request.rows.tolist():
            try:
                pixels = self._pixels(row)
            except (ImageError, OSError) as error:
                # Raised in a worker, it would arrive with a traceback in its text.
                return DataError(f"{self._photos.files[row]} cannot be decoded ({fault(error)}).")
            drawn.append(draw_views(pixels, settings.transform, request.views, settings.seed, request.epoch, row))
        return torch.stack(drawn), torch.from_numpy(self._photos.targets[request.rows])

    def _pixels(self, row: int) -> Pixels:
        if self._photos.pixels is not None:
            return self._photos.pixels[row]
        return decode(self._photos.files[row].read_bytes(), self._settings.image, OVERSIZE)


def _through_buffer(samples: Iterable[Sample], chance: random.Random) -> Iterator[Sample]:
    """Yield a random sample of the full buffer for each new one; at the end, shuffle the buffer."""
    buffer: list[Sample] = []
    for sample in samples:
        if len(buffer) < _SHUFFLE_BUFFER:
            buffer.append(sample)
            continue
        place = chance.randrange(_SHUFFLE_BUFFER)
        buffer[place], sample = sample, buffer[place]
        yield sample
    chance.shuffle(buffer)
    yield from buffer
