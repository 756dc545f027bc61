"""What comes out of a run: rows into the ledger, photos counted, and from time to time all of it into the output."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from serving.bulk.chunks import Chunk
from serving.bulk.ledger import Ledger
from serving.bulk.rows import Row

_PUBLISH_EVERY = 2.0  # seconds
_PUBLISH_SHARE = 50  # times as long as publishing took


@dataclass
class Counts:
    """Photos of this run."""

    tagged: int = 0
    broken: int = 0
    skipped: int = 0
    skipped_broken: int = 0

    def add(self, rows: Sequence[Row]) -> None:
        broken = sum(row.error is not None for row in rows)
        self.broken += broken
        self.tagged += len(rows) - broken

    @property
    def seen(self) -> int:
        return self.tagged + self.broken + self.skipped


class Records:
    """`publish` brings the output up to the ledger; `show` is told the counts. Called by one thread at a time."""

    def __init__(self, ledger: Ledger, publish: Callable[[], None], show: Callable[[Counts], None]) -> None:
        self.counts = Counts()
        self._ledger, self._publish, self._show = ledger, publish, show
        self._publish_at = time.monotonic() + _PUBLISH_EVERY

    def skip(self, chunk: Chunk) -> None:
        """Count what was done before."""
        self.counts.skipped += chunk.skipped
        self.counts.skipped_broken += chunk.skipped_broken
        self._show(self.counts)

    def keep(self, rows: Sequence[Row]) -> None:
        """In one transaction; they are safe when this returns. OutputError."""
        if rows:
            self._ledger.put(rows)
            self.counts.add(rows)
            self._show(self.counts)
        started = time.monotonic()
        if started >= self._publish_at:
            self._publish()
            ended = time.monotonic()
            self._publish_at = ended + max(_PUBLISH_EVERY, _PUBLISH_SHARE * (ended - started))
