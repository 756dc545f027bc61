"""What a taught label is, and where each label of a tagger comes from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]


class LabelRow(NamedTuple):
    """One taught label: score = sigmoid(features @ weight + bias + factor * logit of `base`).

    `base` is the column of the label in the trained head that an improved label starts from; None for a new label.
    """

    weight: Values  # [d]
    bias: float
    base: int | None = None
    factor: float = 1.0

    def logits(self, features: Values, trained: Values) -> Values:
        """Its logits [n], of n photos with features [n, d] and logits [n, l] of the trained head."""
        own = features @ self.weight + self.bias
        return own if self.base is None else own + self.factor * trained[:, self.base]


def row_after(start: LabelRow | None, weight: Values, bias: float, factor: float) -> LabelRow:
    """The row that scores sigmoid(features @ weight + bias + factor * logit of `start`)."""
    if start is None:
        return LabelRow(weight, bias)
    return LabelRow(weight + factor * start.weight, bias + factor * start.bias, start.base, factor * start.factor)


class Group(NamedTuple):
    """The labels that one version added, computed together. It never changes: another shape might round otherwise."""

    weight: Values  # [d, m]
    bias: Values  # [m]
    from_base: Values  # [l, m], the factors of the trained head's logits

    def row(self, column: int) -> LabelRow:
        factors = self.from_base[:, column]
        base = int(np.abs(factors).argmax()) if factors.any() else None
        factor = 1.0 if base is None else float(factors[base])
        return LabelRow(self.weight[:, column], float(self.bias[column]), base, factor)


class Source(NamedTuple):
    """Where a label's outputs are computed: a column of the trained head, or of the group that a version added."""

    column: int
    version: int | None = None


class Lessons(NamedTuple):
    """All labels of a tagger in order, and the groups by the version that added them."""

    sources: dict[str, Source]
    groups: dict[int, Group]

    def row(self, label: str) -> LabelRow | None:
        """The row of a taught label; None for one of the trained head."""
        source = self.sources[label]
        return None if source.version is None else self.groups[source.version].row(source.column)

    def start(self, label: str, size: int) -> LabelRow | None:
        """The row that a lesson with `size` features begins with, also for a label as trained. None for a new label."""
        if label not in self.sources:
            return None
        return self.row(label) or LabelRow(np.zeros(size, np.float32), 0.0, self.sources[label].column)

    def taught(self, version: int, rows: dict[str, LabelRow], base_labels: int) -> "Lessons":
        """Adds what `version` teaches: new labels go to the end, improved ones stay where they are."""
        sources = self.sources | {label: Source(column, version) for column, label in enumerate(rows)}
        return Lessons(sources, self.groups | {version: _group(list(rows.values()), base_labels)})._used()

    def without(self, label: str) -> "Lessons":
        return Lessons({name: source for name, source in self.sources.items() if name != label}, self.groups)._used()

    def _used(self) -> "Lessons":
        versions = {source.version for source in self.sources.values()}
        return self._replace(groups={version: group for version, group in self.groups.items() if version in versions})


def _group(rows: Sequence[LabelRow], base_labels: int) -> Group:
    from_base = np.zeros((base_labels, len(rows)), np.float32)
    for column, row in enumerate(rows):
        if row.base is not None:
            from_base[row.base, column] = row.factor
    weight = np.stack([row.weight for row in rows], axis=1).astype(np.float32)
    return Group(weight, np.array([row.bias for row in rows], np.float32), from_base)
