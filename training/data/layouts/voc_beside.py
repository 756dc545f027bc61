"""Pascal VOC's XML without lists of photos: beside the photos, as Roboflow and LabelImg write it, or in a folder."""

import re
from collections.abc import Iterable
from pathlib import Path

from training.data.labelled_data import LabelledData, some
from training.data.layouts.entries import entries_to_data
from training.data.layouts.layout_files import read_head
from training.data.layouts.splits import find_parts, is_hidden
from training.data.layouts.voc_xml import read_entries

NAME = "an XML of Pascal VOC per photo"
LAYOUT = "Pascal VOC's XML beside the photos, or in annotations (also inside train, valid and test)"

_ROOT = re.compile(r"<annotation[\s>]")  # LabelImg writes <annotation verified="yes">
_FOLDERS = ("annotations/xmls", "annotations", "labels", "xmls", "xml")


def recognises(source: Path) -> bool:
    return bool(find_parts(source, _holds))


def read(source: Path, seed: int) -> LabelledData:
    """Leaves out photos without an XML: nobody looked at them. In an XML without objects no label is present."""
    entries, folders = [], []
    for part in find_parts(source, _holds):
        (place, *_) = _places(part.folder)
        folders.append(str(place.relative_to(source)))
        names = [(file.stem, part.split) for file in _xml_files(place)]
        roots = [place, *(part.folder / name for name in ("images", "JPEGImages", "data", "."))]
        entries += read_entries(place, names, roots, place)
    return entries_to_data(entries, layout=f"{NAME} (in {some(folders)})", source=source, seed=seed)


def _holds(folder: Path) -> bool:
    return bool(_places(folder))


def _places(folder: Path) -> list[Path]:
    """Where the XML is: directly in `folder`, or in one of _FOLDERS, whatever its case."""
    inside = [folder]
    if folder.is_dir():
        deep = [*folder.glob("*/"), *folder.glob("*/*/")]
        inside += [place for place in sorted(deep) if str(place.relative_to(folder)).lower() in _FOLDERS]
    return [place for place in inside if _is_annotation(next(iter(_xml_files(place)), None))]


def _xml_files(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".xml" and not is_hidden(file.name))


def _is_annotation(file: Path | None) -> bool:
    return file is not None and bool(_ROOT.search(read_head(file)))
