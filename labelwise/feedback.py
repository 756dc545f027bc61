"""The store of corrections: what people said about photos, in one SQLite file that only grows.

Any number of processes on one machine may add to it at once. An addition is one transaction: after a power failure or
a kill -9 at any moment it is there as a whole or not at all. What the store says already is not added again. Triggers
refuse every change, so the history stays: the newest answer about a photo and a label counts.

The file has a rollback journal, not a WAL: at rest it is one file that can be copied, it may lie on a read-only disk,
and a photo is written once. Readers then hold up writers, so each reads in short transactions.
"""

import datetime
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from labelwise.errors import LabelwiseError
from labelwise.label_names import without_case

YES, NO, UNKNOWN = 1, 0, -1

_FORMAT = 1
_OURS = 0x6C776662  # the application id: lwfb
_TABLES = {
    "photos": "id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE",
    "contents": "photo INTEGER PRIMARY KEY REFERENCES photos, content BLOB NOT NULL",
    # `graph` identifies what computed them. Both are little-endian float32.
    "features": "photo INTEGER NOT NULL REFERENCES photos, graph TEXT NOT NULL, features BLOB NOT NULL, "
    "logits BLOB NOT NULL, UNIQUE (graph, photo)",
    "labels": "id INTEGER PRIMARY KEY, name TEXT NOT NULL, without_case TEXT NOT NULL UNIQUE",
    # `key` is the name of the API key, `at` is UTC.
    "answers": "id INTEGER PRIMARY KEY AUTOINCREMENT, photo INTEGER NOT NULL REFERENCES photos, "
    "label INTEGER NOT NULL REFERENCES labels, answer INTEGER NOT NULL CHECK (answer IN (0, 1)), at TEXT NOT NULL, "
    "model TEXT NOT NULL, version INTEGER NOT NULL, key TEXT",
    # Requests that brought an Idempotency-Key: whose, what they said, and how many answers they added.
    "requests": "key TEXT NOT NULL, token TEXT NOT NULL, said TEXT NOT NULL, added INTEGER NOT NULL, "
    "PRIMARY KEY (key, token)",
}
_INDEX = "CREATE INDEX newest ON answers (label, photo, id, answer)"
_NEWEST = "SELECT label, photo, answer, max(id) FROM answers GROUP BY label, photo"  # of the row with the highest id
_WAIT = 5.0  # seconds for others that write


class FeedbackError(LabelwiseError):
    """The store cannot be read or written. The message names the file and says what to do."""


class StoreFull(FeedbackError):
    """There is no room on its disk."""


class TokenReused(FeedbackError):
    """The Idempotency-Key came before, with another request."""


@dataclass(frozen=True)
class Features:
    """What the feature graph `graph` says of a photo: features float32 [d], and the trained head's logits [l]."""

    graph: str
    features: NDArray[np.float32]
    logits: NDArray[np.float32]


@dataclass(frozen=True)
class Correction:
    """What somebody said of one photo: by label, whether the photo has it.

    `content` is the photo itself, if it is to be stored. `key` is the name of the API key. Two corrections with the
    same `key` and `token` are the same request, sent twice.
    """

    sha256: str
    answers: Mapping[str, bool]
    model: str
    version: int
    key: str | None = None
    token: str | None = None
    content: bytes | None = None
    features: Features | None = None


class LabelCount(NamedTuple):
    """How many photos have the label, and how many do not, by the newest answers."""

    label: str
    yes: int
    no: int


@dataclass(frozen=True)
class Answered:
    """The newest answers [n, l] about n photos: YES, NO or UNKNOWN."""

    labels: tuple[str, ...]
    photos: tuple[str, ...]  # SHA-256
    answers: NDArray[np.int8]


