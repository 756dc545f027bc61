"""Pascal VOC: an XML per photo, and lists of the photos of each split."""

from pathlib import Path

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, some
from training.data.layouts.entries import Entry, entries_to_data
from training.data.layouts.files import read_text
from training.data.layouts.splits import is_photo, split_of
from training.data.layouts.voc_xml import find_photos, read_annotations

NAME = "Pascal VOC"
LAYOUT = "a Pascal VOC folder (ImageSets/Main, Annotations, JPEGImages; also inside VOCdevkit/VOC2007)"


def recognises(source: Path) -> bool:
    return bool(_years(source))


def read(source: Path, seed: int) -> LabelledData:
    """Trains on trainval and takes test as val where the test set is there, else on train with val. DataError."""
    years = _years(source)
    if len(years) > 1:
        raise DataError(f"{source} holds several years: give one of {', '.join(map(str, years))}.")
    (root,) = years
    lists = _lists(root)
    names = [(name, split) for split, file in lists for name in _read_names(file, root)]
    annotations = read_annotations(root / "Annotations", [name for name, _ in names], root)
    files = find_photos(annotations, [root / "JPEGImages", root / "images", root], root)
    entries = [
        Entry(file, annotation.present, annotation.unknown, split)
        for file, annotation, (_, split) in zip(files, annotations, names, strict=True)
    ]
    labels = sorted({label for entry in entries for label in (*entry.present, *entry.unknown)})
    layout = f"{NAME} ({some([file.name for _, file in lists])})"
    return entries_to_data(entries, labels, layout=layout, source=root, seed=seed)


def _years(source: Path) -> list[Path]:
    """`source` itself, or the year folders in it or in its VOCdevkit."""
    if _is_root(source):
        return [source]
    return sorted(root for base in (source, source / "VOCdevkit") for root in base.glob("VOC*") if _is_root(root))


def _is_root(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in ("ImageSets/Main", "Annotations"))


def _lists(root: Path) -> list[tuple[str | None, Path]]:
    """The lists of photos to read, each with its split; with test beside trainval the field's protocol.

    CVAT calls its lists after subsets, which may be the only one, `default`. Lists of one label each are not read.
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
    """One line is one name, which may hold spaces; some tools write it in quotes, or with the photo's suffix."""
    names = [line.strip() for line in read_text(file, "a list").splitlines()]
    names = [name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name for name in names]
    return [_without_suffix(name.replace("\\", "/"), root) for name in names if name]


def _without_suffix(name: str, root: Path) -> str:
    if is_photo(name) and not (root / f"Annotations/{name}.xml").is_file():
        return name.rpartition(".")[0]
    return name
