"""Photos with none of the labels, from a folder: with them a tagger learns to say nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelwise.errors import DataError
from labelwise.label_names import some
from training.data.labelled_data import ABSENT, LabelledData, LabelledPhotos, counted, draw_val
from training.data.layouts.folders import describe_contents, photos_below, same_photos
from training.data.shard_reader import ShardedData


def with_background(data: LabelledData, folder: Path, seed: int) -> LabelledData:
    """`data` with the photos below `folder`, for which all its labels are absent.

    They are split as photos without splits are: a fifth of them, drawn with `seed`, joins val. If `data` has only one
    split, all join it. Raises DataError.
    """
    if isinstance(data, ShardedData):
        raise DataError("No --background can be added to shards: give it to `labelwise shards`, which writes it, too.")
    files = photos_below(folder) if folder.is_dir() else []
    if len(files) < 2:
        raise DataError(f"--background needs a folder with two photos or more. {folder}: {describe_contents(folder)}.")
    _check_unlabelled(files, data.listed, folder)
    everything, nothing = [*range(len(files))], list[int]()
    if not len(data.train) or not len(data.val):
        rows = (everything, nothing) if len(data.train) else (nothing, everything)
    else:
        rows = draw_val(len(files), seed)
    train, val = ([files[row] for row in split] for split in rows)
    note = (
        f"Background from {folder}, with none of the labels: {counted(len(train), 'photo')} to train on + {len(val)} "
        "for val."
    )
    return replace(
        data,
        train=_joined(data.train, train),
        val=_joined(data.val, val),
        notes=(*data.notes, note),
        listed=(*data.listed, *files),
    )


def _check_unlabelled(files: Sequence[Path], listed: Sequence[Path], folder: Path) -> None:
    """A photo that is labelled, too, would teach the opposite."""
    same = same_photos({"labelled": listed, "background": files})
    both = [copies for copies in same if len({origin for origin, _ in copies}) > 1]
    if names := [str(file.relative_to(folder)) for copies in both for origin, file in copies if origin == "background"]:
        raise DataError(f"{folder} (--background) holds photos that are also labelled: {some(names)}. Take them out.")


def _joined(photos: LabelledPhotos, files: Sequence[Path]) -> LabelledPhotos:
    absent = np.full((len(files), photos.targets.shape[1]), ABSENT, np.float32)
    return LabelledPhotos((*photos.files, *files), np.concatenate([photos.targets, absent]))  # -> n + files, l