class FeedbackStore:
    """The store in `file`. Raises FeedbackError. Each call opens the file anew, so any thread may call."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @classmethod
    def create(cls, file: Path) -> "FeedbackStore":
        """Opens the store to write to it; makes one, which only its owner can read, if there is none."""
        store = cls(file)
        with store._explained():
            with suppress(FileExistsError):
                os.close(os.open(file, os.O_CREAT | os.O_EXCL, 0o600))
            with store._connected(may_be_empty=True) as db, _transaction(db):
                if not _is_empty(db):
                    return store
                for name, columns in _TABLES.items():
                    db.execute(f"CREATE TABLE {name} ({columns})")
                    for change in ("UPDATE", "DELETE"):
                        refusal = f"SELECT RAISE(ABORT, '{name}: this store only grows')"
                        db.execute(f"CREATE TRIGGER {name}_{change} BEFORE {change} ON {name} BEGIN {refusal}; END")
                db.execute(_INDEX)
                db.execute(f"PRAGMA application_id = {_OURS}")
                db.execute(f"PRAGMA user_version = {_FORMAT}")
        return store

    def add(self, correction: Correction) -> int:
        """Adds the answers that differ from the newest ones; returns how many. They are safe when this returns.

        Features and content are added once. For a request that was sent again, returns what it added the first time.
        """
        with self._explained(), self._connected() as db, _transaction(db):
            if (before := _added_before(db, correction)) is not None:
                return before
            photo = _photo(db, correction.sha256)
            added = sum(_add_answer(db, photo, label, has, correction) for label, has in correction.answers.items())
            if (features := correction.features) is not None:
                values = (photo, features.graph, _bytes(features.features), _bytes(features.logits))
                db.execute("INSERT INTO features VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", values)
            if correction.content is not None:
                db.execute("INSERT INTO contents VALUES (?, ?) ON CONFLICT DO NOTHING", (photo, correction.content))
            if correction.token is not None:
                request = (correction.key or "", correction.token, _said(correction), added)
                db.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", request)
            return added

    def counts(self) -> list[LabelCount]:
        """Every label of the store, sorted by name."""
        query = (
            f"SELECT name, sum(answer), sum(1 - answer) FROM ({_NEWEST}) AS newest JOIN labels ON labels.id = label "
            "GROUP BY label ORDER BY name"
        )
        with self._explained(), self._connected() as db:
            return [LabelCount(*row) for row in db.execute(query)]

    def answered(self) -> Answered:
        """Every photo that somebody answered about, in the order in which they came."""
        with self._explained(), self._connected() as db, _transaction(db, "DEFERRED"):
            labels = db.execute("SELECT id, name FROM labels ORDER BY id").fetchall()
            photos = db.execute("SELECT id, sha256 FROM photos ORDER BY id").fetchall()
            newest = db.execute(_NEWEST).fetchall()
        column = {label: place for place, (label, _) in enumerate(labels)}
        row = {photo: place for place, (photo, _) in enumerate(photos)}
        answers = np.full((len(photos), len(labels)), UNKNOWN, np.int8)
        for label, photo, answer, _ in newest:
            answers[row[photo], column[label]] = answer
        return Answered(tuple(name for _, name in labels), tuple(sha256 for _, sha256 in photos), answers)

    def features(self, graph: str, photos: Sequence[str]) -> dict[str, Features]:
        """By photo, for those of `photos` that have features of `graph`."""
        query = "SELECT features, logits FROM features JOIN photos ON photos.id = photo WHERE graph = ? AND sha256 = ?"
        with self._explained(), self._connected() as db:
            found = {sha256: db.execute(query, (graph, sha256)).fetchone() for sha256 in photos}
        return {sha256: Features(graph, *map(_values, row)) for sha256, row in found.items() if row}

    def with_content(self) -> set[str]:
        """The photos that are stored themselves."""
        query = "SELECT sha256 FROM contents JOIN photos ON photos.id = photo"
        with self._explained(), self._connected() as db:
            return {sha256 for (sha256,) in db.execute(query)}

    def content(self, sha256: str) -> bytes:
        """The photo itself. Raises FeedbackError if it is not stored."""
        query = "SELECT content FROM contents JOIN photos ON photos.id = photo WHERE sha256 = ?"
        with self._explained(), self._connected() as db:
            row = db.execute(query, (sha256,)).fetchone()
        if row is None:
            raise FeedbackError(f"{self.file} does not hold the photo {sha256}.")
        return bytes(row[0])

    @contextmanager
    def _connected(self, may_be_empty: bool = False) -> Iterator[sqlite3.Connection]:
        address = f"file:{quote(os.fsencode(self.file.absolute()))}?mode=rw"  # read-only if the file is
        with closing(sqlite3.connect(address, timeout=_WAIT, isolation_level=None, uri=True)) as db:
            is_new = may_be_empty and _is_empty(db)  # first: another process may make it a store at any moment
            application, format = db.execute("SELECT * FROM pragma_application_id, pragma_user_version").fetchone()
            if application != _OURS and not is_new:
                raise FeedbackError(f"{self.file} is not a store of corrections: name another file.")
            if format > _FORMAT:
                raise FeedbackError(f"{self.file} was made by a newer labelwise: update this one.")
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = EXTRA")  # also syncs the folder when the journal has been deleted
            yield db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise FeedbackError(f"The store of corrections {self.file} cannot be made: {error.strerror}.") from error
        except sqlite3.Error as error:
            raise self._error(str(error)) from error

    def _error(self, reason: str) -> FeedbackError:
        if "is full" in reason:
            return StoreFull(f"There is no room for {self.file}: make room, and send the corrections again.")
        if "locked" in reason:
            return FeedbackError(f"{self.file} was locked for {_WAIT:g} seconds by another program: close it.")
        if "unable to open" in reason and not self.file.exists():
            return FeedbackError(
                f"There is no store of corrections {self.file}: `labelwise serve --feedback` makes one."
            )
        if "not a database" in reason:
            return FeedbackError(f"{self.file} is not a store of corrections: name another file.")
        return FeedbackError(f"The store of corrections {self.file} cannot be used: {reason}.")


def is_store(file: Path) -> bool:
    """Whether `file` is a store of corrections, by its first bytes."""
    try:
        with file.open("rb") as stream:
            head = stream.read(72)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:72] == _OURS.to_bytes(4, "big")


@contextmanager
def _transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Commits at the end of the block. If the block fails, closing the connection rolls back."""
    db.execute(f"BEGIN {kind}")
    yield
    db.execute("COMMIT")


