"""YOLO's detection folders: a data.yaml with the classes, photos in images and a text file per photo in labels."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labelwise.errors import DataError
from labelwise.label_names import clean_name
from training.data.formats.entries import Entry, entries_to_data
from training.data.formats.files import Finder, read_head, read_text
from training.data.formats.splits import photos_below
from training.data.labelled import LabelledData, counted, some
from training.yaml_values import YamlError, parse_yaml

NAME = "YOLO's detection folders"
LAYOUT = "YOLO's detection folders (data.yaml, images, labels): a label is present in a photo with a box of it"

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}  # the keys of data.yaml
_NAMES = re.compile(r"^names\s*:", re.MULTILINE)
_PHOTOS = re.compile(r"^(?:train|val|path)\s*:", re.MULTILINE)


@dataclass(frozen=True)
class _Config:
    """What data.yaml says: the classes by number, and for each split where its photos are."""

    file: Path
    labels: Mapping[int, str]
    base: str
    places: Mapping[str, Sequence[str]]


def recognises(source: Path) -> bool:
    return _config_file(source) is not None


def read(source: Path, seed: int) -> LabelledData:
    """A photo without a text file, or with an empty one, has none of the labels. DataError."""
    file = _config_file(source)
    assert file is not None
    config = _read_config(file)
    notes: list[str] = []
    texts: dict[Path, Path | None] = {}
    splits: dict[Path, str] = {}
    for split, places in config.places.items():
        # coco128 has one folder for train and val
        found = {photo: _text_file(photo) for photo in _photos(config, places) if photo not in texts}
        if not any(found.values()) and split == "train":
            raise DataError(_refusal(config, [*found]))
        if not any(found.values()):
            notes.append(
                f"Left out: {split} ({counted(len(found), 'photo')} of its own, without text files in labels)."
            )
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


def _refusal(config: _Config, photos: Sequence[Path]) -> str:
    places = some(config.places["train"])
    if not photos:
        return f"{config.file} says that the photos of train are in {places}, but none is there."
    return f"{config.file}: no photo of train has its text file, such as {_label_places(photos[0])[0]}."


def _config_file(source: Path) -> Path | None:
    """`source` itself, or the YAML in it that names classes and where the photos are."""
    files = [source] if source.is_file() else [*source.glob("*.yaml"), *source.glob("*.yml")]
    found = [file for file in files if file.suffix.lower() in (".yaml", ".yml") and _is_config(read_head(file))]
    return min(found, default=None, key=lambda file: (file.stem != "data", file.name))


def _is_config(head: str) -> bool:
    return bool(_NAMES.search(head) and _PHOTOS.search(head))


def _read_config(file: Path) -> _Config:
    try:
        content = parse_yaml(read_text(file, "YAML"))
        names = content["names"]
        if not isinstance(names, (dict, list)):
            raise TypeError
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        labels = dict(sorted((int(number), clean_name(str(name))) for number, name in pairs))
        places: dict[str, list[str]] = {}
        for key, split in _SPLITS.items():
            if value := content.get(key):
                places.setdefault(split, []).extend(
                    [str(one) for one in (value if isinstance(value, list) else [value])]
                )
    except YamlError as error:
        raise DataError(f"{file} is not YAML: {error}.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file} must hold `names` (a list, or a name per number), `train` and `val`.") from error
    if "train" not in places:
        raise DataError(f"{file} does not say where the photos of `train` are.")
    return _Config(file, labels, str(content.get("path") or ""), places)


def _photos(config: _Config, places: Sequence[str]) -> Iterator[Path]:
    """The photos in folders, or on lists of paths."""
    for place in places:
        found = _find(config, place)
        if found is None:
            continue
        if found.is_dir():
            yield from photos_below(found)
        else:
            names = [line.strip() for line in read_text(found, "a list").splitlines() if line.strip()]
            finder = Finder([found.parent, config.file.parent], found)
            # CVAT puts data/ in front of what is beside the list, so a place on another machine is looked for as well.
            yield from (finder.find(name) or finder.find(f"/{name}") or found.parent / name for name in names)


def _find(config: _Config, place: str) -> Path | None:
    """Where `place` is: below `path`, beside data.yaml, or with less in front of it.

    Roboflow writes ../train/images for what is beside data.yaml, and others a path of their own machine.
    """
    beside = config.file.parent
    parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    tails = [beside / Path(*parts[start:]) for start in range(len(parts)) if parts[start:] != ["images"]]
    as_written = [beside / config.base / place, beside / place]
    candidates = [*tails[:1], *as_written] if place.startswith("..") else [*as_written, *tails]
    return next((Path(os.path.normpath(one)) for one in (*candidates, *tails) if one.exists()), None)


def _label_places(photo: Path) -> list[Path]:
    """Where its text file may lie: images becomes labels in its path, the last one first; or beside the photo."""
    parts = photo.parts
    swaps = [index for index in range(len(parts) - 1) if parts[index].lower() == "images"][::-1]
    swapped = [Path(*parts[:index], "labels", *parts[index + 1 :]) for index in swaps]
    return [place.with_suffix(".txt") for place in (*swapped, photo)]


def _text_file(photo: Path) -> Path | None:
    return next((place for place in _label_places(photo) if place.is_file()), None)


def _numbers(text: Path | None, config: _Config) -> set[int]:
    """The classes in a photo: the first number of each line, whatever shape follows."""
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
