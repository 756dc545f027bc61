"""Both losses against slow, obvious versions of themselves."""

import math

import pytest
import torch
from torch.nn import functional as F

from training.losses import label_supcon, masked_bce


def slow_supcon(embeddings: torch.Tensor, targets: torch.Tensor, temperature: float) -> float:
    """arXiv 2107.11626, equations 6 and 7, one anchor and one pair at a time."""
    images, labels = targets.shape
    anchors = [(i, j) for i in range(images) for j in range(labels) if targets[i, j] == 1]
    total = 0.0
    for i, j in anchors:
        others = [anchor for anchor in anchors if anchor != (i, j)]
        similar = {(k, m): math.exp(float(embeddings[i, j] @ embeddings[k, m]) / temperature) for k, m in others}
        positives = [anchor for anchor in others if anchor[1] == j]
        terms = [-math.log(similar[anchor] / sum(similar.values())) for anchor in positives]
        total += sum(terms) / len(terms) if terms else 0.0
    return total / len(anchors) if anchors else 0.0


def random_case(seed: int, images: int = 6, labels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = F.normalize(torch.randn(images, labels, 5, generator=generator, dtype=torch.float64), dim=-1)
    return embeddings, torch.randint(-1, 2, (images, labels), generator=generator).float()


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_supcon_is_the_papers(seed: int, temperature: float):
    embeddings, targets = random_case(seed)
    loss = label_supcon(embeddings, targets, temperature)
    assert loss.item() == pytest.approx(slow_supcon(embeddings, targets, temperature), abs=1e-9)


def test_supcon_of_three_anchors_by_hand():
    # Two images show label 0 alike, one also shows label 1, orthogonal to both.
    embeddings = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.6, 0.8]]])
    targets = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    # Each anchor of label 0: -log(e^1 / (e^1 + e^0)); that of label 1 has no positive and counts as zero.
    expected = 2 * math.log(1 + math.exp(-1)) / 3
    assert label_supcon(embeddings, targets, 1.0).item() == pytest.approx(expected, abs=1e-6)


def test_supcon_ignores_what_is_not_present():
    embeddings, targets = random_case(1)
    absent_for_unknown = targets.clamp(min=0)
    elsewhere = torch.where((targets == 1)[..., None], embeddings, -embeddings.flip(-1))
    loss = label_supcon(embeddings, targets, 0.2)
    assert torch.equal(loss, label_supcon(embeddings, absent_for_unknown, 0.2))
    assert torch.equal(loss, label_supcon(elsewhere, targets, 0.2))


@pytest.mark.parametrize("present", [[], [(0, 0)], [(0, 0), (1, 1)]])
def test_supcon_without_a_pair_is_zero_with_a_gradient(present: list[tuple[int, int]]):
    embeddings = random_case(0, 2, 2)[0].requires_grad_()
    targets = torch.zeros(2, 2)
    for place in present:
        targets[place] = 1
    loss = label_supcon(embeddings, targets, 0.2)
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(embeddings.grad) == 0


def test_supcon_stays_finite_and_pulls_where_it_should():
    raw = random_case(2)[0].float().requires_grad_()
    targets = random_case(2)[1]
    for temperature in (1e-3, 0.2):
        loss = label_supcon(F.normalize(raw, dim=-1), targets, temperature)
        (gradient,) = torch.autograd.grad(loss, raw)
        assert torch.isfinite(gradient).all()
        assert (gradient.abs().sum(dim=-1)[targets != 1] == 0).all()
    with torch.no_grad():
        assert label_supcon(F.normalize(raw - 0.1 * gradient, dim=-1), targets, 0.2) < loss


def test_bce_is_the_mean_over_known_labels():
    logits = torch.tensor([[0.0, 2.0, -30.0], [1.0, -1.0, 5.0]])
    targets = torch.tensor([[1.0, 0.0, -1.0], [-1.0, 0.4, 1.0]])  # mixup makes soft ones
    known = targets >= 0
    expected = F.binary_cross_entropy_with_logits(logits[known], targets[known])
    assert masked_bce(logits, targets).item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.equal(masked_bce(logits, targets), masked_bce(logits + 9 * ~known, targets))


def test_bce_of_nothing_known_is_zero_with_a_gradient():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = masked_bce(logits, torch.full((2, 3), -1.0))
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(logits.grad) == 0
