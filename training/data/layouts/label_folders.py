"""A folder per label. The same file in several folders is one photo with several labels."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from labelwise.errors import DataError
from labelwise.label_names import clean_name, some
from training.data.labelled_data import LabelledData, counted
from training.data.layouts.entries import Entry, entries_to_data
from training.data.layouts.folders import (
    OTHER,
    describe_contents,
    files_below,
    is_photo,
    is_unlabelled,
    same_photos,
    split_of,
    subfolders,
)

NAME = "a folder per label"
LAYOUT = "a folder with one folder of photos per label, or with train, val and test that hold them"

# Names that exports give to folders that are not labels.
_STRUCTURE = {
    *("image", "images", "img", "imgs", "photo", "photos", "data", "masks", "label", "labels"),
    *("annotation", "annotations", "jpegimages", "segmentationclass", "segmentationobject"),
}
_JUNK = {"thumbs.db", "desktop.ini"}


@dataclass
class _Labels:
    """The photos of each label in one place, and what else is there."""

    photos: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))
    direct: set[str] = field(default_factory=set)  # labels whose own folder holds photos
    deep: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # folders below a label's own
    no_photos: Counter[str] = field(default_factory=Counter)  # suffixes


def recognises(source: Path) -> bool:
    """Needs two folders with photos, or a split that holds two: one label alone leaves nothing to choose."""
    if not source.is_dir():
        return False
    folders = _label_folders(source)
    splits = [_descend(folder) for folder in folders if split_of(folder.name)]
    labels = {clean_name(folder.name) for split in splits for folder in _label_folders(split)}
    return len(folders) > 1 or len(labels) > 1


def read(source: Path, seed: int) -> LabelledData:
    """A photo, known by name and content, has the labels of the folders that hold it. Raises DataError."""
    splits, notes = _read_splits(source)
    used = [split for split in ("", "train", "val" if "val" in splits else "test") if split in splits]
    labels = sorted({label for split in used for label in splits[split].photos})
    _check_labels(labels, source)
    merged = {split: _merge(found.photos) for split, found in splits.items()}
    _check_apart(merged, source)
    entries = [
        Entry(file, present & {*labels}, split=split or None)
        for split, photos in merged.items()
        for file, present in photos.items()
    ]
    for found in splits.values():
        notes += _notes(found)
    layout = NAME + (f", in folders for {' and '.join(splits)}" if any(splits) else "")
    data = entries_to_data(entries, labels, layout=layout, source=source, seed=seed, notes=[*dict.fromkeys(notes)])
    return replace(
        data, listed=tuple(file for found in splits.values() for files in found.photos.values() for file in files)
    )


def _read_splits(source: Path) -> tuple[dict[str, _Labels], list[str]]:
    """The label folders of each split, under "" if there are no splits, and notes. Raises DataError."""
    folders = _label_folders(source)
    if not any(split_of(folder.name) for folder in folders):
        return {"": _read_labels(folders)}, _without_photos(source)
    inside: dict[str, list[Path]] = defaultdict(list)
    notes = []
    for folder in folders:
        if split := split_of(folder.name):
            place = _descend(folder)
            inside[split] += _label_folders(place)
            notes += _without_photos(place)
    leading = next((split for split in ("train", "val", "test") if split in inside), "train")
    # Where there is no train, a folder beside val may as well be a label, and val another one.
    is_clear = leading == "train" or all(split_of(folder.name) for folder in folders)
    names = {folder.name for folder in inside.get(leading, ())}
    if not is_clear or len(names) < 2:  # one label alone leaves nothing to choose
        raise DataError(_refusal(source, folders))
    splits = {split: _read_labels(found) for split, found in inside.items() if found and split != OTHER}
    return _with_known_labels(splits, leading, notes)


def _without_photos(place: Path) -> list[str]:
    """A note on label folders without photos: they hold other files, or nothing."""
    found = []
    for folder in subfolders(place):
        if not _has_photos(folder):
            kinds = sorted({file.suffix.lower() for file, hidden in files_below(folder) if not hidden})
            found.append(f"{folder.name} ({some(kinds) if kinds else 'empty'})")
    return [f"Left out, because no photo is in them: the folders {some(found)}."] if found else []


def _with_known_labels(
    splits: dict[str, _Labels], leading: str, notes: list[str]
) -> tuple[dict[str, _Labels], list[str]]:
    """Drops splits without any label of the `leading` one: their folders do not say what is on the photos."""
    known = {label.casefold() for label in splits[leading].photos}  # Cat beside cat is a mistake, not another label
    for split in [*splits]:
        if split != leading and not {label.casefold() for label in splits[split].photos} & known:
            names = some(sorted(splits.pop(split).photos))
            notes.append(
                f"{split} has none of the labels of {leading} but {names}, so its photos are of unknown labels."
            )
    return splits, notes


def _refusal(source: Path, folders: list[Path]) -> str:
    splits = [folder for folder in folders if split_of(folder.name)]
    named = [folder.name for folder in splits]
    return (
        f"{source}: {describe_contents(source)}; in {named[0]} {describe_contents(splits[0])}. A folder named like a "
        f"split ({some(named)}) is never a label, and none for train holds a folder per label. If these are splits, "
        "put the folders of labels into train, or give the list that names the labels. If one is a label, give its "
        "folder another name, or list the photos in a CSV (image, labels), where a label may have any name."
    )


def _descend(folder: Path) -> Path:
    """Goes down into train/train, as some archives unpack."""
    inside = subfolders(folder)
    if len(inside) == 1 and split_of(inside[0].name) == split_of(folder.name):
        return _descend(inside[0])
    return folder


def _label_folders(folder: Path) -> list[Path]:
    """Leaves out those such as _unlabeled, whose photos have no label."""
    return [entry for entry in subfolders(folder) if not is_unlabelled(entry.name) and _has_photos(entry)]


def _has_photos(folder: Path) -> bool:
    return any(not hidden and is_photo(file.name) for file, hidden in files_below(folder))


def _check_labels(labels: Iterable[str], source: Path) -> None:
    if odd := [label for label in labels if split_of(label) or label.lower() in _STRUCTURE]:
        raise DataError(
            f"{source} has folders where label folders are expected: {some(odd)}. Exports use such names for folders "
            "of all photos. Give the folder that holds a folder per label or the export's own list, or rename what is "
            "a label."
        )


def _read_labels(folders: Iterable[Path]) -> _Labels:
    found = _Labels()
    for folder in folders:
        label = clean_name(folder.name)
        for file, hidden in files_below(folder):
            if hidden or file.name.lower() in _JUNK:
                continue
            if not is_photo(file.name):
                found.no_photos[file.suffix.lower() or "no suffix"] += 1
                continue
            found.photos[label].append(file)
            if file.parent == folder:
                found.direct.add(label)
            else:
                found.deep[label].add(file.relative_to(folder).parts[0])
    _check_depth(found)
    return found


def _check_depth(found: _Labels) -> None:
    """Subfolders of a label hold its photos, unless they look like splits or like the labels themselves."""
    if splits := sorted({name for names in found.deep.values() for name in names if split_of(name)}):
        raise DataError(
            f"The folders of labels ({some(sorted(found.deep))}) hold folders named like a split ({some(splits)}). "
            "Turn them round: a folder per split that holds a folder per label."
        )
    bare = sorted({*found.deep} - found.direct)
    counts = Counter(name for label in bare for name in found.deep[label])
    if shared := sorted(name for name, count in counts.items() if count > 1):
        raise DataError(
            f"The folders {some(bare)} hold the same folders ({some(shared)}), so either could be the labels. Put the "
            "photos of each label directly into one folder."
        )


def _notes(found: _Labels) -> Iterator[str]:
    if found.deep:
        below = [f"{label} ({', '.join(sorted(names)[:5])})" for label, names in sorted(found.deep.items())]
        yield f"Photos in subfolders of a label have that label: {some(below)}."
    if count := sum(found.no_photos.values()):
        kinds = some([f"{suffix} ({number})" for suffix, number in sorted(found.no_photos.items())])
        yield f"Left out: {counted(count, 'file')} whose names do not end like a photo's: {kinds}."


def _merge(folders: Mapping[str, Iterable[Path]]) -> dict[Path, set[str]]:
    """Each photo once, under the first of its paths, with all its labels."""
    return {copies[0][1]: {label for label, _ in copies} for copies in same_photos(folders)}


def _check_apart(splits: Mapping[str, Iterable[Path]], source: Path) -> None:
    """A photo in both train and val would be scored on what the network has memorised."""
    same = [copies for copies in same_photos(splits) if len(copies) > 1]
    if twice := sorted(str(file.relative_to(source)) for copies in same for _, file in copies):
        raise DataError(f"{source} has photos in more than one split: {some(twice)}. Remove the duplicates.")
