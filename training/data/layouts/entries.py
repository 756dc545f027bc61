"""The photos of an export, one entry per photo, and the labelled data that every such layout makes of them."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelwise.errors import DataError
from labelwise.label_names import some
from training.data.labelled_data import LabelledData, assemble, counted, targets_of_names
from training.data.layouts.folders import OTHER, split_of


@dataclass(frozen=True)
class Entry:
    """A photo with its present and unknown labels; `split` is named as by `split_of`."""

    file: Path
    present: Collection[str]
    unknown: Collection[str] = ()
    split: str | None = None


def entries_to_data(
    entries: Sequence[Entry],
    labels: Sequence[str] | None = None,
    *,
    layout: str,
    source: Path,
    seed: int,
    notes: Sequence[str] = (),
) -> LabelledData:
    """The labelled data of `entries`. Without `labels` they are all that the entries name, sorted.

    Entries that name no split, or only one, are split by `seed`. Raises DataError.
    """
    if labels is None:
        labels = sorted({label for entry in entries for label in (*entry.present, *entry.unknown)})
    told = list(notes)
    if not any(entry.split for entry in entries):
        entries, note = _split_by_folder(entries)
        told += note
    used = [entry for entry in entries if entry.split != OTHER]
    if others := len(entries) - len(used):
        told.append(f"Left out: {counted(others, 'photo')} of a folder that is no split to learn from, such as sample.")
    splits, note = _splits(used, source)
    told += note
    targets = targets_of_names(labels, [entry.present for entry in used], [entry.unknown for entry in used])
    data = assemble(labels, [entry.file for entry in used], targets, splits, seed, source)
    listed = tuple(entry.file for entry in entries)
    return replace(data, layout=layout, notes=(*told, *data.notes), listed=listed)


def name_files(name: str, files: Sequence[Path], source: Path) -> str:
    """What was read, for the user: the layout's name, and the files relative to the folder of `source`."""
    folder = source if source.is_dir() else source.parent
    return f"{name} ({some([str(file.relative_to(folder)) for file in files])})"


def _split_by_folder(entries: Sequence[Entry]) -> tuple[Sequence[Entry], list[str]]:
    """Take the splits from the names of the photos' folders. Returns the entries and a note.

    The first folders in which the paths differ count, as in images/train/a.jpg and images/val/b.jpg. Leaves the entries
    as they are unless every such folder is named like a split, and one of them like train.
    """
    folders = [os.path.abspath(entry.file.parent) for entry in entries]  # noqa: PTH100 (links stay as they are)
    common = os.path.commonpath(folders) if folders else ""
    names = [Path(folder).relative_to(common).parts[:1] for folder in folders]
    splits = [split_of(name[0]) if name else None for name in names]
    found = sorted({name[0] for name, split in zip(names, splits, strict=True) if split})
    if None in splits or "train" not in splits:
        why = "because not every photo is in one of them, or none is for train"
        return entries, [f"The folders {some(found)} do not count as splits {why}."] if found else []
    with_splits = [replace(entry, split=split) for entry, split in zip(entries, splits, strict=True)]
    return with_splits, [f"The folder of each photo tells its split: {some(found)}."]


def _splits(entries: Sequence[Entry], source: Path) -> tuple[list[str] | None, list[str]]:
    """The split of each entry, or None if they must be drawn, and a note. Raises DataError."""
    splits = [entry.split for entry in entries if entry.split]
    if not splits:
        return None, []
    if without := len(entries) - len(splits):
        raise DataError(
            f"{source} has {counted(len(splits), 'photo')} in splits such as {splits[0]} and {without} in none: give "
            "every photo a split, or none of them."
        )
    if len(counts := Counter(splits)) == 1:
        (split,) = counts
        all_of_them = "" if split == "train" else "; `labelwise evaluate --split all` scores all"
        return None, [f"Every photo is of {split}: a fifth of them, drawn with the seed, is val{all_of_them}."]
    return splits, []
