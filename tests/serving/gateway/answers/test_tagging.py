"""The gateway's answers follow the one rule from scores to tags."""

import numpy as np
import pytest

from labelwise.image import Photo
from labelwise.spec import TaggerSpec
from serving.gateway.answers.explaining import ExplainQuery, make_explanation
from serving.gateway.answers.tagging import ScoredPhoto, make_answer, make_batch_answer
from serving.gateway.problems import GatewayError
from serving.gateway.requests.query import TagQuery, choose
from tests.conftest import ROOT
from tests.labelwise.tagging_cases import Case, every_case


@every_case
def test_tags_and_scores(case: Case) -> None:
    for query in (TagQuery(), TagQuery(scores="all")):
        choice, scored = choose(case.spec, query), ScoredPhoto(case.scores)
        answer = make_answer(choice, scored, query, "id")
        (item,) = make_batch_answer(choice, ["photo"], [scored], query, "id").results
        assert answer.tags == item.tags
        assert [tag.label for tag in answer.tags] == case.tags
        assert answer.scores == item.scores
    assert [(tag.label, tag.score) for tag in answer.scores or ()] == case.ranked


def test_a_score_that_is_not_a_number_is_no_answer() -> None:
    spec = TaggerSpec.read(ROOT / "model_repository/scenes")
    scores = np.full(len(spec.labels), np.nan, np.float32)
    query = TagQuery(scores="all")
    with pytest.raises(GatewayError, match="not a number"):
        make_answer(choose(spec, query), ScoredPhoto(scores), query, "id")
    assert make_answer(choose(spec, TagQuery()), ScoredPhoto(scores), TagQuery(), "id").tags == []


@every_case
def test_what_is_explained(case: Case) -> None:
    attention = np.ones((len(case.scores), 1, 1), np.float32)
    photo = Photo(np.zeros((8, 8, 3), np.uint8), (8, 8), 1, ())
    query = ExplainQuery()
    answer = make_explanation(choose(case.spec, query), case.scores, attention, photo, query, "id")
    assert [seen.label for seen in answer.labels] == case.tags
