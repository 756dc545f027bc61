"""Label-level embeddings as a picture, with a point for each present label of a photo."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from torch import nn

from labelwise.errors import LabelwiseError
from labelwise.spec import TrainedSpec
from training.checkpoint import STAGE_1_FILE
from training.data import PRESENT
from training.report import figures
from training.report.val_pass import Places, ValPass

MAX_POINTS = 1500
MAX_LABELS = 20

_MIN_POINTS = 5
_PCA_WIDTH = 50  # as van der Maaten & Hinton (2008) before t-SNE
_PERPLEXITY = 30.0
_SEED = 0


@dataclass(frozen=True)
class EmbeddingPicture:
    title: str
    svg: Markup
    silhouette: float | None


@dataclass(frozen=True)
class LegendEntry:
    label: str
    points: int
    colour: str
    marker: str


@dataclass(frozen=True)
class EmbeddingPanel:
    """Up to two pictures; `notes` say why there are fewer, and what to know about them."""

    pictures: list[EmbeddingPicture]
    legend: list[LegendEntry]
    notes: list[str]


def embedding_panel(
    spec: TrainedSpec, places: Places, found: ValPass, best_stage: int | None, has_earlier: bool
) -> EmbeddingPanel:
    """The embeddings at `places` of the saved network, beside those of the network at the end of stage 1.

    The saved weights are from `best_stage`. Without `has_earlier` the run keeps no weights from the end of stage 1.
    """
    if found.embeddings is None:
        return EmbeddingPanel([], [], ["This model has no label-level embeddings, so there is no picture of them."])
    labels, points = np.unique(places[:, 1], return_counts=True)
    group_of = {int(label): group for group, label in enumerate(labels[np.argsort(-points, kind="stable")])}
    groups = np.array([group_of[int(label)] for label in places[:, 1]])
    title, notes = "The saved model", []
    if not has_earlier:
        notes.append(f"The run keeps no {STAGE_1_FILE}, so only the saved model can be shown.")
    elif best_stage == 1:
        notes.append("The best epoch lies in stage 1, so the saved model is from before stage 2, too.")
    else:
        title = "After stage 2"
    shown = (("before", "Before stage 2", found.earlier_embeddings), ("after", title, found.embeddings))
    pictures = []
    for name, heading, embeddings in shown:
        projection = None if embeddings is None else project(embeddings, groups)
        if projection is not None:
            svg = figures.scatter(name, projection.points, groups)
            pictures.append(EmbeddingPicture(heading, svg, projection.silhouette))
        elif embeddings is not None:
            notes.append(f"{heading}: too few points, or all the same, to lay out in the plane.")
    legend = [
        LegendEntry(spec.labels[label], int((groups == group).sum()), figures.css_colour(group), figures.marker(group))
        for label, group in group_of.items()
    ]
    return EmbeddingPanel(pictures, legend if pictures else [], notes)


def load_earlier(run: Path, network: nn.Module) -> nn.Module | None:
    """A copy of `network` with the weights from the end of stage 1, None if the run keeps none.

    Raises LabelwiseError if they do not fit.
    """
    if not (run / STAGE_1_FILE).is_file():
        return None
    earlier = copy.deepcopy(network)
    try:
        earlier.load_state_dict(load_file(run / STAGE_1_FILE))
    except (RuntimeError, SafetensorError) as error:
        raise LabelwiseError(f"{run / STAGE_1_FILE} does not fit the run's model: remove it, or restore it.") from error
    return earlier


@dataclass(frozen=True)
class Projection:
    """Points [k, 2] in the plane, and how well the labels separate in the embedding space itself.

    `silhouette` is None if it is not defined: for a single label, or if every point has a different label.
    """

    points: NDArray[np.float32]
    silhouette: float | None


def sample_places(targets: NDArray[np.float32]) -> Places:
    """Photo and label of at most MAX_POINTS present labels, from the MAX_LABELS most frequent; sorted by photo."""
    present = targets == PRESENT
    frequent = np.argsort(-present.sum(axis=0), kind="stable")[:MAX_LABELS]
    places = np.argwhere(present)
    places = places[np.isin(places[:, 1], frequent)]
    if len(places) > MAX_POINTS:
        chosen = np.random.default_rng(_SEED).choice(len(places), MAX_POINTS, replace=False)
        places = places[np.sort(chosen)]
    return places


def project(embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> Projection | None:
    """PCA, then t-SNE, of L2-normalised embeddings [k, p] with labels [k]; None if they are too few or all equal."""
    count, width = embeddings.shape
    if count < _MIN_POINTS or np.ptp(embeddings, axis=0).max() < 1e-6:
        return None
    reduced = PCA(min(_PCA_WIDTH, count, width), random_state=_SEED).fit_transform(embeddings)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)  # must be below the number of points
    points = TSNE(perplexity=perplexity, random_state=_SEED).fit_transform(reduced)
    is_defined = 2 <= len(np.unique(labels)) < count
    silhouette = float(silhouette_score(embeddings, labels, metric="cosine")) if is_defined else None
    return Projection(points, silhouette)
