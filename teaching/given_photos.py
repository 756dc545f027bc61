"""The photos that a user gives, and what each says about the labels: from folders, or from a table."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from export.onnx_file import Pixels
from export.pictures import photo_files
from labelwise.cores import usable_cores
from labelwise.errors import DataError
from labelwise.feedback import NO, UNKNOWN, YES
from labelwise.image import MAX_PIXELS, Hold, ImageError, load_photo
from labelwise.label_names import clean_name, printable, same_but_for_case, shown_groups, some
from labelwise.spec import ImageSpec
from training.data.layouts import label_studio
from training.data.layouts.csv_list import read_rows
from training.data.layouts.entries import Entry
from training.data.layouts.layout_files import locate
from training.data.layouts.table import PATH_COLUMNS, find_column

FEWEST = 3  # photos with a label, and without it: with fewer, cross-validation says nothing
_AT_ONCE = 32  # photos in memory
_IGNORED = ("split", "is_valid")  # columns of a table for `labelwise train`

Answers = NDArray[np.int8]  # [n, labels]: YES, NO or UNKNOWN
Found = tuple[NDArray[np.float32], ...]  # what was seen on n photos: each [n, ...]
Tell = Callable[[dict[str, str | int]], None]  # gets each step of a lesson: {"step": "look", "done": 32, "of": 80}
See = Callable[[Pixels], Found]  # n photos uint8 [n, h, w, 3] -> what is seen on them


class GivenFile(Protocol):
    """A Path, or a photo that lies elsewhere; as text, what the user calls it."""

    def read_bytes(self) -> bytes: ...


class LeftOut(NamedTuple):
    """A photo that nothing is learned from, and why."""

    file: GivenFile
    reason: str

    def __str__(self) -> str:
        return f"{self.file} ({self.reason})"


def told(left_out: Sequence[LeftOut]) -> str:
    """The sentence about photos that were left out."""
    return f"Left out {len(left_out)}: {some([str(each) for each in left_out])}."


def tell_nobody(step: dict[str, str | int]) -> None:
    pass


@dataclass(frozen=True)
class GivenPhotos:
    """n files, and for each label what each file says."""

    labels: tuple[str, ...]
    files: tuple[GivenFile, ...]
    answers: Answers  # [n, l]

    def chosen(self, rows: Sequence[int], answers: Answers) -> "GivenPhotos":
        return GivenPhotos(self.labels, tuple(self.files[row] for row in rows), answers)


def no_photos() -> GivenPhotos:
    """No photos and no labels: those of a store of corrections are to be learned."""
    return GivenPhotos((), (), np.empty((0, 0), np.int8))


def from_folders(label: str, yes: Sequence[Path], no: Sequence[Path]) -> GivenPhotos:
    """Reads folders, photos or lists of photos. Raises DataError if one cannot be read or has no photos."""
    answers = {YES: [file for place in yes for file in photo_files(place)]}
    answers[NO] = [file for place in no for file in photo_files(place)]
    files = [*answers[YES], *answers[NO]]
    column = [YES] * len(answers[YES]) + [NO] * len(answers[NO])
    return GivenPhotos((checked_label(label),), tuple(files), np.array(column, np.int8)[:, None])


def from_table(file: Path) -> GivenPhotos:
    """Reads a column `image` and one per label, of 1, 0 or nothing, or an export of Label Studio, as `labelwise train`
    does. Choices that fewer than FEWEST photos show, or do not show, are left out of an export. Raises DataError."""
    if label_studio.recognises(file):
        return _from_export(file)
    columns, rows = read_rows(file)
    path = next((found for name in PATH_COLUMNS if (found := find_column(columns, name))), None)
    labels = [name for name in columns if name != path and name.lower() not in _IGNORED]
    if path is None or not labels:
        raise DataError(f"{file} needs a column `image` with paths, and one column of 1, 0 or nothing per label.")
    for label in labels:
        checked_label(label)
    if groups := same_but_for_case(labels):
        raise DataError(f"{file} has the labels {shown_groups(groups)}, which differ only by case: keep one of them.")
    answers = np.array([[row.target(label) for label in labels] for row in rows])
    files = locate([row.path(path) for row in rows], (file.parent, file.parent / "images"), file)
    return GivenPhotos(tuple(labels), tuple(files), np.where(answers < 0, UNKNOWN, answers).astype(np.int8))


def _from_export(file: Path) -> GivenPhotos:
    entries, _ = label_studio.read_entries(file)
    names = sorted({label for entry in entries for label in (*entry.present, *entry.unknown)})
    answers = np.array([[_answer(name, entry) for name in names] for entry in entries], np.int8)
    enough = [column for column in range(len(names)) if _count_fewer(answers[:, column]) >= FEWEST]
    if not enough:
        raise DataError(f"{file} has no choice that {FEWEST} photos show and {FEWEST} do not: annotate more.")
    labels = tuple(checked_label(names[column]) for column in enough)
    return GivenPhotos(labels, tuple(entry.file for entry in entries), answers[:, enough])


def _answer(name: str, entry: Entry) -> int:
    return YES if name in entry.present else UNKNOWN if name in entry.unknown else NO


def _count_fewer(column: NDArray[np.int8]) -> int:
    """How many photos have the answer that fewer have."""
    return min(int((column == answer).sum()) for answer in (YES, NO))


def checked_label(text: str) -> str:
    """The label in its usual form. Raises DataError if it cannot be a label."""
    label = clean_name(text)
    if not label:
        raise DataError("A label needs a name: --label 'climbing helmet'.")
    if not label.isprintable():
        raise DataError(f"The label {printable(label)} has characters that cannot be printed: choose another name.")
    return label


@dataclass(frozen=True)
class Seen:
    """What can be learned from: n photos, their SHA-256, and what was seen on them; and why others were left out."""

    photos: GivenPhotos
    digests: tuple[str, ...]
    values: Found
    left_out: tuple[LeftOut, ...]


def look_at(given: GivenPhotos, image: ImageSpec, see: See, tell: Tell = tell_nobody) -> Seen:
    """Decodes the photos as serving does, and asks `see` about them, some at a time.

    Broken photos are left out, and copies count once. Raises DataError if copies of a photo contradict each other.
    """
    digests: dict[int, str] = {}  # by row
    met: set[str] = set()
    values: list[Found] = []
    left_out: list[LeftOut] = []
    hold = _one_large_at_a_time()
    tell({"step": "look", "done": 0, "of": len(given.files)})
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(given.files), _AT_ONCE):
            files, pixels = given.files[start : start + _AT_ONCE], []
            results = pool.map(lambda file: _decode(file, image, hold), files)
            for row, (file, result) in enumerate(zip(files, results, strict=True), start):
                if isinstance(result, str):
                    left_out.append(LeftOut(file, result))
                    continue
                digests[row] = result[0]
                if result[0] not in met:
                    met.add(result[0])
                    pixels.append(result[1])
            if pixels:
                values.append(see(np.stack(pixels)))
            tell({"step": "look", "done": start + len(files), "of": len(given.files)})
    if not values:
        raise DataError(f"None of the {len(given.files)} photos can be decoded, such as {left_out[0]}.")
    decoded = given.chosen([*digests], given.answers[[*digests]])
    photos, _, copies = _each_once(decoded, [*digests.values()])
    return Seen(photos, tuple(dict.fromkeys(digests.values())), _joined(values), (*left_out, *copies))


def joined(one: Seen, other: Seen) -> Seen:
    """What both say, of the same labels. Raises DataError if they contradict each other about a photo."""
    digests = (*one.digests, *other.digests)
    files, answers = (
        (*one.photos.files, *other.photos.files),
        np.concatenate([one.photos.answers, other.photos.answers]),
    )
    photos, rows, copies = _each_once(GivenPhotos(one.photos.labels, files, answers), digests)
    values = tuple(each[rows] for each in _joined([one.values, other.values]))
    return Seen(photos, tuple(digests[row] for row in rows), values, (*one.left_out, *other.left_out, *copies))


def _each_once(given: GivenPhotos, digests: Sequence[str]) -> tuple[GivenPhotos, list[int], list[LeftOut]]:
    """The photos without copies, their rows in `given`, and what was left out. A photo says what all its copies say."""
    answers, first, copies = given.answers.copy(), dict[str, int](), list[LeftOut]()
    for row, digest in enumerate(digests):
        if (same := first.setdefault(digest, row)) != row:
            answers[same] = merged(given, answers, same, row)
            copies.append(LeftOut(given.files[row], f"a copy of {given.files[same]}"))
    rows = [*first.values()]
    return given.chosen(rows, answers[rows]), rows, copies


def _joined(parts: Sequence[Found]) -> Found:
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def merged(given: GivenPhotos, answers: Answers, one: int, other: int) -> Answers:
    """What two copies of a photo say together [l]. Raises DataError if one says yes and the other no."""
    known = (answers[one] != UNKNOWN) & (answers[other] != UNKNOWN)
    if (wrong := known & (answers[one] != answers[other])).any():
        label = given.labels[int(wrong.argmax())]
        yes, no = (one, other) if answers[one][wrong.argmax()] == YES else (other, one)
        raise DataError(
            f"The same photo is given as {label!r} and as not: {given.files[yes]} and {given.files[no]}. Remove the "
            "wrong one."
        )
    return np.maximum(answers[one], answers[other])


def _one_large_at_a_time() -> Hold:
    """Photos from anywhere may be huge: decoded on every core at once, they would take all memory."""
    turn, small = threading.Lock(), MAX_PIXELS // (4 * usable_cores())
    return lambda pixels: turn if pixels > small else nullcontext()


def _decode(file: GivenFile, image: ImageSpec, hold: Hold) -> tuple[str, Pixels] | str:
    """The SHA-256 of the file and its pixels, or why there are none."""
    try:
        data = file.read_bytes()
        photo = load_photo(data, image.height, image.width, image.resize, image.interpolation, hold=hold)
        return hashlib.sha256(data).hexdigest(), photo.pixels
    except ImageError as error:
        return str(error)
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        return getattr(error, "strerror", None) or str(error)
