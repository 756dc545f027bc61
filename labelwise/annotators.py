"""What several annotators of one photo say together."""

from collections import Counter
from collections.abc import Sequence


def agreed(choices: Sequence[set[str]]) -> tuple[set[str], set[str]]:
    """The labels that every annotator chose, and those that only some chose; `choices` has the labels of each."""
    counts = Counter(label for chosen in choices for label in chosen)
    present = {label for label, count in counts.items() if count == len(choices)}
    return present, {*counts} - present
