"""Scores as predictions of Label Studio."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from labelwise.tagging import choose
from serving.client import TagResult
from serving.label_studio.labelling import Choice, Question
from serving.label_studio.predictions import Predictor
from tests.conftest import scenes_only

SCORES = {"desert": 0.1, "mountains": 0.55, "sea": 0.9, "sunset": 0.7, "trees": 0.2}


@pytest.fixture(scope="module")
def spec() -> TaggerSpec:
    spec = Repository.open(scenes_only()).taggers["scenes"][1].spec
    return spec.model_copy(update={"thresholds": (0.5,) * 5})


def tagged(spec: TaggerSpec, scores: Mapping[str, float] = SCORES) -> TagResult:
    row = np.array([scores[label] for label in spec.labels], np.float32)
    return TagResult(0, spec.name, spec.version, tuple(choose(spec, None, None, None, None).tags(row)), scores)


def asked(multiple: bool, *choices: str, name: str = "scene") -> Question:
    return Question(name, "image", "photo", multiple, tuple(Choice(each, each) for each in choices))


def predict(spec: TaggerSpec, *questions: Question) -> dict[str, Any] | None:
    return Predictor(questions, spec).predict({"photo": tagged(spec)})


def test_several_choices_in_the_order_of_the_configuration(spec: TaggerSpec) -> None:
    prediction = predict(spec, asked(True, "trees", "sunset", "helmet", "SEA"))
    assert prediction == {
        "result": [
            {
                "from_name": "scene",
                "to_name": "image",
                "type": "choices",
                "value": {"choices": ["sunset", "SEA"]},
                "score": pytest.approx(0.7, abs=1e-4),
            }
        ],
        "score": pytest.approx(0.7, abs=1e-4),  # of sunset; that trees are not there is more certain
        "model_version": "scenes 1",
    }


def test_the_score_is_that_of_the_most_doubtful_choice_also_if_it_is_not_chosen(spec: TaggerSpec) -> None:
    assert predict(spec, asked(True, "desert", "trees")) == {
        "result": [],
        "score": pytest.approx(0.8, abs=1e-4),
        "model_version": "scenes 1",
    }


def test_a_single_choice_is_the_best_one_or_none(spec: TaggerSpec) -> None:
    prediction = predict(spec, asked(False, "mountains", "sea", "trees"), asked(False, "desert", "trees", name="other"))
    assert prediction is not None
    assert [(result["from_name"], result["value"]) for result in prediction["result"]] == [
        ("scene", {"choices": ["sea"]})
    ]
    assert prediction["score"] == pytest.approx(0.8, abs=1e-4)  # that it is not even trees


def test_no_prediction_without_a_known_choice(spec: TaggerSpec) -> None:
    predictor = Predictor([asked(True, "helmet")], spec)
    assert not predictor.knows_any
    assert predictor.predict({"photo": tagged(spec)}) is None
    assert Predictor([asked(True, "sea")], spec).predict({}) is None  # the photo could not be fetched
