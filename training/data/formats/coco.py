"""MS-COCO's `instances_*.json`: a label is present in a photo that has an instance of it, crowds included."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelwise.errors import DataError
from training.data.formats.files import locate, parse_json, read_text
from training.data.labelled import SPLITS, LabelledData, assemble, some, targets_of_names

NAME = "COCO instances"
LAYOUT = "a COCO instances_*.json, or a folder with annotations/instances_*.json"


def recognises(source: Path) -> bool:
    return (source.suffix.lower() == ".json" and source.is_file()) or bool(_instance_files(source))


def read(source: Path, seed: int) -> LabelledData:
    """Of a folder every instances file is read, each as the split in its name; a single file is split by `seed`."""
    files = _instance_files(source) if source.is_dir() else [source]
    parts = [_read_instances(file) for file in files]
    names = _merge_categories(parts)
    photos = [locate([name for name, _ in part.photos], _roots(part.file), part.file) for part in parts]
    present = [{names[category] for category in found} for part in parts for _, found in part.photos]
    labels = [names[category] for category in sorted(names)]
    targets = targets_of_names(labels, present, [()] * len(present))
    splits = None
    if len(parts) > 1:
        splits = [split for part in parts for split in [_split(part.file)] * len(part.photos)]
    return assemble(labels, [path for paths in photos for path in paths], targets, splits, seed, source)


@dataclass(frozen=True)
class _Instances:
    """One file: its categories by id, and its photos, each with the ids of the categories found in it."""

    file: Path
    categories: dict[int, str]
    photos: list[tuple[str, set[int]]]


def _instance_files(source: Path) -> list[Path]:
    return sorted((source / "annotations").glob("instances_*.json"))


def _read_instances(file: Path) -> _Instances:
    content = parse_json(read_text(file, "JSON"), str(file))
    try:
        categories = _by_id([(int(entry["id"]), entry["name"]) for entry in content["categories"]], "categories", file)
        names = _by_id([(entry["id"], entry["file_name"]) for entry in content["images"]], "images", file)
        if not names:
            raise DataError(f"{file} lists no photos.")
        pairs = [(entry["image_id"], int(entry["category_id"])) for entry in content["annotations"]]
        _check_known("images", {image for image, _ in pairs} - {*names}, file)
        _check_known("categories", {category for _, category in pairs} - {*categories}, file)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{file} is no COCO instances file: images, annotations and categories are needed ({_reason(error)})."
        ) from error
    found: dict[Any, set[int]] = {image: set() for image in names}
    for image, category in pairs:
        found[image].add(category)
    return _Instances(file, categories, [(names[image], found[image]) for image in names])


def _by_id(named: Sequence[tuple[Any, Any]], what: str, file: Path) -> dict[Any, str]:
    """The names of images or categories by id: each has one, and no id stands twice."""
    if nameless := [str(key) for key, name in named if not isinstance(name, str) or not name]:
        raise DataError(f"{file} has {what} whose name is no text: {some(nameless)}.")
    if twice := [str(key) for key, count in Counter(key for key, _ in named).items() if count > 1]:
        raise DataError(f"{file} lists {what} more than once: {some(twice)}. Remove the duplicates.")
    return dict(named)


def _check_known(what: str, unlisted: Iterable[Any], file: Path) -> None:
    if ids := sorted(map(str, unlisted)):
        raise DataError(f"{file} has annotations of {what} that it does not list: {some(ids)}.")


def _merge_categories(parts: Sequence[_Instances]) -> dict[int, str]:
    names: dict[int, str] = {}
    for part in parts:
        for category, name in part.categories.items():
            if names.setdefault(category, name) != name:
                raise DataError(f"{part.file} calls category {category} {name!r}, another file {names[category]!r}.")
    return names


def _roots(file: Path) -> list[Path]:
    """Where a file's photos may lie: COCO keeps instances_train2017.json's in train2017 beside annotations."""
    subset, beside = file.stem.removeprefix("instances_"), file.parent
    bases = (beside.parent, beside) if beside.name == "annotations" else (beside,)
    return [base / place for base in bases for place in (subset, f"images/{subset}", "images", ".")]


def _split(file: Path) -> str:
    """By the name of the file: instances_train2017 is train."""
    name = file.stem.removeprefix("instances_").rstrip("0123456789-_").lower()
    if name not in SPLITS:
        raise DataError(
            f"{file} is of no known split: call it instances_train*.json, instances_val*.json or instances_test*.json."
        )
    return SPLITS[name]


def _reason(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)
