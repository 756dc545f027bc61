"""Rows of a bulk run follow the one rule from scores to tags, as pages and one by one."""

import numpy as np

from serving.bulk.rows import Row, make_page, tags_of
from tests.labelwise.tagging_cases import Case, every_case


@every_case
def test_the_tags_and_scores_of_a_page(case: Case):
    rows = [Row("broken", 1, 2, error="image_broken"), Row("photo", 1, 2, case.scores)]
    page = make_page(rows, case.spec, every_score=True)
    assert page.tags == [None, case.tags]
    assert np.isnan(page.scores[0]).all()
    assert dict(zip(case.spec.labels, page.scores[1].tolist(), strict=True)) == dict(case.ranked)
    only_tags = make_page(rows, case.spec, every_score=False).scores[1]
    assert np.isfinite(only_tags).tolist() == case.is_tag
    assert tags_of(case.scores, case.spec) == case.tags
