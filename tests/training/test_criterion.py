"""What each method minimises, and what later work adds to it."""

import pytest
import torch
from torch.nn import functional as F

from training.config import LossConfig
from training.criterion import Criterion, MemoryBank, hardest_absent
from training.losses import Others, image_supcon, label_supcon, masked_bce
from training.model import TaggerOutput


@pytest.fixture
def output() -> TaggerOutput:
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(6, 3, 8, generator=generator), dim=-1)
    return TaggerOutput(torch.randn(6, 3, generator=generator), embeddings, None)


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, -1], [1, 0, 1], [0, 0, 0], [0, 1, 1]]).float()


def test_the_parts_of_each_method(output: TaggerOutput, targets: torch.Tensor):
    config = LossConfig(gamma=0.3, temperature=0.1)
    soft = targets * 0.5
    bce = masked_bce(output.logits, soft)
    one_vector = output._replace(embeddings=output.embeddings[:, :1])
    contrast = {
        "bce": None,
        "label-bce": None,
        "supcon": 0.3 * image_supcon(one_vector.embeddings[:, 0], targets, 0.1),
        "mulcon": 0.3 * label_supcon(output.embeddings, targets, 0.1),
    }
    for method, expected in contrast.items():
        criterion = Criterion(method, config, 3, 8)
        given = one_vector if method == "supcon" else output
        assert criterion(given, targets, soft, contrast=False) == {"bce": bce}
        parts = criterion(given, targets, soft, contrast=True)
        assert parts == ({"bce": bce} if expected is None else {"bce": bce, "contrast": expected})


def test_asymmetric_loss_takes_the_place_of_bce(output: TaggerOutput, targets: torch.Tensor):
    plain = LossConfig(classification="asymmetric", gamma_absent=0, clip=0)
    parts = Criterion("bce", plain, 3, 8)(output, targets, targets, contrast=True)
    torch.testing.assert_close(parts["asymmetric"], masked_bce(output.logits, targets))


def test_the_hardest_absent_labels_are_the_most_confidently_wrong(output: TaggerOutput, targets: torch.Tensor):
    others = hardest_absent(output, targets, 2)
    order = output.logits.masked_fill(targets != 0, float("-inf")).flatten().argsort(descending=True)
    assert torch.equal(others.embeddings, output.embeddings.flatten(0, 1)[order[:2]])
    assert others.labels.tolist() == [-1, -1]
    assert len(hardest_absent(output, targets, 99).labels) == int((targets == 0).sum())
    parts = Criterion("mulcon", LossConfig(absent_negatives=2), 3, 8)(output, targets, targets, contrast=True)
    torch.testing.assert_close(parts["contrast"], 0.5 * label_supcon(output.embeddings, targets, 0.2, others))


def test_the_bank_keeps_the_latest_confident_embeddings_of_each_label():
    bank = MemoryBank(labels=2, slots=3, width=1, confidence=0.8)
    targets = torch.tensor([[1, 1], [1, 0], [0, -1], [1, 1]]).float()
    logits = torch.tensor([[9.0, -9], [9, 9], [9, 9], [9, 9]])  # image 0 is unsure of label 1
    for first in (0.0, 10.0):
        numbers = first + torch.arange(8.0).reshape(4, 2, 1)
        bank.remember(TaggerOutput(logits, numbers, None), targets)
    assert sorted(bank.embeddings[0].flatten().tolist()) == [10, 12, 16]  # 0, 2 and 6 have made room
    assert bank.embeddings[1].flatten().tolist()[:2] == [7, 17]
    others = bank.others()
    assert others.labels.tolist() == [0, 0, 0, 1, 1]
    assert len(others.embeddings) == 5


def test_a_batch_larger_than_the_bank_leaves_its_end():
    bank = MemoryBank(labels=1, slots=2, width=1, confidence=0.5)
    bank.remember(TaggerOutput(torch.ones(5, 1), torch.arange(5.0).reshape(5, 1, 1), None), torch.ones(5, 1))
    assert sorted(bank.embeddings.flatten().tolist()) == [3, 4]


def test_the_bank_and_the_prototypes_take_part(output: TaggerOutput, targets: torch.Tensor):
    config = LossConfig(memory=4, memory_confidence=0, prototype_weight=0.5)
    criterion = Criterion("mulcon", config, 3, 8)
    first = criterion(output, targets, targets, contrast=True)
    held = criterion.bank.others()
    assert len(held.labels) == int((targets == 1).sum())
    second = criterion(output, targets, targets, contrast=True)
    torch.testing.assert_close(first["contrast"], 0.5 * label_supcon(output.embeddings, targets, 0.2))
    expected = label_supcon(output.embeddings, targets, 0.2, Others(held.embeddings.clone(), held.labels))
    torch.testing.assert_close(second["contrast"], 0.5 * expected)
    sum(second.values()).backward()
    assert torch.isfinite(criterion.prototypes.grad).all()
    assert criterion.prototypes.grad.abs().sum() > 0
    assert set(criterion.state_dict()) == {"prototypes", "bank.embeddings", "bank.filled", "bank.next_slot"}
