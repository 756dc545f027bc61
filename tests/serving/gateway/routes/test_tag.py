"""POST /v1/tag and the addresses around it, on both engines."""

from collections.abc import Callable

import httpx
import pytest

from tests.conftest import ROOT
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE, REFUSED, TAGGED

Tag = Callable[..., httpx.Response]

PHOTO = ROOT / "tests/assets/photos/mountains-autumn-trees.jpg"


@pytest.fixture
def photo() -> bytes:
    return PHOTO.read_bytes()


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert problem["detail"].endswith(".")
    assert not any(leak in response.text for leak in ("Traceback", str(ROOT), "site-packages", "PIL"))


def test_tags_are_the_scores_that_reach_their_threshold(tag: Tag, photo: bytes) -> None:
    answer = tag(photo, scores="all").json()
    assert (answer["model"], answer["version"]) == ("scenes", 1)
    assert answer["tags"] == [entry for entry in answer["scores"] if entry["score"] >= entry["threshold"]]
    scores = [entry["score"] for entry in answer["scores"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 5


def test_what_was_assumed_about_a_photo_is_noted(tag: Tag, photo: bytes) -> None:
    assert "notes" not in tag(photo).json()
    answer = tag(BROKEN_PROFILE, scores="all").json()
    assert answer["notes"] == [BROKEN_PROFILE_NOTE]
    assert len(answer["scores"]) == 5


def test_multipart_and_raw_body_answer_alike(client: httpx.Client, tag: Tag, photo: bytes) -> None:
    raw = tag(photo).json()
    form = client.post("/v1/tag", files={"file": ("photo.jpg", photo, "image/jpeg")}).json()
    assert form["tags"] == raw["tags"]


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "application/x-www-form-urlencoded"])
def test_plain_uploads_need_no_content_type(client: httpx.Client, photo: bytes, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert client.post("/v1/tag", content=photo, headers=headers).status_code == 200


def test_filters(tag: Tag, photo: bytes) -> None:
    every = tag(photo, threshold=0).json()["tags"]
    assert len(every) == 5
    assert {entry["threshold"] for entry in every} == {0}
    assert tag(photo, threshold=0, top_k=2).json()["tags"] == every[:2]
    assert tag(photo, threshold=1).json()["tags"] == []
    chosen = tag(photo, labels="sea, trees", scores="all").json()["scores"]
    assert {entry["label"] for entry in chosen} == {"sea", "trees"}
    rest = tag(photo, exclude="sea,trees", scores="all").json()["scores"]
    assert {entry["label"] for entry in rest} == {"desert", "mountains", "sunset"}
    assert "scores" not in tag(photo).json()


def test_thresholds_of_single_labels_leave_the_others_as_they_are(tag: Tag, photo: bytes) -> None:
    own = {entry["label"]: entry["threshold"] for entry in tag(photo, scores="all").json()["scores"]}
    chosen = tag(photo, scores="all", threshold="sea:0, trees:1").json()
    assert {entry["label"]: entry["threshold"] for entry in chosen["scores"]} == own | {"sea": 0, "trees": 1}
    assert "sea" in {entry["label"] for entry in chosen["tags"]}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"model": "nothing"}, 404, "unknown_model"),
        ({"model": "../scenes"}, 404, "unknown_model"),
        ({"version": 9}, 404, "unknown_model"),
        ({"top_k": 0}, 422, "invalid_request"),
        ({"threshold": "nan"}, 422, "invalid_request"),
        ({"threshold": 1.5}, 422, "invalid_request"),
        ({"labels": "sea,moon"}, 422, "invalid_request"),
        ({"labels": ","}, 422, "invalid_request"),
        ({"scores": "some"}, 422, "invalid_request"),
        ({"treshold": 0.5}, 422, "invalid_request"),
        ({"threshold": "sea"}, 422, "invalid_request"),
        ({"threshold": "moon:0.5"}, 422, "invalid_request"),
        ({"threshold": "sea:0.5,sea:0.6"}, 422, "invalid_request"),
        ({"threshold": "sea:nan"}, 422, "invalid_request"),
        ({"threshold": ""}, 422, "invalid_request"),
        ({"exclude": "moon"}, 422, "invalid_request"),
        ({"labels": "sea", "exclude": "sea"}, 422, "invalid_request"),
        ({"top_k": [1, 2]}, 422, "invalid_request"),
    ],
)
def test_wrong_queries(tag: Tag, photo: bytes, query: dict[str, object], status: int, code: str) -> None:
    assert_problem(tag(photo, **query), status, code)


