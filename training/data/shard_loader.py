"""Training batches from a stream of shards. In memory is only a buffer of encoded photos per worker."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from labelwise.errors import DataError
from labelwise.image import ImageError
from training.augment import OVERSIZE, draw_views
from training.data.decode import decode, fault
from training.data.file_loader import (
    Batch,
    FileLoader,
    LoaderSettings,
    batches_of,
    begin_worker,
    share_of,
    worker_context,
)
from training.data.labelled_data import LabelledPhotos, targets_of_names
from training.data.photo_check import Cache
from training.data.shard_reader import Sample, ShardedPhotos, read_rows
from training.seeding import derive_seed

_SHUFFLE_BUFFER = 1024


class ShardLoader:
    """Batches of a rank's share of photos in shards; the same interface as FileLoader.

    Each epoch lays the shards end to end in another order and cuts this sequence into equal parts, one for each worker
    of each rank. So every photo is seen at most once per epoch, whatever the number of shards; if a cut goes through a
    shard, both sides read it. Within its part a worker shuffles through a buffer of 1024 encoded photos. Batches depend
    only on run, epoch, ranks and the number of workers.
    """

    def __init__(self, photos: ShardedPhotos, settings: LoaderSettings) -> None:
        self._stream, self._settings = _ShardStream(photos, settings), settings

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return self._stream.batches

    def epoch(self, number: int, views: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `skip`-th on. Those before it are read but not decoded.

        Yields uint8 [b, views, 3, h, w] and float32 targets [b, l]. Leaves the global random generators as they are.
        Raises DataError if a shard or photo cannot be read.
        """
        self._stream.number, self._stream.views, self._stream.skip = number, views, skip
        loader: DataLoader[Batch] = DataLoader(
            self._stream,
            batch_size=None,
            num_workers=self._settings.workers,
            pin_memory=self._settings.pin_memory,
            multiprocessing_context=worker_context(self._settings.workers),
            worker_init_fn=begin_worker,
            generator=torch.Generator(),
        )
        yield from batches_of(loader)


def make_train_loader(
    photos: LabelledPhotos | ShardedPhotos, settings: LoaderSettings, cache: Cache = "auto"
) -> FileLoader | ShardLoader:
    """The loader for `photos`. Shards are streamed, so `cache` does not apply to them."""
    if isinstance(photos, ShardedPhotos):
        return ShardLoader(photos, settings)
    return FileLoader(photos, settings, cache)


class _ShardStream(IterableDataset[Batch | DataError]):
    """The batches of one rank; in one of n workers, every n-th of them."""

    def __init__(self, photos: ShardedPhotos, settings: LoaderSettings) -> None:
        self.size, self.batches = share_of(len(photos), settings.batch_size, settings.world)
        self._photos, self._settings = photos, settings
        self.number, self.views, self.skip = 0, 1, 0

    def __iter__(self) -> Iterator[Batch | DataError]:
        worker = get_worker_info()
        workers, place = (worker.num_workers, worker.id) if worker else (1, 0)
        # torch takes the first batch from worker 0, but after `skip` batches another part is next.
        part = (place + self.skip) % workers
        try:
            samples = self._shuffled(*self._bounds(part, workers))
            for _ in islice(samples, len(range(part, self.skip, workers)) * self.size):
                pass  # before `skip`: the buffer needs them, but they are never decoded
            while batch := list(islice(samples, self.size)):
                yield self._batch(batch)
        except DataError as error:
            yield error  # raised in a worker, it would arrive with a traceback in its text

    def _bounds(self, part: int, workers: int) -> tuple[int, int]:
        """Start and end of this part in the epoch's sequence. Worker i has the batches i, i + workers, …"""
        before = sum(len(range(other, self.batches, workers)) for other in range(part))
        start = (self._settings.rank * self.batches + before) * self.size
        return start, start + len(range(part, self.batches, workers)) * self.size

    def _shuffled(self, start: int, stop: int) -> Iterator[Sample]:
        order = np.random.default_rng(derive_seed(self._settings.seed, self.number, "shards"))
        shards = [self._photos.shards[index] for index in order.permutation(len(self._photos.shards))]
        chance = random.Random(derive_seed(self._settings.seed, self.number, "buffer", start))
        return _through_buffer(read_rows(shards, start, stop), chance)

    def _batch(self, samples: list[Sample]) -> Batch:
        views = torch.stack([self._draw(sample) for sample in samples])
        known = set(self._photos.labels)
        present = [known.intersection(sample.present) for sample in samples]
        unknown = [known.intersection(sample.unknown) for sample in samples]
        return views, torch.from_numpy(targets_of_names(self._photos.labels, present, unknown))

    def _draw(self, sample: Sample) -> torch.Tensor:
        try:
            pixels = decode(sample.data, self._settings.image, OVERSIZE)
        except ImageError as error:
            raise DataError(f"{sample.place} cannot be decoded ({fault(error)}).") from error
        settings = self._settings
        return draw_views(pixels, settings.transform, self.views, settings.seed, self.number, sample.index)


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
