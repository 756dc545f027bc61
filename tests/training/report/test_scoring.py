"""Passes over photos: what is kept is that of the right photo and label, whatever the model gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from labelwise.spec import TaggerSpec
from training.config import TrainConfig
from training.data import LabelledData
from training.model import TaggerNetwork, TaggerOutput
from training.report.embeddings import embedding_panel, sample_places
from training.report.mistakes import find_mistakes
from training.report.scoring import attention_maps, score_photos


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
    model, spec = Plain(len(data.labels), has_embedding).eval(), TaggerSpec.read(run)
    places = sample_places(data.val.targets)
    scored = score_photos(model, data.val.files, spec.image, places)
    assert scored.scores.shape == data.val.targets.shape
    assert scored.embeddings is None
    panel = embedding_panel(run, model, spec, data.val, places, scored, best_stage=2)
    assert (panel.pictures, panel.legend) == ([], [])
    assert "no label-level embeddings" in panel.notes[0]
    assert attention_maps(model, data.val.files, spec.image, [0] * len(data.val)) is None
    spec = spec.model_copy(update={"thresholds": (1.0,) * len(data.labels)})
    missed, _ = find_mistakes(model, spec, data.val, scored.scores)
    assert missed.worst
    assert all(mistake.overlay is None for mistake in missed.worst)


def test_embeddings_are_those_of_their_photo_and_label(config: TrainConfig, data: LabelledData):
    model = TaggerNetwork(len(data.labels), config.image, config.model).eval()
    files = [*data.train.files, *data.train.files, *data.train.files]  # more than one batch
    places = np.array([[0, 1], [31, 0], [32, 2], [47, 5]])
    found = score_photos(model, files, config.image, places).embeddings
    for place, embedding in zip(places, found, strict=True):
        alone = score_photos(model, [files[place[0]]], config.image, np.array([[0, place[1]]])).embeddings
        np.testing.assert_allclose(embedding, alone[0], atol=1e-5)