@pytest.mark.parametrize("name", REFUSED)
def test_bad_images_are_refused_and_the_server_goes_on(tag: Tag, photo: bytes, name: str) -> None:
    data, status, code = REFUSED[name]
    assert_problem(tag(data), status, code)
    assert tag(photo).status_code == 200


@pytest.mark.parametrize("name", TAGGED)
def test_unusual_images_are_tagged(tag: Tag, name: str) -> None:
    response = tag(TAGGED[name], scores="all")
    assert response.status_code == 200, response.text
    assert all(0 <= entry["score"] <= 1 for entry in response.json()["scores"])


def test_body_over_the_limit(tag: Tag, client: httpx.Client, photo: bytes) -> None:
    assert_problem(tag(bytes(21 * 2**20)), 413, "body_too_large")
    chunks = (bytes(2**20) for _ in range(25))  # no Content-Length: found while streaming
    assert_problem(client.post("/v1/tag", content=chunks), 413, "body_too_large")
    assert tag(photo).status_code == 200


def test_wrong_bodies(client: httpx.Client) -> None:
    assert_problem(client.post("/v1/tag", json={"image": "x"}), 415, "content_type_unsupported")
    assert_problem(client.post("/v1/tag", files=[("file", b"x"), ("file", b"y")]), 400, "malformed_body")
    assert_problem(client.post("/v1/tag", files={"photo": b"x"}), 400, "malformed_body")
    assert_problem(client.post("/v1/tag", files={"file": b""}), 422, "image_empty")
    for headers in ({"Content-Type": "multipart/form-data"}, {"Content-Type": "multipart/form-data; boundary=x"}):
        assert_problem(client.post("/v1/tag", content=b"--y\r\nnonsense", headers=headers), 400, "malformed_body")


def test_unknown_paths_and_methods(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/nothing"), 404, "not_found")
    response = client.get("/v1/tag")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


def test_models_and_health(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert model == client.get("/v1/models/scenes").json()
    assert model["labels"] == ["desert", "mountains", "sea", "sunset", "trees"]
    assert model["versions"] == [1]
    assert model["thresholds"].keys() == set(model["labels"])
    assert_problem(client.get("/v1/models/nothing"), 404, "unknown_model")
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_request_ids(client: httpx.Client, photo: bytes) -> None:
    given = client.post("/v1/tag", content=photo, headers={"X-Request-ID": "order-66"})
    assert given.json()["request_id"] == given.headers["x-request-id"] == "order-66"
    hostile = client.post("/v1/tag", content=photo, headers={"X-Request-ID": "a" * 500})
    assert len(hostile.headers["x-request-id"]) == 32


def test_metrics_count_images_and_problems(client: httpx.Client, tag: Tag, photo: bytes) -> None:
    def value(series: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(series)), 0)

    images, problems = (
        value('labelwise_images_total{model="scenes",version="1"}'),
        value('labelwise_problems_total{code="image_empty"}'),
    )
    tag(photo)
    tag(b"")
    assert value('labelwise_images_total{model="scenes",version="1"}') == images + 1
    assert value('labelwise_problems_total{code="image_empty"}') == problems + 1


def test_unknown_paths_add_no_series(client: httpx.Client) -> None:
    client.get("/invented-by-a-client")
    assert "invented-by-a-client" not in client.get("/metrics").text


def test_documentation_loads_nothing_from_other_servers(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert "https://" not in page
    assert client.get("/docs/assets/swagger-ui-bundle.js").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/tag", "/v1/models", "/v2/health/ready", "/metrics"} <= paths.keys()


def test_page_is_served_with_its_headers(client: httpx.Client) -> None:
    response = client.get("/")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "labelwise" in response.text
