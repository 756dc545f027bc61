"""COCO instances, in the folders of the official sets, Roboflow, CVAT and FiftyOne.

A label is present in a photo that has an instance of it, crowds included.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelwise.errors import DataError
from labelwise.label_names import clean_name, some
from training.data.labelled_data import LabelledData
from training.data.layouts.entries import Entry, entries_to_data, name_files
from training.data.layouts.folders import find_parts, split_of, subfolders
from training.data.layouts.layout_files import locate, parse_json, read_head, read_text

NAME = "COCO instances"
LAYOUT = "COCO instances (a JSON; a folder with annotations/instances_*.json; train, valid and test with a JSON each)"

_KEYS = re.compile(r'"(?:images|annotations)"\s*:\s*\[')
# Files of the official sets that hold no instances, or the same ones again.
_NOT_INSTANCES = re.compile(r"captions|panoptic|stuff|person_keypoints|image_info")


@dataclass(frozen=True)
class _Category:
    """A class of objects; `parent` is the name of its group, "" if it has none."""

    name: str
    parent: str


@dataclass(frozen=True)
class _Instances:
    """Categories by id, and the photos, each with the ids of its categories; `split` is that of the file."""

    file: Path
    split: str | None
    categories: dict[int, _Category]
    photos: list[tuple[str, set[int]]]


def recognises(source: Path) -> bool:
    return bool(_sources(source))


def read(source: Path, seed: int) -> LabelledData:
    """Reads every file of a folder as the split in its or its folder's name; a single file is split by `seed`."""
    parts = [_read_instances(file, split) for file, split in _sources(source)]
    labels, groups = _label_names(parts)
    entries = [entry for part in parts for entry in _entries(part)]
    notes = [f"Left out: the categories {some(groups)}, which only group others."] if groups else []
    layout = name_files(NAME, [part.file for part in parts], source)
    return entries_to_data(entries, labels, layout=layout, source=source, seed=seed, notes=notes)


def _entries(part: _Instances) -> list[Entry]:
    files = locate([name for name, _ in part.photos], _roots(part.file, part.split), part.file)
    return [
        Entry(file, {part.categories[category].name for category in found}, split=part.split)
        for file, (_, found) in zip(files, part.photos, strict=True)
    ]


def _sources(source: Path) -> list[tuple[Path, str | None]]:
    """The files of `source`, or of its folders named like splits; with their splits, None for a single file."""
    found: list[tuple[Path, str | None]] = []
    for part in find_parts(source, _files):
        if len(part.found) == 1:
            found.append((part.found[0], part.split))
        elif part.split:
            names = some([file.name for file in part.found])
            raise DataError(f"{part.folder} holds several COCO files ({names}): keep one.")
        else:
            found += [(file, _split(file)) for file in part.found]
    return found


def _files(folder: Path) -> list[Path]:
    """The COCO files in `folder` and its annotations; if some are called instances, only these. Or the file itself."""
    if folder.is_file():
        return [folder] if folder.suffix.lower() == ".json" else []
    files = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])
    named = [file for file in files if file.name.startswith("instances")]
    return named or [file for file in files if not _NOT_INSTANCES.match(file.name) and _is_coco(file)]


def _is_coco(file: Path) -> bool:
    """Reads only the beginning: the file may be of any size."""
    head = read_head(file)
    return head.lstrip("\ufeff \t\r\n").startswith("{") and bool(_KEYS.search(head))


def _roots(file: Path, split: str | None) -> list[Path]:
    """Where a file's photos may be.

    COCO: in train2017 beside annotations, for instances_train2017.json. Roboflow: beside the file. FiftyOne: in data.
    Others: in a folder named like the split, such as Train or val_images.
    """
    subset, beside = file.stem.removeprefix("instances_"), file.parent
    bases = (beside.parent, beside) if beside.name == "annotations" else (beside,)
    roots = []
    for base in bases:
        named = [place for inside in (base, base / "images") for place in _named_like(split, inside)]
        roots += [base / subset, base / "images" / subset, *named, base / "images", base, base / "data"]
    return [root for root in roots if root.is_dir()]


