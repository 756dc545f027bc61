"""Says in words what a lesson taught: what to expect, which photos to look at again, whether more would help."""

from collections.abc import Iterator

import numpy as np

from labelwise.label_names import printable, some
from teaching.lesson import Learned, Lesson

_DOUBTFUL = 5  # photos that are shown
_DOUBT = 0.5  # of the score that a photo's answer is given
_FEW = 10  # photos with a label, with which the spread itself is a guess
_GAIN = 0.02  # of average precision, below which more photos are not worth the work


def report(lesson: Lesson) -> Iterator[str]:
    """The lines to print."""
    if lesson.left_out:
        yield f"Left out {len(lesson.left_out)}: {some(lesson.left_out)}."
    for learned in lesson.learned:
        yield from _of_label(learned)


def _of_label(learned: Learned) -> Iterator[str]:
    fitted, expected, has = learned.fitted, learned.fitted.expectation, learned.has
    action = "improved" if learned.improved else "added"
    yield f"{learned.label}: {action}, from {has.sum()} photos with it and {(~has).sum()} without."
    before = "" if expected.before is None else f" (before: {expected.before:.2f})"
    yield (
        f"  By cross-validation expect AP {expected.average_precision:.2f} ± {expected.spread:.2f}{before} and F1 "
        f"{expected.f1:.2f} ± {expected.f1_spread:.2f} at the threshold {fitted.threshold:.2f}."
    )
    against = np.where(has, fitted.doubts, 1 - fitted.doubts)  # how probable each photo's answer is
    doubtful = np.argsort(against, kind="stable")[:_DOUBTFUL]
    doubtful = doubtful[against[doubtful] < _DOUBT]
    if len(doubtful):
        yield "  Most doubtful, so look at them again:"
    for row in doubtful:
        answer = "yes" if has[row] else "no"
        yield f"    {printable(str(learned.files[row]))}: given as {answer}, its score is {fitted.doubts[row]:.2f}"
    yield from _more(learned)


def _more(learned: Learned) -> Iterator[str]:
    """Whether more photos would help: from what the second half of them brought."""
    count, expected = int(learned.has.sum()), learned.fitted.expectation
    if count < _FEW:
        yield f"  {count} photos with it are few, so these numbers are rough: {_FEW - count} more with it would help."
    elif expected.with_half is not None and (gain := expected.average_precision - expected.with_half) > _GAIN:
        reached = min(0.99, expected.average_precision + gain / 2)  # each doubling brings less than the one before
        yield (
            f"  From half of these photos the AP is {expected.with_half:.2f}: {count} more with it may bring it to "
            f"about {reached:.2f}."
        )
