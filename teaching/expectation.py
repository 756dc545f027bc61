"""Says what a lesson taught: what to expect, which photos to look at again, whether more would help."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from labelwise.label_names import printable, some
from labelwise.spec import TaggerSpec
from teaching.fit import FEWEST
from teaching.given_photos import told
from teaching.lesson import Learned, Lesson

_DOUBTFUL = 5  # photos that are shown
_DOUBT = 0.5  # of the score that a photo's answer is given
_FEW = 10  # photos with a label, with which the spread itself is a guess
_GAIN = 0.02  # of average precision, below which more photos are not worth the work


class Doubt(NamedTuple):
    """A photo whose score by cross-validation contradicts its answer."""

    photo: str
    given: str  # yes or no
    score: float


def report(lesson: Lesson) -> Iterator[str]:
    """The lines to print."""
    if lesson.left_out:
        yield told(lesson.left_out)
    if lesson.too_few:
        yield f"Not taught, because there are fewer than {FEWEST} photos with it or without: {some(lesson.too_few)}."
    for learned in lesson.learned:
        yield from _of_label(learned)


def facts(lesson: Lesson) -> dict[str, Any]:
    """The same for programs, as JSON has it."""
    return {
        "labels": [_facts_of(lesson.spec, learned) for learned in lesson.learned],
        "left_out": [{"photo": str(file), "reason": reason} for file, reason in lesson.left_out],
        "too_few": list(lesson.too_few),
    }


def _facts_of(spec: TaggerSpec, learned: Learned) -> dict[str, Any]:
    record = spec.taught[learned.label].model_dump(exclude={"version"})
    return {
        "label": learned.label,
        **record,
        "threshold": learned.fitted.threshold,
        "advice": _advice(learned),
        "doubtful": [{**doubt._asdict(), "score": round(doubt.score, 4)} for doubt in _doubts(learned)],
    }


def _of_label(learned: Learned) -> Iterator[str]:
    fitted, expected, has = learned.fitted, learned.fitted.expectation, learned.has
    action = "improved" if learned.improved else "added"
    yield f"{learned.label}: {action}, from {has.sum()} photos with it and {(~has).sum()} without."
    before = "" if expected.before is None else f" (before: {expected.before:.2f})"
    yield (
        f"  By cross-validation expect AP {expected.average_precision:.2f} ± {expected.spread:.2f}{before} and F1 "
        f"{expected.f1:.2f} ± {expected.f1_spread:.2f} at the threshold {fitted.threshold:.2f}."
    )
    if doubts := _doubts(learned):
        yield "  Most doubtful, so look at them again:"
    for doubt in doubts:
        yield f"    {printable(doubt.photo)}: given as {doubt.given}, its score is {doubt.score:.2f}"
    if advice := _advice(learned):
        yield f"  {advice}"


def _doubts(learned: Learned) -> Sequence[Doubt]:
    """The most doubtful photos, the worst first."""
    has, scores = learned.has, learned.fitted.doubts
    against = np.where(has, scores, 1 - scores)  # how probable each photo's answer is
    rows = [row for row in np.argsort(against, kind="stable")[:_DOUBTFUL] if against[row] < _DOUBT]
    return [Doubt(str(learned.files[row]), "yes" if has[row] else "no", float(scores[row])) for row in rows]


def _advice(learned: Learned) -> str | None:
    """Whether more photos would help: from what the second half of them brought."""
    count, expected = int(learned.has.sum()), learned.fitted.expectation
    if learned.is_careful:
        return (
            "Many of these answers contradict the tagger, so the label moves only a little and keeps its threshold, "
            "and the numbers are of hard photos: answers about photos that it tags right would help."
        )
    if count < _FEW:
        return f"{count} photos with it are few, so these numbers are rough: {_FEW - count} more with it would help."
    if expected.with_half is not None and (gain := expected.average_precision - expected.with_half) > _GAIN:
        reached = min(0.99, expected.average_precision + gain / 2)  # each doubling brings less than the one before
        return (
            f"From half of these photos the AP is {expected.with_half:.2f}: {count} more with it may bring it to "
            f"about {reached:.2f}."
        )
    return None
