"""`labelwise evaluate`: a trained run or an exported repository against labelled photos, label by label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from labelwise.errors import DataError, LabelwiseError
from labelwise.repository import Repository
from labelwise.spec import SPEC_FILE, TaggerSpec
from training.checkpoint import WEIGHTS_FILE, load_checkpoint
from training.data import LabelledData, Photos, decode_all, read_data
from training.device import pick_device
from training.loop import EVAL_BATCH, predict
from training.metrics import average_precisions, evaluate


@dataclass(frozen=True)
class LabelScore:
    """One label at its threshold."""

    label: str
    photos: int
    average_precision: float
    precision: float
    recall: float
    f1: float
    threshold: float


@dataclass(frozen=True)
class Evaluation:
    metrics: dict[str, float]
    labels: list[LabelScore]


def evaluate_tagger(source: Path, data: Path, split: str = "val") -> Evaluation:
    """Score a run or a repository's only tagger on `split` (train, val or all) of `data`. Raises LabelwiseError."""
    labelled = read_data(data)
    photos = _choose(labelled, split)
    is_run = (source / SPEC_FILE).is_file() and (source / WEIGHTS_FILE).is_file()
    spec, scores = (_score_run if is_run else _score_repository)(source, photos)
    if spec.labels != labelled.labels:
        raise DataError(f"{data} has the labels {', '.join(labelled.labels)}; the tagger {', '.join(spec.labels)}.")
    thresholds = np.array(spec.thresholds)
    return Evaluation(
        evaluate(scores, photos.targets, thresholds), list(_per_label(spec, scores, photos.targets, thresholds))
    )


def _choose(data: LabelledData, split: str) -> Photos:
    if split == "all":
        files = (*data.train.files, *data.val.files)
        return Photos(files, np.concatenate([data.train.targets, data.val.targets]))
    return data.train if split == "train" else data.val


def _score_run(run: Path, photos: Photos) -> tuple[TaggerSpec, NDArray[np.float32]]:
    tagger, spec = load_checkpoint(run)
    device = pick_device("auto")
    return spec, predict(tagger.to(device), decode_all(photos.files, spec.image), device)


def _score_repository(path: Path, photos: Photos) -> tuple[TaggerSpec, NDArray[np.float32]]:
    taggers = Repository.open(path).taggers
    if len(taggers) > 1:
        raise LabelwiseError(f"{path} holds several taggers ({', '.join(taggers)}): give a repository with one.")
    (versions,) = taggers.values()
    version = versions[max(versions)]
    session = ort.InferenceSession(version.weights, providers=["CPUExecutionProvider"])
    pixels = decode_all(photos.files, version.spec.image)
    size = min(EVAL_BATCH, version.spec.max_batch)
    batches = (pixels[start : start + size] for start in range(0, len(pixels), size))
    scores = [session.run(["scores"], {version.spec.input.name: batch})[0] for batch in batches]
    return version.spec, np.concatenate(scores)


def _per_label(spec: TaggerSpec, scores: NDArray, targets: NDArray, thresholds: NDArray) -> list[LabelScore]:
    rows = []
    for index, precision in enumerate(average_precisions(scores, targets)):
        known = targets[:, index] >= 0
        actual, predicted = targets[known, index] == 1, scores[known, index] >= thresholds[index]
        at_threshold = precision_recall_fscore_support(actual, predicted, average="binary", zero_division=0)[:3]
        values = [float(precision), *map(float, at_threshold), spec.thresholds[index]]
        rows.append(LabelScore(spec.labels[index], int(actual.sum()), *values))
    return rows
