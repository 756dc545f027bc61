"""`labelwise teach`: photos -> features -> a fit per label -> the next version. A failure publishes nothing.

The repository is locked from the first look at its newest version to the publication of the next, so two teachers take
turns and neither loses what the other taught.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from export.metadata import carry_over
from export.onnx_file import (
    GraphError,
    Pixels,
    load_structure,
    open_session,
    save_model,
    session_runner,
    signature_faults,
)
from export.pictures import drawn_pictures
from export.publish import next_version, publish, staging
from export.triton_config import read_options
from labelwise.errors import DataError, LabelwiseError, RepositoryError
from labelwise.feedback import UNKNOWN, YES, FeedbackStore
from labelwise.files import sha256_of
from labelwise.label_names import same_but_for_case, some
from labelwise.repository import CONFIG_FILE, Repository, TaggerVersion, default_tagger, model_names, published_names
from labelwise.spec import TaggerSpec, TaughtLabel
from teaching.feature_graph import FeatureGraph, open_features
from teaching.fit import FittedLabel, are_mistakes, correct_label, fit_label
from teaching.given_photos import (
    GivenFile,
    GivenPhotos,
    LeftOut,
    Seen,
    Tell,
    checked_label,
    tell_nobody,
    told,
)
from teaching.label_rows import LabelRow, Lessons, row_after
from teaching.last_lesson import FACT, LastLesson, fact_of, lesson_from, read_last_lessons
from teaching.logistic import sigmoid
from teaching.recalled import look_and_recall
from teaching.taught_graph import base_labels, read_lessons, require_independent, write_lessons


@dataclass(frozen=True)
class Learned:
    """One label of a lesson: what was fitted, and to which photos; carefully if most of them show its mistakes."""

    label: str
    improved: bool
    fitted: FittedLabel
    files: tuple[GivenFile, ...]
    has: NDArray[np.bool_]  # [n], by file
    lesson: LastLesson
    is_careful: bool

    @property
    def row(self) -> LabelRow:
        """The fit as a row of the graph, which contains what the lesson began with."""
        return row_after(self.lesson.start, self.fitted.weight, self.fitted.bias, self.fitted.factor)


class Published(NamedTuple):
    """The version that was published, and the number of the newest one before."""

    spec: TaggerSpec
    previous: int


@dataclass(frozen=True)
class Lesson:
    """What was published, what was learned, which photos were left out, and which labels had too few answers."""

    published: Published
    learned: tuple[Learned, ...]
    left_out: tuple[LeftOut, ...]
    too_few: tuple[str, ...]

    @property
    def spec(self) -> TaggerSpec:
        return self.published.spec


@dataclass(frozen=True)
class _Change:
    """What a version has other than the one that it is made from; `lessons` and `last` are None if they stay."""

    lessons: Callable[[Lessons, int], Lessons] | None
    thresholds: dict[str, float]
    taught: dict[str, TaughtLabel]
    last: dict[str, LastLesson] | None


def teach(
    repository: Path,
    model: str | None,
    given: GivenPhotos,
    keep: int | None = None,
    tell: Tell = tell_nobody,
    store: FeedbackStore | None = None,
) -> Lesson:
    """Publishes the next version of `model` with the labels of `given` added or improved. Raises LabelwiseError.

    Also learns what `store` says of these labels, or, if there are none, of every label that it says enough of. Then
    removes all but the `keep` newest versions; None keeps all.
    """
    with _versions(repository, model) as (versions, stage):
        version = versions[max(versions)]
        spec = version.spec
        for label in given.labels:
            _require_same_case(spec, label)
        graph = open_features(_files(version)[0], spec)
        seen, too_few = look_and_recall(given, store, spec, graph, tell)
        tell({"step": "fit"})
        learned = _learn_each(graph, spec, seen, store is not None)
        number = next_version(repository, spec.name)
        change = _Change(
            lambda lessons, base: lessons.taught(number, {each.label: each.row for each in learned}, base),
            {each.label: each.fitted.threshold for each in learned},
            spec.taught | {each.label: _record(each, number) for each in learned},
            graph.last | {each.label: each.lesson for each in learned},
        )
        tell({"step": "publish"})
        published = _publish(repository, stage, version, number, change, keep)
        return Lesson(Published(published, spec.version), learned, seen.left_out, too_few)


def forget(repository: Path, model: str | None, label: str, keep: int | None = None) -> Published:
    """Publishes the next version of `model` without `label`, and removes old ones as `teach`. Raises LabelwiseError."""
    label = checked_label(label)
    with _versions(repository, model) as (versions, stage):
        version = versions[max(versions)]
        spec = version.spec
        if label not in spec.labels:
            _require_same_case(spec, label)
            raise DataError(f"{spec.name} has no label {label!r} to forget; it has {some(spec.labels)}.")
        if len(spec.labels) == 1:
            raise DataError(f"{label!r} is the last label of {spec.name}: a tagger needs one.")
        number = next_version(repository, spec.name)
        taught = {name: record for name, record in spec.taught.items() if name != label}
        last = read_last_lessons(load_structure(_files(version)[0]))
        last.pop(label, None)
        change = _Change(lambda lessons, _: lessons.without(label), {}, taught, last)
        spec = _publish(repository, stage, version, number, change, keep)
        return Published(spec, version.spec.version)


def back_to(repository: Path, model: str | None, number: int, keep: int | None = None) -> Published:
    """Publishes the next version of `model`, which answers as version `number` did. Raises LabelwiseError."""
    with _versions(repository, model) as (versions, stage):
        newest = max(versions)
        name = versions[newest].spec.name
        if number not in versions:
            raise DataError(f"{name} has no whole version {number}; it has {', '.join(map(str, versions))}.")
        if number == newest:
            raise DataError(f"{name} is at version {number} already: there is nothing to go back from.")
        old = versions[number]
        spec = _publish(repository, stage, old, next_version(repository, name), None, keep)
        return Published(spec, newest)


@contextmanager
def _versions(repository: Path, model: str | None) -> Iterator[tuple[dict[int, TaggerVersion], Path]]:
    """The versions of a tagger that can be taught, and a scratch folder, while no other export runs."""
    names = published_names(repository)
    name = default_tagger(names, model)
    if name is None:
        Repository.open(repository)  # raises if there is none
        raise RepositoryError(f"{repository} has no tagger {model!r}: choose --model {' or '.join(names)}.")
    with staging(repository) as stage:
        taggers = Repository.open(repository, skip_broken=True).taggers
        if name not in taggers:
            raise RepositoryError(f"No version of {name} in {repository} is whole: see `labelwise check {repository}`.")
        newest = {each: versions[max(versions)] for each, versions in taggers.items()}
        require_independent(newest[name].spec, [version.spec for version in newest.values()])
        yield taggers[name], stage


def _require_same_case(spec: TaggerSpec, label: str) -> None:
    if label in spec.labels:
        return
    for group in same_but_for_case([*spec.labels, label]):
        if label in group:
            raise DataError(f"{spec.name} has the label {group[0]!r} already: write it so, or choose another name.")


def _learn_each(graph: FeatureGraph, spec: TaggerSpec, seen: Seen, are_corrections: bool) -> tuple[Learned, ...]:
    try:
        return tuple(_learn(graph, spec, seen, label, are_corrections) for label in seen.photos.labels)
    except DataError as error:
        if not seen.left_out:
            raise
        raise DataError(f"{error} {told(seen.left_out)}") from error  # perhaps that is why


def _learn(graph: FeatureGraph, spec: TaggerSpec, seen: Seen, label: str, are_corrections: bool) -> Learned:
    """What the photos say of a label. If people chose them by its mistakes, it moves carefully."""
    answers = seen.photos.answers[:, seen.photos.labels.index(label)]
    rows = np.flatnonzero(answers != UNKNOWN)
    features, trained = (values[rows] for values in seen.values)
    has, digests = answers[rows] == YES, [seen.digests[row] for row in rows]
    last = graph.last.get(label)
    if last is not None and last.is_within(digests):
        start, threshold = last.start, last.threshold
    else:
        start = graph.lessons.start(label, features.shape[1])
        threshold = dict(zip(spec.labels, spec.thresholds, strict=True)).get(label, 0.5)
    before = None if start is None else sigmoid(start.logits(features, trained))
    is_careful = False
    if before is not None and are_mistakes(has, before, threshold, are_corrections):
        is_careful, fitted = True, correct_label(label, features, has, before, threshold)
    else:
        fitted = fit_label(label, features, has, before)
    files = tuple(seen.photos.files[row] for row in rows)
    lesson = lesson_from(start, threshold, digests)
    return Learned(label, label in graph.lessons.sources, fitted, files, has, lesson, is_careful)


def _record(learned: Learned, version: int) -> TaughtLabel:
    expected = learned.fitted.expectation
    return TaughtLabel(
        version=version,
        improved=learned.improved,
        photos_with=int(learned.has.sum()),
        photos_without=int((~learned.has).sum()),
        average_precision=round(expected.average_precision, 4),
        average_precision_spread=round(expected.spread, 4),
        f1=round(expected.f1, 4),
        f1_spread=round(expected.f1_spread, 4),
    )


def _publish(
    repository: Path,
    stage: Path,
    version: TaggerVersion,
    number: int,
    change: _Change | None,
    keep: int | None,
) -> TaggerSpec:
    """Writes all graphs of `version`, with `change`, checks them, and publishes."""
    old, labels = version.spec, version.spec.labels
    change = change or _Change(None, {}, old.taught, None)
    models = [load_structure(file) for file in _files(version)]
    for model in models if change.lessons else []:
        lessons = change.lessons(read_lessons(model, old.labels), base_labels(model))
        labels = tuple(lessons.sources)
        write_lessons(model, lessons)
    known = dict(zip(old.labels, old.thresholds, strict=True)) | change.thresholds
    outputs = [output.model_copy(update={"shape": (len(labels), *output.shape[1:])}) for output in old.outputs]
    # Not changed(): its graphs are still those of the old version.
    new = old.model_copy(
        update={"labels": labels, "thresholds": tuple(known[label] for label in labels), "taught": change.taught}
        | {"outputs": tuple(outputs)}
    )
    graphs = []
    for model, graph, file in zip(models, old.graphs, _files(version), strict=True):
        facts = {"version": number, "labels": list(labels), "thresholds": list(new.thresholds)}
        if change.last is not None:
            facts[FACT] = fact_of(change.last)
        carry_over(model, model, facts)
        model.model_version = number
        save_model(model, stage / graph.file)
        _check(new, stage / graph.file, old, file, [label for label in labels if label not in change.thresholds])
        graphs.append(graph.model_copy(update={"sha256": sha256_of(stage / graph.file)}))
    published = new.published(old.name, number, graphs)
    config = repository / model_names(old.name).model / CONFIG_FILE
    publish(repository, stage, published, *read_options(config.read_text("utf-8")), keep=keep)
    return published


def _check(new: TaggerSpec, file: Path, old: TaggerSpec, before: Path, kept: Sequence[str]) -> None:
    """Raises LabelwiseError if the graph is not as `new` says, or if a label of `kept` has another output."""
    if faults := signature_faults(load_structure(file), new):
        raise LabelwiseError(f"Not published: {'; '.join(faults)}.")
    pixels: Pixels = drawn_pictures(new.image, min(2, new.max_batch)).pixels
    ours, theirs = (session_runner(open_session(path), spec)(pixels) for path, spec in ((file, new), (before, old)))
    columns = [[spec.labels.index(label) for label in kept] for spec in (new, old)]
    for name in new.output_names:
        if not np.isfinite(ours[name]).all():
            raise GraphError(f"Not published: {name} of {file.name} is not finite.")
        if not np.array_equal(ours[name][:, columns[0]], theirs[name][:, columns[1]]):
            raise GraphError(f"Not published: {name} of other labels would change in {file.name}.")


def _files(version: TaggerVersion) -> list[Path]:
    """The graphs, the most exact first."""
    return [version.weights.with_name(graph.file) for graph in version.spec.graphs]
