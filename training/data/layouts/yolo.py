"""YOLO's detection folders: data.yaml with the classes, photos in images, a text file per photo in labels."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelwise.errors import DataError
from labelwise.label_names import clean_name, some
from training.data.labelled_data import SPLITS, LabelledData, counted
from training.data.layouts.entries import Entry, entries_to_data
from training.data.layouts.folders import OTHER, photos_below, split_of, subfolders
from training.data.layouts.layout_files import Finder, read_head, read_lines, read_text
from training.yaml_values import YamlError, parse_yaml

NAME = "YOLO's detection folders"
LAYOUT = "YOLO's detection folders (data.yaml, images, labels): a label is present in a photo with a box of it"

_KEYS = ("train", "val", "valid", "test")
_CLASSES = "classes.txt"  # Label Studio's, beside images and labels
_NAMES = re.compile(r"^names\s*:", re.MULTILINE)
_PLACES = re.compile(r"^(?:train|val|path|nc)\s*:", re.MULTILINE)


@dataclass(frozen=True)
class _Config:
    """The classes by number, and the folders or lists of photos of each split, as written in `file`."""

    file: Path
    labels: Mapping[int, str]
    base: str
    places: Mapping[str, Sequence[str]]


def recognises(source: Path) -> bool:
    return _find_config(source) is not None


def read(source: Path, seed: int) -> LabelledData:
    """A photo with an empty text file, or without one, has no label. Raises DataError."""
    file = _find_config(source)
    assert file is not None
    config = _read_config(file)
    notes: list[str] = []
    texts: dict[Path, Path | None] = {}
    splits: dict[Path, str] = {}
    for split, places in config.places.items():
        # coco128 has the same folder for train and val.
        photos = [photo for photo in _find_photos(config, places) if photo not in texts]
        found = {photo: next(filter(Path.is_file, _label_places(photo)), None) for photo in photos}
        if not any(found.values()) and split == "train":
            raise DataError(_refusal(config, [*found]))
        if not any(found.values()):
            notes.append(_without_labels(split, len(found), places))
            continue
        texts |= found
        splits |= dict.fromkeys(found, split)
    if without := sum(text is None for text in texts.values()):
        notes.append(f"{counted(without, 'photo')} without a text file in labels: none of the labels is present.")
    entries = [
        Entry(photo, {config.labels[number] for number in _numbers(text, config)}, split=splits[photo])
        for photo, text in texts.items()
    ]
    labels = [*dict.fromkeys(config.labels.values())]
    return entries_to_data(entries, labels, layout=f"{NAME} ({file.name})", source=source, seed=seed, notes=notes)


def _without_labels(split: str, count: int, places: Sequence[str]) -> str:
    if count:
        return f"Left out: {split} ({counted(count, 'photo')} without text files in labels)."
    return f"There is no {split}: no photos of its own are in {some(places)}."


def _refusal(config: _Config, photos: Sequence[Path]) -> str:
    places = some(config.places["train"])
    if not photos:
        return f"{config.file} says that the photos of train are in {places}, but there is none."
    return f"{config.file}: no photo of train has its text file, such as {_label_places(photos[0])[0]}."


def _label_places(photo: Path) -> list[Path]:
    """Where its text file may be: the path with labels for images, the last one first, or beside the photo."""
    parts = photo.parts
    swaps = [index for index in range(len(parts) - 1) if parts[index].lower() == "images"][::-1]
    swapped = [Path(*parts[:index], "labels", *parts[index + 1 :]) for index in swaps]
    return [place.with_suffix(".txt") for place in (*swapped, photo)]


def _numbers(text: Path | None, config: _Config) -> set[int]:
    """The classes in a photo: the first number of each line. Whatever follows is its shape."""
    found: set[int] = set()
    for line, words in enumerate(read_text(text, "a list").splitlines() if text else (), 1):
        if not words.strip():
            continue
        try:
            number = float(words.split()[0])
            known = config.labels[int(number)] if number == int(number) else None
        except (ValueError, KeyError, OverflowError):
            known = None
        if known is None:
            raise DataError(
                f"{text}, line {line} must begin with the number of a class of {config.file.name} (there are "
                f"{len(config.labels)}), not {words.split()[0][:20]!r}."
            )
        found.add(int(number))
    return found


def _find_config(source: Path) -> Path | None:
    """`source` itself, or the file in it that names the classes: a YAML, or classes.txt beside images and labels."""
    files = [source] if source.is_file() else [*source.glob("*.yaml"), *source.glob("*.yml")]
    heads = {file: read_head(file) for file in files if file.suffix.lower() in (".yaml", ".yml")}
    found = [file for file, head in heads.items() if _NAMES.search(head) and _PLACES.search(head)]
    if all((source / name).exists() for name in (_CLASSES, "images", "labels")):
        found.append(source / _CLASSES)
    return min(found, default=None, key=lambda file: (file.stem != "data", file.name == _CLASSES, file.name))


def _read_config(file: Path) -> _Config:
    """Raises DataError if `file` is wrong."""
    try:
        content = {"names": read_lines(file)} if file.name == _CLASSES else parse_yaml(read_text(file, "YAML"))
        names = content["names"]
        if not isinstance(names, (dict, list)):
            raise TypeError
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        labels = dict(sorted((int(number), clean_name(str(name))) for number, name in pairs))
        places = _stated_places(content) or _usual_places(file.parent)
    except YamlError as error:
        raise DataError(f"{file} is not YAML: {error}.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} must hold `names` (a list, or a name per number), `train` and `val`.") from error
    if "train" not in places:
        raise DataError(f"{file} does not say where the photos of `train` are.")
    return _Config(file, labels, str(content.get("path") or ""), places)


def _stated_places(content: Mapping[str, Any]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for key in _KEYS:
        if value := content.get(key):
            more = value if isinstance(value, list) else [value]
            places.setdefault(SPLITS[key], []).extend(map(str, more))
    return places


def _usual_places(folder: Path) -> dict[str, list[str]]:
    """Folders named like splits in images or in `folder`, as exports without places have; otherwise all of images."""
    for where in (folder / "images", folder):
        places: dict[str, list[str]] = {}
        for inside in subfolders(where) if where.is_dir() else ():
            if (split := split_of(inside.name)) not in (None, OTHER):
                places.setdefault(str(split), []).append(str(inside.relative_to(folder)))
        if "train" in places:
            return places
    return {"train": ["images"]}


def _find_photos(config: _Config, places: Sequence[str]) -> Iterator[Path]:
    """The photos of `places`, each a folder or a list of paths. Raises DataError."""
    for place in places:
        found = _find(config, place)
        if found is None:
            continue
        if found.is_dir():
            yield from photos_below(found)
        else:
            names = read_lines(found)
            finder = Finder([found.parent, config.file.parent], found)
            # CVAT puts data/ before paths that are relative to the list, so the parts after it are tried as well.
            yield from (finder.find(name) or finder.find(f"/{name}") or found.parent / name for name in names)


def _find(config: _Config, place: str) -> Path | None:
    """Where `place` is: below `path`, beside data.yaml, or there without its first parts.

    Roboflow writes ../train/images for a folder beside data.yaml. Others write a path of their own machine.
    """
    beside = config.file.parent
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    tails = [beside / Path(*parts[start:]) for start in range(len(parts)) if parts[start:] != ["images"]]
    as_written = [beside / config.base / place, beside / place]
    candidates = [*tails[:1], *as_written] if place.startswith("..") else [*as_written, *tails]
    return next((Path(os.path.normpath(one)) for one in (*candidates, *tails) if one.exists()), None)
