"""CVAT's "images 1.1": one annotations.xml with the tags and the shapes of each photo."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from labelwise.errors import DataError
from labelwise.label_names import clean_name
from training.data.labelled_data import LabelledData, counted
from training.data.layouts.entries import Entry, entries_to_data, name_files
from training.data.layouts.folders import find_parts, split_of
from training.data.layouts.layout_files import locate, read_head

NAME = 'CVAT\'s "images 1.1"'
LAYOUT = 'CVAT\'s "images 1.1" (annotations.xml with tags or shapes, photos in images)'

_FILE = "annotations.xml"
_ROOT = re.compile(r"<annotations[\s>]")
_SHAPES = {"box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton"}


@dataclass(frozen=True)
class _Image:
    name: str
    subset: str
    labels: frozenset[str]


def recognises(source: Path) -> bool:
    return bool(find_parts(source, _export_at))


def read(source: Path, seed: int) -> LabelledData:
    """A label is present in a photo with its tag or a shape of it. Leaves out attributes. Raises DataError."""
    entries: list[Entry] = []
    labels: dict[str, None] = {}
    notes: list[str] = []
    parts = find_parts(source, _export_at)
    for part in parts:
        declared, images, attributes = _read_file(part.found)
        labels |= dict.fromkeys(declared)
        entries += _entries(images, part.found, part.split)
        if attributes:
            notes.append(
                f"Left out: {counted(attributes, 'attribute')} in {part.found.name}: only tags and shapes are labels."
            )
    layout = name_files(NAME, [part.found for part in parts], source)
    return entries_to_data(entries, [*labels], layout=layout, source=source, seed=seed, notes=notes)


def _export_at(place: Path) -> Path | None:
    """`place` itself, or the file in it."""
    file = place / _FILE if place.is_dir() else place
    return file if file.suffix.lower() == ".xml" and _ROOT.search(read_head(file)) else None


def _read_file(file: Path) -> tuple[list[str], list[_Image], int]:
    """The labels of the task or project, the photos, and the number of attributes. Raises DataError."""
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}.") from error
    if root.find("track") is not None:
        raise DataError(f'{file} is of a video. Export the task as "CVAT for images 1.1".')
    found = root.findall("image")
    if not found:
        raise DataError(f"{file} lists no photos.")
    images = [_Image(entry.get("name", ""), entry.get("subset", ""), frozenset(_labels(entry))) for entry in found]
    if any(not image.name or "" in image.labels for image in images):
        raise DataError(f"{file} has photos or labels without a name.")
    named = [clean_name(entry.findtext("name") or "") for entry in root.findall("meta//labels/label")]
    declared = [name for name in named if name]
    labels = [*dict.fromkeys([*declared, *sorted({label for image in images for label in image.labels})])]
    return labels, images, sum(1 for _ in root.iterfind("image/*/attribute"))


def _labels(image: ElementTree.Element) -> set[str]:
    return {clean_name(entry.get("label", "")) for entry in image if entry.tag == "tag" or entry.tag in _SHAPES}


def _entries(images: Sequence[_Image], file: Path, split: str | None) -> list[Entry]:
    """A subset may be a split, and may be a folder in images."""
    subsets = sorted({image.subset for image in images if image.subset})
    places = ["images", ".", "images/default", *(f"images/{subset}" for subset in subsets)]
    by_subset: dict[str, list[_Image]] = {}
    for image in images:
        by_subset.setdefault(image.subset, []).append(image)
    entries = []
    for subset, some_images in by_subset.items():
        first = [f"images/{subset}", subset] if subset else []
        roots = [root for place in (*first, *places) if (root := file.parent / place).is_dir()]
        photos = locate([image.name for image in some_images], roots, file)
        entries += [
            Entry(photo, image.labels, split=split or split_of(subset))
            for photo, image in zip(photos, some_images, strict=True)
        ]
    return entries
