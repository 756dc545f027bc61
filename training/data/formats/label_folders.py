"""A folder per label; the same file under several labels is one photo with several labels."""

from collections import defaultdict
from pathlib import Path

from labelwise.image import SUFFIXES
from labelwise.spec import sha256_of
from training.data.labelled import SPLITS, LabelledData, assemble, targets_of_names

LAYOUT = "a folder with one folder of photos per label, or with train and val that hold them"


Folders = dict[str, list[Path]]  # the photos of each label


def recognises(source: Path) -> bool:
    """One folder of photos alone is no choice between labels."""
    return len({label for folders in _read_splits(source).values() for label in folders}) > 1


def read(source: Path, seed: int) -> LabelledData:
    """A photo has the labels of the folders it lies in, by name and content; all others are absent. DataError."""
    splits = _read_splits(source)
    labels = sorted({label for folders in splits.values() for label in folders})
    files: list[Path] = []
    present: list[set[str]] = []
    names: list[str] = []
    for split, folders in splits.items():
        photos = _merge(folders)
        files += photos
        present += photos.values()
        names += [split] * len(photos)
    targets = targets_of_names(labels, present, [()] * len(files))
    return assemble(labels, files, targets, names if len(splits) > 1 else None, seed, source)


def _read_splits(source: Path) -> dict[str, Folders]:
    """Per split the label folders; without folders for both splits all is one."""
    if not source.is_dir():
        return {}
    inside = {SPLITS.get(folder.name, ""): _read_labels(folder) for folder in sorted(source.iterdir())}
    if inside.get("train") and inside.get("val"):
        return {"train": inside["train"], "val": inside["val"]}
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
    namesakes: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for label, files in folders.items():
        for file in files:
            namesakes[file.name].append((label, file))
    merged: dict[Path, set[str]] = {}
    for copies in namesakes.values():
        first: dict[str, Path] = {}  # by content; only where there are copies at all does that need reading
        for label, file in copies:
            content = _content(file) if len(copies) > 1 else ""
            merged.setdefault(first.setdefault(content, file), set()).add(label)
    return merged


def _content(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError:  # a file that cannot be read is a photo of its own, which `check_photos` will report
        return str(file)
