"""Leaves out folders and photos: hidden ones, those of other programs, and what `--exclude` names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from labelwise.program_folders import program_in

_MOST_NAMES = 4  # in a sentence
_MOST_PATHS = 10_000
_THUMBNAILS = {"thumbs", "thumbnails"}  # only here: in training a folder of this name may be a label


@dataclass
class LeftOut:
    """Counts what was left out, and keeps some names of hidden folders and photos."""

    hidden: int = 0
    names: list[str] = field(default_factory=list)
    excluded: int = 0
    _paths: set[str] = field(default_factory=set)

    def hide(self, path: str, name: str) -> None:
        if self._is_new(path):
            self.hidden += 1
            if name not in self.names and len(self.names) <= _MOST_NAMES:
                self.names.append(name)

    def exclude(self, path: str) -> None:
        self.excluded += self._is_new(path)

    def _is_new(self, path: str) -> bool:
        """A glob with `**` passes a path more than once. Only the first paths are remembered, to bound memory."""
        path = os.path.normpath(path)
        if path in self._paths:
            return False
        if len(self._paths) < _MOST_PATHS:
            self._paths.add(path)
        return True

    def __str__(self) -> str:
        parts = []
        if self.hidden:
            names = ", ".join([*self.names[:_MOST_NAMES], *(["…"] if len(self.names) > _MOST_NAMES else [])])
            what = "folder or photo" if self.hidden == 1 else "folders and photos"
            parts.append(f"{self.hidden:,} {what} that are hidden or of other programs ({names}; --hidden takes them)")
        if self.excluded:
            parts.append(f"{self.excluded:,} by --exclude")
        return f"Left out: {'; '.join(parts)}." if parts else ""


@dataclass(frozen=True)
class Selection:
    """Which of the photos found are taken; the others are counted in `left_out`.

    A glob in `exclude` matches the name of a folder or photo; with a slash in it, the end of the path.
    """

    hidden: bool = False
    exclude: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut, compare=False)

    def uncounted(self) -> "Selection":
        """The same selection with a count of its own."""
        return replace(self, left_out=LeftOut())

    def takes(self, path: str, *, is_folder: bool) -> bool:
        """Whether a folder or photo that was found in a folder is taken."""
        name = os.path.basename(path)  # noqa: PTH119 (there may be millions)
        if not self.hidden and (name.startswith(".") or (is_folder and _is_of_a_program(path))):
            self.left_out.hide(path, name)
            return False
        return not self._excludes(path, (name,))

    def takes_named(self, path: str, *, meant: str, is_folder: bool) -> bool:
        """Whether what the command names is taken. The command spells out `meant`, the beginning of `path`."""
        names = _names(path)
        program = None if self.hidden else _program_in(names, start=len(_names(meant)))
        if program:
            self.left_out.hide(path[: path.index(program) + len(program)], program)
            return False
        return not self._excludes(path, names[-1:] if is_folder else names)

    def takes_listed(self, path: str) -> bool:
        """Whether a path in a list is taken. Hidden ones are, because the list names them."""
        return not self._excludes(path, _names(path))

    def takes_member(self, archive: str, member: str) -> bool:
        """Whether a photo in an archive is taken."""
        names, path = _names(member), f"{archive}/{member}"
        hidden = next((name for name in names if name.startswith(".")), None) or _program_in(names[:-1])
        if hidden and not self.hidden:
            self.left_out.hide(path, hidden)
            return False
        return not self._excludes(path, names)

    def _excludes(self, path: str, names: Sequence[str]) -> bool:
        if not any(_matches(pattern.rstrip("/"), path, names) for pattern in self.exclude):
            return False
        self.left_out.exclude(path)
        return True


def _matches(pattern: str, path: str, names: Sequence[str]) -> bool:
    if "/" not in pattern:
        return any(fnmatchcase(name, pattern) for name in names)
    globs = _names(pattern)
    if os.path.isabs(pattern):  # noqa: PTH117 (there may be millions)
        return _begins_with(globs, _names(os.path.abspath(path)))  # noqa: PTH100
    names = _names(path)
    return any(_begins_with(globs, names[at:]) for at in range(len(names)))


def _begins_with(globs: Sequence[str], names: Sequence[str]) -> bool:
    """Whether the first of `names` match all of `globs`. `*` matches within a name, `**` any number of names."""
    if not globs:
        return True
    if globs[0] == "**":
        return any(_begins_with(globs[1:], names[at:]) for at in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], globs[0]) and _begins_with(globs[1:], names[1:])


def in_program_folder(path: str) -> bool:
    """Whether `path` is a folder of another program, such as `@eaDir`, or in one."""
    return bool(_program_in(_names(path)))


def _program_in(names: Sequence[str], *, start: int = 0) -> str | None:
    """The first of `names`, from `start` on, that is a folder of another program or of thumbnails."""
    thumbnails = (name for name in names[start:] if name.lower() in _THUMBNAILS)
    return program_in(names, start=start) or next(thumbnails, None)


def _is_of_a_program(path: str) -> bool:
    names = _names(path)
    return bool(_program_in(names, start=len(names) - 1))


def _names(path: str) -> list[str]:
    return [name for name in path.replace(os.sep, "/").split("/") if name not in ("", ".", "..")]
