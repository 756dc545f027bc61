"""The photos of an export, one entry each, and what every such layout makes of them."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelwise.errors import DataError
from training.data.formats.splits import OTHER
from training.data.labelled import LabelledData, assemble, counted, targets_of_names


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
    used = [entry for entry in entries if entry.split != OTHER]
    told = list(notes)
    if others := len(entries) - len(used):
        told.append(f"Left out: {counted(others, 'photo')} of a folder that is no split to learn from, such as sample.")
    splits, note = _splits(used, source)
    told += note
    targets = targets_of_names(labels, [entry.present for entry in used], [entry.unknown for entry in used])
    data = assemble(labels, [entry.file for entry in used], targets, splits, seed, source)
    listed = tuple(entry.file for entry in entries)
    return replace(data, layout=layout, notes=(*told, *data.notes), listed=listed)


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