def _is_empty(db: sqlite3.Connection) -> bool:
    return not db.execute("SELECT 1 FROM sqlite_master").fetchone()


def _added_before(db: sqlite3.Connection, correction: Correction) -> int | None:
    if correction.token is None:
        return None
    query = "SELECT said, added FROM requests WHERE key = ? AND token = ?"
    row = db.execute(query, (correction.key or "", correction.token)).fetchone()
    if row is None:
        return None
    if row[0] != _said(correction):
        raise TokenReused("This Idempotency-Key came with another request before: choose a new one for each request.")
    return int(row[1])


def _said(correction: Correction) -> str:
    """Tells requests apart. The version is left out: it may change before a request is sent again."""
    answers = sorted(f"{has:d}{label}" for label, has in correction.answers.items())
    return hashlib.sha256("\n".join([correction.sha256, correction.model, *answers]).encode()).hexdigest()


def _photo(db: sqlite3.Connection, sha256: str) -> int:
    db.execute("INSERT INTO photos (sha256) VALUES (?) ON CONFLICT DO NOTHING", (sha256,))
    return int(db.execute("SELECT id FROM photos WHERE sha256 = ?", (sha256,)).fetchone()[0])


def _add_answer(db: sqlite3.Connection, photo: int, name: str, has: bool, correction: Correction) -> bool:
    """Whether it was added: an answer equal to the newest one says nothing new."""
    insert = "INSERT INTO labels (name, without_case) VALUES (?, ?) ON CONFLICT DO NOTHING"
    db.execute(insert, (name, without_case(name)))
    (label,) = db.execute("SELECT id FROM labels WHERE without_case = ?", (without_case(name),)).fetchone()
    query = "SELECT answer FROM answers WHERE label = ? AND photo = ? ORDER BY id DESC LIMIT 1"
    if db.execute(query, (label, photo)).fetchone() == (has,):
        return False
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    values = (photo, label, has, now, correction.model, correction.version, correction.key)
    columns = "photo, label, answer, at, model, version, key"
    db.execute(f"INSERT INTO answers ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    return True


def _bytes(values: NDArray[np.float32]) -> bytes:
    return values.astype("<f4").tobytes()


def _values(stored: bytes) -> NDArray[np.float32]:
    return np.frombuffer(stored, "<f4").astype(np.float32)
