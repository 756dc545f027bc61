"""Both engines give the same answers for the same photographs, and PyTorch's scores."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from tests.conftest import ROOT

ENGINES_AGREE = 1e-4
PYTORCH_AGREES = 1e-3
REFERENCE = ROOT / "tests/assets/pytorch_scores.json"

Tag = Callable[..., httpx.Response]


def scores_of(response: httpx.Response) -> dict[str, float]:
    assert response.status_code == 200, response.text
    return {entry["label"]: entry["score"] for entry in response.json()["scores"]}


def test_scores_are_pytorchs_own(tag: Tag) -> None:
    reference = json.loads(REFERENCE.read_text())
    for name, expected in reference["scores"].items():
        found = scores_of(tag((ROOT / "tests/assets/photos" / name).read_bytes(), scores="all"))
        assert found == pytest.approx(expected, abs=PYTORCH_AGREES), name


def test_engines_agree_on_every_photo(gateway_url: str, triton_gateway_url: str, photos: list[Path]) -> None:
    for photo in photos:
        answers = [
            httpx.post(f"{url}/v1/tag", content=photo.read_bytes(), params={"scores": "all"}).json()
            for url in (gateway_url, triton_gateway_url)
        ]
        labels = [[tag["label"] for tag in answer["tags"]] for answer in answers]
        scores = [{entry["label"]: entry["score"] for entry in answer["scores"]} for answer in answers]
        assert labels[0] == labels[1], photo.name
        assert scores[0] == pytest.approx(scores[1], abs=ENGINES_AGREE), photo.name


def test_ensemble_gives_plain_triton_clients_the_same_answers(
    gateway_url: str, triton_gateway_url: str, triton_arguments: dict[str, str], photos: list[Path]
) -> None:
    """JPEG bytes straight to Triton, as a client in another language sends them, in one batch."""
    image = triton.InferInput("IMAGE", [len(photos), 1], "BYTES")
    image.set_data_from_numpy(np.array([[photo.read_bytes()] for photo in photos], dtype=np.object_))
    with triton.InferenceServerClient(f"127.0.0.1:{triton_arguments['triton_grpc_port']}") as client:
        scores = client.infer("scenes", [image]).as_numpy("scores")
    labels = httpx.get(f"{gateway_url}/v1/models/scenes").json()["labels"]
    for photo, row in zip(photos, scores, strict=True):
        response = httpx.post(f"{gateway_url}/v1/tag", content=photo.read_bytes(), params={"scores": "all"})
        assert scores_of(response) == pytest.approx(dict(zip(labels, map(float, row), strict=True)), abs=ENGINES_AGREE)


def test_ensemble_names_the_broken_image(triton_gateway_url: str, triton_arguments: dict[str, str]) -> None:
    image = triton.InferInput("IMAGE", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[b"not a photo"]], dtype=np.object_))
    with (
        triton.InferenceServerClient(f"127.0.0.1:{triton_arguments['triton_grpc_port']}") as client,
        pytest.raises(InferenceServerException, match="image 1 of 1: image_format_unsupported"),
    ):
        client.infer("scenes", [image])
