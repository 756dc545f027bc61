"""Decodes every photo once before the first epoch, and names all that are missing or broken."""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from labelwise.errors import DataError
from labelwise.image import ImageError, Photo, load_photo
from labelwise.label_names import some
from labelwise.spec import ImageSpec
from training.augment import OVERSIZE
from training.config import Cache
from training.data.decode import Pixels, fault, keeps, ordered_map, scaled
from training.data.labelled_data import LabelledData, LabelledPhotos, counted, summary
from training.data.shard_reader import ShardedData, check_shards

ProgressBar = Callable[[Iterable[Any]], Iterable[Any]]

# A JPEG is checked at a reduced size: all its bytes are read, but fewer pixels are computed.
_CHECK_SIDE = 128


def check_photos(
    data: LabelledData,
    *,
    skip_broken: bool = False,
    progress: ProgressBar = iter,
    image: ImageSpec | None = None,
    cache: Cache = "none",
    processes: int = 1,
    say: Callable[[str], None] = print,
) -> LabelledData:
    """Decode every photo once, in threads. Returns `data`; with `skip_broken` without missing and broken photos.

    With `image`, and if `cache` allows, keeps the pixels for the loaders: train at OVERSIZE times the model's size, val
    at its size. `progress` wraps one pass over train and val together. `say` gets the summary of `data`, once, what was
    left out, and the photos whose colours had to be assumed. The photos of shards were decoded when they were written;
    here it checks that the shards are there.

    Raises DataError, which names the missing and broken photos, or the split that lost all of its photos.
    """
    if isinstance(data, ShardedData):
        check_shards(data)
    if data.layout or data.notes:
        for line in summary(data):
            say(line)
        data = replace(data, layout="", notes=(), listed=())  # said once
    if isinstance(data, ShardedData):
        return data
    (train, val), faults, noted = _decode_splits(data, image, cache, processes, progress)
    if faults:
        found = f"{counted(len(faults), 'photo')} cannot be decoded: {some(faults)}."
        if not skip_broken:
            raise DataError(f"{found} Repair them, or leave them out with --skip-broken.")
        say(f"Left out: {found}")
    if noted:
        say(f"Of {counted(len(noted), 'photo')} the colours had to be assumed: {some(noted)}")
    if any(len(listed) and not len(left) for listed, left in ((data.train, train), (data.val, val))):
        raise DataError("No photo of train or none of val can be decoded: look at the files.")
    return replace(data, train=train, val=val)


def _decode_splits(
    data: LabelledData, image: ImageSpec | None, cache: Cache, processes: int, progress: ProgressBar
) -> tuple[list[LabelledPhotos], list[str], list[str]]:
    """The photos of each split that decode, with the pixels that `cache` lets keep; all faults and notes."""
    jobs: list[tuple[Path, ImageSpec | None, float]] = []
    stores: list[Pixels | None] = []
    size = 0
    for photos, scale in ((data.train, OVERSIZE), (data.val, 1.0)):
        shape = (len(photos), *scaled(image, scale), 3) if image else ()
        size += math.prod(shape)
        is_kept = image is not None and keeps(cache, size, processes)
        stores.append(np.empty(shape, np.uint8) if is_kept else None)
        # Only what is kept needs its full size; a small one is cheaper.
        jobs += [(file, image if is_kept else None, scale) for file in photos.files]
    results = ordered_map(_try_decode, progress(jobs))
    checked, faults, noted = [], [], []
    for photos, store in zip((data.train, data.val), stores, strict=True):
        good, bad, odd = _collect(islice(results, len(photos)), photos, store)
        checked.append(good)
        faults += bad
        noted += odd
    return checked, faults, noted


def _try_decode(job: tuple[Path, ImageSpec | None, float]) -> Photo | str:
    """The photo at the given size, or at a small one; the fault if it cannot be decoded."""
    file, image, scale = job
    try:
        if image is None:
            return load_photo(_read(file), _CHECK_SIDE, _CHECK_SIDE)
        return load_photo(_read(file), *scaled(image, scale), image.resize, image.interpolation)
    except (ImageError, OSError) as error:
        return fault(error)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except ValueError as error:  # no file can have such a name
        raise FileNotFoundError from error


def _collect(
    results: Iterator[Photo | str], photos: LabelledPhotos, store: Pixels | None
) -> tuple[LabelledPhotos, list[str], list[str]]:
    """The photos that decoded, with their pixels in `store` if given, the faults of the others, and the notes."""
    good: list[int] = []
    bad: dict[Path, str] = {}
    odd: dict[Path, str] = {}
    for row, (result, file) in enumerate(zip(results, photos.files, strict=True)):
        if isinstance(result, str):
            bad[file] = result
            continue
        if store is not None:
            store[len(good)] = result.pixels
        if result.notes:
            odd[file] = " ".join(result.notes)
        good.append(row)
    kept = photos.subset(good) if bad else photos
    # Names relative to the common folder are short, and still tell cat/1.jpg from dog/1.jpg.
    root = os.path.commonpath([file.parent.absolute() for file in photos.files]) if bad or odd else ""
    faults, notes = (
        [f"{file.absolute().relative_to(root)} ({why})" for file, why in found.items()] for found in (bad, odd)
    )
    return replace(kept, pixels=None if store is None else store[: len(good)]), faults, notes
