"""YOLO's detection folders: data.yaml with the classes, photos in images, a text file per photo in labels."""

from collections.abc import Sequence
from pathlib import Path

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, counted, some
from training.data.layouts.entries import Entry, entries_to_data
from training.data.layouts.layout_files import read_text
from training.data.layouts.yolo_config import YoloConfig, find_config, find_photos, read_config

NAME = "YOLO's detection folders"
LAYOUT = "YOLO's detection folders (data.yaml, images, labels): a label is present in a photo with a box of it"


def recognises(source: Path) -> bool:
    return find_config(source) is not None


def read(source: Path, seed: int) -> LabelledData:
    """A photo with an empty text file, or without one, has no label. Raises DataError."""
    file = find_config(source)
    assert file is not None
    config = read_config(file)
    notes: list[str] = []
    texts: dict[Path, Path | None] = {}
    splits: dict[Path, str] = {}
    for split, places in config.places.items():
        # coco128 has the same folder for train and val.
        found = {photo: _text_file(photo) for photo in find_photos(config, places) if photo not in texts}
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


def _refusal(config: YoloConfig, photos: Sequence[Path]) -> str:
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


def _text_file(photo: Path) -> Path | None:
    return next((place for place in _label_places(photo) if place.is_file()), None)


def _numbers(text: Path | None, config: YoloConfig) -> set[int]:
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
