"""Every loss against a slow, obvious version of itself, and finite in every corner."""

import math

import pytest
import torch
from torch.nn import functional as F

from training.losses import Others, asymmetric_loss, image_supcon, label_supcon, masked_bce, prototype_loss


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


def test_others_join_the_denominator_and_are_positives_of_their_label_only():
    embeddings, targets = random_case(3)
    generator = torch.Generator().manual_seed(9)
    extra = F.normalize(torch.randn(7, 5, generator=generator, dtype=torch.float64), dim=-1)
    labels = torch.tensor([0, 1, 1, 2, 3, -1, -1])
    present = targets == 1
    anchors, of_label = embeddings[present], present.nonzero()[:, 1]
    compared, all_labels = torch.cat([anchors, extra]), torch.cat([of_label, labels])
    total = 0.0
    for row, (anchor, label) in enumerate(zip(anchors, of_label, strict=True)):
        rest = [index for index in range(len(compared)) if index != row]
        similar = {index: math.exp(float(anchor @ compared[index]) / 0.2) for index in rest}
        terms = [-math.log(similar[index] / sum(similar.values())) for index in rest if all_labels[index] == label]
        total += sum(terms) / len(terms) if terms else 0.0
    loss = label_supcon(embeddings, targets, 0.2, Others(extra, labels))
    assert loss.item() == pytest.approx(total / len(anchors), abs=1e-9)


CORNERS = {
    "no present label": torch.zeros(4, 3),
    "nothing known": torch.full((4, 3), -1.0),
    "one anchor only": torch.eye(4, 3) * torch.tensor([1.0, 0, 0]),
    "one label only": torch.tensor([[1.0], [0], [1], [1]]),
    "all present": torch.ones(4, 3),
    "one image": torch.tensor([[1.0, 0, 1]]),
}


@pytest.mark.parametrize("targets", CORNERS.values(), ids=CORNERS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_loss_and_its_gradient_is_finite_in_the_corners(targets: torch.Tensor, dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(*targets.shape, 8, generator=generator).to(dtype).requires_grad_()
    prototypes = torch.randn(targets.shape[1], 8, generator=generator).to(dtype).requires_grad_()
    logits = (40 * torch.randn(targets.shape, generator=generator)).requires_grad_()  # saturated on both sides
    embeddings = F.normalize(raw, dim=-1)
    none = Others(torch.empty(0, 8, dtype=dtype), torch.empty(0, dtype=torch.long))
    losses = [
        label_supcon(embeddings, targets, 0.2),
        label_supcon(embeddings, targets, 0.01, none),
        image_supcon(embeddings[:, 0], targets, 0.2),
        prototype_loss(embeddings, targets, F.normalize(prototypes, dim=-1), 0.2),
        masked_bce(logits, targets),
        asymmetric_loss(logits, targets, 0.0, 4.0, 0.05),
        asymmetric_loss(logits, targets, 1.0, 4.0, 0.0),
    ]
    for loss in losses:
        gradients = torch.autograd.grad(loss, (raw, prototypes, logits), retain_graph=True, allow_unused=True)
        assert torch.isfinite(loss)
        assert loss >= -1e-6
        assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


def test_image_supcon_takes_images_that_share_a_label_as_positives():
    generator = torch.Generator().manual_seed(5)
    embeddings = F.normalize(torch.randn(6, 5, generator=generator, dtype=torch.float64), dim=-1)
    targets = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, -1], [0, 0, 0], [0, 0, 1], [-1, 1, 0]]).float()
    total = 0.0
    for i in range(6):
        similar = {j: math.exp(float(embeddings[i] @ embeddings[j]) / 0.2) for j in range(6) if j != i}
        positives = [j for j in similar if ((targets[i] == 1) & (targets[j] == 1)).any()]
        terms = [-math.log(similar[j] / sum(similar.values())) for j in positives]
        total += sum(terms) / len(terms) if terms else 0.0
    assert image_supcon(embeddings, targets, 0.2).item() == pytest.approx(total / 6, abs=1e-9)


def test_prototype_loss_is_sadcls():
    embeddings, targets = random_case(4, images=8)
    prototypes = F.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64), dim=-1)
    similar = torch.exp((embeddings * prototypes).sum(-1) / 0.2)
    terms = [
        -math.log(similar[i, j] / (similar[i, j] + sum(similar[k, j] for k in range(8) if targets[k, j] == 0)))
        for i, j in (targets == 1).nonzero().tolist()
    ]
    loss = prototype_loss(embeddings, targets, prototypes, 0.2)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-9)


def test_asymmetric_loss_is_the_papers_and_bce_without_its_powers():
    logits = torch.linspace(-4, 4, 12, dtype=torch.float64).reshape(4, 3)
    targets = torch.tensor([[1, 0, -1], [0, 1, 1], [0, 0, 1], [1, -1, 0]]).double()
    assert asymmetric_loss(logits, targets, 0, 0, 0).item() == pytest.approx(masked_bce(logits, targets).item())
    terms = []
    for logit, target in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        shifted = max(p - 0.05, 0)
        if target == 1:
            terms.append(-((1 - p) ** 1) * math.log(p))
        elif target == 0:
            terms.append(-(shifted**4) * math.log(1 - shifted))
    assert asymmetric_loss(logits, targets, 1, 4, 0.05).item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)
