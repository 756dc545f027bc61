"""How mAP and the tags of photos change on a labelled set. Needs the `train` extra."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.onnx_file import Runner
from labelwise.errors import DataError
from labelwise.spec import TrainedSpec
from labelwise.tagging import judge
from training.data.eval_batches import EvalBatches
from training.data.layouts import read_as_trained
from training.metrics import average_precisions

_BATCH = 16

Scores = NDArray[np.float32]  # [n, l]


@dataclass(frozen=True)
class LabelledChange:
    """On the val photos of a labelled set: mAP of the reference and of the graph, 0..1, and the number of photos whose
    tags differ at the tagger's thresholds."""

    photos: int
    reference_map: float
    graph_map: float
    changed: int

    @property
    def map_change(self) -> float:
        """mAP of the graph less that of the reference."""
        return round(self.graph_map - self.reference_map, 6)

    def __str__(self) -> str:
        return (
            f"mAP {self.reference_map:.4f} -> {self.graph_map:.4f} on {self.photos} labelled photos; "
            f"another set of tags on {self.changed} of them"
        )


def labelled_change(data: str, spec: TrainedSpec, reference: Runner, graph: Runner) -> LabelledChange:
    """Scores the val photos of `data`, in any layout that training reads, with both. Raises DataError."""
    ours, theirs, targets = _score(data, spec, (reference, graph))
    changed = count_changed(ours, theirs, np.array(spec.thresholds))
    return LabelledChange(len(targets), _map(ours, targets), _map(theirs, targets), changed)


def count_changed(ours: Scores, theirs: Scores, thresholds: NDArray[np.float64]) -> int:
    """How many photos have another set of tags by `theirs` than by `ours`."""
    return int((judge(ours, thresholds)[1] != judge(theirs, thresholds)[1]).any(axis=1).sum())


def labelled_map(data: str, spec: TrainedSpec, graph: Runner) -> tuple[float, int]:
    """mAP, 0..1, of the graph alone on the val photos of `data`, and the number of these. Raises DataError."""
    scores, targets = _score(data, spec, (graph,))
    return _map(scores, targets), len(targets)


def _score(data: str, spec: TrainedSpec, runners: tuple[Runner, ...]) -> list[Scores]:
    """The scores of each runner, then the targets, each [n, l]; every photo is decoded once."""
    photos = read_as_trained(data, spec).with_labels(spec.labels).val
    if not (photos.targets == 1).any():
        raise DataError(f"{data} has no label of the tagger in val, so there is no mAP.")
    batches = EvalBatches(photos, spec.image, min(_BATCH, spec.max_batch), cache="none")
    scores = [[runner(batch)["scores"] for runner in runners] for batch in batches]
    return [*(np.concatenate(parts) for parts in zip(*scores, strict=True)), photos.targets]


def _map(scores: Scores, targets: NDArray[np.float32]) -> float:
    return float(np.nanmean(average_precisions(scores, targets)))
