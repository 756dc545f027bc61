"""What a store of corrections knows, ready to be learned from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelwise.errors import DataError
from labelwise.feedback import NO, UNKNOWN, YES, Features, FeedbackStore
from labelwise.label_names import some, without_case
from labelwise.spec import TaggerSpec
from teaching.feature_graph import FeatureGraph
from teaching.fit import FEWEST
from teaching.given_photos import Answers, GivenPhotos, LeftOut, Seen, Tell, joined, look_at

_LOST = "neither the photo nor its features for this tagger are stored"


@dataclass(frozen=True)
class StoredPhoto:
    """A photo that the store knows; whether it holds it is another matter."""

    store: FeedbackStore
    sha256: str

    def read_bytes(self) -> bytes:
        return self.store.content(self.sha256)

    def __str__(self) -> str:
        return f"{self.store.file.name}: photo {self.sha256[:12]}"


def look_and_recall(
    given: GivenPhotos, store: FeedbackStore | None, spec: TaggerSpec, graph: FeatureGraph, tell: Tell
) -> tuple[Seen, tuple[str, ...]]:
    """What can be learned from the photos and the store, and the labels that the store says too little of."""
    if store is None:
        return look_at(given, spec.image, graph.see, tell), ()
    recalled = recall(store, given.labels, spec, graph, tell)
    if given.files:
        seen = look_at(given, spec.image, graph.see, tell)
        return (seen if recalled is None else joined(seen, recalled)), ()
    if recalled is None:
        about = some(given.labels) or "photos"
        raise DataError(
            f"{spec.name} can learn nothing from {store.file}: it holds no answers about {about}, or neither their "
            "photos nor features for this tagger."
        )
    return (recalled, ()) if given.labels else with_enough(recalled, store)


def recall(
    store: FeedbackStore, labels: Sequence[str], spec: TaggerSpec, graph: FeatureGraph, tell: Tell
) -> Seen | None:
    """What the newest answers say of `labels`, or of every label if there are none; None if nothing can be learned.

    Takes the features of `graph` that are stored, and computes those of photos that are stored themselves.
    """
    given = _answers(store, labels, spec)
    photos = [file.sha256 for file in given.files]
    features = store.features(graph.identity, photos)
    contents = store.with_content()
    known = [row for row, photo in enumerate(photos) if photo in features]
    unseen = [row for row, photo in enumerate(photos) if photo not in features and photo in contents]
    lost = [file for file in given.files if file.sha256 not in features and file.sha256 not in contents]
    parts = [_seen(given.chosen(known, given.answers[known]), features)] if known else []
    if unseen:
        parts.append(look_at(given.chosen(unseen, given.answers[unseen]), spec.image, graph.see, tell))
    if not parts:
        return None
    seen = joined(*parts) if len(parts) > 1 else parts[0]
    left_out = (*seen.left_out, *(LeftOut(file, _LOST) for file in lost))
    return Seen(seen.photos, seen.digests, seen.values, left_out)


def with_enough(seen: Seen, store: FeedbackStore) -> tuple[Seen, tuple[str, ...]]:
    """The labels with enough answers to learn from, and the others with their counts. Raises DataError if none has."""
    answers, labels = seen.photos.answers, seen.photos.labels
    yes, no = ((answers == answer).sum(axis=0) for answer in (YES, NO))
    enough = np.minimum(yes, no) >= FEWEST
    few = tuple(f"{labels[place]} ({yes[place]} yes, {no[place]} no)" for place in np.flatnonzero(~enough))
    if not enough.any():
        raise DataError(
            f"{store.file} says too little yet: a label needs {FEWEST} photos that have it and {FEWEST} that do not. "
            f"It has {some(few)}."
        )
    chosen = tuple(label for label, is_enough in zip(labels, enough, strict=True) if is_enough)
    photos = GivenPhotos(chosen, seen.photos.files, answers[:, enough])
    return Seen(photos, seen.digests, seen.values, seen.left_out), few


def _answers(store: FeedbackStore, labels: Sequence[str], spec: TaggerSpec) -> GivenPhotos:
    """The photos that the store says something of, about `labels` or all, spelled as the tagger does."""
    answered = store.answered()
    column = {without_case(label): answers for label, answers in zip(answered.labels, answered.answers.T, strict=True)}
    spelled = {without_case(label): label for label in spec.labels}
    labels = labels or [spelled.get(without_case(label), label) for label in answered.labels]
    nothing = np.full(len(answered.photos), UNKNOWN, np.int8)
    answers: Answers = np.array([column.get(without_case(label), nothing) for label in labels], np.int8).T
    rows = np.flatnonzero((answers != UNKNOWN).any(axis=1)) if len(labels) else []
    files = tuple(StoredPhoto(store, answered.photos[row]) for row in rows)
    return GivenPhotos(tuple(labels), files, answers[rows])


def _seen(given: GivenPhotos, features: dict[str, Features]) -> Seen:
    digests = tuple(file.sha256 for file in given.files)
    values = tuple(np.stack([getattr(features[digest], part) for digest in digests]) for part in ("features", "logits"))
    return Seen(given, digests, values, ())
