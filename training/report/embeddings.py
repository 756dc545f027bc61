"""Label-level embeddings as a picture, with a point for each present label of a photo."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from labelwise.spec import TrainedSpec
from training.checkpoint import STAGE_1_FILE
from training.data.labelled_data import PRESENT
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
    labels, counts = np.unique(places[:, 1], return_counts=True)
    group_of = {int(label): group for group, label in enumerate(labels[np.argsort(-counts, kind="stable")])}
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
        if embeddings is None:
            continue
        if (points := project(embeddings)) is None:
            notes.append(f"{heading}: too few points, or all the same, to lay out in the plane.")
        else:
            picture = figures.scatter(name, points, groups)
            pictures.append(EmbeddingPicture(heading, picture, silhouette(embeddings, groups)))
    legend = [
        LegendEntry(spec.labels[label], int((groups == group).sum()), figures.css_colour(group), figures.marker(group))
        for label, group in group_of.items()
    ]
    return EmbeddingPanel(pictures, legend if pictures else [], notes)


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


def project(embeddings: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """PCA, then t-SNE, of embeddings [k, p] -> points [k, 2]; None if they are too few or all equal."""
    count, width = embeddings.shape
    if count < _MIN_POINTS or np.ptp(embeddings, axis=0).max() < 1e-6:
        return None
    reduced = PCA(min(_PCA_WIDTH, count, width), random_state=_SEED).fit_transform(embeddings)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)  # must be below the number of points
    return TSNE(perplexity=perplexity, random_state=_SEED).fit_transform(reduced)


def silhouette(embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
    """How well `labels` [k] separate the embeddings [k, p]; None for a single label, or a different one per point."""
    is_defined = 2 <= len(np.unique(labels)) < len(labels)
    return float(silhouette_score(embeddings, labels, metric="cosine")) if is_defined else None
