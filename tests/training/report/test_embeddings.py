"""Which embeddings are drawn, how separate they are, and the note if there are none."""

from pathlib import Path

import numpy as np
import pytest

from training.checkpoint import STAGE_1_FILE, load_checkpoint
from training.data.labelled_data import PRESENT, LabelledData
from training.report.embeddings import MAX_LABELS, MAX_POINTS, embedding_panel, project, sample_places, silhouette
from training.report.val_pass import pass_over_val


def test_points_are_few_enough_and_of_the_most_frequent_labels():
    targets = (np.random.default_rng(0).random((400, 30)) < np.linspace(0.1, 0.9, 30)).astype(np.float32)
    places = sample_places(targets)
    assert len(places) == MAX_POINTS
    assert set(places[:, 1]) == set(np.argsort(targets.sum(axis=0))[-MAX_LABELS:])
    assert (targets[places[:, 0], places[:, 1]] == PRESENT).all()
    assert (places == sample_places(targets)).all()


def test_separate_labels_have_a_high_silhouette_and_equal_points_no_picture():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 5)
    vectors = np.eye(4, dtype=np.float32)[labels] + random.normal(0, 0.01, (10, 4)).astype(np.float32)
    embeddings = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert project(embeddings).shape == (10, 2)
    assert silhouette(embeddings, labels) > 0.95
    assert silhouette(vectors, np.zeros(10, int)) is None
    assert project(np.ones((10, 4), np.float32)) is None


@pytest.mark.parametrize(("best_stage", "title"), [(2, "After stage 2"), (1, "The saved model")])
def test_the_second_picture_says_which_weights_it_shows(best_stage: int, title: str, run: Path, data: LabelledData):
    model, spec = load_checkpoint(run)
    places = sample_places(data.val.targets)
    found = pass_over_val(model, spec, data.val, places, load_checkpoint(run, STAGE_1_FILE)[0])
    panel = embedding_panel(spec, places, found, best_stage, has_earlier=True)
    assert [picture.title for picture in panel.pictures] == ["Before stage 2", title]
    assert bool(panel.notes) == (best_stage == 1)
    assert sum(entry.points for entry in panel.legend) == len(places)
    assert panel.pictures[0].svg != panel.pictures[1].svg
    again = pass_over_val(model, spec, data.val, places)
    np.testing.assert_array_equal(again.embeddings, found.embeddings)  # the saved model keeps its weights
