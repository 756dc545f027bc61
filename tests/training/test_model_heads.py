"""The heads: what each gives, and what a method needs of one."""

import pytest
import torch

from labelwise.errors import LabelwiseError
from training.config import Method, ModelConfig
from training.model import make_head

LABELS, TOKENS = 7, 6
SMALL = ModelConfig(dim=16, heads=2, projection_dim=8, dropout=0)


def run(method: Method, config: ModelConfig, labels: int = LABELS):
    torch.manual_seed(0)
    head = make_head(method, 12, TOKENS, labels, config).eval()
    return head, head(torch.randn(3, TOKENS, 12, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("method", ["label-bce", "mulcon"])
@pytest.mark.parametrize("name", ["label-attention", "ml-decoder"])
def test_label_level_heads_give_an_embedding_and_a_map_per_label(method: Method, name: str):
    head, output = run(method, SMALL.model_copy(update={"head": name}))
    assert head.label_level
    assert output.logits.shape == (3, LABELS)
    torch.testing.assert_close(output.embeddings.norm(dim=-1), torch.ones(3, LABELS))
    torch.testing.assert_close(output.attention.sum(dim=-1), torch.ones(3, LABELS))
    assert output.attention.shape == (3, LABELS, TOKENS)


def test_groups_answer_for_their_labels():
    config = SMALL.model_copy(update={"head": "ml-decoder", "groups": 3})
    head, output = run("label-bce", config)
    assert not head.label_level
    assert head.group_classifier.shape == (3, 16, 3)  # three labels a group, two of the nine places unused
    assert output.logits.shape == (3, LABELS)
    assert output.embeddings is output.attention is None
    output.logits[:, :3].sum().backward()  # the first group's labels
    assert (head.group_classifier.grad[0] != 0).all()
    assert (head.group_classifier.grad[1:] == 0).all()


def test_a_thousand_labels_cost_little_with_groups():
    sizes = {}
    for groups in (0, 50):
        head, output = run("label-bce", SMALL.model_copy(update={"head": "ml-decoder", "groups": groups}), labels=1000)
        assert output.logits.shape == (3, 1000)
        sizes[groups] = head.queries.numel()
    assert sizes[50] * 20 == sizes[0]


def test_contrast_needs_a_group_per_label():
    config = SMALL.model_copy(update={"head": "ml-decoder", "groups": 3})
    with pytest.raises(LabelwiseError, match=r"model\.groups=0"):
        make_head("mulcon", 12, TOKENS, LABELS, config)


def test_the_plain_baseline_pools_and_supcon_adds_one_vector():
    plain, output = run("bce", SMALL)
    assert output.embeddings is output.attention is None
    tokens = torch.randn(3, TOKENS, 12)
    torch.testing.assert_close(plain(tokens).logits, plain.classifier(tokens.mean(dim=1)))
    head, output = run("supcon", SMALL)
    assert not head.label_level
    torch.testing.assert_close(output.embeddings.norm(dim=-1), torch.ones(3, 1))


def test_queries_of_the_paper_do_not_know_the_photo():
    torch.manual_seed(0)
    tokens = torch.randn(2, TOKENS, 12)
    for knows in (True, False):
        head = make_head("mulcon", 12, TOKENS, LABELS, SMALL.model_copy(update={"image_queries": knows})).eval()
        seen = []
        head.cross.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        head(tokens)
        assert torch.equal(seen[0][0], seen[0][1]) is not knows
