"""The tagger: backbone -> tokens -> label attention -> one embedding per image and label -> a classifier per label."""

from typing import NamedTuple

import timm
import torch
from torch import nn
from torch.nn import functional as F

from labelwise.errors import LabelwiseError
from labelwise.spec import ImageSpec
from training.config import ModelConfig


class TaggerOutput(NamedTuple):
    logits: torch.Tensor  # [b, l]
    embeddings: torch.Tensor  # [b, l, p], L2-normalised: what the contrastive loss compares
    attention: torch.Tensor  # [b, l, th, tw], sums to 1 over the grid


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
    """Pre-norm transformer block; attends to itself, or to `context` where one is given."""

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
    """Tokens to one embedding per label.

    A query is the label's learned vector plus the photo's mean token, so each label starts from the pooled features
    that a plain classifier would see, and learns what to add to them. From scratch this learns much faster than
    queries that know nothing of the photo.
    """

    def __init__(self, channels: int, grid: tuple[int, int], labels: int, config: ModelConfig) -> None:
        super().__init__()
        size = (config.dim, config.heads, config.dropout)
        self.embed = nn.Linear(channels, config.dim)
        self.position = nn.Parameter(torch.randn(1, grid[0] * grid[1], config.dim) * 0.02)
        self.token_blocks = nn.ModuleList(Block(*size) for _ in range(config.token_blocks))
        self.token_norm = nn.LayerNorm(config.dim)
        self.queries = nn.Parameter(torch.randn(1, labels, config.dim) * 0.02)
        self.cross = Block(*size)
        self.label_blocks = nn.ModuleList(Block(*size) for _ in range(config.label_blocks))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """tokens [b, t, c] -> label-level embeddings [b, l, d], attention [b, l, t]."""
        tokens = self.embed(tokens) + self.position
        for block in self.token_blocks:
            tokens, _ = block(tokens)
        tokens = self.token_norm(tokens)
        queries = self.queries + tokens.mean(dim=1, keepdim=True)  # 1 l d + b 1 d -> b l d
        labels, attention = self.cross(queries, tokens)
        for block in self.label_blocks:
            labels, _ = block(labels)
        return self.norm(labels), attention


class Tagger(nn.Module):
    """The whole network, from pixels to logits; normalisation is part of it."""

    def __init__(self, labels: int, image: ImageSpec, config: ModelConfig) -> None:
        super().__init__()
        self.backbone = _make_backbone(config)
        shape = _feature_shape(self.backbone, image, config)
        self.grid, self.is_channels_last = shape.grid, shape.is_channels_last
        self.label_attention = LabelAttention(shape.channels, self.grid, labels, config)
        self.classifier = nn.Parameter(torch.randn(labels, config.dim) * config.dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(labels))
        self.projector = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.ReLU(), nn.Linear(config.dim, config.projection_dim)
        )
        self.register_buffer("mean", torch.tensor(image.mean).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(image.std).view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, pixels: torch.Tensor) -> TaggerOutput:
        """pixels [b, 3, h, w], uint8 or float on the 0..255 scale."""
        features = self.backbone((pixels.float() - self.mean) / self.std)[0]
        if not self.is_channels_last:
            features = features.permute(0, 2, 3, 1)  # b c th tw -> b th tw c
        tokens = features.flatten(1, 2)  # b th tw c -> b (th tw) c
        labels, attention = self.label_attention(tokens)
        logits = (labels * self.classifier).sum(dim=-1) + self.bias  # b l d -> b l
        embeddings = F.normalize(self.projector(labels), dim=-1)
        return TaggerOutput(logits, embeddings, attention.unflatten(-1, self.grid))


def _make_backbone(config: ModelConfig) -> nn.Module:
    options = {"pretrained": config.pretrained, "features_only": True, "out_indices": (config.feature_level,)}
    try:
        try:
            return timm.create_model(config.backbone, **options, drop_path_rate=config.drop_path)
        except TypeError:  # VGG and DenseNet know no stochastic depth
            return timm.create_model(config.backbone, **options)
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise LabelwiseError(
            f"timm cannot make {config.backbone!r} with feature level {config.feature_level}: {_first_line(error)}"
        ) from error


class FeatureShape(NamedTuple):
    """Of the backbone's feature map for one image size."""

    channels: int
    grid: tuple[int, int]
    is_channels_last: bool


@torch.no_grad()
def _feature_shape(backbone: nn.Module, image: ImageSpec, config: ModelConfig) -> FeatureShape:
    """Found by trying a blank image: timm's own figures ignore the image's size."""
    was_training = backbone.training
    try:
        _, *shape = backbone.eval()(torch.zeros(1, 3, image.height, image.width))[0].shape
    except (RuntimeError, AssertionError, ValueError) as error:
        size = f"{image.height}x{image.width}"
        raise LabelwiseError(f"{config.backbone!r} cannot take {size} images: {_first_line(error)}") from error
    backbone.train(was_training)
    channels = backbone.feature_info.channels()[0]
    if shape[0] == channels:
        return FeatureShape(channels, (shape[1], shape[2]), is_channels_last=False)
    return FeatureShape(channels, (shape[0], shape[1]), is_channels_last=True)  # Swin and its kin


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
