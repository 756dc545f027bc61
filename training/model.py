"""The tagger: pixels -> backbone -> tokens -> head -> logits, embeddings, attention.

The heads: label attention, ML-Decoder's group decoding, a pretrained classifier's evidence, or plain pooling.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from labelwise.errors import LabelwiseError
from labelwise.spec import ImageSpec
from training.backbone import feature_shape, make_backbone
from training.class_evidence import ClassEvidence
from training.config import Method, ModelConfig
from training.pretrained import CLASSES


class TaggerOutput(NamedTuple):
    """Label-level heads have all three. A pooled head has no attention, and an embedding only for supcon."""

    logits: torch.Tensor  # [b, l]
    embeddings: torch.Tensor | None  # [b, l, p], L2-normalised, for the contrastive loss; supcon: [b, 1, p]
    attention: torch.Tensor | None  # [b, l, t] of a head, [b, l, th, tw] of the network; sums to 1 over the tokens


class TaggerNetwork(nn.Module):
    """The whole network, from pixels to logits, with normalisation and calibration."""

    def __init__(self, labels: int, image: ImageSpec, config: ModelConfig, method: Method = "mulcon") -> None:
        super().__init__()
        self.backbone = make_backbone(config)
        shape = feature_shape(self.backbone, image, config)
        self.grid, self.is_channels_last = shape.grid, shape.is_channels_last
        self.head = make_head(method, shape.channels, shape.grid[0] * shape.grid[1], labels, config)
        self.label_level: bool = self.head.label_level  # one embedding and attention map per label
        self.register_buffer("temperature", torch.ones(()))  # fitted on val once trained (training/evaluator.py)
        self.register_buffer("mean", torch.tensor(image.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(image.std).view(1, 3, 1, 1) * 255, persistent=False)

    def tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """The backbone's features: pixels [b, 3, h, w], uint8 or float on the 0..255 scale -> [b, t, c]."""
        features = self.backbone((pixels.float() - self.mean) / self.std)[0]
        if not self.is_channels_last:
            features = features.permute(0, 2, 3, 1)  # b c th tw -> b th tw c
        return features.flatten(1, 2)  # b th tw c -> b (th tw) c

    def forward(self, inputs: torch.Tensor) -> TaggerOutput:
        """inputs: pixels [b, 3, h, w], or what `tokens` made of them [b, t, c]; then only the head runs."""
        logits, embeddings, attention = self.head(self.tokens(inputs) if inputs.ndim == 4 else inputs)
        if attention is not None:
            attention = attention.unflatten(-1, self.grid)  # b l (th tw) -> b l th tw
        return TaggerOutput(logits / self.temperature, embeddings, attention)


