"""Pascal VOC: an XML per photo, and lists of the photos of each split.

Roboflow and LabelImg write no lists. Their XML is beside the photos, or in a folder.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from labelwise.errors import DataError
from labelwise.label_names import clean_name, some
from training.data.labelled_data import LabelledData, counted
from training.data.layouts.entries import Entry, entries_to_data
from training.data.layouts.folders import find_parts, is_hidden, is_photo, split_of
from training.data.layouts.layout_files import Finder, read_head, read_lines

NAME = "Pascal VOC"
LAYOUT = (
    "a Pascal VOC folder (ImageSets/Main, Annotations, JPEGImages; also inside VOCdevkit/VOC2007); "
    "Pascal VOC's XML beside the photos, or in annotations (also inside train, valid and test)"
)

_ANNOTATION = re.compile(r"<annotation[\s>]")  # LabelImg writes <annotation verified="yes">
_XML_FOLDERS = ("annotations/xmls", "annotations", "labels", "xmls", "xml")


@dataclass(frozen=True)
class _Annotation:
    """The labels of its objects. A label whose objects are all marked difficult is unknown.

    `name` is the path of the XML without its suffix, below the folder of all annotations. `photo` is the name of the
    photo in the XML, "" if it has none.
    """

    name: str
    photo: str
    present: frozenset[str]
    unknown: frozenset[str]


def recognises(source: Path) -> bool:
    return bool(_years(source)) or bool(find_parts(source, _xml_folder))


def read(source: Path, seed: int) -> LabelledData:
    """By the lists of photos if there are some, otherwise every photo that has an XML. Raises DataError."""
    return _read_lists(source, seed) if _years(source) else _read_xml_folders(source, seed)


def _read_lists(source: Path, seed: int) -> LabelledData:
    """With a test set, trains on trainval and test serves as val; otherwise uses train and val. Raises DataError."""
    years = _years(source)
    if len(years) > 1:
        raise DataError(f"{source} holds several years: give one of {', '.join(map(str, years))}.")
    (root,) = years
    lists = _lists(root)
    names = [(name, split) for split, file in lists for name in _read_names(file, root)]
    entries = _read_entries(root / "Annotations", names, [root / "JPEGImages", root / "images", root], root)
    layout = f"{NAME} ({some([file.name for _, file in lists])})"
    return entries_to_data(entries, layout=layout, source=root, seed=seed)


def _years(source: Path) -> list[Path]:
    """`source` itself, or the year folders in it or in its VOCdevkit."""
    if _is_root(source):
        return [source]
    return sorted(root for base in (source, source / "VOCdevkit") for root in base.glob("VOC*") if _is_root(root))


def _is_root(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in ("ImageSets/Main", "Annotations"))


def _lists(root: Path) -> list[tuple[str | None, Path]]:
    """The lists of photos to read, each with its split; trainval and test are the field's protocol.

    CVAT names its lists after subsets, and a single one `default`. Lists of one label are not read.
    """
    files = {file.stem.lower(): file for file in sorted((root / "ImageSets/Main").glob("*.txt"))}
    if {"trainval", "test"} <= {*files}:
        return [("train", files["trainval"]), ("test", files["test"])]
    if known := [(split_of(name), file) for name, file in files.items() if split_of(name) and name != "trainval"]:
        return known
    whole = [file for name, file in files.items() if not any(name.endswith(f"_{other}") for other in files)]
    if len(whole) == 1:
        return [(None, whole[0])]
    raise DataError(f"{root / 'ImageSets/Main'} needs train.txt and val.txt, or trainval.txt and test.txt.")


def _read_names(file: Path, root: Path) -> list[str]:
    """A name per line, which may hold spaces. Some tools write it in quotes, or with the photo's suffix."""
    names = [name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name for name in read_lines(file)]
    return [_without_suffix(name.replace("\\", "/"), root) for name in names if name]


def _without_suffix(name: str, root: Path) -> str:
    if is_photo(name) and not (root / f"Annotations/{name}.xml").is_file():
        return name.rpartition(".")[0]
    return name


def _read_xml_folders(source: Path, seed: int) -> LabelledData:
    """Leaves out photos without an XML: nobody looked at them. In an XML without objects no label is present."""
    entries, folders = [], []
    for part in find_parts(source, _xml_folder):
        folders.append(str(part.found.relative_to(source)))
        names = [(file.stem, part.split) for file in _xml_files(part.found)]
        roots = [part.found, *(part.folder / name for name in ("images", "JPEGImages", "data", "."))]
        entries += _read_entries(part.found, names, roots, part.found)
    return entries_to_data(
        entries, layout=f"an XML of Pascal VOC per photo (in {some(folders)})", source=source, seed=seed
    )


