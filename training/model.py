"""The tagger: pixels -> backbone -> tokens -> head -> logits, embeddings, attention."""

import torch
from torch import nn

from labelwise.spec import ImageSpec
from training.backbone import feature_shape, make_backbone
from training.config import Method, ModelConfig
from training.heads import TaggerOutput, make_head


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

    def forward(self, pixels: torch.Tensor) -> TaggerOutput:
        """pixels [b, 3, h, w], uint8 or float on the 0..255 scale."""
        features = self.backbone((pixels.float() - self.mean) / self.std)[0]
        if not self.is_channels_last:
            features = features.permute(0, 2, 3, 1)  # b c th tw -> b th tw c
        logits, embeddings, attention = self.head(features.flatten(1, 2))  # b th tw c -> b (th tw) c
        if attention is not None:
            attention = attention.unflatten(-1, self.grid)  # b l (th tw) -> b l th tw
        return TaggerOutput(logits / self.temperature, embeddings, attention)
