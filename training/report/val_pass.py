"""One pass over val, a batch at a time, that keeps only what the page shows."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import nn

from labelwise.spec import TrainedSpec
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledPhotos
from training.data.shard_reader import ShardedPhotos
from training.evaluator import EVAL_BATCH, run_network
from training.model import TaggerOutput
from training.report.mistakes import worst_mistakes

Places = NDArray[np.int64]  # [k, 2], each a photo's row and a label's index, in order of the rows


@dataclass
class ValPass:
    """What the pass found; a network without label-level embeddings, or without attention, leaves those empty."""

    scores: NDArray[np.float32]  # [n, l], 0..1
    embeddings: NDArray[np.float32] | None  # [k, p] at the places asked for
    earlier_embeddings: NDArray[np.float32] | None  # the same, of the earlier network
    attention: dict[tuple[int, int], NDArray[np.float32]] = field(default_factory=dict)  # [th, tw] by row and label


def pass_over_val(
    network: nn.Module,
    spec: TrainedSpec,
    photos: LabelledPhotos | ShardedPhotos,
    places: Places,
    earlier: nn.Module | None = None,
) -> ValPass:
    """Scores of all `photos`, embeddings at `places`, and the attention of the worst mistakes.

    `earlier` is the network before stage 2. It only sees the photos of `places`.
    """
    scores, embeddings, earlier_embeddings = [], [], []
    attention: dict[tuple[int, int], NDArray[np.float32]] = {}
    start = 0
    for batch in EvalBatches(photos, spec.image, EVAL_BATCH, cache="none"):
        output = run_network(network, batch)
        scores.append(output.logits.float().sigmoid().cpu().numpy())
        here = places[(places[:, 0] >= start) & (places[:, 0] < start + len(batch))] - (start, 0)
        embeddings += _embeddings(output, here)
        if earlier is not None and embeddings and len(here):
            rows, numbers = np.unique(here[:, 0], return_inverse=True)
            earlier_embeddings += _embeddings(
                run_network(earlier, batch[rows]), np.stack([numbers, here[:, 1]], axis=1)
            )
        if output.attention is not None:
            # The worst of all photos are among the worst of each batch.
            for kind in worst_mistakes(spec, scores[-1], photos.targets[start : start + len(batch)]):
                for row, label in kind.worst:
                    attention[start + row, label] = output.attention[row, label].float().cpu().numpy()
        start += len(batch)
    return ValPass(np.concatenate(scores), _joined(embeddings), _joined(earlier_embeddings), attention)


def _embeddings(output: TaggerOutput, places: Places) -> list[NDArray[np.float32]]:
    """One array [k, p], or none if there is no embedding per label."""
    if output.embeddings is None or output.embeddings.shape[1] != output.logits.shape[1]:
        return []
    return [output.embeddings[places[:, 0], places[:, 1]].float().cpu().numpy()]


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32] | None:
    return np.concatenate(parts) if parts else None
