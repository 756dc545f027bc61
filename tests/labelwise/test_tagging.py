"""The rule from scores to tags on its own; its callers' tests follow the same cases."""

import numpy as np
import pytest

from labelwise.spec import TaggerSpec
from labelwise.tagging import ChoiceError, UnknownLabels, choose, judge
from tests.labelwise.tagging_cases import Case, every_case


@every_case
def test_the_tags_and_the_order_of_one_photo(case: Case) -> None:
    choice = choose(case.spec)
    assert [tag.label for tag in choice.tags(case.scores)] == case.tags
    assert [(tag.label, tag.score) for tag in choice.ranked(case.scores)] == case.ranked
    assert [tag.label for tag in choice.ranked(case.scores) if tag.is_tag] == case.tags
    assert [tag.label for tag in choice.explained(case.scores)[1]] == case.tags
    assert [tag.label for tag in choose(case.spec, top_k=1).tags(case.scores)] == case.tags[:1]


@every_case
def test_a_batch_is_judged_as_each_of_its_photos(case: Case) -> None:
    batch = np.stack([case.scores, case.scores[::-1]])
    values, is_tag = judge(batch, np.array(case.spec.thresholds))
    assert is_tag[0].tolist() == case.is_tag
    assert dict(zip(case.spec.labels, values[0].tolist(), strict=True)) == dict(case.ranked)
    np.testing.assert_array_equal(values[1], values[0][::-1])


def test_scores_are_rounded_as_python_rounds() -> None:
    scores = np.random.default_rng(0).random(100_000, dtype=np.float32)
    assert judge(scores, 0.5)[0].tolist() == [round(score, 6) for score in scores.tolist()]


def test_the_tags_of_one_photo_are_judged_as_those_of_many(spec: TaggerSpec) -> None:
    generator = np.random.default_rng(0)
    for threshold in (0, 0.3, 0.8765435, 1):
        choice = choose(spec, threshold=threshold)
        near = threshold + generator.uniform(-2e-6, 2e-6, (500, 2))
        for scores in np.vstack([near, generator.random((100, 2))]).astype(np.float32):
            values, is_tag = judge(scores, choice.thresholds)
            assert {(tag.label, tag.score) for tag in choice.tags(scores)} == {
                (spec.labels[place], values[place]) for place in is_tag.nonzero()[0]
            }


def test_what_is_not_a_number_is_not_a_tag(spec: TaggerSpec) -> None:
    assert choose(spec, threshold=0).tags(np.array([np.nan, 0.25], np.float32))[0].label == "großer Hund"
    assert len(choose(spec, threshold=0).tags(np.array([np.nan, 0.25], np.float32))) == 1


def test_a_choice_of_labels(spec: TaggerSpec) -> None:
    scores = np.array([0.1, 0.9], np.float32)
    assert choose(spec, exclude=["cat"]).labels == ("großer Hund",)
    only_cat = choose(spec, labels=["cat"])
    assert only_cat.tags(scores) == []
    assert [tag.label for tag in only_cat.ranked(scores)] == ["cat"]
    places, entries = only_cat.explained(scores)
    assert (places.tolist(), entries) == ([0], only_cat.ranked(scores))


def test_a_choice_of_thresholds(spec: TaggerSpec) -> None:
    assert choose(spec, threshold={"cat": 0.75}).thresholds.tolist() == [0.75, 0.5]
    assert choose(spec, threshold=0.125).thresholds.tolist() == [0.125, 0.125]
    assert choose(spec, threshold={}).thresholds.tolist() == [*spec.thresholds]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"labels": ["cow"]}, "labels: pets has no such label: cow"),
        ({"exclude": ["cow"]}, "exclude: pets has no such label: cow"),
        ({"threshold": {"cow": 0.5}}, "threshold: pets has no such label: cow"),
        ({"labels": [f"{number:02}" for number in range(12)]}, "label: 00, 01, .*, 08, 09 and 2 more$"),
    ],
)
def test_labels_that_the_model_does_not_have(spec: TaggerSpec, asked: dict, words: str) -> None:
    with pytest.raises(UnknownLabels, match=words):
        choose(spec, **asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"labels": ["cat"], "exclude": ["cat"]}, "exclude: this leaves none of the labels"),
        ({"threshold": 1.5}, "threshold: must be a number from 0 to 1, not 1.5"),
        ({"threshold": {"cat": float("nan")}}, "threshold: must be a number from 0 to 1, not nan"),
        ({"top_k": 0}, "top_k: must be a whole number, at least 1, not 0"),
    ],
)
def test_a_choice_that_cannot_be(spec: TaggerSpec, asked: dict, words: str) -> None:
    with pytest.raises(ChoiceError, match=words):
        choose(spec, **asked)
