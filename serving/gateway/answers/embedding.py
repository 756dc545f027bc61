"""The answers of /v1/embed: a photo's label-level embeddings as JSON or as bytes."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from labelwise.tagging import Choice
from serving.gateway.answers.tagging import PhotoNotes

LABELS_HEADER, DIMENSION_HEADER = "X-Labelwise-Labels", "X-Labelwise-Dimension"
MODEL_HEADER, VERSION_HEADER = "X-Labelwise-Model", "X-Labelwise-Version"
NOTES_HEADER = "X-Labelwise-Notes"

Embeddings = NDArray[np.float32]  # [l, p]

_POWERS = np.array([float(10**power) for power in range(23)])  # those that a double holds exactly


class LabelEmbedding(BaseModel):
    label: str
    values: list[float] = Field(description="Of length 1, so that the dot product of two is their cosine similarity.")


class EmbedAnswer(BaseModel):
    """One vector per label, in the model's order of labels; compare it with the same label's of other photos."""

    model: str
    version: int
    dimension: int
    embeddings: list[LabelEmbedding]
    notes: PhotoNotes = None
    request_id: str


def make_embed_answer(choice: Choice, embeddings: Embeddings, notes: Sequence[str], request_id: str) -> EmbedAnswer:
    """embeddings [l, p] of one photo, and the decoder's notes about it -> the embeddings of the chosen labels."""
    spec = choice.spec
    return EmbedAnswer(
        model=spec.name,
        version=spec.version,
        dimension=embeddings.shape[1],
        embeddings=[
            LabelEmbedding(label=label, values=values)
            for label, values in zip(choice.labels, _shortest(embeddings[choice.places]), strict=True)
        ],
        notes=list(notes) or None,
        request_id=request_id,
    )


def embedding_bytes(choice: Choice, embeddings: Embeddings, notes: Sequence[str]) -> tuple[bytes, dict[str, str]]:
    """The embeddings of the chosen labels as little-endian float32 [chosen labels, p], and headers about them."""
    spec = choice.spec
    headers = {
        LABELS_HEADER: _joined(choice.labels),
        DIMENSION_HEADER: str(embeddings.shape[1]),
        MODEL_HEADER: spec.name,
        VERSION_HEADER: str(spec.version),
    }
    if notes:
        headers[NOTES_HEADER] = _joined(notes)
    return embeddings[choice.places].astype("<f4").tobytes(), headers


def _joined(texts: Iterable[str]) -> str:
    """`texts` as one header: percent-encoded, separated by commas."""
    return ",".join(quote(text, safe="") for text in texts)


def _shortest(vectors: Embeddings) -> list[list[float]]:
    """The numbers with as few digits as tell them from other float32, at most nine, instead of a double's seventeen.

    For all at once, because `str` of each would take 40 ms for 1,000 labels with 64 numbers each.
    """
    exact = vectors.astype(np.float64)
    with np.errstate(divide="ignore"):
        before = np.nan_to_num(np.floor(np.log10(np.abs(exact))))  # places of the first digit before the point
    shortest = exact
    for digits in (9, 8, 7, 6):
        scale = _POWERS[np.clip(digits - 1 - before, 0, len(_POWERS) - 1).astype(np.intp)]
        rounded = np.rint(exact * scale) / scale
        shortest = np.where(rounded.astype(np.float32) == vectors, rounded, shortest)
    values: list[list[float]] = shortest.tolist()
    return values
