"""One annotation of Pascal VOC: the photo it is of, and its objects."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from labelwise.errors import DataError
from labelwise.label_names import clean_name
from training.data.labelled_data import counted, some
from training.data.layouts.files import Finder, check_any_found
from training.data.layouts.splits import is_photo


@dataclass(frozen=True)
class Annotation:
    """The labels of its objects; a label whose every object is marked difficult is unknown.

    `name` is the path of the XML without its suffix, below the folder of all annotations; `photo` is what the XML calls
    the photo, "" if it does not say.
    """

    name: str
    photo: str
    present: frozenset[str]
    unknown: frozenset[str]


def read_annotations(folder: Path, names: Sequence[str], source: Path) -> list[Annotation]:
    """The annotation of each name in `folder`. Raises a DataError that names all files that cannot be read."""
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


def find_photos(annotations: Sequence[Annotation], roots: Sequence[Path], source: Path) -> list[Path]:
    """The photo of each annotation: the one that the XML names, or else the one called like the XML. DataError."""
    finder = Finder(roots, source)
    stems = _Stems(finder.roots, source)
    found = [_find(annotation, finder, stems) for annotation in annotations]
    names = [annotation.photo or f"{annotation.name}.jpg" for annotation in annotations]
    check_any_found(found, names, finder.roots, source)
    _check_named_once(annotations, found, source)
    return [path or roots[0] / name for path, name in zip(found, names, strict=True)]


def _check_named_once(annotations: Sequence[Annotation], found: Sequence[Path | None], source: Path) -> None:
    """Copied XML often keeps the name of the first photo."""
    annotated: dict[Path, set[str]] = defaultdict(set)
    for annotation, photo in zip(annotations, found, strict=True):
        if photo:
            annotated[photo].add(f"{annotation.name}.xml")
    for photo, files in annotated.items():
        if len(files) > 1:
            raise DataError(
                f"In {source}, {some(sorted(files))} are all of the photo {photo.name}. Correct their <filename>, or "
                "remove it where the photo is called like its XML."
            )


def _find(annotation: Annotation, finder: Finder, stems: "_Stems") -> Path | None:
    """A photo in a folder of its own has an XML in a folder of the same name, and may be named without that folder."""
    folder = annotation.name.rpartition("/")[0]
    for name in (annotation.photo, f"{folder}/{annotation.photo}") if annotation.photo else ():
        if found := finder.find(name) or stems.find(name):
            return found
    return stems.find(annotation.name)


class _Stems:
    """Photos by their names without the suffix."""

    def __init__(self, roots: Sequence[Path], source: Path) -> None:
        self._roots, self._source = roots, source
        self._found: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str) -> Path | None:
        """The photo called `name` with whatever suffix; a DataError if there are several."""
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


def _read(file: Path, name: str) -> Annotation:
    root = ElementTree.parse(file).getroot()
    objects = root.findall("object")  # only these: a part of an object has a name as well
    labels = [clean_name(entry.findtext("name") or "") for entry in objects]
    if not all(labels):
        raise ValueError("an object has no name")
    sure = {
        label
        for label, entry in zip(labels, objects, strict=True)
        if (entry.findtext("difficult") or "0").strip().lower() not in ("1", "true")
    }
    photo = (root.findtext("filename") or "").strip()
    return Annotation(name, photo, frozenset(sure), frozenset({*labels} - sure))
