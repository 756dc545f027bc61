"""Pascal VOC: an XML per photo, and lists of the photos of each split."""

from pathlib import Path

from labelwise.errors import DataError
from training.data.labelled_data import LabelledData, some
from training.data.layouts.entries import entries_to_data
from training.data.layouts.layout_files import read_lines
from training.data.layouts.splits import is_photo, split_of
from training.data.layouts.voc_xml import read_entries

NAME = "Pascal VOC"
LAYOUT = "a Pascal VOC folder (ImageSets/Main, Annotations, JPEGImages; also inside VOCdevkit/VOC2007)"


def recognises(source: Path) -> bool:
    return bool(_years(source))


def read(source: Path, seed: int) -> LabelledData:
    """With a test set, trains on trainval and test serves as val; otherwise uses train and val. Raises DataError."""
    years = _years(source)
    if len(years) > 1:
        raise DataError(f"{source} holds several years: give one of {', '.join(map(str, years))}.")
    (root,) = years
    lists = _lists(root)
    names = [(name, split) for split, file in lists for name in _read_names(file, root)]
    entries = read_entries(root / "Annotations", names, [root / "JPEGImages", root / "images", root], root)
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
