"""Labelled photos: reading the lists, checking every file before the first epoch, keeping pixels in memory."""

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from labelwise.errors import DataError
from labelwise.image import ImageError, load_pixels
from labelwise.spec import DataSpec, ImageSpec

PRESENT, ABSENT, UNKNOWN = 1.0, 0.0, -1.0

_PATH_COLUMNS = ("image", "path", "file", "filename")
_VALUES = {"1": PRESENT, "0": ABSENT, "-1": UNKNOWN, "": UNKNOWN}
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "val"}
_VAL_SHARE = 0.2
_NAMED_AT_MOST = 10


@dataclass(frozen=True)
class Photos:
    """Files with their labels: `targets` float32 [n, l] of PRESENT, ABSENT or UNKNOWN."""

    files: tuple[Path, ...]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, rows: Sequence[int]) -> "Photos":
        return Photos(tuple(self.files[row] for row in rows), self.targets[list(rows)])


@dataclass(frozen=True)
class LabelledData:
    """A data set split in two; no file is in both."""

    labels: tuple[str, ...]
    train: Photos
    val: Photos

    def describe(self) -> DataSpec:
        lines = [
            f"{split}\t{file.name}\t{','.join(f'{value:g}' for value in target)}"
            for split, photos in (("train", self.train), ("val", self.val))
            for file, target in zip(photos.files, photos.targets, strict=True)
        ]
        digest = hashlib.sha256("\n".join([*self.labels, *sorted(lines)]).encode())
        present = (self.train.targets == PRESENT).sum(axis=0)
        return DataSpec(
            fingerprint=digest.hexdigest(),
            train_images=len(self.train),
            val_images=len(self.val),
            train_counts={label: int(count) for label, count in zip(self.labels, present, strict=True)},
        )


def read_data(source: Path, seed: int = 0) -> LabelledData:
    """Read a CSV, or the labels.csv of a folder: a path column, one 0/1/-1 column per label, and optionally `split`.

    Paths are relative to the CSV, or to an `images` folder beside it. Without a `split` column a fifth of the photos,
    drawn with `seed`, becomes val. Raises DataError.
    """
    file = source / "labels.csv" if source.is_dir() else source
    rows = _read_rows(file)
    path_column = next((name for name in _PATH_COLUMNS if name in rows[0].cells), None)
    if path_column is None:
        raise DataError(f"{file} has no column with the photos' paths: name it `image`.")
    labels = tuple(name for name in rows[0].cells if name not in (path_column, "split"))
    if not labels:
        raise DataError(f"{file} has no label columns: one column of 0 and 1 per label is needed.")
    targets = np.array([_targets(row, labels, file) for row in rows], dtype=np.float32)
    photos = Photos(_locate([row.cells[path_column] for row in rows], file), targets)
    train, val = _split_rows(rows, seed, file)
    data = LabelledData(labels, photos.subset(train), photos.subset(val))
    _check_split(data, file)
    return data


@dataclass(frozen=True)
class _Row:
    line: int
    cells: dict[str, str]


def _read_rows(file: Path) -> list[_Row]:
    if not file.is_file():
        raise DataError(f"There is no labelled data at {file}: give a CSV, or a folder with a labels.csv.")
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            rows = [_read_row(header, cells, reader.line_num, file) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is not a CSV in UTF-8: {error}.") from error
    if not rows:
        raise DataError(f"{file} lists no photos: a header and a row per photo are needed.")
    twice = sorted({name for name in header if header.count(name) > 1 or not name})
    if twice:
        raise DataError(f"{file} has columns without a name of their own: {_some([repr(name) for name in twice])}.")
    return rows


def _read_row(header: Sequence[str], cells: Sequence[str], line: int, file: Path) -> _Row:
    if len(cells) != len(header):
        raise DataError(f"{file}, line {line}: {len(header)} values are needed, as in the header, not {len(cells)}.")
    return _Row(line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))


