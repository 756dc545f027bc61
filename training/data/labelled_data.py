"""Labelled photos: files, labels and splits, and the rules that hold for every layout."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelwise.errors import DataError
from labelwise.label_names import alike, case_fault, printable, shown_groups, some
from labelwise.spec import DataSpec

PRESENT, ABSENT, UNKNOWN = 1.0, 0.0, -1.0
# The names of splits, in a list or as folders.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

_VAL_SHARE = 0.2
_TARGET_NAMES = {PRESENT: "1", ABSENT: "0", UNKNOWN: "-1"}
_LABELS_AT_MOST = 30  # in one line; of more, those at both ends of the counts


@dataclass(frozen=True)
class EncodedPhoto:
    """One photo before decoding. `row` is its place in its split, `place` what errors call it; `read` may be slow."""

    row: int
    name: str
    place: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class LabelledPhotos:
    """Files with their labels: `targets` float32 [n, l] of PRESENT, ABSENT or UNKNOWN.

    `pixels` uint8 [n, h, w, 3] are the decoded photos if they are kept in memory.
    """

    files: tuple[Path, ...]
    targets: NDArray[np.float32]
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.files)

    def encoded(self, rows: Sequence[int]) -> Iterator[EncodedPhoto]:
        """The photos at `rows`, which ascend."""
        for row in rows:
            file = self.files[row]
            yield EncodedPhoto(row, file.name, str(file), file.read_bytes)

    def subset(self, rows: Sequence[int]) -> "LabelledPhotos":
        """The photos at `rows`, without pixels in memory."""
        return LabelledPhotos(tuple(self.files[row] for row in rows), self.targets[list(rows)])


@dataclass(frozen=True)
class LabelledData:
    """A data set split in two; no file is in both.

    `layout` says how the data was recognised, `notes` what the user should know about it; `check_photos` prints both.
    `listed` holds every photo that the layout names, also those of a test split.
    """

    labels: tuple[str, ...]
    train: LabelledPhotos
    val: LabelledPhotos
    layout: str = field(default="", kw_only=True, compare=False)
    notes: tuple[str, ...] = field(default=(), kw_only=True, compare=False)
    listed: tuple[Path, ...] = field(default=(), kw_only=True, compare=False, repr=False)

    def select(self, labels: Sequence[str]) -> "LabelledData":
        """Only these labels, in this order. Raises DataError for a label that the data does not have."""
        columns = label_columns(self.labels, labels)
        train, val = (replace(photos, targets=photos.targets[:, columns]) for photos in (self.train, self.val))
        return replace(self, labels=tuple(labels), train=train, val=val)

    def with_labels(self, labels: Sequence[str]) -> "LabelledData":
        """Exactly these labels, in this order; one that the data does not have is unknown for every photo.

        Raises DataError if the data has none of them, and for shards without one: their labels are fixed.
        """
        if not set(labels) & set(self.labels):
            raise DataError(f"The data has none of the labels {some(labels)}: name its labels like them.")
        if not set(labels) - set(self.labels):
            return self.select(labels)
        if not all(isinstance(photos, LabelledPhotos) for photos in (self.train, self.val)):
            missing = [label for label in labels if label not in self.labels]
            raise DataError(f"The shards do not have the label {some(missing)}: write them again with it.")
        split = []
        for photos in (self.train, self.val):
            column = dict(zip(self.labels, photos.targets.T, strict=True))
            nowhere = np.full(len(photos), UNKNOWN, np.float32)
            targets = np.stack([column.get(label, nowhere) for label in labels], axis=1)
            split.append(replace(photos, targets=targets))
        return replace(self, labels=tuple(labels), train=split[0], val=split[1])

    def describe(self) -> DataSpec:
        return self._description

    @cached_property
    def _description(self) -> DataSpec:
        lines = [
            f"{split}\t{file.name}\t{','.join([_TARGET_NAMES[value] for value in target])}"
            for split, photos in (("train", self.train), ("val", self.val))
            for file, target in zip(photos.files, photos.targets.tolist(), strict=True)
        ]
        # A name that is not UTF-8 has surrogates in it.
        digest = hashlib.sha256("\n".join([*self.labels, *sorted(lines)]).encode(errors="surrogatepass"))
        return DataSpec(
            fingerprint=digest.hexdigest(),
            train_images=len(self.train),
            val_images=len(self.val),
            train_counts=count_present(self.labels, self.train.targets),
        )


def assemble(
    labels: Sequence[str],
    files: Sequence[Path],
    targets: NDArray[np.float32],
    splits: Sequence[str] | None,
    seed: int,
    source: Path,
) -> LabelledData:
    """The last step of every reader: checks labels and files, and makes the splits. One may be empty.

    `splits` holds "train", "val" or "test" for each file; without it a fifth of the photos, drawn with `seed`, becomes
    val. Test is left out, or serves as val if there is no val. Errors call the data `source`. Raises DataError.
    """
    labels = [unicodedata.normalize("NFC", label) for label in labels]
    _check_labels(labels, source)
    _check_files(files, source)
    notes: tuple[str, ...] = ()
    if splits is None:
        train, val = draw_val(len(files), seed)
    else:
        scored, notes = _choose_val(splits)
        train, val = ([row for row, split in enumerate(splits) if split == wanted] for wanted in ("train", scored))
    photos = LabelledPhotos(tuple(files), targets)
    notes = (*notes, *_warnings(labels))
    return LabelledData(tuple(labels), photos.subset(train), photos.subset(val), notes=notes, listed=photos.files)


def draw_val(count: int, seed: int) -> tuple[list[int], list[int]]:
    """The places, of `count` photos, of those to train on and of a fifth, drawn with `seed`, for val. Both ascend."""
    order = np.random.default_rng(seed).permutation(count).tolist()
    val = max(1, round(count * _VAL_SHARE))
    return sorted(order[val:]), sorted(order[:val])


def targets_of_names(
    labels: Sequence[str], present: Sequence[Collection[str]], unknown: Sequence[Collection[str]]
) -> NDArray[np.float32]:
    """Targets float32 [n, l] from the names of present and unknown labels per photo; all others are absent."""
    column = {label: index for index, label in enumerate(labels)}
    targets = np.full((len(present), len(labels)), ABSENT, np.float32)
    for row, (there, perhaps) in enumerate(zip(present, unknown, strict=True)):
        targets[row, [column[name] for name in perhaps]] = UNKNOWN
        targets[row, [column[name] for name in there]] = PRESENT
    return targets


def count_present(labels: Sequence[str], targets: NDArray[np.float32]) -> dict[str, int]:
    counts = (targets == PRESENT).sum(axis=0)
    return {label: int(count) for label, count in zip(labels, counts, strict=True)}


def label_columns(labels: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The positions of the `wanted` labels in `labels`. Raises DataError for those that are missing."""
    if missing := [label for label in wanted if label not in labels]:
        raise DataError(f"The data has no label {some(missing)}; its labels are {some(labels)}.")
    if not wanted or len(set(wanted)) < len(wanted):
        raise DataError("Choose at least one label, and each only once.")
    return [labels.index(label) for label in wanted]


