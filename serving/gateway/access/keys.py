"""API keys: a text file of names and hashes, which may change while the gateway runs.

    # comment
    NAME sha256:HEX [date it was made] [may=teach,feedback]

Every key may tag; `may` names what else it may do.

Only hashes are stored. Plain SHA-256 is enough: a key is 256 random bits, so it cannot be guessed, and a slow password
hash would only let anybody keep the processor busy.
"""

import contextlib
import datetime
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from labelwise.errors import LabelwiseError
from labelwise.files import locked_folder, read_regular_file, write_atomically

logger = logging.getLogger("labelwise.keys")

Scope = Literal["teach", "feedback"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_PREFIX = "lw_"  # so that people and secret scanners recognise a leaked key
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SCOPE = "|".join(SCOPES)
_LINE = re.compile(
    rf"(?P<name>{_NAME.pattern})\s+sha256:(?P<digest>[0-9a-f]{{64}})(?:\s+(?P<made>(?!may=)\S+))?"
    rf"(?:\s+may=(?P<may>(?:{_SCOPE})(?:,(?:{_SCOPE}))*))?"
)
_SECONDS_BETWEEN_LOOKS = 1.0
_LARGEST_FILE = 2**20  # bytes, enough for thousands of keys; the file is read on the event loop


@dataclass(frozen=True)
class Key:
    """One line of a key file; `made` is a date or empty. `may` is what it may do besides tagging."""

    name: str
    digest: bytes
    made: str
    may: tuple[Scope, ...] = ()


class KeyRing:
    """The keys that the file has now; it is looked at once per second. Used on the event loop only."""

    def __init__(self, file: Path) -> None:
        """Raises LabelwiseError if `file` cannot be read or has a line that is not a key."""
        self._file = file
        self._seen = _state(file)
        self._looked = time.monotonic()
        self._keys = read_keys(file)
        if not self._keys:
            logger.warning("%s has no key: every request is refused until it has one", file)

    def find(self, key: str) -> Key | None:
        """Returns the line of a valid key, or None for any other text."""
        self._look_again()
        digest = _digest(key)
        found = None
        for known in self._keys:  # all of them, each in constant time: the duration tells nothing
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def _look_again(self) -> None:
        now = time.monotonic()
        if now - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = now
        state = _state(self._file)
        if state != self._seen:
            self._seen = state
            self._reload()

    def _reload(self) -> None:
        """A key whose line is gone or broken is not valid any more."""
        try:
            entries = _entries(self._file)
        except LabelwiseError as error:
            self._seen = None  # it may become readable without a change: look again
            if self._keys:
                logger.error("no key is valid until this is repaired: %s", error)
            self._keys = ()
            return
        for number, key in entries:
            if key is None:
                logger.error("%s, line %d is not a key and is ignored", self._file, number)
        self._keys = tuple(key for _, key in entries if key is not None)
        logger.info("%s was read again: %d keys", self._file, len(self._keys))


def read_keys(file: Path) -> tuple[Key, ...]:
    """Returns every key of the file. Raises LabelwiseError if it cannot be read or has a line that is not a key."""
    keys = []
    for number, key in _entries(file):
        if key is None:
            raise LabelwiseError(f"{file}, line {number}: expected NAME sha256:HEX, as `labelwise keys add` writes.")
        keys.append(key)
    return tuple(keys)


def add_key(file: Path, name: str, may: Sequence[str] = ()) -> str:
    """Adds the hash of a new key to the file, which may be new, and returns the key, which is stored nowhere.

    `may` are the scopes that it has besides tagging. Raises LabelwiseError for another scope, or a name in use.
    """
    if unknown := [scope for scope in may if scope not in SCOPES]:
        raise LabelwiseError(f"A key may {' or '.join(SCOPES)} besides tagging, not {unknown[0]!r}.")
    if not _NAME.fullmatch(name):
        raise LabelwiseError("A key's name has 1 to 64 letters, digits, dots, dashes or underscores.")
    key = _PREFIX + secrets.token_urlsafe(32)
    made = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    with _alone(file):
        lines = _lines(file) if file.exists() else []
        if name in {key.name for key in (read_keys(file) if lines else ())}:
            raise LabelwiseError(f"{file} already has a key named {name}: choose another name, or revoke it first.")
        scopes = f" may={','.join(scope for scope in SCOPES if scope in may)}" if may else ""
        _write(file, [*lines, f"{name} sha256:{_digest(key).hex()} {made}{scopes}"])
    return key


def revoke_key(file: Path, name: str) -> None:
    """Takes a key out of the file. Raises LabelwiseError if the file has no key of this name."""
    with _alone(file):
        if name not in {key.name for key in read_keys(file)}:
            raise LabelwiseError(f"{file} has no key named {name}; `labelwise keys list` shows those it has.")
        _write(file, [line for line in _lines(file) if line.split()[:1] != [name]])


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Keeps other processes from changing `file`: of two keys made at once, one would be lost."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # some file systems have no locks
            held.enter_context(locked_folder(file.parent))
        yield


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _entries(file: Path) -> list[tuple[int, Key | None]]:
    """Returns number and key of each line that is neither empty nor a comment, None in place of a broken key."""
    entries = []
    for number, line in enumerate(map(str.strip, _lines(file)), 1):
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            entries.append((number, match and _key(match)))
    return entries


def _key(match: re.Match[str]) -> Key:
    given = (match["may"] or "").split(",")
    may = tuple(scope for scope in SCOPES if scope in given)
    return Key(match["name"], bytes.fromhex(match["digest"]), match["made"] or "", may)


def _lines(file: Path) -> list[str]:
    try:
        return read_regular_file(file, _LARGEST_FILE).decode("utf-8").splitlines()
    except FileNotFoundError:
        raise LabelwiseError(
            f"There is no key file {file}: `labelwise keys add NAME --keys {file}` makes one."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not text"
        raise LabelwiseError(f"The key file {file} cannot be read: {reason}.") from error


def _write(file: Path, lines: list[str]) -> None:
    """Only its owner can read a new file. An existing one keeps its mode and owner, so that the gateway can read it."""
    before = file.stat() if file.exists() else None
    try:
        write_atomically(file, "".join(f"{line}\n" for line in lines).encode(), 0o600)
        if before:
            file.chmod(stat.S_IMODE(before.st_mode))
            with contextlib.suppress(PermissionError, AttributeError):  # not ours to give; no owners here
                os.chown(file, before.st_uid, before.st_gid)
    except OSError as error:
        raise LabelwiseError(f"Cannot write {file}: {(error.strerror or 'not possible').lower()}.") from error


def _state(file: Path) -> tuple[int, ...] | None:
    """Returns a value that changes whenever the file does."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
