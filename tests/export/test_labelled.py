"""Tags of two graphs are compared by the rule that serving follows."""

import numpy as np

from export.labelled import count_changed
from tests.labelwise.tagging_cases import Case, every_case


@every_case
def test_a_photo_changes_only_if_its_tags_do(case: Case):
    thresholds = np.array(case.spec.thresholds)
    clearly = np.where(case.is_tag, 1, np.where(thresholds > 0, 0, np.nan)).astype(np.float32)
    scores = case.scores[np.newaxis]
    assert count_changed(scores, clearly[np.newaxis], thresholds) == 0
    other = clearly.copy()
    other[0] = 0 if case.is_tag[0] and thresholds[0] > 0 else np.nan if case.is_tag[0] else 1
    assert count_changed(scores, other[np.newaxis], thresholds) == 1
    both = np.concatenate([scores, scores])
    assert count_changed(both, np.stack([clearly, other]), thresholds) == 1
