"""Fits a class-evidence head: one pass over the photos, then a convex problem that is solved in seconds."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from training.checkpoint import rounded_to_half, save_fitted
from training.class_evidence import ClassEvidence, Evidence
from training.config import ModelConfig, TrainConfig
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData
from training.device import pick_device
from training.evaluator import EVAL_BATCH, fit, predict
from training.label_groups import groups_of, own_groups
from training.metrics import parse_objective
from training.model import TaggerNetwork
from training.pretrained import classifier_of, principal_directions
from training.run_log import RunLog
from training.seeding import seed_everything

# Penalties of the fit, in units of one photo's cross-entropy: on a label's weights on the classes, and on how far its
# scale and bias are from what all labels share. Chosen by fitting one half of 160 COCO photos and scoring the other.
_WEIGHT, _SCALE, _BIAS = 0.1, 20.0, 1.0
_STEPS = 300
_FEWEST = 3  # photos of a label without classes: one or two teach what else is in them
_SHARED_SCALE, _SHARED_BIAS = 0.8, -2.0  # where the fit starts
_CENTRE = float(np.log(1e-2))  # evidence that the biases refer to, about where it is undecided


def photos_needed(config: ModelConfig, labels: Sequence[str]) -> NDArray[np.int64]:
    """How many photos to train on each label [l] needs: one, and for a class-evidence head none if it has classes."""
    if config.head != "class-evidence":
        return np.ones(len(labels), np.int64)
    return np.array([0 if classes else _FEWEST for classes in groups_of(labels, own_groups(config))])


def with_class_labels(data: LabelledData, config: ModelConfig) -> LabelledData:
    """For a class-evidence head, `data` with all labels of its groups: what `data` does not have is unknown there."""
    if config.head != "class-evidence":
        return data
    mine = {label.casefold() for label in data.labels}
    return data.with_labels((*data.labels, *(label for label in own_groups(config) if label.casefold() not in mine)))


def fit_run(config: TrainConfig, data: LabelledData, out: Path, quiet: bool = False) -> dict[str, float]:
    """Fit the head of `config` to the train split, thresholds to val, and save the checkpoint. Returns val's metrics.

    A label without photos keeps what all labels share: its score comes from its classes alone. Raises LabelwiseError.
    """
    started = time.monotonic()
    seed_everything(config.seed)
    model = TaggerNetwork(len(data.labels), config.image, config.model, config.method)
    start_head(model.head, data.labels, config.model)
    model.load_state_dict(rounded_to_half(model.state_dict()))  # so the fit is to what is saved
    device = pick_device(config.device)
    model.to(device).eval()
    evidence = _evidence_of_all(model, EvalBatches(data.train, config.image, EVAL_BATCH, cache=config.cache))
    solve(model.cpu().head, evidence, torch.from_numpy(data.train.targets))
    model.load_state_dict(rounded_to_half(model.state_dict()))
    model.to(device)
    val = EvalBatches(data.val, config.image, EVAL_BATCH, cache=config.cache)
    fitted = fit(predict(model, val), data.val.targets, parse_objective(config.thresholds))
    save_fitted(out, model, fitted, config, data)
    seconds = time.monotonic() - started
    rate = (len(data.train) + len(data.val)) / seconds
    with RunLog(out, 1, quiet=quiet) as log:
        log.epoch({"epoch": 1, "stage": 1, "seconds": seconds, "images_per_second": rate} | fitted.metrics)
    return fitted.metrics


def start_head(head: ClassEvidence, labels: tuple[str, ...], config: ModelConfig) -> None:
    """Give `head` the classifier of the backbone, the classes of `labels`, and the shared scale and bias."""
    weight, bias = classifier_of(config.backbone)
    head.class_weight.copy_(weight)
    head.class_bias.copy_(bias)
    for place, classes in enumerate(groups_of(labels, own_groups(config))):
        head.groups[list(classes), place] = 1
    head.embed.copy_(principal_directions(weight, head.embed.shape[1]).T)


def solve(head: ClassEvidence, evidence: Evidence, targets: torch.Tensor) -> None:
    """Fit scales, biases and weights of `head` to the evidence of n photos and their targets [n, l], below 0 unknown.

    Minimises the cross-entropy of the known targets plus penalties, with L-BFGS. The problem is convex, so the solution
    does not depend on the start or on any seed.
    """
    mean, deviation = evidence.classes.mean(dim=0), evidence.classes.std(dim=0)
    head.class_mean.copy_(mean)
    head.class_scale.copy_(1 / (deviation + 0.5))  # classes that hardly vary stay small
    classes, has_classes = head.classes_of(evidence), head.groups.any(dim=0).float()
    centred, shift = evidence.labels - _CENTRE, classes.mean(dim=0)
    known = targets >= 0
    part = _Parts(*(torch.zeros(size) for size in ((), (), head.bias.shape, head.bias.shape, head.weight.shape)))
    part.scale.fill_(_SHARED_SCALE)
    part.bias.fill_(_SHARED_BIAS)
    for tensor in part:
        tensor.requires_grad_()
    optimizer = torch.optim.LBFGS([*part], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = (part.scale + part.own_scale) * centred * has_classes + part.bias + part.own_bias
        logits = logits + (classes - shift) @ part.weight.T
        total = F.binary_cross_entropy_with_logits(logits[known], targets[known], reduction="sum")
        for penalty, tensor in ((_WEIGHT, part.weight), (_SCALE, part.own_scale), (_BIAS, part.own_bias)):
            total = total + penalty * tensor.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        head.scale.copy_((part.scale + part.own_scale) * has_classes)
        head.weight.copy_(part.weight)
        head.bias.copy_(part.bias + part.own_bias - head.scale * _CENTRE - head.weight @ shift)


class _Parts(NamedTuple):
    """What is fitted: what all labels share, what is a label's own, and its weights on the classes."""

    scale: torch.Tensor  # []
    bias: torch.Tensor  # []
    own_scale: torch.Tensor  # [l]
    own_bias: torch.Tensor  # [l]
    weight: torch.Tensor  # [l, 2k]


@torch.no_grad()
def _evidence_of_all(model: TaggerNetwork, batches: EvalBatches) -> Evidence:
    device = next(model.parameters()).device
    found = []
    for batch in batches:
        pixels = torch.as_tensor(batch).to(device).permute(0, 3, 1, 2)  # b h w c -> b c h w
        found.append(model.head.evidence_of(model.tokens(pixels)))
    return Evidence(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))
