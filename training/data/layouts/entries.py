"""The photos of an export, one entry each, and what every such layout makes of them."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, assemble, counted, some, targets_of_names
from training.data.layouts.splits import OTHER, split_of


@dataclass(frozen=True)
class Entry:
    """A photo with the labels that are present or unknown in it; `split` as `split_of` names it."""

    file: Path
    present: Collection[str]
    unknown: Collection[str] = ()
    split: str | None = None


def entries_to_data(
    entries: Sequence[Entry],
    labels: Sequence[str],
    *,
    layout: str,
    source: Path,
    seed: int,
    notes: Sequence[str] = (),
) -> LabelledData:
    """The labelled data of `entries`. Entries of no or of one split only are split by `seed`. DataError."""
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


def _split_by_folder(entries: Sequence[Entry]) -> tuple[Sequence[Entry], list[str]]:
    """The entries with the splits that their photos' folders are named like, and what to say of that.

    What counts is the folder where the paths part, as in images/train/a.jpg and images/val/b.jpg. Unless each such
    folder is named like a split, and one like train, the entries stay as they are.
    """
    folders = [os.path.abspath(entry.file.parent) for entry in entries]  # noqa: PTH100 (links stay as they are)
    common = os.path.commonpath(folders) if folders else ""
    names = [Path(folder).relative_to(common).parts[:1] for folder in folders]
    splits = [split_of(name[0]) if name else None for name in names]
    found = sorted({name[0] for name, split in zip(names, splits, strict=True) if split})
    if None in splits or "train" not in splits:
        why = "for not every photo is in one of them, or none is for train"
        return entries, [f"The folders {some(found)} do not count as splits, {why}."] if found else []
    with_splits = [replace(entry, split=split) for entry, split in zip(entries, splits, strict=True)]
    return with_splits, [f"The folder of each photo tells its split: {some(found)}."]


def _splits(entries: Sequence[Entry], source: Path) -> tuple[list[str] | None, list[str]]:
    """The split of each entry, or None if they are to be drawn, and what to say of that. DataError."""
    splits = [entry.split for entry in entries if entry.split]
    if not splits:
        return None, []
    if without := len(entries) - len(splits):
        raise DataError(
            f"{source} has {counted(len(splits), 'photo')} in splits such as {splits[0]} and {without} in none: give "
            "every photo a split, or none of them."
        )
    if len(counts := Counter(splits)) == 1:
        return None, [f"Every photo is of {next(iter(counts))}: a fifth of them, drawn with the seed, is val."]
    return splits, []
