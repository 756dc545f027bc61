"""Folders of photos: which are named like a split, which files are below them, and what is left out."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from labelwise.errors import DataError
from labelwise.files import sha256_of
from labelwise.image import SUFFIXES
from labelwise.label_names import some
from labelwise.program_folders import program_in
from training.data.labelled_data import SPLITS, counted

T = TypeVar("T")

OTHER = "other"  # photos that belong to no split, such as the sample of a competition
# Folders of FiftyOne, CVAT and others for photos without a label, beside the label folders.
_UNLABELLED = {"unlabeled", "unlabelled", "nolabel", "nolabels"}
_SPLIT_OF_WORD = {
    **SPLITS,
    **{f"{name}set": split for name, split in SPLITS.items()},
    **dict.fromkeys(("eval", "evaluation"), "test"),  # which serves as val where there is no other
    **dict.fromkeys(("sample", "samples", "pred", "predict", "prediction", "predictions", "holdout"), OTHER),
    **dict.fromkeys(("trainval", "trn"), "train"),
    "validate": "val",
    "tst": "test",
}
# Other words in the name of a split: test_set, train-images, seg_train, val2017.
_FILLERS = {"set", "data", "dataset", "split", "seg", "image", "images", "img", "imgs", "photo", "photos", "pictures"}
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def split_of(name: str) -> str | None:
    """The split that a folder or list called `name` means: train, val, test or OTHER; None if it is not a split."""
    if is_unlabelled(name):
        return OTHER
    words = _words(name)
    if words == ["train", "val"]:
        return "train"
    return _SPLIT_OF_WORD.get(words[0]) if len(words) == 1 else None


def is_unlabelled(name: str) -> bool:
    """Whether a folder called `name` holds photos that nobody labelled."""
    return "".join(_words(name)) in _UNLABELLED


def _words(name: str) -> list[str]:
    """Drops fillers, and numbers and single letters, which belong to versions such as train_v2."""
    return [word for word in re.findall(r"[^\W\d_]{2,}", name.lower()) if word not in _FILLERS]


@dataclass(frozen=True)
class Part(Generic[T]):
    """What was found of an export at one place, and the split of this folder; None if it is the whole export."""

    folder: Path
    split: str | None
    found: T


def find_parts(source: Path, find: Callable[[Path], T | None]) -> list[Part[T]]:
    """What `find` finds at `source` itself, a file or folder; otherwise in its folders that are named like a split."""
    if whole := find(source):
        return [Part(source, None, whole)]
    named = [(folder, split_of(folder.name)) for folder in (subfolders(source) if source.is_dir() else ())]
    return [Part(folder, split, found) for folder, split in named if split and (found := find(folder))]


def subfolders(folder: Path) -> list[Path]:
    """The folders in `folder`, without hidden ones and those of other programs. Raises DataError."""
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.") from error


def is_hidden(name: str) -> bool:
    return name.startswith(".") or bool(program_in([name]))


def is_photo(name: str) -> bool:
    """Recognised by the suffix, in any case."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def files_below(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Every file below `folder`, and whether it is in a hidden place. Visits each folder once. Raises DataError."""
    seen: set[tuple[int, int]] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}.") from error

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        parts = Path(place).relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts) or bool(program_in(parts))
        for name in sorted(names):
            yield Path(place, name), hidden or name.startswith(".")


def photos_below(folder: Path) -> list[Path]:
    """The photos below `folder` that are not hidden, sorted by path."""
    return [file for file, hidden in files_below(folder) if not hidden and is_photo(file.name)]


def describe_contents(place: Path) -> str:
    """What is at `place`, in one line."""
    if not place.exists():
        return "nothing is there"
    if not place.is_dir():
        more = ", an archive: unpack it first" if place.name.lower().endswith(_ARCHIVES) else ""
        return f"it is a file{more}"
    try:
        entries = sorted(entry for entry in place.iterdir() if not is_hidden(entry.name))
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    folders = [entry.name for entry in entries if entry.is_dir()]
    others = [entry.name for entry in entries if entry.is_file() and not is_photo(entry.name)]
    photos = sum(1 for entry in entries if entry.is_file() and is_photo(entry.name))
    found = [
        f"{counted(len(folders), 'folder')} ({some(folders)})" if folders else "",
        counted(photos, "photo") if photos else "",
        f"{counted(len(others), 'other file')} ({some(others)})" if others else "",
    ]
    return f"found {', '.join(filter(None, found))}" if entries else "the folder is empty"


def unlisted(source: Path, listed: Collection[Path]) -> Iterator[str]:
    """Notes on the photos in the folder `source` that the data does not name, by folder."""
    if not listed or not source.is_dir():
        return
    named = {os.path.abspath(file) for file in listed}  # noqa: PTH100 (links stay as they are)
    places: Counter[str] = Counter()
    hidden_photos = 0
    for file, hidden in files_below(source):
        if not is_photo(file.name) or os.path.abspath(file) in named:  # noqa: PTH100
            continue
        if hidden:
            hidden_photos += 1
        else:
            parts = file.relative_to(source).parts
            places[f"{parts[0]}/" if len(parts) > 1 else "the folder itself"] += 1
    if count := sum(places.values()):
        where = some([f"{place} ({number})" for place, number in places.items()])
        yield f"Left out, because nothing here labels them: {counted(count, 'photo')}, in {where}."
    if hidden_photos:
        yield f"Left out: {counted(hidden_photos, 'photo')} in folders that are hidden or of other programs."


def same_photos(folders: Mapping[str, Iterable[Path]]) -> Iterator[list[tuple[str, Path]]]:
    """The files by photo, each with its key. Only files that share name and size are read and compared."""
    namesakes: dict[tuple[str, int], list[tuple[str, Path]]] = defaultdict(list)
    for key, files in folders.items():
        for file in files:
            namesakes[file.name, _size(file)].append((key, file))
    for copies in namesakes.values():
        by_content: dict[str, list[tuple[str, Path]]] = defaultdict(list)
        for key, file in copies:
            by_content[_content(file) if len(copies) > 1 else ""].append((key, file))
        yield from by_content.values()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _content(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError:  # counts as a photo, which `check_photos` reports
        return str(file)
