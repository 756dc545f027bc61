"""The losses of the method and of its rivals, as pure functions. All ignore unknown labels (targets below 0).

Shapes: n images (views included), l labels, p the width of the contrastive embeddings, which are L2-normalised.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F


def masked_bce(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, the mean over the known labels. logits, targets [n, l] -> scalar."""
    losses = F.binary_cross_entropy_with_logits(logits, targets.clamp(min=0), reduction="none")
    return _mean_of_known(losses, targets)


def asymmetric_loss(
    logits: torch.Tensor, targets: torch.Tensor, gamma_present: float, gamma_absent: float, clip: float
) -> torch.Tensor:
    """Asymmetric loss (Ridnik et al., ICCV 2021, equations 6 and 7), the mean over the known labels.

    Present and absent labels have separate focal powers, so that the many easy absent labels do not dominate the
    gradient. An absent label scored below `clip` costs nothing. With powers and clip 0 it is binary cross-entropy.
    logits, targets [n, l] -> scalar.
    """
    soft = targets.clamp(min=0)
    score = logits.sigmoid()
    shifted = (score - clip).clamp(min=0)  # the paper's p_m
    # log(1 - p_m) from the logits if possible: at p = 1 the plain form is log(0).
    log_absent = F.logsigmoid(-logits) if clip == 0 else torch.log((1 - shifted).clamp(min=1e-8))
    present = soft * (1 - score) ** gamma_present * F.logsigmoid(logits)
    absent = (1 - soft) * shifted**gamma_absent * log_absent
    return _mean_of_known(-(present + absent), targets)


def _mean_of_known(losses: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    known = targets >= 0
    return (losses * known).sum() / known.sum().clamp(min=1)


class Others(NamedTuple):
    """Embeddings [m, p] to compare anchors with, which are not anchors; label -1 is never a positive."""

    embeddings: torch.Tensor
    labels: torch.Tensor  # [m]


def label_supcon(
    embeddings: torch.Tensor, targets: torch.Tensor, temperature: float, others: Others | None = None
) -> torch.Tensor:
    """Label-level supervised contrastive loss (arXiv 2107.11626, equations 6 and 7; SupCon's L_out).

    The anchors are the embeddings of *present* labels. The positives of an anchor are the other anchors of its label,
    in other images and views. Its denominator runs over `others` and all other anchors, including those of other labels
    in the same image. Averages over an anchor's positives, then over all anchors; an anchor without a positive is zero.

    embeddings [n, l, p], targets [n, l] with 1 for present -> scalar.
    """
    present, label_count = targets == 1, targets.shape[1]
    anchors, labels = embeddings[present], present.nonzero()[:, 1]  # a p, a
    compared, of_label = anchors, labels
    if others is not None:
        compared, of_label = torch.cat([anchors, others.embeddings]), torch.cat([labels, others.labels])
    count = torch.bincount(of_label[of_label >= 0], minlength=label_count)[labels] - 1  # a; minus the anchor itself
    if not len(anchors) or not (count > 0).any():
        return anchors.sum() * 0
    similarity = anchors @ compared.T / temperature  # a (a + m)
    own = similarity.diagonal().clone()
    similarity.diagonal().fill_(float("-inf"))
    # The sum of z·z_p over an anchor's positives is z·(their sum), and there is one such sum per label. So only the
    # denominator needs all pairs, in one matrix.
    per_label = anchors.new_zeros(label_count, anchors.shape[1])
    per_label = per_label.index_add(0, of_label.clamp(min=0), compared * (of_label >= 0).unsqueeze(1))  # l p
    to_positives = (anchors * per_label[labels]).sum(dim=1) / temperature - own  # a
    mean_positive = to_positives / count.clamp(min=1)
    per_anchor = torch.where(count > 0, similarity.logsumexp(dim=1) - mean_positive, 0)
    return per_anchor.mean()


def image_supcon(embeddings: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Contrastive loss on one vector per image, which the paper shows to hardly help.

    The positives of an image are the images (and views) that share a present label with it; the denominator runs over
    all other images. Averages, and images without a positive, are as in `label_supcon`.
    embeddings [n, p], targets [n, l] with 1 for present -> scalar.
    """
    present = (targets == 1).to(embeddings.dtype)
    positive = (present @ present.T > 0).fill_diagonal_(False)
    if not positive.any():
        return embeddings.sum() * 0
    similarity = embeddings @ embeddings.T / temperature
    itself = torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    log_prob = similarity.masked_fill(itself, float("-inf")).log_softmax(dim=1).masked_fill(itself, 0)
    return -((log_prob * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)).mean()


def prototype_loss(
    embeddings: torch.Tensor, targets: torch.Tensor, prototypes: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Pulls the embeddings of present labels to their label's prototype, and pushes those of absent labels away.

    The prototype-to-sample loss of SADCL (Ma et al., ECAI 2023): for a present embedding, minus the log of the share of
    its similarity among itself and the label's absent embeddings; averaged over the present embeddings.
    embeddings [n, l, p], targets [n, l], prototypes [l, p], L2-normalised -> scalar.
    """
    present, absent = targets == 1, targets == 0
    similarity = (embeddings * prototypes).sum(dim=-1) / temperature  # n l p -> n l
    away = similarity.masked_fill(~absent, float("-inf")).logsumexp(dim=0, keepdim=True)  # 1 l
    # Select the cells that count first: the gradient of logaddexp is NaN where both sides are -inf.
    chosen, against = similarity[present], away.expand_as(similarity)[present]
    lonely = torch.isneginf(against)  # the label has no absent embedding to compare with
    cost = torch.where(lonely, 0, F.softplus(torch.where(lonely, 0, against - chosen)))
    return cost.sum() / present.sum().clamp(min=1)
