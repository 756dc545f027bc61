"""Reads the files of a layout, and finds the photos that they name, however another system spells them."""

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus

from labelwise.errors import DataError
from labelwise.label_names import some
from labelwise.spreadsheet import HEAD_BYTES, encoding_of
from training.data.layouts.folders import files_below, is_photo

_HEAD = 65_536  # bytes, enough to recognise a file
_FILES_AT_MOST = 100_000  # looked through for a hint
_WRONG_ENCODINGS = ("latin-1", "cp1252", "cp437")  # unpackers and exporters mistake UTF-8 for these, and the reverse
_FROM_ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:/|[a-z]:|/|\.\./)", re.IGNORECASE)  # a URL, a drive, a root


def read_text(file: Path, kind: str) -> str:
    """The text of `file`, in UTF-8, or in UTF-16 as Excel and PowerShell write it.

    Raises DataError if it cannot be read, or is not `kind` in either encoding.
    """
    try:
        with file.open("rb") as stream:
            encoding = encoding_of(stream.read(HEAD_BYTES))
        return file.read_text(encoding=encoding)
    except UnicodeError as error:
        raise DataError(f"{file} is not {kind} in UTF-8 or UTF-16: {error}. Save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error


def read_lines(file: Path) -> list[str]:
    """The lines of a list, stripped and without empty ones. Raises DataError."""
    return [line.strip() for line in read_text(file, "a list").splitlines() if line.strip()]


def read_head(file: Path) -> str:
    """The beginning of `file`, enough to recognise it; empty if it cannot be read or is not text."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
        return head.decode(encoding_of(head), errors="replace")
    except OSError:
        return ""


def parse_json(text: str, place: str) -> Any:
    """The content of `text`. Raises DataError, which names `place`, if it is not JSON."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}: " if "\n" in text else ""
        raise DataError(f"{place} is not JSON: {line}{error.msg}.") from error
    except (ValueError, RecursionError) as error:
        fault = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise DataError(f"{place} is not JSON: {fault}.") from error


class Finder:
    """Finds the photos that the data of `source` names, each in the first of `roots` that has it."""

    def __init__(self, roots: Sequence[Path], source: Path) -> None:
        self.roots, self._source = tuple(dict.fromkeys(roots)), source
        self._names: dict[Path, dict[str, list[str]]] = {}  # by folder and `_key`

    def find(self, name: str) -> Path | None:
        """The file called `name`, or the only one that another system may call so, or None.

        Raises DataError if several files fit.
        """
        for root in self.roots:
            # Not Path.is_file, which raises an error for names that no file can have.
            if os.path.isfile(root / name):  # noqa: PTH113
                return root / name
        for root in self.roots:
            if fits := self._fitting(root, name):
                if len(fits) > 1:  # escaped, because the names often look alike
                    raise DataError(
                        f"{self._source} names the photo {name!a}, which {len(fits)} files fit: "
                        f"{some([ascii(str(file.relative_to(root))) for file in fits])}. Rename the one that is meant "
                        "to exactly that name, or correct the list."
                    )
                return fits[0]
        return None

    def with_missing(self, found: Sequence[Path | None], names: Sequence[str]) -> list[Path]:
        """`found`, and for a missing photo where it should be in the first root. Raises DataError if all are missing.

        `check_photos` reports missing photos later; but if there are no others, the place is wrong.
        """
        if names and not any(found):
            places = " or ".join(map(str, self.roots))
            there = _elsewhere(names[0], self.roots) or _there(self.roots)
            raise DataError(f"No photo of {self._source} is there: {some(names)} should be in {places}{there}.")
        return [path or self.roots[0] / name for path, name in zip(found, names, strict=True)]

    def _fitting(self, root: Path, name: str) -> list[Path]:
        """Every file below `root` that `name` may mean, whatever system spelled it."""
        found: dict[Path, None] = {}
        for spelling in _spellings(name):
            for parts in _tails(spelling):
                if files := self._follow(root, parts):
                    found |= dict.fromkeys(files)
                    break
        return sorted(found)

    def _follow(self, root: Path, parts: list[str]) -> list[Path]:
        places = [root]
        for part in parts:
            places = [place / name for place in places for name in self._named(place).get(_key(part), ())]
        return [place for place in places if os.path.isfile(place)]  # noqa: PTH113 (a NUL is no error)

    def _named(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._names:
            names: dict[str, list[str]] = defaultdict(list)
            with suppress(OSError):  # not a folder, or one that cannot be read
                for name in sorted(os.listdir(folder)):  # noqa: PTH208 (names are needed, no paths)
                    names[_key(name)].append(name)
            self._names[folder] = names
        return self._names[folder]


def locate(names: Sequence[str], roots: Sequence[Path], source: Path) -> list[Path]:
    """The path of each photo, as `Finder` finds it. Raises DataError if all are missing."""
    finder = Finder(roots, source)
    found = [finder.find(name) for name in names]
    _check_spelled_once(found, names, source)
    return finder.with_missing(found, names)


def _check_spelled_once(found: Sequence[Path | None], names: Sequence[str], source: Path) -> None:
    """Two spellings of one file are two rows of labels for it, of which one would be lost."""
    spelled: dict[Path, str] = {}
    for path, name in zip(found, names, strict=True):
        if path is not None and (other := spelled.setdefault(path, name)) != name:
            raise DataError(
                f"{source} names the photo {path} twice, as {other!a} and as {name!a}. Remove the duplicates."
            )


def _elsewhere(name: str, roots: Sequence[Path]) -> str:
    """A hint: the folders below `roots` that hold a photo of that name."""
    wanted = name.replace("\\", "/").rpartition("/")[2].lower()
    folders: dict[Path, None] = {}
    for root in filter(Path.is_dir, roots):
        try:
            for file, hidden in islice(files_below(root), _FILES_AT_MOST):
                if file.name.lower() == wanted and not hidden:
                    folders[file.parent] = None
        except DataError:  # a folder that cannot be read; the caller has an error to report already
            continue
    return f"; {name} is in {some([*map(str, folders)])}: move the photos, or correct their paths" if folders else ""


def _there(roots: Sequence[Path]) -> str:
    """A hint: photos in the first of `roots` that has some, escaped if not printable."""
    for root in roots:
        photos = sorted(file.name for file in root.iterdir() if is_photo(file.name)) if root.is_dir() else []
        if photos:
            return f"; in {root} there are {some(photos)}"
    return ""


def _key(name: str) -> str:
    """`name` without case, and with accents in one form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _spellings(name: str) -> list[str]:
    """`name` with Unix separators, and as a URL or a system with another encoding would spell it."""
    plain = name.replace("\\", "/")
    spellings = [plain, unquote(plain), unquote_plus(plain)]
    for encoding in _WRONG_ENCODINGS:
        with suppress(UnicodeError):
            spellings.append(plain.encode().decode(encoding))
        with suppress(UnicodeError):
            spellings.append(plain.encode(encoding).decode())
        with suppress(UnicodeError):
            spellings.append(os.fsdecode(plain.encode(encoding)))  # bytes on the disk that are not UTF-8
    return list(dict.fromkeys(spellings))


def _tails(name: str) -> Iterator[list[str]]:
    """The parts of `name`; for a path of another machine also without the first, the first two, and so on."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    for start in range(len(parts) if _FROM_ELSEWHERE.match(name) else 1):
        yield parts[start:]