def check_case(data: LabelledData) -> None:
    """Raises DataError if labels differ only by case: queries on a table of their scores would confuse them.

    Ignores labels that no photo to train on has: those are refused or left out anyway.
    """
    present = (data.train.targets == PRESENT).any(axis=0)
    if fault := case_fault([label for label, is_present in zip(data.labels, present, strict=True) if is_present]):
        raise DataError(f"In this data {fault}: give both one spelling, or rename one of them.")


def counted(number: int, noun: str) -> str:
    """Such as "1 photo" and "2 photos"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _check_labels(labels: Sequence[str], source: Path) -> None:
    """tagger.json refuses these labels, too, but only after the first epoch."""
    if not labels:
        raise DataError(f"{source} names no labels.")
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise DataError(f"{source} has labels that occur more than once: {some(twice)}.")
    if odd := [repr(label) for label in labels if not label or not label.isprintable() or label != label.strip()]:
        raise DataError(f"{source} has labels that are not printable text without spaces around it: {some(odd)}.")


def _warnings(labels: Sequence[str]) -> Iterator[str]:
    # A typing error splits one label into two, each trained on half of the photos.
    if groups := alike(labels):
        yield f"Warning: labels differ only by case, white space or punctuation: {shown_groups(groups)}."
    # Kaggle's tables separate names by spaces, but the names in other tables contain spaces.
    known = {*labels}
    if spaced := [label for label in labels if len(words := label.split()) > 1 and known.issuperset(words)]:
        yield (
            f"Warning: labels consist of other labels: {some([repr(label) for label in spaced])}. Spaces do not "
            "separate names; commas, semicolons and bars do."
        )


def _check_files(files: Sequence[Path], source: Path) -> None:
    """A photo listed twice could be in both splits, or have contradictory labels."""
    counts = Counter(map(os.path.abspath, files))
    if twice := sorted(file for file, count in counts.items() if count > 1):
        raise DataError(f"{source} lists photos more than once: {some(twice)}. Remove the duplicates.")


def _choose_val(splits: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The split that serves as val, and notes for the user.

    Val chooses epoch, thresholds and temperature. Photos of a final test must not, unless there are no others.
    """
    if not (count := splits.count("test")):
        return "val", ()
    test = counted(count, "photo")
    if count == len(splits):
        return "test", (f"There is no val: test ({test}) serves as val.",)
    if "val" not in splits:
        return "test", (f"There is no val: test ({test}) serves as val, and chooses the epoch and the thresholds.",)
    return "val", (
        f"Left out: test ({test}). As data of its own, without splits, `labelwise evaluate --split all` scores it.",
    )


def require_splits(data: LabelledData, source: Path | str) -> None:
    """For training, both splits need photos, and val a present label to measure anything. Raises DataError."""
    if not len(data.train) or not len(data.val):
        raise DataError(f"{source} needs photos in both splits: {len(data.train)} are train, {len(data.val)} are val.")
    if not (data.val.targets == PRESENT).any():
        raise DataError(f"{source} has no label present in val, so nothing can be scored: add photos that have one.")


def summary(data: LabelledData) -> Iterator[str]:
    """A line for the layout, one for the labels with their photos in train and val, one per note. Raises DataError."""
    if data.layout:
        yield f"Read as {data.layout}."
    yield _label_line(data)
    yield from data.notes


def _label_line(data: LabelledData) -> str:
    """The counts of val come from the targets, which are fetched for shards."""
    train, val = data.describe().train_counts, count_present(data.labels, data.val.targets)

    def listed(labels: Sequence[str]) -> str:
        return ", ".join(f"{printable(label)} {train[label]} + {val[label]}" for label in labels)

    start = f"{counted(len(data.labels), 'label')}, with their photos to train on + for val"
    if len(data.labels) <= _LABELS_AT_MOST:
        return f"{start}: {listed(data.labels)}."
    ranked, half = sorted(data.labels, key=lambda label: -train[label]), _LABELS_AT_MOST // 2
    return f"{start}, the most frequent: {listed(ranked[:half])}; the rarest: {listed(ranked[-half:])}."
