"""Notices versions that are published into a repository or removed from it while it is served."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labelwise.errors import LabelwiseError
from labelwise.repository import TaggerVersion, VersionKey, VersionMark, read_version, version_marks

logger = logging.getLogger("labelwise.engine")


@dataclass(frozen=True)
class Look:
    """What one look at the repository found.

    `new` are the whole versions that were not seen before, or have changed; `broken` are those of them that are not
    whole, with the reason; `present` are all that there are.
    """

    new: tuple[TaggerVersion, ...] = ()
    present: frozenset[VersionKey] = frozenset()
    broken: Mapping[VersionKey, str] = field(default_factory=dict)

    def retired(self, served: Iterable[VersionKey]) -> set[VersionKey]:
        """Returns those of `served` that were taken out; never the last version of a name with none but broken ones."""
        served = set(served)
        if not self.present:  # a volume that is not mounted, more likely than a wish to serve nothing
            return set()
        there, answering = ({name for name, _ in keys} for keys in (self.present, self.present & served))
        return {key for key in served - self.present if key[0] in answering or key[0] not in there}


class RepositoryWatch:
    """Looks at a repository of which the `known` versions were read before. A look is cheap while nothing changes.

    A `silent` watch logs nothing: another process reports broken versions.
    """

    def __init__(self, path: Path, known: Collection[VersionKey], silent: bool = False) -> None:
        self._path, self._silent = path, silent
        self._complaint = ""
        self._seen = {key: mark for key, mark in self._marks().items() if key in known}

    def look(self) -> Look:
        """Look at the repository; blocks while it reads new files. Never raises.

        What is broken is logged in one line, and not read again until it changes.
        """
        marks = self._marks()
        new, broken = [], {}
        for key, mark in marks.items():
            if self._seen.get(key) == mark:
                continue
            try:
                if version := read_version(self._path, *key):
                    new.append(version)
            except (LabelwiseError, OSError) as error:
                broken[key] = str(error)
                if not self._silent:
                    log_broken(key, error)
        self._seen = marks or self._seen
        return Look(tuple(new), frozenset(marks), broken)

    def _marks(self) -> dict[VersionKey, VersionMark]:
        complaint, marks = "", {}
        try:
            marks = version_marks(self._path)
            if not marks:
                complaint = "it no longer holds a tagger"
        except OSError as error:
            complaint = f"it cannot be read: {error.strerror}"
        if complaint and complaint != self._complaint and not self._silent:
            logger.error("%s: %s; the loaded versions are still served", self._path, complaint)
        self._complaint = complaint
        return marks


def log_broken(key: VersionKey, reason: Exception | str) -> None:
    """Log the one line about a version that is not served."""
    logger.error("%s version %d is not served: %s", *key, " ".join(str(reason).split()))


async def repeat(action: Callable[[], Awaitable[None]], interval: float) -> None:
    """Run `action` every `interval` seconds. An exception in it is logged, and does not end the repetition.

    It runs at multiples of `interval` on the machine's clock: all workers of a gateway look at the same moment, and so
    serve the same versions.
    """
    while True:
        await asyncio.sleep(seconds_to_next(interval, time.monotonic()))
        try:
            await action()
        except Exception:
            logger.exception("a look at the repository failed")


def seconds_to_next(interval: float, now: float) -> float:
    """Returns the seconds until the next multiple of `interval`; never less than half of it, as timers may be early."""
    left = interval - now % interval
    return left if left > interval / 2 else left + interval
