"""The per-label table and the calibration, by hand."""

from pathlib import Path

import numpy as np
import pytest

from labelwise.spec import TrainedSpec
from tests.labelwise.tagging_cases import Case, every_case
from training.data.labelled_data import ABSENT, PRESENT, UNKNOWN, LabelledData, LabelledPhotos
from training.report.labels import calibration, label_rows


def test_rows_count_only_what_is_known(run: Path, data: LabelledData):
    spec = TrainedSpec.read(run)
    targets = np.full((4, len(data.labels)), UNKNOWN, np.float32)
    targets[:, 0] = [PRESENT, PRESENT, ABSENT, UNKNOWN]
    scores = np.zeros_like(targets)
    scores[:, 0] = [1, 0, 1, 1]
    row, other, *_ = label_rows(
        spec, LabelledData(data.labels, data.train, LabelledPhotos(data.val.files, targets)), scores
    )
    assert (row.val_support, row.val_unknown, row.precision, row.recall, row.f1) == (2, 1, 0.5, 0.5, 0.5)
    assert (other.val_support, other.val_unknown, other.has_curve) == (0, 4, False)
    assert np.isnan([other.precision, other.recall, other.f1]).all()


@every_case
def test_the_one_rule_from_scores_to_tags(case: Case):
    """Where exactly the tags that serving gives are present, every one is a hit and none is a false alarm."""
    photos = LabelledPhotos([Path("photo.jpg")], np.array([case.is_tag], np.float32))
    rows = label_rows(case.spec, LabelledData(case.spec.labels, photos, photos), case.scores[np.newaxis])
    for row, is_tag in zip(rows, case.is_tag, strict=True):
        assert (row.precision, row.recall) == (1, 1) if is_tag else np.isnan([row.precision, row.recall]).all()


def test_calibration_is_by_hand():
    scores = np.array([[0.05, 0.95], [0.15, 1.0], [0.1, 0.5]], np.float32)
    bins = calibration(scores, np.array([[0, 1], [1, 1], [0, -1]], np.float32))
    assert bins.counts == [1, 2, *[0] * 7, 2]
    assert bins.mean_score == pytest.approx([0.05, 0.125, 0.975])
    assert bins.frequency == [0, 0.5, 1]
    assert bins.error == pytest.approx((0.05 + 2 * 0.375 + 2 * 0.025) / 5)
