"""The pass over val assigns everything to the right photo and label, for every network, from files and shards."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from labelwise.spec import TrainedSpec
from training.checkpoint import load_checkpoint
from training.config import TrainConfig
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData, LabelledPhotos
from training.data.layouts import read_data
from training.data.shard_writer import write_shards
from training.evaluator import EVAL_BATCH, run_network
from training.model import TaggerNetwork, TaggerOutput
from training.report.embeddings import embedding_panel, sample_places
from training.report.mistakes import show_mistakes, worst_mistakes
from training.report.val_pass import pass_over_val


class Plain(nn.Module):
    """A tagger of the plainest kind: no attention, and one embedding for all labels, or none."""

    def __init__(self, labels: int, has_embedding: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(3, labels)
        self.has_embedding = has_embedding

    def forward(self, pixels: torch.Tensor) -> TaggerOutput:
        colour = pixels.float().mean(dim=(2, 3)) / 255  # b 3 h w -> b 3
        return TaggerOutput(self.linear(colour), colour[:, None] if self.has_embedding else None, None)


@pytest.mark.parametrize("has_embedding", [False, True])
def test_models_without_attention_or_label_level_embeddings(
    has_embedding: bool, config: TrainConfig, data: LabelledData, run: Path
):
    model, spec = Plain(len(data.labels), has_embedding).eval(), TrainedSpec.read(run)
    spec = spec.model_copy(update={"thresholds": (1.0,) * len(data.labels)})
    places = sample_places(data.val.targets)
    found = pass_over_val(model, spec, data.val, places)
    assert found.scores.shape == data.val.targets.shape
    assert found.embeddings is None
    panel = embedding_panel(spec, places, found, best_stage=2, has_earlier=False)
    assert (panel.pictures, panel.legend) == ([], [])
    assert "no label-level embeddings" in panel.notes[0]
    assert found.attention == {}
    missed, _ = show_mistakes(spec, data.val, found.scores, found.attention)
    assert missed.worst
    assert all(mistake.overlay is None for mistake in missed.worst)


def test_embeddings_are_those_of_their_photo_and_label(config: TrainConfig, data: LabelledData, run: Path):
    model, spec = TaggerNetwork(len(data.labels), config.image, config.model).eval(), TrainedSpec.read(run)
    photos = six_times(data.train)
    places = np.array([[0, 1], [63, 0], [64, 2], [len(photos) - 1, 5]])
    earlier = TaggerNetwork(len(data.labels), config.image, config.model).eval()
    found = pass_over_val(model, spec, photos, places, earlier)
    for (row, label), embedding, before in zip(places, found.embeddings, found.earlier_embeddings, strict=True):
        batch = next(iter(EvalBatches(photos.subset([row]), spec.image, 1)))
        np.testing.assert_allclose(embedding, run_network(model, batch).embeddings[0, label], atol=1e-5)
        np.testing.assert_allclose(before, run_network(earlier, batch).embeddings[0, label], atol=1e-5)


def test_the_worst_mistakes_have_the_attention_of_their_photo_and_label(
    config: TrainConfig, data: LabelledData, run: Path
):
    model, spec = TaggerNetwork(len(data.labels), config.image, config.model).eval(), TrainedSpec.read(run)
    photos = six_times(data.train)
    found = pass_over_val(model, spec, photos, np.empty((0, 2), np.int64))
    worst = [place for kind in worst_mistakes(spec, found.scores, photos.targets) for place in kind.worst]
    assert worst
    for row, label in worst:
        batch = next(iter(EvalBatches(photos.subset([row]), spec.image, 1)))
        np.testing.assert_allclose(
            found.attention[row, label], run_network(model, batch).attention[0, label], atol=1e-5
        )


def test_photos_in_shards_are_scored_and_shown_like_files(data: LabelledData, run: Path, tmp_path: Path, monkeypatch):
    write_shards(data, tmp_path / "shards", 6_000)
    sharded = read_data(tmp_path / "shards").val
    assert len(sharded.shards) > 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))  # nothing may be unpacked
    model, spec = load_checkpoint(run)
    spec = spec.model_copy(update={"thresholds": (1.0,) * len(data.labels)})
    places = sample_places(data.val.targets)
    ours, theirs = (pass_over_val(model, spec, photos, places) for photos in (data.val, sharded))
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
    expected = show_mistakes(spec, data.val, ours.scores, ours.attention)
    assert len(expected[0].worst) > 1
    assert show_mistakes(spec, sharded, theirs.scores, theirs.attention) == expected


def six_times(photos: LabelledPhotos) -> LabelledPhotos:
    """More than one batch."""
    assert len(photos) * 6 > EVAL_BATCH
    return LabelledPhotos(photos.files * 6, np.concatenate([photos.targets] * 6))
