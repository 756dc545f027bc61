"""A folder per label; the same file under several labels is one photo with several labels."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from labelwise.errors import DataError
from labelwise.image import SUFFIXES
from labelwise.spec import sha256_of
from training.data.labelled import SPLITS, LabelledData, assemble, some, targets_of_names

LAYOUT = "a folder with one folder of photos per label, or with train, val and test that hold them"


Folders = dict[str, list[Path]]  # the photos of each label


def recognises(source: Path) -> bool:
    """One folder of photos alone is no choice between labels."""
    return len({label for folders in _read_splits(source).values() for label in folders}) > 1


def read(source: Path, seed: int) -> LabelledData:
    """A photo has the labels of the folders it lies in, by name and content; all others are absent. DataError."""
    splits = _read_splits(source)
    labels = sorted({label for folders in splits.values() for label in folders})
    merged = {split: _merge(folders) for split, folders in splits.items()}
    _check_apart(merged, source)
    files = [file for photos in merged.values() for file in photos]
    present = [found for photos in merged.values() for found in photos.values()]
    names = [split for split, photos in merged.items() for _ in photos]
    targets = targets_of_names(labels, present, [()] * len(files))
    return assemble(labels, files, targets, names if len(splits) > 1 else None, seed, source)


def _read_splits(source: Path) -> dict[str, Folders]:
    """Per split the label folders; without train and one to score by all is one."""
    if not source.is_dir():
        return {}
    inside: dict[str, Folders] = {}
    for folder in sorted(source.iterdir()):
        for label, photos in _read_labels(folder).items() if folder.name.lower() in SPLITS else ():
            inside.setdefault(SPLITS[folder.name.lower()], defaultdict(list))[label] += photos
    if "train" in inside and len(inside) > 1:
        return inside
    return {"": _read_labels(source)}


def _read_labels(source: Path) -> Folders:
    if not source.is_dir():
        return {}
    folders = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    found = {folder.name: sorted(file for file in folder.iterdir() if _is_photo(file)) for folder in folders}
    return {label: photos for label, photos in found.items() if photos}


def _is_photo(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _merge(folders: Folders) -> dict[Path, set[str]]:
    """Each photo once, under the first of its paths, with all its labels."""
    merged: dict[Path, set[str]] = {}
    for copies in _namesakes(folders):
        first: dict[str, Path] = {}  # by content; only where there are copies at all does that need reading
        for label, file in copies:
            content = _content(file) if len(copies) > 1 else ""
            merged.setdefault(first.setdefault(content, file), set()).add(label)
    return merged


def _check_apart(splits: Mapping[str, Iterable[Path]], source: Path) -> None:
    """A photo of train that is in val as well would be scored on what was learned by heart."""
    twice: list[str] = []
    for copies in _namesakes(splits):
        paths: dict[str, list[Path]] = defaultdict(list)  # by content
        for _, file in copies if len(copies) > 1 else ():
            paths[_content(file)].append(file)
        twice += [str(file.relative_to(source)) for same in paths.values() if len(same) > 1 for file in same]
    if twice:
        raise DataError(f"{source} has photos in more than one split: {some(sorted(twice))}. Remove the duplicates.")


def _namesakes(folders: Mapping[str, Iterable[Path]]) -> Iterable[list[tuple[str, Path]]]:
    """The files that share name and size, so that only what may be one photo has to be read; each with its key."""
    found: dict[tuple[str, int], list[tuple[str, Path]]] = defaultdict(list)
    for key, files in folders.items():
        for file in files:
            found[file.name, _size(file)].append((key, file))
    return found.values()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _content(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError:  # a file that cannot be read is a photo of its own, which `check_photos` will report
        return str(file)
