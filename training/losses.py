"""The two losses of the method; both ignore labels that are unknown (a target below 0)."""

import torch
from torch.nn import functional as F


def masked_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, the mean over the known labels. logits, targets [b, l] -> scalar."""
    known = targets >= 0
    losses = F.binary_cross_entropy_with_logits(logits, targets.clamp(min=0), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def label_supcon(embeddings: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Label-level supervised contrastive loss (arXiv 2107.11626, equations 6 and 7; SupCon's L_out).

    The anchors are the embeddings of *present* labels. Positives of an anchor are the other anchors of the same label,
    in other images and other views; its denominator runs over all other anchors, those of other labels of the same
    image included. The mean over an anchor's positives, then the mean over all anchors; an anchor without a positive
    counts as zero.

    embeddings [n, l, p], L2-normalised; targets [n, l] with 1 for present -> scalar.
    """
    present = targets == 1
    anchors = embeddings[present]  # n l p -> a p
    labels = present.nonzero()[:, 1]  # a
    if len(anchors) < 2:
        return embeddings.sum() * 0
    itself = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    similarity = (anchors @ anchors.T / temperature).masked_fill(itself, float("-inf"))  # a a
    log_prob = similarity.log_softmax(dim=1).masked_fill(itself, 0)
    positive = (labels[:, None] == labels[None]) & ~itself
    per_anchor = -(log_prob * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)
    return per_anchor.mean()
