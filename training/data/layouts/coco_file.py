"""One file of COCO instances: its photos, its categories, and the categories in each photo."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelwise.errors import DataError
from labelwise.label_names import clean_name
from training.data.labelled_data import some
from training.data.layouts.layout_files import parse_json, read_text


@dataclass(frozen=True)
class Category:
    """A class of objects; `parent` is the name of its group, "" if it has none."""

    name: str
    parent: str


@dataclass(frozen=True)
class Instances:
    """Categories by id, and the photos, each with the ids of its categories."""

    file: Path
    categories: dict[int, Category]
    photos: list[tuple[str, set[int]]]


def read_instances(file: Path) -> Instances:
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
    categories = {key: Category(clean_name(name), clean_name(parents[key])) for key, name in named.items()}
    return Instances(file, categories, [(names[image], found[image]) for image in names])


def label_names(parts: Sequence[Instances]) -> tuple[list[str], list[str]]:
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


def _check_twice(part: Instances, in_use: set[int]) -> None:
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
