"""Training batches from shards, as a stream: what is held is a buffer of encoded photos per worker, never the set."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from labelwise.errors import DataError
from labelwise.image import ImageError
from labelwise.spec import ImageSpec
from training.augment import OVERSIZE
from training.data.decode import decode, fault
from training.data.file_loader import Batch, FileLoader, batches_of, begin_worker, share_of, worker_context
from training.data.labelled_data import LabelledPhotos, targets_of_names
from training.data.photo_check import Cache, ProgressBar
from training.data.seeding import derive_seed
from training.data.shard_reader import Sample, ShardedPhotos, read_rows
from training.data.views import Transform, draw_views

_SHUFFLE_BUFFER = 1024


class ShardLoader:
    """Batches of a rank's share of photos in shards; the same interface as TrainLoader.

    Each epoch lays the shards end to end in an order of its own and cuts that sequence into equal parts, one for each
    worker of each rank: every photo is seen at most once an epoch, however many shards there are, and a shard that is
    cut is read by both sides. Within its part a worker shuffles through a buffer of 1024 encoded photos. Batches depend
    on run, epoch, ranks and the number of workers, on nothing else.
    """

    def __init__(
        self,
        photos: ShardedPhotos,
        image: ImageSpec,
        transform: Transform,
        *,
        batch_size: int,
        workers: int,
        seed: int,
        pin_memory: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._stream = _Stream(photos, image, transform, seed, share_of(len(photos), batch_size, world), rank)
        self._workers, self._pin_memory = workers, pin_memory

    def __len__(self) -> int:
        """Batches an epoch, on each rank."""
        return self._stream.batches

    def epoch(self, number: int, views: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from the `skip`-th on; those before it are read but not decoded.

        Yields uint8 [b, views, 3, h, w] and float32 targets [b, l]. The global random generators are left as they are.
        A shard or photo that cannot be read raises DataError.
        """
        self._stream.number, self._stream.views, self._stream.skip = number, views, skip
        loader: DataLoader[Batch] = DataLoader(
            self._stream,
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            multiprocessing_context=worker_context(self._workers),
            worker_init_fn=begin_worker,
            generator=torch.Generator(),
        )
        yield from batches_of(loader)


def make_train_loader(
    photos: LabelledPhotos | ShardedPhotos,
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
) -> FileLoader | ShardLoader:
    """The loader for `photos`; shards are streamed, so that `cache` and what goes with it do not concern them."""
    common = {"batch_size": batch_size, "workers": workers, "seed": seed, "pin_memory": pin_memory}
    if isinstance(photos, ShardedPhotos):
        return ShardLoader(photos, image, transform, **common, rank=rank, world=world)
    memory = {"cache": cache, "skip_broken": skip_broken, "progress": progress}
    return FileLoader(photos, image, transform, **common, **memory, rank=rank, world=world)


class _Stream(IterableDataset[Batch | DataError]):
    """The batches of one rank; in a worker, every so-manieth of them."""

    def __init__(
        self,
        photos: ShardedPhotos,
        image: ImageSpec,
        transform: Transform,
        seed: int,
        share: tuple[int, int],
        rank: int,
    ) -> None:
        self.size, self.batches = share
        self._photos, self._image, self._transform, self._seed, self._rank = photos, image, transform, seed, rank
        self.number, self.views, self.skip = 0, 1, 0

    def __iter__(self) -> Iterator[Batch | DataError]:
        worker = get_worker_info()
        workers, place = (worker.num_workers, worker.id) if worker else (1, 0)
        # torch takes the first batch from worker 0, but after `skip` batches it is the turn of another part.
        part = (place + self.skip) % workers
        try:
            samples = self._shuffled(*self._bounds(part, workers))
            for _ in islice(samples, len(range(part, self.skip, workers)) * self.size):
                pass  # before `skip`: read, as the buffer needs them, but never decoded
            while batch := list(islice(samples, self.size)):
                yield self._batch(batch)
        except DataError as error:
            yield error  # raised in a worker it would arrive with a traceback in its text

    def _bounds(self, part: int, workers: int) -> tuple[int, int]:
        """Where this part's photos begin and end in the epoch's sequence; worker i has the batches i, i + workers, …"""
        before = sum(len(range(other, self.batches, workers)) for other in range(part))
        start = (self._rank * self.batches + before) * self.size
        return start, start + len(range(part, self.batches, workers)) * self.size

    def _shuffled(self, start: int, stop: int) -> Iterator[Sample]:
        order = np.random.default_rng(derive_seed(self._seed, self.number, "shards"))
        shards = [self._photos.shards[index] for index in order.permutation(len(self._photos.shards))]
        chance = random.Random(derive_seed(self._seed, self.number, "buffer", start))
        return _through_buffer(read_rows(shards, start, stop), chance)

    def _batch(self, samples: list[Sample]) -> Batch:
        views = torch.stack([self._draw(sample) for sample in samples])
        known = set(self._photos.labels)
        present = [known.intersection(sample.present) for sample in samples]
        unknown = [known.intersection(sample.unknown) for sample in samples]
        return views, torch.from_numpy(targets_of_names(self._photos.labels, present, unknown))

    def _draw(self, sample: Sample) -> torch.Tensor:
        try:
            pixels = decode(sample.data, self._image, OVERSIZE)
        except ImageError as error:
            raise DataError(f"{sample.place} cannot be decoded ({fault(error)}).") from error
        return draw_views(pixels, self._transform, self.views, self._seed, self.number, sample.index)


def _through_buffer(samples: Iterable[Sample], chance: random.Random) -> Iterator[Sample]:
    """Each sample changes places with a random one of a full buffer; at the end the buffer is shuffled."""
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
