"""Keeps what has been tagged, so that a run that was killed at any moment can go on where it was.

`tags.parquet.journal` is an SQLite database beside the output; all rows of a run go there first. The path is a row's
key, so no row is there twice. A transaction is whole or absent, even after kill -9. Looking up what is done takes no
memory, however many photos there are. The output is written from the journal (see `output`), which is deleted when
everything is in the output. It is locked, so that two runs cannot write one output.
"""

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from serving.bulk.rows import Identity, Row, is_permanent
from serving.bulk.sources.found import FoundPhoto
from serving.bulk.tag_errors import RUN_AGAIN, OutputError

_SCHEMA = """
CREATE TABLE about (model TEXT, version INTEGER, labels TEXT, parts INTEGER, weights TEXT);
CREATE TABLE rows (
    part INTEGER, path TEXT, size INTEGER, mtime_ns INTEGER, scores BLOB, error TEXT, detail TEXT,
    PRIMARY KEY (part, path)
) WITHOUT ROWID;
"""
# In the order in which the file of embeddings has them: by label. The index finds those of a photo.
_EMBEDDINGS = """
CREATE TABLE IF NOT EXISTS embeddings (
    place INTEGER, path TEXT, part INTEGER, vector BLOB, PRIMARY KEY (place, path)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_path ON embeddings (path);
"""
SUFFIXES = ("", "-wal", "-shm", "-journal")  # of the files that SQLite makes
_UNREADABLE = "error IN ('folder_unreadable', 'archive_broken')"
_COLUMNS = "path, size, mtime_ns, scores, error, detail"


