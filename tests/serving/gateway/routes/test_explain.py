"""POST /v1/explain, on both engines: the model's own attention, found again in the photo."""

import io
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from labelwise.attention import Located
from labelwise.tagging import Tag
from serving.gateway.answers.overlay import COLOURS, draw_overlay
from tests.conftest import ROOT
from tests.labelwise.test_attention import stored_file
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE, REFUSED
from tests.serving.bare_model import run_bare
from tests.serving.gateway.routes.test_tag import assert_problem

PHOTO = ROOT / "tests/assets/photos/sea-narwhals.jpg"

Explain = Callable[..., httpx.Response]


@pytest.fixture
def explain(client: httpx.Client) -> Explain:
    """explain(bytes, accept, **query) -> the gateway's response."""

    def post(photo: bytes, accept: str = "*/*", **query: object) -> httpx.Response:
        return client.post("/v1/explain", content=photo, params=query, headers={"Accept": accept})

    return post


@pytest.fixture(scope="module")
def attention(repository: Path) -> np.ndarray:
    """float32 [l, rows, columns] of PHOTO, from the model itself."""
    return run_bare(repository, PHOTO.read_bytes(), "attention")


def test_the_grid_is_the_models_own(explain: Explain, client: httpx.Client, attention: np.ndarray) -> None:
    answer = explain(PHOTO.read_bytes(), labels="sea,trees").json()
    names = client.get("/v1/models/scenes").json()["labels"]
    assert {entry["label"] for entry in answer["labels"]} == {"sea", "trees"}
    for entry in answer["labels"]:
        grid = attention[names.index(entry["label"])]
        assert np.allclose(entry["attention"], grid / grid.sum(), atol=1e-4)
    with Image.open(PHOTO) as image:
        assert answer["image"] == {"width": image.width, "height": image.height, "orientation": 1}
        rows, columns = attention.shape[1:]
        assert answer["grid"] == {"height": rows, "width": columns, "box": [0, 0, image.width, image.height]}


def test_what_was_assumed_about_a_photo_is_noted(explain: Explain) -> None:
    assert "notes" not in explain(PHOTO.read_bytes()).json()
    assert explain(BROKEN_PROFILE).json()["notes"] == [BROKEN_PROFILE_NOTE]


def test_by_default_the_tags_are_explained(explain: Explain, client: httpx.Client) -> None:
    photo = PHOTO.read_bytes()
    for query in ({}, {"threshold": 0.001}, {"threshold": 0, "top_k": 2}, {"threshold": "sea:1", "exclude": "desert"}):
        tags = client.post("/v1/tag", content=photo, params=query).json()["tags"]
        explained = explain(photo, **query).json()["labels"]
        assert [entry["label"] for entry in explained] == [tag["label"] for tag in tags]
        assert [entry["threshold"] for entry in explained] == [tag["threshold"] for tag in tags]
    assert len(explain(photo, labels="sea,trees,desert", top_k=2).json()["labels"]) == 2
    assert explain(photo, threshold=1).json()["labels"] == []


@pytest.mark.parametrize("orientation", [1, 6])
def test_stored_coordinates_are_those_of_the_file(explain: Explain, orientation: int) -> None:
    with Image.open(PHOTO) as image:
        size, data = image.size, stored_file(image.convert("RGB"), orientation, "PNG")
    upright, stored = (explain(data, labels="sea", coordinates=name).json() for name in ("upright", "stored"))
    assert upright["image"] == {"width": size[0], "height": size[1], "orientation": orientation}
    turns = 1 if orientation == 6 else 0
    assert stored["image"]["width"] == size[turns]
    assert stored["grid"]["box"] == [0, 0, stored["image"]["width"], stored["image"]["height"]]
    turned = np.rot90(upright["labels"][0]["attention"], turns)
    assert np.array_equal(stored["labels"][0]["attention"], turned)


def test_a_picture_for_clients_that_prefer_one(explain: Explain) -> None:
    photo = PHOTO.read_bytes()
    for accept in ("image/png", "image/png, application/json;q=0.5", "image/*;q=0.9, */*;q=0.1"):
        answer = explain(photo, accept, labels="sea,trees")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    with Image.open(PHOTO) as original, Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == "PNG"
        assert picture.width == original.width
        assert picture.height > original.height  # the legend is below, not over it
        colours = {colour for _, colour in picture.convert("RGB").getcolors(picture.width * picture.height)}
    assert set(COLOURS[:2]) <= colours
    assert not set(COLOURS[2:]) & colours
    for accept in ("*/*", "application/json", "text/html", "image/png;q=0", "image/png;q=0.5, application/json", ""):
        assert explain(photo, accept).headers["content-type"] == "application/json"


def test_pictures_of_every_size(explain: Explain) -> None:
    with Image.open(PHOTO) as image:
        for size, expected in (((3000, 2000), 1024), ((40, 30), 360), ((9, 2000), 360), ((3000, 8), 1024)):
            stream = io.BytesIO()
            image.resize(size).save(stream, "JPEG")
            answer = explain(stream.getvalue(), "image/png", threshold=0)
            assert answer.status_code == 200, answer.text
            with Image.open(io.BytesIO(answer.content)) as picture:
                assert picture.width == expected
                assert picture.height < 1200


def test_many_labels_and_none_at_all_have_a_legend() -> None:
    photo = Image.new("RGB", (400, 300), "white")
    tags = [Tag(label=f"a label with {'a very ' * number} long name", score=0.5, threshold=0.4) for number in range(30)]
    maps = np.random.default_rng(0).random((30, 4, 4), np.float32)
    for shown in (tags, []):
        located = Located(maps[: len(shown)], (400, 300), (50, 0, 350, 300))
        with Image.open(io.BytesIO(draw_overlay(photo, located, shown))) as picture:
            pixels = np.asarray(picture)
        assert pixels.shape[1] == 400
        assert (pixels[:300, :49] < 110).all()  # what the crop left out is dark
        legend = pixels[300:]
        assert legend.max() > 150  # something is written there


def test_wrong_requests(explain: Explain, client: httpx.Client) -> None:
    photo = PHOTO.read_bytes()
    for query in ({"labels": "moon"}, {"coordinates": "sideways"}, {"scores": "all"}, {"threshold": "nan"}):
        for accept in ("*/*", "image/png"):
            assert_problem(explain(photo, accept, **query), 422, "invalid_request")
    assert_problem(explain(photo, model="nothing"), 404, "unknown_model")
    for name in ("text file", "40,000 x 40,000 PNG", "truncated JPEG", "empty body"):
        data, status, code = REFUSED[name]
        for accept in ("*/*", "image/png"):
            assert_problem(explain(data, accept), status, code)
    assert_problem(client.post("/v1/explain", files={"files": photo}), 400, "malformed_body")
