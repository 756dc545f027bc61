"""A head that reads labels off a pretrained classifier: evidence for a label at every position of the photo.

An addition to the paper, for labels with few photos or none. The classifier of an ImageNet network, applied at a
position of its last feature map, says which of a thousand classes is there. The probabilities of a label's classes add
up to its evidence at this position. Where the evidence is makes an attention map, and the features there make an
embedding of the label. So the head has the three outputs of label attention without any training.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from training.config import ModelConfig

_LEAST = 1e-6  # of an evidence, so that its logarithm is finite
_LEAST_CLASS = 1e-5  # of a class's probability
_VISIBLE = 1e-3  # probabilities below it do not steer attention: they are noise, which 8 bits would change
_POWER = 1.5  # of the mean over positions: between the mean (1) and the best position (infinite)


class Evidence(NamedTuple):
    """What a photo's tokens say before any label's own weights."""

    labels: torch.Tensor  # [b, l], log of the evidence for each label
    classes: torch.Tensor  # [b, 2k], log probabilities of the classes: over the whole photo, and at their best position


class ClassEvidence(nn.Module):
    """logit = scale · evidence + bias + weight · classes, per label, with an own weight for what its classes miss.

    evidence: half the log of the whole photo's probability of the label's classes, and half that of the power mean
    over positions, which finds small things. classes: the standardised log probabilities of all classes, of unit
    length. With them a label is learned that ImageNet does not have, such as a person. Labels are independent: one can
    be added without touching another's score.
    """

    def __init__(self, channels: int, labels: int, classes: int, config: ModelConfig) -> None:
        super().__init__()
        self.label_level = True
        self.register_buffer("class_weight", torch.zeros(classes, channels))
        self.register_buffer("class_bias", torch.zeros(classes))
        self.register_buffer("groups", torch.zeros(classes, labels))  # 1 where the class belongs to the label
        self.register_buffer("class_mean", torch.zeros(2 * classes))
        self.register_buffer("class_scale", torch.ones(2 * classes))
        self.register_buffer("embed", torch.zeros(channels, config.projection_dim))
        self.scale = nn.Parameter(torch.ones(labels))  # 0 for a label without classes
        self.bias = nn.Parameter(torch.zeros(labels))
        self.weight = nn.Parameter(torch.zeros(labels, 2 * classes))

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """tokens [b, t, c] -> logits [b, l], embeddings [b, l, p], attention [b, l, t]."""
        here, whole = self._probabilities(tokens)
        evidence = self._evidence(here, whole)
        length = self._standardised(evidence.classes).norm(dim=-1, keepdim=True)
        logits = self.scale * evidence.labels + self.bias + self.classes_of(evidence) @ self.weight.T
        attention = self._attention(here, length)
        embeddings = attention @ (tokens @ self.embed)  # b l t, b t p -> b l p
        return logits, F.normalize(embeddings, dim=-1), attention

    def evidence_of(self, tokens: torch.Tensor) -> Evidence:
        """tokens [b, t, c] -> the evidence that the labels' weights are fitted to."""
        return self._evidence(*self._probabilities(tokens))

    def classes_of(self, evidence: Evidence) -> torch.Tensor:
        """The standardised log probabilities [b, 2k], of unit length."""
        return F.normalize(self._standardised(evidence.classes), dim=-1)

    def _probabilities(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """tokens [b, t, c] -> of each class at each position [b, t, k], and for the whole photo [b, k]."""
        here = F.linear(tokens, self.class_weight, self.class_bias).softmax(dim=-1)
        whole = F.linear(tokens.mean(dim=1), self.class_weight, self.class_bias).softmax(dim=-1)
        return here, whole

    def _evidence(self, here: torch.Tensor, whole: torch.Tensor) -> Evidence:
        found = (here @ self.groups + _LEAST).pow(_POWER).mean(dim=1).pow(1 / _POWER)  # b t k -> b t l -> b l
        labels = (found.log() + (whole @ self.groups + _LEAST).log()) / 2
        classes = torch.cat([whole, here.amax(dim=1)], dim=-1)  # b 2k
        return Evidence(labels, (classes + _LEAST_CLASS).log())

    def _standardised(self, classes: torch.Tensor) -> torch.Tensor:
        return (classes - self.class_mean) * self.class_scale

    def _attention(self, here: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        """Where a label's logit comes from: its evidence at each position, and its weights on the classes there.

        here [b, t, k], length [b, 1] of the standardised classes -> [b, l, t].
        """
        seen = (here + _VISIBLE).log() * self.class_scale[: here.shape[-1]] / length[:, None]  # b t k
        weights = self.weight[:, : here.shape[-1]] + self.weight[:, here.shape[-1] :]  # l k
        logits = self.scale * (here @ self.groups + _VISIBLE).log() + seen @ weights.T  # b t l
        return logits.transpose(1, 2).softmax(dim=-1)