class Ledger:
    """The journal in `file` of an output in `parts` parts, for any number of threads. Raises OutputError."""

    def __init__(self, file: Path, db: sqlite3.Connection, identity: Identity, parts: int) -> None:
        self._file, self._db, self.identity, self.parts = file, db, identity, parts
        self.every_score = False  # whether a row with only some scores must be tagged again
        self._lock = threading.Lock()
        self.changed = set(range(parts))  # since they were last published: perhaps all, after a crash
        self.embeddings_changed = True

    @classmethod
    def open(cls, file: Path) -> "Ledger | None":
        """The journal that an earlier run left, locked; None if there is none, or an empty one."""
        if not file.exists():
            return None
        with _explained(file), _connected(file) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
                db.close()
                return None
            _execute(db, _EMBEDDINGS)  # older journals lack it
            model, version, labels, parts, *rest = db.execute("SELECT * FROM about").fetchone()
            weights = rest[0] if rest else None  # older journals lack it
            return cls(file, db, Identity(model, version, tuple(json.loads(labels)), weights), parts)

    @classmethod
    def create(
        cls,
        file: Path,
        identity: Identity,
        parts: int,
        rows: Iterable[Row] = (),
        embeddings: Iterable[tuple[str, int, bytes]] = (),
    ) -> "Ledger":
        """A new journal that begins with `rows` and `embeddings`: all of them, or there is no journal.

        `embeddings` are paths, places of labels and the bytes of vectors.
        """
        with _explained(file), _connected(file) as db:
            ledger = cls(file, db, identity, parts)
            db.execute("BEGIN")
            _execute(db, _SCHEMA + _EMBEDDINGS)
            ledger._insert(rows)
            ledger._insert_embeddings(embeddings)
            about = (identity.model, identity.version, json.dumps(identity.labels), parts, identity.weights)
            db.execute("INSERT INTO about VALUES (?, ?, ?, ?, ?)", about)
            db.execute("COMMIT")
            return ledger

    def put(self, rows: Sequence[Row]) -> None:
        """Keep `rows` in place of older ones with the same paths. They are safe when this returns."""
        with self._lock, _explained(self._file):
            self._db.execute("BEGIN")
            try:
                self._insert(rows)
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back already
                    self._db.execute("ROLLBACK")
                raise
        self.changed.update(self._part(row.path) for row in rows)
        self.embeddings_changed = True

    def done(self, photos: Sequence[FoundPhoto]) -> dict[str, Row]:
        """The rows, by path, of those photos that are done and have not changed since."""
        query = f"SELECT {_COLUMNS} FROM rows WHERE part = ? AND path = ?"
        with self._lock, _explained(self._file):  # one by one: SQLite scans all rows for `IN (VALUES …)`
            known = [self._db.execute(query, (self._part(photo.path), photo.path)).fetchone() for photo in photos]
        found = ((photo, _row(*values)) for photo, values in zip(photos, known, strict=True) if values)
        unchanged = (row for photo, row in found if (row.size, row.mtime_ns) == (photo.size, photo.mtime_ns))
        return {row.path: row for row in unchanged if self._is_final(row)}

    def _is_final(self, row: Row) -> bool:
        if row.error:
            return is_permanent(row.error)
        return row.scores is not None and not (self.every_score and np.isnan(row.scores).any())

    def embedded(self, path: str) -> set[int]:
        """The places of the labels of which the photo's embedding is kept."""
        with self._lock, _explained(self._file):
            return {place for (place,) in self._db.execute("SELECT place FROM embeddings WHERE path = ?", (path,))}

    def embeddings(self, place: int, size: int) -> Iterator[list[tuple[str, bytes, bytes]]]:
        """Path, scores and vector of the embeddings of a label, sorted by path, at most `size` at a time."""
        query = (
            "SELECT path, scores, vector FROM embeddings CROSS JOIN rows USING (part, path) "
            "WHERE place = ? AND path > ? AND scores IS NOT NULL ORDER BY path LIMIT ?"
        )
        last = ""
        while True:
            with self._lock, _explained(self._file):
                found = self._db.execute(query, (place, last, size)).fetchall()
            if not found:
                return
            yield found
            last = found[-1][0]

    def unreadable(self) -> dict[str, str]:
        """The errors, by path, of folders and archives that could not be read to their end."""
        with self._lock, _explained(self._file):
            return dict(self._db.execute(f"SELECT path, error FROM rows WHERE {_UNREADABLE}"))

    def forget_unreadable(self, paths: Iterable[str]) -> None:
        """Remove the errors of these folders and archives."""
        keys = [(self._part(path), path) for path in paths]
        with self._lock, _explained(self._file):
            self._db.executemany(f"DELETE FROM rows WHERE part = ? AND path = ? AND {_UNREADABLE}", keys)
        self.changed.update(part for part, _ in keys)

    def pages(self, part: int, size: int) -> Iterator[list[Row]]:
        """All rows of a part, sorted by path, at most `size` at a time."""
        query = f"SELECT {_COLUMNS} FROM rows WHERE part = ? AND path > ? ORDER BY path LIMIT ?"
        last = ""
        while True:
            with self._lock, _explained(self._file):
                rows = [_row(*values) for values in self._db.execute(query, (part, last, size))]
            if not rows:
                return
            yield rows
            last = rows[-1].path

    def count(self) -> int:
        """The number of rows."""
        with self._lock, _explained(self._file):
            return int(self._db.execute("SELECT count(*) FROM rows").fetchone()[0])

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()

    def delete(self) -> None:
        """Close and delete the journal, because everything is in the output."""
        self.close()
        remove(self._file)

    def _insert(self, rows: Iterable[Row]) -> None:
        insert = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)"
        for row in rows:
            self._db.execute(insert, (self._part(row.path), *_values(row)))
            self._db.execute("DELETE FROM embeddings WHERE path = ?", (row.path,))
            self._insert_embeddings((row.path, place, vector) for place, vector in row.embeddings.items())

    def _insert_embeddings(self, embeddings: Iterable[tuple[str, int, bytes]]) -> None:
        values = ((place, path, self._part(path), vector) for path, place, vector in embeddings)
        self._db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?)", values)

    def _part(self, path: str) -> int:
        """The part of a path: always the same, so that the row of a changed photo is replaced there."""
        return zlib.crc32(path.encode()) % self.parts


def remove(file: Path) -> None:
    """Delete a journal and the files of SQLite beside it."""
    for suffix in SUFFIXES:
        file.with_name(file.name + suffix).unlink(missing_ok=True)


@contextmanager
def _connected(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection, which is closed only if the block fails."""
    db = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        # The lock ends with the process. Rows that a power failure takes from the WAL are tagged again.
        for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
            db.execute(f"PRAGMA {pragma}")
        yield db
    except BaseException:
        db.close()
        raise


def _execute(db: sqlite3.Connection, statements: str) -> None:
    """Run `statements` one by one: `executescript` would end the transaction."""
    for statement in statements.split(";"):
        db.execute(statement)


def _values(row: Row) -> tuple[object, ...]:
    scores = None if row.scores is None else row.scores.astype("<f4").tobytes()
    return row.path, row.size, row.mtime_ns, scores, row.error, row.detail


def _row(
    path: str, size: int | None, mtime_ns: int | None, scores: bytes | None, error: str | None, detail: str | None
) -> Row:
    values = None if scores is None else np.frombuffer(scores, "<f4")
    return Row(path, size, mtime_ns, values, error, detail)


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise OutputError(f"Another run is writing here ({file} is locked): wait for it or stop it.") from error
        raise OutputError(f"{file} cannot be written: {error}. {RUN_AGAIN}") from error
    except sqlite3.DatabaseError as error:
        raise OutputError(f"{file} is not a journal of `labelwise tag` ({error}): remove it to start again.") from error
