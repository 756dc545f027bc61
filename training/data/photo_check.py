"""Decodes every photo once before the first epoch, and names all that are missing or broken."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from labelwise.errors import DataError
from labelwise.image import ImageError, Photo, load_photo
from labelwise.spec import ImageSpec
from training.augment import OVERSIZE
from training.data.decode import Pixels, fault, fits_in_memory, ordered_map, scaled
from training.data.labelled_data import LabelledData, LabelledPhotos, counted, some, summary
from training.data.shard_reader import ShardedPhotos, check_shards

Cache = Literal["auto", "memory", "none"]
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
    at its size; "auto" as in `keep_pixels`. `progress` wraps one pass over train and val together. `say` gets the
    summary of `data`, once, what was left out, and the photos whose colours had to be assumed. The photos of shards
    were decoded when they were written; here it checks that the shards are there.

    Raises DataError, which names the missing and broken photos, or the split that lost all of its photos.
    """
    is_sharded = isinstance(data.train, ShardedPhotos) or isinstance(data.val, ShardedPhotos)
    if is_sharded:
        check_shards(data)
    if data.layout or data.notes:
        for line in summary(data):
            say(line)
        data = replace(data, layout="", notes=(), listed=())  # said once
    if is_sharded:
        return data
    splits = ((data.train, OVERSIZE), (data.val, 1.0))
    keeps = image is not None and _keeps(
        sum(_bytes(len(photos), image, scale) for photos, scale in splits), cache, processes
    )
    (train, val), faults, noted = _decode_splits(splits, image if keeps else None, progress)
    _report(faults, skip_broken, say)
    if noted:
        say(f"Of {counted(len(noted), 'photo')} the colours had to be assumed: {some(noted)}")
    if not len(train) or not len(val):
        raise DataError("No photo of train or none of val can be decoded: look at the files.")
    return replace(data, train=train, val=val)


def _decode_splits(
    splits: Sequence[tuple[LabelledPhotos, float]], size: ImageSpec | None, progress: ProgressBar
) -> tuple[list[LabelledPhotos], list[str], list[str]]:
    """The photos of each split that decode, and all faults and notes.

    Keeps their pixels at `size`. Without it, decodes each photo at a small size, which is cheaper.
    """
    jobs = [(file, size, scale) for photos, scale in splits for file in photos.files]
    results = iter(progress(ordered_map(_try_decode, jobs)))
    checked, faults, noted = [], [], []
    for photos, scale in splits:
        store = _empty(len(photos), size, scale) if size else None
        good, bad, odd = _collect(islice(results, len(photos)), photos, store)
        checked.append(good)
        faults += bad
        noted += odd
    for _ in results:  # there are none left, but a progress bar must see the end
        pass
    return checked, faults, noted


def keep_pixels(
    photos: LabelledPhotos, image: ImageSpec, scale: float, cache: Cache, processes: int = 1
) -> LabelledPhotos:
    """`photos` with their pixels at `scale` if they have them or `cache` allows, otherwise without pixels.

    "auto" keeps what fits into a quarter of this machine's free memory in each of `processes`. Raises DataError.
    """
    if photos.pixels is not None and photos.pixels.shape[1:3] == scaled(image, scale) and cache != "none":
        return photos
    if not _keeps(_bytes(len(photos), image, scale), cache, processes):
        return replace(photos, pixels=None)
    results = ordered_map(_try_decode, [(file, image, scale) for file in photos.files])
    good, faults, _ = _collect(results, photos, _empty(len(photos), image, scale))
    _report(faults, skip_broken=False)
    return good


def _keeps(size: int, cache: Cache, processes: int = 1) -> bool:
    return cache == "memory" or (cache == "auto" and fits_in_memory(size, processes))


def _bytes(count: int, image: ImageSpec, scale: float) -> int:
    height, width = scaled(image, scale)
    return count * height * width * 3


def _empty(count: int, image: ImageSpec, scale: float) -> Pixels:
    return np.empty((count, *scaled(image, scale), 3), np.uint8)


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
    bad: dict[int, str] = {}
    odd: dict[int, str] = {}
    for row, result in enumerate(results):
        if isinstance(result, str):
            bad[row] = result
            continue
        if store is not None:
            store[len(good)] = result.pixels
        if result.notes:
            odd[row] = " ".join(result.notes)
        good.append(row)
    kept = photos.subset(good) if bad else photos
    root = _common_folder(photos.files) if bad or odd else ""
    faults, notes = (
        [f"{photos.files[row].relative_to(root)} ({reason})" for row, reason in found.items()] for found in (bad, odd)
    )
    return replace(kept, pixels=None if store is None else store[: len(good)]), faults, notes


def _report(faults: Sequence[str], skip_broken: bool, say: Callable[[str], None] = print) -> None:
    if not faults:
        return
    found = f"{counted(len(faults), 'photo')} cannot be decoded: {some(faults)}."
    if not skip_broken:
        raise DataError(f"{found} Repair them, or leave them out with --skip-broken.")
    say(f"Left out: {found}")


def _common_folder(files: Sequence[Path]) -> str:
    """Names relative to it are short, and still tell cat/1.jpg from dog/1.jpg."""
    return os.path.commonpath([file.parent for file in files]) if files else ""
