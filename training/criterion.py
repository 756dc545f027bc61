"""The loss of a method: classification, and in stage 2 the contrastive loss of the method."""

import torch
from torch import nn
from torch.nn import functional as F

from training.config import LossConfig, Method
from training.losses import Others, asymmetric_loss, image_supcon, label_supcon, masked_bce, prototype_loss
from training.model import TaggerOutput

Parts = dict[str, torch.Tensor]


class MemoryBank(nn.Module):
    """The latest confident embeddings of each label (after SADCL), to contrast with more than one batch."""

    def __init__(self, labels: int, slots: int, width: int, confidence: float) -> None:
        super().__init__()
        self.confidence = confidence
        self.register_buffer("embeddings", torch.zeros(labels, slots, width))
        self.register_buffer("filled", torch.zeros(labels, slots, dtype=torch.bool))
        self.register_buffer("next_slot", torch.zeros(labels, dtype=torch.long))

    def others(self) -> Others:
        return Others(self.embeddings[self.filled], self.filled.nonzero()[:, 0])

    @torch.no_grad()
    def remember(self, output: TaggerOutput, targets: torch.Tensor) -> None:
        """Keep the embeddings of present labels with a score of at least `confidence`; overwrite the oldest first."""
        slots = self.filled.shape[1]
        keep = (targets == 1) & (output.logits.sigmoid() >= self.confidence)  # n l
        count = keep.sum(dim=0)  # l
        order = keep.cumsum(dim=0) - 1
        keep &= order >= count - slots  # if more than fit, keep the last ones
        images, labels = keep.nonzero(as_tuple=True)
        slot = (self.next_slot[labels] + order[images, labels]) % slots
        self.embeddings[labels, slot] = output.embeddings[images, labels].to(self.embeddings.dtype)
        self.filled[labels, slot] = True
        self.next_slot.copy_((self.next_slot + count) % slots)


class Criterion(nn.Module):
    """The loss of one method. Prototypes are learned with the model; they and the bank exist only in training."""

    def __init__(self, method: Method, config: LossConfig, labels: int, width: int) -> None:
        super().__init__()
        self.method, self.config = method, config
        is_label_level = method == "mulcon"
        self.bank = (
            MemoryBank(labels, config.memory, width, config.memory_confidence)
            if is_label_level and config.memory
            else None
        )
        self.prototypes = (
            nn.Parameter(torch.randn(labels, width)) if is_label_level and config.prototype_weight else None
        )

    def forward(self, output: TaggerOutput, targets: torch.Tensor, soft_targets: torch.Tensor, contrast: bool) -> Parts:
        """The weighted parts of the loss; their sum is minimised.

        output of n images, targets [n, l] hard, soft_targets [n, l] for classification (mixup blends them).
        """
        parts = {self.config.classification: self._classification(output.logits, soft_targets)}
        if contrast and self.method == "supcon":
            vectors = output.embeddings[:, 0]  # n 1 p -> n p
            parts["contrast"] = self.config.gamma * image_supcon(vectors, targets, self.config.temperature)
        elif contrast and self.method == "mulcon":
            parts |= self._label_level(output, targets)
        return parts

    def _classification(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        config = self.config
        if config.classification == "bce":
            return masked_bce(logits, targets)
        return asymmetric_loss(logits, targets, config.gamma_present, config.gamma_absent, config.clip)

    def _label_level(self, output: TaggerOutput, targets: torch.Tensor) -> Parts:
        config, embeddings = self.config, output.embeddings
        loss = label_supcon(embeddings, targets, config.temperature, self._others(output, targets))
        parts = {"contrast": config.gamma * loss}
        if self.prototypes is not None:
            prototypes = F.normalize(self.prototypes, dim=-1)
            loss = prototype_loss(embeddings, targets, prototypes, config.temperature)
            parts["prototype"] = config.prototype_weight * loss
        if self.bank is not None:
            self.bank.remember(output, targets)
        return parts

    def _others(self, output: TaggerOutput, targets: torch.Tensor) -> Others | None:
        found = []
        if self.bank is not None:
            found.append(self.bank.others())
        if self.config.absent_negatives:
            found.append(hardest_absent(output, targets, self.config.absent_negatives))
        if not found:
            return None
        return Others(torch.cat([other.embeddings for other in found]), torch.cat([other.labels for other in found]))


def hardest_absent(output: TaggerOutput, targets: torch.Tensor, count: int) -> Others:
    """The embeddings of the `count` absent labels with the highest logits: the most confidently wrong ones."""
    absent = targets == 0
    chosen = output.logits[absent].detach().topk(min(count, int(absent.sum()))).indices
    embeddings = output.embeddings[absent][chosen]
    return Others(embeddings, torch.full((len(embeddings),), -1, device=embeddings.device))
