"""Pascal VOC: an XML per photo; a label whose every object is marked difficult is unknown."""

from pathlib import Path
from xml.etree import ElementTree

from labelwise.errors import DataError
from training.data.formats.files import locate, read_text
from training.data.labelled import LabelledData, assemble, counted, some, targets_of_names

NAME = "Pascal VOC"
LAYOUT = "a Pascal VOC folder (ImageSets/Main, Annotations, JPEGImages; also inside VOCdevkit/VOC2007)"

# The first whose two lists are there: with VOC2007's test set beside it the field's protocol, else train and val.
_PROTOCOLS = (("trainval", "test"), ("train", "val"))


def recognises(source: Path) -> bool:
    return bool(_years(source))


def read(source: Path, seed: int) -> LabelledData:
    """Trains on trainval and takes test as val where the test set is there, else on train with val. DataError."""
    years = _years(source)
    if len(years) > 1:
        raise DataError(f"{source} holds several years: give one of {', '.join(map(str, years))}.")
    (root,) = years
    (train, scored), split = _lists(root)
    names = [*train, *scored]
    annotations = _read_annotations([root / "Annotations" / f"{name}.xml" for name in names], root)
    present = [{label for label, difficult in objects if not difficult} for objects in annotations]
    mentioned = [{label for label, _ in objects} for objects in annotations]
    labels = sorted({label for found in mentioned for label in found})
    targets = targets_of_names(labels, present, [every - sure for every, sure in zip(mentioned, present, strict=True)])
    files = locate([f"{name}.jpg" for name in names], [root / "JPEGImages"], root)
    return assemble(labels, files, targets, ["train"] * len(train) + [split] * len(scored), seed, root)


def _years(source: Path) -> list[Path]:
    """`source` itself, or the year folders in it or in its VOCdevkit."""
    if _is_root(source):
        return [source]
    return sorted(root for base in (source, source / "VOCdevkit") for root in base.glob("VOC*") if _is_root(root))


def _is_root(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in ("ImageSets/Main", "Annotations", "JPEGImages"))


def _lists(root: Path) -> tuple[list[list[str]], str]:
    """The photos to train on and to score by, and which split the latter are."""
    for names in _PROTOCOLS:
        files = [root / f"ImageSets/Main/{name}.txt" for name in names]
        if all(file.is_file() for file in files):
            return [read_text(file, "a list").split() for file in files], names[1]
    raise DataError(f"{root / 'ImageSets/Main'} needs train.txt and val.txt, or trainval.txt and test.txt.")


def _read_annotations(files: list[Path], root: Path) -> list[list[tuple[str, bool]]]:
    """Per photo the label of each object, and whether it is difficult; all files that cannot be read are named."""
    annotations, faults = [], []
    for file in files:
        try:
            annotations.append(_read_objects(file))
        except FileNotFoundError:
            faults.append(f"{file.name} (missing)")
        except (OSError, ElementTree.ParseError, ValueError) as error:
            faults.append(f"{file.name} ({error})")
    if faults:
        raise DataError(f"{counted(len(faults), 'annotation')} of {root} cannot be read: {some(faults)}.")
    return annotations


def _read_objects(file: Path) -> list[tuple[str, bool]]:
    objects = ElementTree.parse(file).getroot().findall("object")  # only these: a part of an object has a name as well
    names = [(entry.findtext("name") or "").strip() for entry in objects]
    if not all(names):
        raise ValueError("an object has no name")
    difficult = [(entry.findtext("difficult") or "0").strip() == "1" for entry in objects]
    return list(zip(names, difficult, strict=True))
