"""Finds files whose names another system, a URL or a wrong encoding spells differently."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, unquote_plus

_WRONG_ENCODINGS = ("latin-1", "cp1252", "cp437")  # unpackers and exporters mistake UTF-8 for these, and the reverse
_FROM_ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:/|[a-z]:|/|\.\./)", re.IGNORECASE)  # a URL, a drive, a root


class Folders:
    """The files of folders by their names without case, and with accents in one form."""

    def __init__(self) -> None:
        self._entries: dict[Path, dict[str, list[str]]] = {}

    def fitting(self, root: Path, name: str) -> list[Path]:
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
        if folder not in self._entries:
            names: dict[str, list[str]] = defaultdict(list)
            try:
                for name in sorted(os.listdir(folder)):  # noqa: PTH208 (names are needed, no paths)
                    names[_key(name)].append(name)
            except OSError:  # not a folder, or one that cannot be read
                pass
            self._entries[folder] = names
        return self._entries[folder]


def _key(name: str) -> str:
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
