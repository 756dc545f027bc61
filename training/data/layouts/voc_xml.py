"""The annotations of Pascal VOC: an XML per photo that names the photo and its objects."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from labelwise.errors import DataError
from labelwise.label_names import clean_name
from training.data.labelled_data import counted, some
from training.data.layouts.entries import Entry
from training.data.layouts.layout_files import Finder, check_any_found
from training.data.layouts.splits import is_photo


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


def read_entries(
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
    check_any_found(found, names, finder.roots, source)
    _check_named_once(annotations, found, source)
    return [path or roots[0] / name for path, name in zip(found, names, strict=True)]


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
