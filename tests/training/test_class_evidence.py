"""The head that reads labels off a classifier: evidence, attention and embeddings, and how it is fitted."""

import pytest
import torch

from training.class_evidence import ClassEvidence
from training.config import ModelConfig
from training.evidence_fit import solve

CLASSES, CHANNELS = 6, 8


@pytest.fixture
def head() -> ClassEvidence:
    """Label 0 has the classes 0 and 1, label 1 the class 2, label 2 none. Class k is what channel k shows."""
    torch.manual_seed(0)
    head = ClassEvidence(CHANNELS, 3, CLASSES, ModelConfig(projection_dim=4)).eval()
    head.class_weight.copy_(torch.eye(CLASSES, CHANNELS) * 9)
    head.groups[[0, 1], 0] = 1
    head.groups[2, 1] = 1
    head.embed.copy_(torch.randn(CHANNELS, 4))
    return head


def tokens_of(*classes: int) -> torch.Tensor:
    """One photo [1, t, c] that shows a class at each position."""
    return torch.eye(CHANNELS)[list(classes)][None]


def test_evidence_is_found_where_it_is(head: ClassEvidence):
    with torch.no_grad():
        logits, embeddings, attention = head(tokens_of(5, 1, 5, 2))
    assert logits.shape == (1, 3)
    assert embeddings.norm(dim=-1) == pytest.approx(torch.ones(1, 3))
    assert attention.sum(dim=-1) == pytest.approx(torch.ones(1, 3))
    assert attention[0, 0].argmax() == 1
    assert attention[0, 1].argmax() == 3


def test_a_small_thing_counts_more_than_in_the_mean_alone(head: ClassEvidence):
    large, small, none = (
        head.evidence_of(tokens_of(*classes)).labels[0, 1] for classes in ([2] * 9, [2, *[5] * 8], [5])
    )
    assert large > small > none
    assert small - none > 3  # the whole photo's evidence alone would hardly rise


def fitted(head: ClassEvidence, targets: torch.Tensor, photos: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        evidence = head.evidence_of(photos)
    solve(head, evidence, targets)
    with torch.no_grad():
        return head(photos)[0]


def test_a_fit_learns_what_the_classes_lack_and_leaves_other_labels_alone(head: ClassEvidence):
    photos = torch.cat([tokens_of(*row) for row in torch.randint(0, CLASSES, (64, 4)).tolist()])
    targets = torch.stack(
        [(photos[..., :2].sum(dim=(1, 2)) > 0).float(), torch.full((64,), -1.0), photos[..., 4].amax(1)], 1
    )
    logits = fitted(head, targets, photos)
    assert logits[targets[:, 2] == 1, 2].min() > logits[targets[:, 2] == 0, 2].max()  # label 2 has no classes
    assert head.weight[1].abs().max() < 1e-4  # nothing is known of label 1: it keeps what all labels share
    assert head.scale[1] > 0


def test_a_fit_does_not_depend_on_the_seed(head: ClassEvidence):
    photos = torch.cat([tokens_of(*row) for row in torch.randint(0, CLASSES, (32, 4)).tolist()])
    targets = (torch.rand(32, 3) < 0.4).float()
    first = fitted(head, targets, photos)
    torch.manual_seed(1)
    assert torch.equal(first, fitted(head, targets, photos))
