"""Photos in order at the model's size, for scoring: as serving decodes them, with no randomness."""

from collections.abc import Iterator

import numpy as np

from labelwise.errors import DataError
from labelwise.image import ImageError
from labelwise.spec import ImageSpec
from training.config import Cache
from training.data.decode import Pixels, decode, fault, keeps, ordered_map
from training.data.labelled_data import EncodedPhoto, LabelledPhotos
from training.data.shard_reader import ShardedPhotos


class EvalBatches:
    """Batches uint8 [b, h, w, 3] of a rank's share of `photos`, in order. The last batch may be smaller.

    Can be iterated any number of times. The first pass decodes in threads, ahead of the consumer, and keeps the pixels
    if `cache` is "memory", or "auto" and they fit; otherwise every pass decodes again. `rows` are the photos of this
    rank: consecutive ones, and the ranks together cover all. Iterating raises DataError if a photo cannot be decoded.
    """

    def __init__(
        self,
        photos: LabelledPhotos | ShardedPhotos,
        image: ImageSpec,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        cache: Cache = "auto",
    ) -> None:
        self.rows = range(len(photos) * rank // world, len(photos) * (rank + 1) // world)
        self._photos, self._image, self._batch_size = photos, image, batch_size
        self._shape = (len(self.rows), image.height, image.width, 3)
        self._keeps = keeps(cache, int(np.prod(self._shape)), world)
        self._kept: Pixels | None = None
        pixels = photos.pixels if isinstance(photos, LabelledPhotos) else None
        if pixels is not None and pixels.shape[1:] == self._shape[1:]:
            self._kept = pixels[self.rows.start : self.rows.stop]

    def __iter__(self) -> Iterator[Pixels]:
        if self._kept is None:
            yield from self._decode()
            return
        for start in range(0, len(self.rows), self._batch_size):
            yield self._kept[start : start + self._batch_size]

    def _decode(self) -> Iterator[Pixels]:
        store = np.empty(self._shape, np.uint8) if self._keeps else None
        decoded = ordered_map(self._load, self._photos.encoded(self.rows), ahead=2 * self._batch_size)
        for start in range(0, len(self.rows), self._batch_size):
            count = min(self._batch_size, len(self.rows) - start)
            batch = np.empty((count, *self._shape[1:]), np.uint8) if store is None else store[start : start + count]
            for place in range(count):
                batch[place] = next(decoded)
            yield batch
        self._kept = store  # only now is it whole

    def _load(self, photo: EncodedPhoto) -> Pixels:
        """Files are read here, in a thread."""
        try:
            return decode(photo.read(), self._image)
        except (ImageError, OSError) as error:
            raise DataError(f"{photo.place} cannot be decoded ({fault(error)}).") from error