def _targets(row: _Row, labels: Sequence[str], file: Path) -> list[float]:
    try:
        return [_VALUES[row.cells[label]] for label in labels]
    except KeyError as error:
        raise DataError(
            f"{file}, line {row.line}: a label must be 1, 0 or, if unknown, -1 or empty; not {error}."
        ) from None


def _locate(names: Sequence[str], file: Path) -> tuple[Path, ...]:
    """Absolute paths of the photos; all missing ones are reported at once."""
    roots = (file.parent, file.parent / "images")
    found = [next((root / name for root in roots if (root / name).is_file()), None) for name in names]
    missing = [name for name, path in zip(names, found, strict=True) if path is None]
    if missing:
        raise DataError(f"{len(missing)} photos of {file} are missing: {_some(missing)}.")
    return tuple(path for path in found if path is not None)


def _split_rows(rows: Sequence[_Row], seed: int, file: Path) -> tuple[list[int], list[int]]:
    if "split" not in rows[0].cells:
        order = np.random.default_rng(seed).permutation(len(rows))
        count = max(1, round(len(rows) * _VAL_SHARE))
        return sorted(map(int, order[count:])), sorted(map(int, order[:count]))
    for row in rows:
        if row.cells["split"] not in _SPLITS:
            raise DataError(f"{file}, line {row.line}: split must be train or val, not {row.cells['split']!r}.")
    is_val = [_SPLITS[row.cells["split"]] == "val" for row in rows]
    return [index for index, val in enumerate(is_val) if not val], [index for index, val in enumerate(is_val) if val]


def _check_split(data: LabelledData, file: Path) -> None:
    """Both splits must hold photos, no photo may be in both, and val must be able to tell good from bad."""
    if not len(data.train) or not len(data.val):
        raise DataError(f"{file} needs photos in both splits: {len(data.train)} are train, {len(data.val)} are val.")
    if both := sorted(file.name for file in {*data.train.files} & {*data.val.files}):
        raise DataError(f"{file} has photos that are in train and in val: {_some(both)}.")
    if not (data.val.targets == PRESENT).any():
        raise DataError(
            f"{file} has no label present in val, so that nothing could be scored: add photos that have one."
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def decode_all(
    files: Sequence[Path], image: ImageSpec, scale: float = 1.0, progress: Callable[[Iterable], Iterable] = iter
) -> NDArray[np.uint8]:
    """Decode every file as serving does, at `scale` times the model's size.

    Returns uint8 [n, h * scale, w * scale, 3]; raises one DataError that names every file that cannot be decoded.
    """
    height, width = round(image.height * scale), round(image.width * scale)

    def decode(file: Path) -> NDArray[np.uint8] | str:
        try:
            return load_pixels(file.read_bytes(), height, width, image.resize, image.interpolation)
        except (ImageError, OSError) as error:
            return f"{file.name} ({error})"

    pixels = np.empty((len(files), height, width, 3), np.uint8)
    broken = []
    with ThreadPoolExecutor() as pool:
        for index, decoded in enumerate(progress(pool.map(decode, files))):
            if isinstance(decoded, str):
                broken.append(decoded)
            else:
                pixels[index] = decoded
    if broken:
        raise DataError(f"{len(broken)} photos cannot be decoded: {_some(broken)}.")
    return pixels


class Views(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Decoded photos with `count` random views of each: uint8 [count, 3, h, w] and targets [l] per item."""

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        targets: NDArray[np.float32],
        transform: Callable[[torch.Tensor], torch.Tensor],
        count: int,
    ) -> None:
        self._pixels = torch.from_numpy(pixels)
        self._targets = torch.from_numpy(targets)
        self._transform = transform
        self._count = count

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        photo = self._pixels[index].permute(2, 0, 1)  # h w c -> c h w
        return torch.stack([self._transform(photo) for _ in range(self._count)]), self._targets[index]