def _named_like(split: str | None, folder: Path) -> list[Path]:
    inside = subfolders(folder) if split and folder.is_dir() else []
    return [place for place in inside if split_of(place.name) == split]


def _split(file: Path) -> str:
    """The split in the file's name: train for instances_train2017."""
    split = split_of(re.sub(r"instances|annotations|coco|labels", "", file.stem.lower()))
    if split is None:
        raise DataError(
            f"{file} is of no known split: call it instances_train*.json, instances_val*.json or instances_test*.json."
        )
    return split


def _read_instances(file: Path, split: str | None) -> _Instances:
    """Raises DataError if `file` is wrong."""
    content = parse_json(read_text(file, "JSON"), str(file))
    if isinstance(content, list):
        raise DataError(
            f"{file} is a list, not a COCO instances file. A table of photos is read from .jsonl: an object per line."
        )
    try:
        named = _by_id([(int(entry["id"]), entry["name"]) for entry in content["categories"]], "categories", file)
        parents = {int(entry["id"]): str(entry.get("supercategory") or "") for entry in content["categories"]}
        names = _by_id([(entry["id"], entry["file_name"]) for entry in content["images"]], "images", file)
        if not names:
            raise DataError(f"{file} lists no photos.")
        pairs = [(entry["image_id"], int(entry["category_id"])) for entry in content["annotations"]]
        _check_known("images", {image for image, _ in pairs} - {*names}, file)
        _check_known("categories", {category for _, category in pairs} - {*named}, file)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{file} is not a COCO instances file: images, annotations and categories are needed ({_reason(error)})."
        ) from error
    found: dict[Any, set[int]] = {image: set() for image in names}
    for image, category in pairs:
        found[image].add(category)
    categories = {key: _Category(clean_name(name), clean_name(parents[key])) for key, name in named.items()}
    return _Instances(file, split, categories, [(names[image], found[image]) for image in names])


def _label_names(parts: Sequence[_Instances]) -> tuple[list[str], list[str]]:
    """The names of the categories that are labels, in order of their ids, and the names of mere groups.

    A category that others name as their group is a label only if photos have it. Roboflow's first category is such a
    group, and may have the name of a class. Names count, not ids, which differ between splits that were exported
    separately, as by FiftyOne. Raises DataError if one file uses two categories of one name.
    """
    used: set[str] = set()
    for part in parts:
        in_use = set().union(*(found for _, found in part.photos))
        used |= {part.categories[key].name for key in in_use}
        _check_twice(part, in_use)
    categories = [category for part in parts for category in part.categories.values()]
    parents = {category.parent for category in categories if category.parent != category.name}
    names = [name for _, name in sorted({(key, one.name) for part in parts for key, one in part.categories.items()})]
    labels = dict.fromkeys(name for name in names if name in used or name not in parents)
    return [*labels], sorted({*names} - {*labels})


def _check_twice(part: _Instances, in_use: set[int]) -> None:
    """Two categories of one name are one label if one is the group of the other, or only one is in use."""
    namesakes: dict[str, list[int]] = defaultdict(list)
    for key in sorted(in_use):
        namesakes[part.categories[key].name].append(key)
    for name, keys in namesakes.items():
        if len(keys) > 1 and not any(part.categories[key].parent == name for key in keys):
            raise DataError(
                f"{part.file} has categories of one name more than once: {name} (ids {some(list(map(str, keys)))}). "
                "Rename all but one, or give their annotations one id."
            )


def _by_id(named: Sequence[tuple[Any, Any]], what: str, file: Path) -> dict[Any, str]:
    """The names of images or categories by id. Raises DataError for a missing name or a repeated id."""
    if nameless := [str(key) for key, name in named if not isinstance(name, str) or not name]:
        raise DataError(f"{file} has {what} whose name is not text: {some(nameless)}.")
    if twice := [str(key) for key, count in Counter(key for key, _ in named).items() if count > 1]:
        raise DataError(f"{file} lists {what} more than once: {some(twice)}. Remove the duplicates.")
    return dict(named)


def _check_known(what: str, unlisted: Iterable[Any], file: Path) -> None:
    if ids := sorted(map(str, unlisted)):
        raise DataError(f"{file} has annotations of {what} that it does not list: {some(ids)}.")


def _reason(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)