def make_head(method: Method, channels: int, tokens: int, labels: int, config: ModelConfig) -> nn.Module:
    """The head of `method`, from tokens [b, t, c] to a TaggerOutput.

    Its `label_level` says whether the output has one embedding and one attention map per label.
    """
    if method in ("bce", "supcon"):
        return PooledHead(channels, labels, config, project=method == "supcon")
    if config.head == "class-evidence":
        return ClassEvidence(channels, labels, CLASSES, config)
    if config.head == "ml-decoder":
        if method == "mulcon" and 0 < config.groups < labels:
            raise LabelwiseError(
                f"mulcon needs an embedding per label, so {config.groups} groups are not enough for {labels} labels: "
                "set model.groups=0, or method=label-bce."
            )
        return GroupDecoder(channels, labels, config)
    return LabelAttention(channels, tokens, labels, config)


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) that also returns its weights, averaged over the heads."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """queries [b, n, d], context [b, t, d] -> attended [b, n, d], weights [b, n, t]."""
        query = self._split(self.query(queries))  # b h n d/h
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))  # b h t d/h
        weights = (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1)  # b h n t
        attended = (self.dropout(weights) @ value).transpose(1, 2).flatten(2)  # b h n d/h -> b n d
        return self.out(attended), weights.mean(dim=1)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # b n (h d/h) -> b h n d/h


class Block(nn.Module):
    """Pre-norm transformer block; attends to itself, or to `context` if given."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, dropout)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """x [b, n, d], context [b, t, d] -> [b, n, d] and attention weights [b, n, t]."""
        normed = self.norm(x)
        attended, weights = self.attention(normed, normed if context is None else context)
        x = x + self.dropout(attended)
        return x + self.dropout(self.mlp(x)), weights


class LabelAttention(nn.Module):
    """The paper's head: one embedding per image and label, a classifier per label, a projector shared by all.

    With `image_queries` a query is the label's learned vector plus the photo's mean token. So each label starts from
    the pooled features of a plain classifier, and learns what to add to them. From scratch this learns much faster than
    the paper's queries, which do not depend on the photo.
    """

    def __init__(self, channels: int, tokens: int, labels: int, config: ModelConfig) -> None:
        super().__init__()
        size = (config.dim, config.heads, config.dropout)
        self.label_level = True
        self.image_queries = config.image_queries
        self.embed = nn.Linear(channels, config.dim)
        self.position = nn.Parameter(torch.randn(1, tokens, config.dim) * 0.02)
        self.token_blocks = nn.ModuleList(Block(*size) for _ in range(config.token_blocks))
        self.token_norm = nn.LayerNorm(config.dim)
        self.queries = nn.Parameter(torch.randn(1, labels, config.dim) * 0.02)
        self.cross = Block(*size)
        self.label_blocks = nn.ModuleList(Block(*size) for _ in range(config.label_blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.classifier = LabelClassifier(labels, config.dim)
        self.projector = make_projector(config.dim, config)

    def forward(self, tokens: torch.Tensor) -> TaggerOutput:
        """tokens [b, t, c] -> logits [b, l], embeddings [b, l, p], attention [b, l, t]."""
        tokens = self.embed(tokens) + self.position
        for block in self.token_blocks:
            tokens, _ = block(tokens)
        tokens = self.token_norm(tokens)
        queries = self.queries.expand(tokens.shape[0], -1, -1)  # 1 l d -> b l d
        if self.image_queries:
            queries = queries + tokens.mean(dim=1, keepdim=True)
        labels, attention = self.cross(queries, tokens)
        for block in self.label_blocks:
            labels, _ = block(labels)
        labels = self.norm(labels)
        return TaggerOutput(self.classifier(labels), F.normalize(self.projector(labels), dim=-1), attention)


class GroupDecoder(nn.Module):
    """ML-Decoder (Ridnik et al., WACV 2023): fixed group queries attend to the tokens; a group answers for its labels.

    Its cost grows with the groups, not with the labels. With one group per label it has label-level embeddings and
    attention, like label attention; with fewer groups it has neither.
    """

    def __init__(self, channels: int, labels: int, config: ModelConfig) -> None:
        super().__init__()
        groups = min(config.groups or labels, labels)
        self.labels = labels
        self.label_level = groups == labels
        self.embed = nn.Sequential(nn.Linear(channels, config.dim), nn.ReLU())
        self.register_buffer("queries", torch.randn(1, groups, config.dim))
        self.query_norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.heads, config.dropout)
        self.norm = nn.LayerNorm(config.dim)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, 4 * config.dim),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * config.dim, config.dim),
        )
        self.mlp_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.group_classifier = nn.Parameter(torch.empty(groups, config.dim, -(-labels // groups)))  # g d l/g
        self.bias = nn.Parameter(torch.zeros(labels))
        nn.init.xavier_normal_(self.group_classifier)
        self.projector = make_projector(config.dim, config) if self.label_level else None

    def forward(self, tokens: torch.Tensor) -> TaggerOutput:
        """tokens [b, t, c] -> logits [b, l]; embeddings [b, l, p] and attention [b, l, t] with one group per label."""
        queries = self.query_norm(2 * self.queries)  # twice: the paper's residual
        queries = queries.expand(tokens.shape[0], -1, -1)  # 1 g d -> b g d
        attended, attention = self.attention(queries, self.embed(tokens))
        groups = self.norm(queries + self.dropout(attended))
        groups = self.mlp_norm(groups + self.dropout(self.mlp(groups)))
        logits = torch.einsum("bgd,gdk->bgk", groups, self.group_classifier).flatten(1)[:, : self.labels] + self.bias
        if self.projector is None:
            return TaggerOutput(logits, None, None)
        return TaggerOutput(logits, F.normalize(self.projector(groups), dim=-1), attention)


class PooledHead(nn.Module):
    """The plain baseline: the mean token and a linear layer; for `supcon` also a projection of the image's vector."""

    def __init__(self, channels: int, labels: int, config: ModelConfig, project: bool) -> None:
        super().__init__()
        self.label_level = False
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(channels, labels)
        self.projector = make_projector(channels, config) if project else None

    def forward(self, tokens: torch.Tensor) -> TaggerOutput:
        """tokens [b, t, c] -> logits [b, l], and for supcon embeddings [b, 1, p]."""
        pooled = tokens.mean(dim=1)  # b t c -> b c
        logits = self.classifier(self.dropout(pooled))
        if self.projector is None:
            return TaggerOutput(logits, None, None)
        return TaggerOutput(logits, F.normalize(self.projector(pooled), dim=-1).unsqueeze(1), None)


class LabelClassifier(nn.Module):
    """One linear layer per label, computed for all labels at once."""

    def __init__(self, labels: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(labels, dim) * dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(labels))

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        """labels [b, l, d] -> logits [b, l]."""
        return (labels * self.weight).sum(dim=-1) + self.bias


def make_projector(width: int, config: ModelConfig) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, config.projection_dim))
