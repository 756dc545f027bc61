"""What is learned from a store of corrections: of its newest answers, those with features or photos."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from labelwise.errors import DataError
from labelwise.feedback import NO, UNKNOWN, YES, Correction, Features, FeedbackStore
from labelwise.image import load_pixels
from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from teaching.expectation import report
from teaching.feature_graph import FeatureGraph, open_features
from teaching.given_photos import Found, Seen, no_photos, tell_nobody
from teaching.label_rows import Lessons
from teaching.lesson import teach
from teaching.recalled import recall, with_enough
from tests.conftest import ROOT
from tests.teaching.test_lesson import answers, version

SPEC = TaggerSpec.read(ROOT / "model_repository/everyday")


def see(pixels: np.ndarray) -> Found:
    return np.full((len(pixels), 2), 0.5, np.float32), np.zeros((len(pixels), 1), np.float32)


GRAPH = FeatureGraph("this one", see, Lessons({}, {}), {})


def features(graph: str) -> Features:
    return Features(graph, np.float32([1, 0]), np.float32([2]))


@pytest.fixture
def store(tmp_path: Path, pictures: tuple[Path, Path]) -> FeedbackStore:
    """Photos with features of this graph, of another one, and none; one is stored itself."""
    picture = (pictures[0] / "0.png").read_bytes()
    store = FeedbackStore.create(tmp_path / "feedback.db")
    for correction in (
        Correction("1" * 64, {"stripes": True, "DOG": False}, "everyday", 1, features=features("this one")),
        Correction("2" * 64, {"stripes": True}, "scenes", 1, features=features("another")),
        Correction("3" * 64, {"cat": True}, "everyday", 1),
        Correction(hashlib.sha256(picture).hexdigest(), {"stripes": False}, "everyday", 1, content=picture),
        Correction("1" * 64, {"stripes": False}, "everyday", 2),
    ):
        store.add(correction)
    return store


def recalled(store: FeedbackStore, *labels: str) -> Seen:
    seen = recall(store, labels, SPEC, GRAPH, tell_nobody)
    assert seen is not None
    return seen


def test_the_newest_answers_count_and_what_is_lost_is_named(store: FeedbackStore):
    seen = recalled(store)
    assert seen.photos.labels == ("stripes", "dog", "cat")  # as the tagger spells them
    assert seen.photos.answers.tolist() == [[NO, NO, UNKNOWN], [NO, UNKNOWN, UNKNOWN]]
    assert [values[:, 0].tolist() for values in seen.values] == [[1, 0.5], [2, 0]]
    reason = "neither the photo nor its features for this tagger are stored"
    assert [str(each) for each in seen.left_out] == [
        f"feedback.db: photo {digit * 12} ({reason})" for digit in ("2", "3")
    ]


def test_some_labels_can_be_chosen(store: FeedbackStore):
    seen = recalled(store, "dog", "new")
    assert seen.photos.answers.tolist() == [[NO, UNKNOWN]]
    assert seen.left_out == ()
    assert recall(store, ("cat",), SPEC, GRAPH, tell_nobody) is None


def test_labels_with_too_few_answers_are_told(store: FeedbackStore):
    with pytest.raises(DataError, match=r"says too little yet.*stripes \(0 yes, 2 no\), dog \(0 yes, 1 no\)"):
        with_enough(recalled(store), store)
    for number in range(3):
        features_of = {"features": features("this one"), "model": "everyday", "version": 1}
        store.add(Correction(f"a{number:063x}", {"stripes": True}, **features_of))
        store.add(Correction(f"b{number:063x}", {"stripes": False}, **features_of))
    seen, too_few = with_enough(recalled(store), store)
    assert (seen.photos.labels, too_few) == (("stripes",), ("dog (0 yes, 1 no)", "cat (0 yes, 0 no)"))
    assert np.unique(seen.photos.answers, return_counts=True)[1].tolist() == [5, 3]
    assert {YES, NO} == {*np.unique(seen.photos.answers)}


def test_corrections_are_taught_and_do_not_count_twice(everyday: Path, pictures: tuple[Path, Path], tmp_path: Path):
    """Those without the photo by their features, the others by their photo; then all of them again."""
    first = Repository.open(everyday).taggers["everyday"][1]
    graph = open_features(first.weights.with_name("model.onnx"), first.spec)
    store = FeedbackStore.create(tmp_path / "feedback.db")
    for folder in pictures:
        for number, file in enumerate(sorted(folder.iterdir())):
            data = file.read_bytes()
            found = None
            if number % 2:
                pixels = load_pixels(data, 384, 384, SPEC.image.resize, SPEC.image.interpolation)
                found = Features(graph.identity, *(values[0] for values in graph.see(pixels[None])))
            has = folder == pictures[0]
            digest = hashlib.sha256(data).hexdigest()
            content = None if found else data
            said = {"stripes": has, "dog": not has, "beach": True}
            store.add(Correction(digest, said, "everyday", 1, features=found, content=content))
    lesson = teach(everyday, None, no_photos(), store=store)
    assert [(each.label, each.improved, int(each.has.sum())) for each in lesson.learned] == [
        *(("stripes", False, 4), ("dog", True, 4))
    ]
    assert next(report(lesson)) == (
        "Not taught, because there are fewer than 3 photos with it or without: beach (8 yes, 0 no)."
    )
    teach(everyday, None, no_photos(), store=store)
    second, third = version(everyday, 2), version(everyday, 3)
    assert third.spec.labels == second.spec.labels
    assert [each.spec.taught["stripes"].improved for each in (second, third)] == [False, True]
    before, after = answers(everyday, 2), answers(everyday, 3)
    for file in before:
        for ours, theirs in zip(after[file], before[file], strict=True):
            assert np.array_equal(ours, theirs)
