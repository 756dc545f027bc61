"""A photo's label-level embeddings, as JSON and as bare numbers; plain data in, plain data out."""

from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from serving.gateway.requests.query import Choice

LABELS_HEADER, DIMENSION_HEADER = "X-Labelwise-Labels", "X-Labelwise-Dimension"
MODEL_HEADER, VERSION_HEADER = "X-Labelwise-Model", "X-Labelwise-Version"

Embeddings = NDArray[np.float32]  # [l, p]


class LabelEmbedding(BaseModel):
    label: str
    values: list[float] = Field(description="Of length 1, so that the dot product of two is their cosine similarity.")


class EmbedAnswer(BaseModel):
    """One vector a label, in the model's order of labels; to be compared with the same label's of other photos."""

    model: str
    version: int
    dimension: int
    embeddings: list[LabelEmbedding]
    request_id: str


def make_embed_answer(choice: Choice, embeddings: Embeddings, request_id: str) -> EmbedAnswer:
    """embeddings [l, p] of one photo -> those of the chosen labels."""
    spec = choice.spec
    return EmbedAnswer(
        model=spec.name,
        version=spec.version,
        dimension=embeddings.shape[1],
        embeddings=[
            LabelEmbedding(label=spec.labels[index], values=_shortest(embeddings[index])) for index in choice.labels
        ],
        request_id=request_id,
    )


def embedding_bytes(choice: Choice, embeddings: Embeddings) -> tuple[bytes, dict[str, str]]:
    """embeddings [l, p] of one photo -> those of the chosen labels as little-endian float32, and what they are."""
    spec = choice.spec
    headers = {
        LABELS_HEADER: ",".join(quote(spec.labels[index], safe="") for index in choice.labels),
        DIMENSION_HEADER: str(embeddings.shape[1]),
        MODEL_HEADER: spec.name,
        VERSION_HEADER: str(spec.version),
    }
    return embeddings[list(choice.labels)].astype("<f4").tobytes(), headers


def _shortest(vector: NDArray[np.float32]) -> list[float]:
    """With as many digits as a float32 has, and not the seventeen of a double."""
    return [float(str(value)) for value in vector]
