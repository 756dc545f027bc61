"""What the last lesson of a label began with, and the photos that it learned from.

If all these photos are given again, with others or without, the next lesson begins where the last one did. Otherwise
they would count twice, and cross-validation would test the label on photos that it has learned already. The graphs'
metadata keep this: of each photo three bytes of its SHA-256, which are enough to tell sets of photos apart.
"""

import base64
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx

from export.metadata import facts_of
from teaching.label_rows import LabelRow

FACT = "lessons"
_BYTES = 3


class LastLesson(NamedTuple):
    """`start` is None if the label was new; `threshold` is what it began with."""

    start: LabelRow | None
    threshold: float
    photos: frozenset[bytes]

    def is_within(self, digests: Iterable[str]) -> bool:
        """Whether all its photos are among those with these SHA-256."""
        return self.photos <= _marks(digests)


def lesson_from(start: LabelRow | None, threshold: float, digests: Iterable[str]) -> LastLesson:
    return LastLesson(start, threshold, _marks(digests))


def read_last_lessons(model: onnx.ModelProto) -> dict[str, LastLesson]:
    """By label, for those that were taught."""
    facts: Any = facts_of(model).get(FACT, {})
    return {
        label: LastLesson(_row(fact["start"]), fact["threshold"], _split(base64.b64decode(fact["photos"])))
        for label, fact in facts.items()
    }


def fact_of(lessons: Mapping[str, LastLesson]) -> dict[str, Any]:
    """What `read_last_lessons` reads, as JSON has it."""
    return {
        label: {
            "start": _fact(lesson.start),
            "threshold": lesson.threshold,
            "photos": _text(b"".join(sorted(lesson.photos))),
        }
        for label, lesson in lessons.items()
    }


def _marks(digests: Iterable[str]) -> frozenset[bytes]:
    return frozenset(bytes.fromhex(digest)[:_BYTES] for digest in digests)


def _split(marks: bytes) -> frozenset[bytes]:
    return frozenset(marks[start : start + _BYTES] for start in range(0, len(marks), _BYTES))


def _fact(row: LabelRow | None) -> dict[str, Any] | None:
    if row is None:
        return None
    weight = _text(zlib.compress(row.weight.astype("<f4").tobytes()))
    return {**row._asdict(), "weight": weight, "bias": float(row.bias), "factor": float(row.factor)}


def _row(fact: dict[str, Any] | None) -> LabelRow | None:
    if fact is None:
        return None
    weight = np.frombuffer(zlib.decompress(base64.b64decode(fact["weight"])), "<f4").astype(np.float32)
    return LabelRow(**{**fact, "weight": weight})


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
