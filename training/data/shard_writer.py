"""`labelwise shards`: writes labelled photos of any layout into WebDataset shards."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from rich import print as rich_print
from rich.progress import track
from webdataset import ShardWriter

from labelwise.errors import DataError
from labelwise.files import write_atomically
from training.data.labelled_data import (
    PRESENT,
    UNKNOWN,
    LabelledData,
    LabelledPhotos,
    check_case,
    count_present,
    counted,
)
from training.data.layouts import read_data
from training.data.photo_check import ProgressBar, check_photos
from training.data.shard_reader import INDEX_FILE, ShardedData, ShardEntry, ShardIndex, SplitEntry
from training.seeding import derive_seed

_ANY_NUMBER = 2**62  # photos per shard: only its size is limited


def make_shards(
    source: Path, to: Path, max_bytes: int, skip_broken: bool = False, background: Path | None = None
) -> None:
    """Read and check the photos of `source` and write them into shards of about `max_bytes` each. Raises DataError.

    The photos of `background`, which have none of the labels, are written, too.
    """
    data = read_data(source, background=background)
    _check_target(data, to)
    check_case(data)
    data = check_photos(data, skip_broken=skip_broken, progress=_bar("Checking photos"))
    write_shards(data, to, max_bytes, _bar("Writing shards"))
    rich_print(f"{counted(len(data.train), 'photo')} to train on and {len(data.val)} for val, in shards in {to}.")


def write_shards(data: LabelledData, to: Path, max_bytes: int, progress: ProgressBar = iter) -> None:
    """Write `data` into the new or empty folder `to`, in shards of about `max_bytes`; `shard_reader` has the format.

    Copies the files unchecked, so call `check_photos` first. Shuffles train, because a reader shuffles only within its
    buffer. Writes dataset.json last: without it there is no data set. Removes what it wrote if it fails or is
    interrupted. Raises DataError.
    """
    _check_target(data, to)
    order = np.random.default_rng(derive_seed("shards")).permutation(len(data.train)).tolist()
    splits = {"train": data.train.subset(order), "val": data.val}
    with _new_folder(to):
        shards = _write_tars(splits, data.labels, to, max_bytes, progress)
        entries = {split: _describe(split, photos, data.labels, to, shards[split]) for split, photos in splits.items()}
        index = ShardIndex(labels=data.labels, fingerprint=data.describe().fingerprint, **entries)
        write_atomically(to / INDEX_FILE, (index.model_dump_json(indent=1) + "\n").encode())


def _check_target(data: LabelledData, to: Path) -> None:
    if isinstance(data, ShardedData):
        raise DataError("The data is in shards already.")
    try:
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise DataError(f"{to} is not an empty folder: choose another one.")
    except OSError as error:
        raise DataError(f"{to} cannot be a folder of shards: {error.strerror}.") from error


@contextmanager
def _new_folder(to: Path) -> Iterator[None]:
    """Make the folder `to`. If the block fails or is interrupted, leave it as it was: empty or missing."""
    was_there = to.exists()
    try:
        to.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        with suppress(OSError):
            for pattern in ("train-*", "val-*", f"*{INDEX_FILE}*"):
                for file in to.glob(pattern):
                    file.unlink()
            if not was_there:
                to.rmdir()
        if isinstance(error, OSError):
            raise DataError(f"Shards cannot be written to {to}: {error.strerror or error}.") from error
        raise


def _write_tars(
    splits: dict[str, LabelledPhotos], labels: tuple[str, ...], to: Path, max_bytes: int, progress: ProgressBar
) -> dict[str, Counter[str]]:
    """Per split the names of its shards, in order, with the number of photos in each."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in splits}
    with ExitStack() as stack:
        writers = {split: stack.enter_context(_open_writer(to, split, max_bytes)) for split in splits}
        for split, row in progress([(split, row) for split, photos in splits.items() for row in range(len(photos))]):
            writers[split].write(_sample(splits[split], labels, row))
            counts[split][writers[split].fname] += 1
    return counts


@contextmanager
def _open_writer(to: Path, split: str, max_bytes: int) -> Iterator[ShardWriter]:
    opened: list[IO[bytes]] = []  # the shard being written; ShardWriter itself would leave it open if closing failed

    def open_next(name: str) -> IO[bytes]:
        opened[:] = [(to / name).open("wb")]
        return opened[0]

    writer = ShardWriter(
        f"{split}-%06d.tar",
        maxcount=_ANY_NUMBER,
        maxsize=max_bytes,
        verbose=0,
        opener=open_next,
        post=lambda _: opened[0].close(),
        encoder=False,
        mtime=0,  # the same photos make the same shards
    )
    try:
        yield writer
        writer.close()
    except BaseException:
        with suppress(OSError):
            writer.close()
        for stream in opened:
            with suppress(OSError):
                stream.close()
        raise


def _describe(
    split: str, photos: LabelledPhotos, labels: tuple[str, ...], to: Path, counts: Counter[str]
) -> SplitEntry:
    """Write the split's targets and describe it for dataset.json."""
    targets = f"{split}-targets.npy"
    stored = io.BytesIO()  # NumPy itself does not notice a full disk
    np.save(stored, photos.targets.astype(np.int8))
    (to / targets).write_bytes(stored.getvalue())
    shards = [ShardEntry(file=file, photos=count, bytes=(to / file).stat().st_size) for file, count in counts.items()]
    return SplitEntry(targets=targets, present=count_present(labels, photos.targets), shards=tuple(shards))


def _sample(photos: LabelledPhotos, labels: tuple[str, ...], row: int) -> dict[str, str | bytes]:
    file, target = photos.files[row], photos.targets[row]
    named = {
        "image": file.name,
        "labels": [label for label, value in zip(labels, target, strict=True) if value == PRESENT],
        "unknown": [label for label, value in zip(labels, target, strict=True) if value == UNKNOWN],
    }
    try:
        photo = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    return {
        "__key__": f"{row:09d}",
        file.suffix[1:].lower() or "image": photo,
        "json": json.dumps(named, ensure_ascii=False).encode(errors="replace"),
    }


def _bar(title: str) -> ProgressBar:
    return partial(track, description=title, transient=True)
