"""Starts label attention from a pretrained classifier: a label that it knows begins where its classes are.

An addition to the paper, whose queries start as noise and must learn from photos what a label looks like. The row of a
class in the classifier is the direction of features in which it is seen, which is what a query is for.
"""

from collections.abc import Sequence

import torch
from torch import nn

from training.config import ModelConfig
from training.label_groups import groups_of, own_groups
from training.model import LabelAttention
from training.pretrained import classifier_of, principal_directions


@torch.no_grad()
def start_queries(head: LabelAttention, labels: Sequence[str], config: ModelConfig) -> list[str]:
    """Start the queries of those `labels` that the backbone's classifier knows from it. Returns these labels.

    Tokens begin in the principal directions of the classifier's rows, as many as `model.dim`, and attention begins as
    the product of query and token. So a query attends at first where the classifier sees the label.
    Raises LabelwiseError if there is no such classifier.
    """
    rows, _ = classifier_of(config.backbone)
    directions = principal_directions(rows, config.dim)  # d c
    rows = rows - rows.mean(dim=0)  # k c
    head.embed.weight.copy_(directions)
    head.embed.bias.zero_()
    for projection in (head.cross.attention.query, head.cross.attention.key_value):
        projection.weight[: config.dim].copy_(torch.eye(config.dim))
        nn.init.zeros_(projection.bias)
    known = groups_of(labels, own_groups(config))
    for place, classes in enumerate(known):
        if classes:
            query = directions @ rows[list(classes)].mean(dim=0)  # d c, c -> d
            head.queries[0, place] = query * config.dim**0.5 / query.norm()  # as long as a normalised token
    return [label for label, classes in zip(labels, known, strict=True) if classes]