def _xml_folder(folder: Path) -> Path | None:
    """Where the XML is: directly in `folder`, or in one of _XML_FOLDERS, whatever its case."""
    if not folder.is_dir():
        return None
    deep = sorted([*folder.glob("*/"), *folder.glob("*/*/")])
    places = [folder, *(place for place in deep if str(place.relative_to(folder)).lower() in _XML_FOLDERS)]
    return next((place for place in places if place.is_dir() and _holds_annotations(place)), None)


def _holds_annotations(folder: Path) -> bool:
    files = _xml_files(folder)
    return bool(files and _ANNOTATION.search(read_head(files[0])))


def _xml_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".xml" and not is_hidden(file.name))


def _read_entries(
    folder: Path, names: Sequence[tuple[str, str | None]], roots: Sequence[Path], source: Path
) -> list[Entry]:
    """An entry per name and split; the XML is in `folder` and the photos are in `roots`. Raises DataError."""
    annotations = _read_annotations(folder, [name for name, _ in names], source)
    files = _find_photos(annotations, roots, source)
    return [
        Entry(file, annotation.present, annotation.unknown, split)
        for file, annotation, (_, split) in zip(files, annotations, names, strict=True)
    ]


def _read_annotations(folder: Path, names: Sequence[str], source: Path) -> list[_Annotation]:
    """The annotation of each name in `folder`. Raises DataError, which names every file that cannot be read."""
    annotations, faults = [], []
    for name in names:
        try:
            annotations.append(_read(_file(folder, name), name))
        except FileNotFoundError:
            faults.append(f"{name}.xml (missing)")
        except (OSError, ElementTree.ParseError, ValueError) as error:
            faults.append(f"{name}.xml ({error})")
    if faults:
        raise DataError(f"{counted(len(faults), 'annotation')} of {source} cannot be read: {some(faults)}.")
    return annotations


def _file(folder: Path, name: str) -> Path:
    lower, upper = folder / f"{name}.xml", folder / f"{name}.XML"
    return upper if upper.is_file() and not lower.is_file() else lower


def _find_photos(annotations: Sequence[_Annotation], roots: Sequence[Path], source: Path) -> list[Path]:
    """The photo of each annotation: the one that the XML names, otherwise the one with the XML's name. DataError."""
    finder = Finder(roots, source)
    stems = _Stems(finder.roots, source)
    found = [_find(annotation, finder, stems) for annotation in annotations]
    names = [annotation.photo or f"{annotation.name}.jpg" for annotation in annotations]
    _check_named_once(annotations, found, source)
    return finder.with_missing(found, names)


def _check_named_once(annotations: Sequence[_Annotation], found: Sequence[Path | None], source: Path) -> None:
    """Copied XML often keeps the name of the first photo."""
    annotated: dict[Path, set[str]] = defaultdict(set)
    for annotation, photo in zip(annotations, found, strict=True):
        if photo:
            annotated[photo].add(f"{annotation.name}.xml")
    for photo, files in annotated.items():
        if len(files) > 1:
            raise DataError(
                f"In {source}, {some(sorted(files))} are all of the photo {photo.name}. Correct their <filename>, or "
                "remove it where the photo has the name of its XML."
            )


def _find(annotation: _Annotation, finder: Finder, stems: "_Stems") -> Path | None:
    """A photo in a subfolder has its XML in a subfolder of that name, and may be named without it."""
    folder = annotation.name.rpartition("/")[0]
    for name in (annotation.photo, f"{folder}/{annotation.photo}") if annotation.photo else ():
        if found := finder.find(name) or stems.find(name):
            return found
    return stems.find(annotation.name)


class _Stems:
    """Finds photos by their names without the suffix."""

    def __init__(self, roots: Sequence[Path], source: Path) -> None:
        self._roots, self._source = roots, source
        self._found: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str) -> Path | None:
        """The photo called `name`, whatever its suffix. Raises DataError if there are several."""
        for root in self._roots:
            place = root / name
            if files := self._of(place.parent).get(clean_name(place.name), []):
                if len(files) > 1:
                    raise DataError(
                        f"{self._source} does not say which photo {name} is: {some([file.name for file in files])}."
                    )
                return files[0]
        return None

    def _of(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._found:
            stems = self._found[folder] = {}
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if is_photo(file.name):
                    stems.setdefault(clean_name(file.stem), []).append(file)
        return self._found[folder]


def _read(file: Path, name: str) -> _Annotation:
    root = ElementTree.parse(file).getroot()
    objects = root.findall("object")  # not deeper: the parts of an object have names, too
    labels = [clean_name(entry.findtext("name") or "") for entry in objects]
    if not all(labels):
        raise ValueError("an object has no name")
    sure = {
        label
        for label, entry in zip(labels, objects, strict=True)
        if (entry.findtext("difficult") or "0").strip().lower() not in ("1", "true")
    }
    photo = (root.findtext("filename") or "").strip()
    return _Annotation(name, photo, frozenset(sure), frozenset({*labels} - sure))
