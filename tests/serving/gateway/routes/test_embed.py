"""POST /v1/embed, on both engines: the model's own vectors, of unit length, as JSON and as bytes."""

from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE
from tests.serving.bare_model import run_bare
from tests.serving.gateway.routes.test_tag import assert_problem

PHOTO = ROOT / "tests/assets/photos/sea-narwhals.jpg"
LABELS = ["desert", "mountains", "sea", "sunset", "trees"]
BYTES = {"Accept": "application/octet-stream"}


@pytest.fixture(scope="module")
def embeddings(repository: Path) -> np.ndarray:
    """float32 [l, p] of PHOTO, from the model itself."""
    return run_bare(repository, PHOTO.read_bytes(), "embeddings")


def test_the_vectors_are_the_models_own(client: httpx.Client, embeddings: np.ndarray) -> None:
    answer = client.post("/v1/embed", content=PHOTO.read_bytes()).json()
    assert (answer["model"], answer["version"], answer["dimension"]) == ("scenes", 1, embeddings.shape[1])
    assert [entry["label"] for entry in answer["embeddings"]] == LABELS
    vectors = np.array([entry["values"] for entry in answer["embeddings"]])
    assert np.allclose(vectors, embeddings, atol=1e-4)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_bytes_are_the_same_numbers(client: httpx.Client) -> None:
    photo, query = PHOTO.read_bytes(), {"labels": "trees,sea"}
    answer = client.post("/v1/embed", content=photo, params=query).json()
    raw = client.post("/v1/embed", content=photo, params=query, headers=BYTES)
    assert raw.headers["content-type"] == "application/octet-stream"
    names = raw.headers["x-labelwise-labels"].split(",")
    assert names == [entry["label"] for entry in answer["embeddings"]] == ["sea", "trees"]
    assert (raw.headers["x-labelwise-model"], raw.headers["x-labelwise-version"]) == ("scenes", "1")
    vectors = np.frombuffer(raw.content, "<f4").reshape(len(names), int(raw.headers["x-labelwise-dimension"]))
    assert np.allclose(vectors, [entry["values"] for entry in answer["embeddings"]], atol=1e-6)


def test_labels_that_are_left_out(client: httpx.Client, embeddings: np.ndarray) -> None:
    raw = client.post("/v1/embed", content=PHOTO.read_bytes(), params={"exclude": "sea,desert"}, headers=BYTES)
    assert raw.headers["x-labelwise-labels"] == "mountains,sunset,trees"
    assert len(raw.content) == 3 * embeddings.shape[1] * 4


def test_notes_about_the_photo(client: httpx.Client) -> None:
    for photo, notes in ((PHOTO.read_bytes(), None), (BROKEN_PROFILE, [BROKEN_PROFILE_NOTE])):
        assert client.post("/v1/embed", content=photo).json().get("notes") == notes
        header = client.post("/v1/embed", content=photo, headers=BYTES).headers.get("x-labelwise-notes")
        assert (header and [unquote(text) for text in header.split(",")]) == notes


def test_wrong_requests(client: httpx.Client) -> None:
    photo = PHOTO.read_bytes()
    for query in ({"labels": "moon"}, {"threshold": 0.5}, {"top_k": 1}):
        assert_problem(client.post("/v1/embed", content=photo, params=query), 422, "invalid_request")
    assert_problem(client.post("/v1/embed", content=b"x" * 99, headers=BYTES), 415, "image_format_unsupported")
