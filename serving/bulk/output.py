"""The output: one file, or a folder of parts, that can be read at any moment.

All rows of the journal are written to a new file, sorted by path, which is flushed to the disk and renamed into place.
A reader sees the old file or the new one, both whole; a full disk leaves the old one. In a folder only the parts that
have changed are written; a photo's path decides its part, so it is never in two.

A finished output has no journal. A run that adds to it begins a new journal with its rows.
"""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import numpy as np

from labelwise.files import replacing, sync
from labelwise.spec import TaggerSpec
from serving.bulk.kept_embeddings import KeptEmbeddings
from serving.bulk.ledger import SUFFIXES, Ledger, remove
from serving.bulk.output_formats import FORMATS, format_of
from serving.bulk.rows import Identity, Page, Row, StoredRow, make_page
from serving.bulk.tag_errors import RUN_AGAIN, OutputError, UsageError

_VALUES_A_PAGE = 4_000_000  # scores in memory at once
_ROWS_A_PAGE = 4_096
_ASIDE, _JOURNAL = ".{}.new", ".journal"
PARTS = 16  # of a new folder


class Output:
    """Where `labelwise tag` writes: a file in the format of its suffix, or a folder of Parquet parts."""

    def __init__(self, path: str, every_score: bool = True, embeddings: bool = False) -> None:
        """Raises UsageError if `path` cannot be an output. Without `every_score` only tags get a score.

        With `embeddings` those of the tags are kept beside it, and also if an earlier run kept them.
        """
        self.path, self._every_score = _located(path), every_score
        self.is_folder = path.endswith("/") or self.path.is_dir()
        self._format = FORMATS[".parquet"] if self.is_folder else format_of(self.path)
        self.journal = self.path.with_name(self.path.name + _JOURNAL)
        self._embeddings = KeptEmbeddings(self.path)
        self.keeps_embeddings = embeddings or self._embeddings.path.exists()
        parent = self.path.parent
        if not parent.is_dir():
            raise UsageError(f"There is no folder {parent} to write {self.path.name} into.")
        if not os.access(parent, os.W_OK | os.X_OK) or (self.is_folder and self.path.is_file()):
            raise UsageError(f"{self.path} cannot be written: it is a file, or the folder is read-only.")

    def open(self, spec: TaggerSpec, force: bool) -> Ledger:
        """The journal to continue. `force` replaces an output of another model.

        Raises OutputError if what is there is of another model, and UsageError if the format cannot hold the labels.
        """
        self._format.check_labels(spec, self.path)
        if self.keeps_embeddings:
            self._embeddings.check(spec)
        identity = Identity.of(spec)
        ledger = Ledger.open(self.journal)
        try:
            other = ledger and identity.unlike(ledger.identity)
            if other and self.path.exists():
                _refuse_unless(force, self.path, other, identity)
            if ledger and (other or not self.path.exists()):
                ledger.delete()  # without its output, the run begins again
                ledger = None
            if ledger is None:
                remove(self.journal)
                ledger = self._begin(spec, force)
                self._embeddings.remove_of_others(spec)
            if not self._parts():
                self.publish(ledger, spec)
            if self.keeps_embeddings and not self._embeddings.path.exists():
                self.publish_embeddings(ledger, spec)  # so that later runs know
            ledger.every_score = self._every_score
            return ledger
        except BaseException:
            if ledger:
                ledger.close()
            raise

    def publish(self, ledger: Ledger, spec: TaggerSpec) -> None:
        """Write what the journal has and the output lacks. Raises OutputError, and then leaves the output as it was."""
        changed, size = sorted(ledger.changed), max(1, min(_ROWS_A_PAGE, _VALUES_A_PAGE // len(spec.labels)))
        for part in changed:
            ledger.changed.discard(part)
            pages = (make_page(rows, spec, self._every_score) for rows in ledger.pages(part, size))
            try:
                self._write(self._part_file(part, ledger.parts), pages, spec)
            except OSError as error:
                reason = error.strerror or error
                raise OutputError(f"{self.path} cannot be written: {reason}. It is unchanged. {RUN_AGAIN}") from error

    def publish_embeddings(self, ledger: Ledger, spec: TaggerSpec) -> None:
        """Write the embeddings, if they are kept. Raises OutputError as `publish` does."""
        if self.keeps_embeddings:
            self._embeddings.publish(ledger, spec)

    def _begin(self, spec: TaggerSpec, force: bool) -> Ledger:
        """A new journal with the rows and the embeddings of a finished output."""
        identity = Identity.of(spec)
        parts = self._parts()
        count = _count_in(parts[0].name) if self.is_folder and parts else PARTS if self.is_folder else 1
        if not parts:
            return Ledger.create(self.journal, identity, count)
        try:
            stored = chain.from_iterable(self._format.read(part) for part in parts)
            rows = _checked(stored, identity)
            return Ledger.create(self.journal, identity, count, rows, self._embeddings.read(spec))
        except (ValueError, KeyError, TypeError, OSError) as error:
            remove(self.journal)
            raise OutputError(f"{self.path} is not an output of `labelwise tag`: name another file.") from error
        except _OtherModel as other:
            remove(self.journal)
            _refuse_unless(force, self.path, str(other), identity)
            return Ledger.create(self.journal, identity, count)

    def _parts(self) -> list[Path]:
        """The output's files."""
        if not self.is_folder:
            return [self.path] if self.path.exists() else []
        found = sorted(self.path.glob("part-*.parquet"))
        aside = _ASIDE.format("part-*")  # a killed run may have left such files
        if self.path.is_dir() and not found and any(not fnmatch(file.name, aside) for file in self.path.iterdir()):
            raise OutputError(f"{self.path} is not an output of `labelwise tag`: name another folder, or a file in it.")
        return found

    def _part_file(self, part: int, parts: int) -> Path:
        return self.path / f"part-{part:05d}-of-{parts:05d}.parquet" if self.is_folder else self.path

    def _write(self, file: Path, pages: Iterable[Page], spec: TaggerSpec) -> None:
        if self.is_folder:
            self.path.mkdir(exist_ok=True)
        aside = file.with_name(_ASIDE.format(file.name))  # always this name, to overwrite what a killed run left
        with replacing(file, aside) as stream:
            self._format.write(stream, pages, spec)
        with suppress(OSError):  # Windows cannot open a folder
            sync(file.parent)


def _located(name: str) -> Path:
    """The target of a link, which a rename would replace. Raises UsageError if no file or folder can be there."""
    path = Path(name)
    if path.name in ("", ".."):
        raise UsageError(
            f"{name or 'An empty --out'} is not the name of an output: end it in the name of a file or a new folder."
        )
    try:
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        os.lstat(path.with_name(path.name + _JOURNAL + max(SUFFIXES, key=len)))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UsageError(f"{name} cannot be an output: {error.strerror}.") from error
    return path


class _OtherModel(Exception):
    """The output has rows of another model."""


def _checked(stored: Iterable[StoredRow], identity: Identity) -> Iterator[Row]:
    """The rows with their scores in the order of the model's labels. Raises _OtherModel."""
    labels = identity.labels or ()
    for made_by, row, told in stored:
        if other := identity.unlike(made_by):
            raise _OtherModel(other)
        if not {*(told or ())} <= {*labels}:
            raise _OtherModel(f"a {made_by} with other labels")
        scores = None if told is None else [told.get(label, math.nan) for label in labels]
        yield replace(row, scores=None if scores is None else np.array(scores, np.float32))


def _count_in(name: str) -> int:
    """16 for part-00003-of-00016.parquet. Raises OutputError for other names."""
    try:
        return int(name.removesuffix(".parquet").split("-of-")[1])
    except (ValueError, IndexError):
        raise OutputError(f"{name} is not a part that `labelwise tag` wrote: name another folder.") from None


def _refuse_unless(force: bool, output: Path, made_by: str, identity: Identity) -> None:
    if not force:
        raise OutputError(
            f"{output} was written by {made_by}, and this is {identity}: name another file, or add --force to tag all "
            "of it again."
        )
