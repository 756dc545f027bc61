"""The protocol as Label Studio 1.23 speaks it, recorded from the real one, with a real gateway behind."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.label_studio.app import create_app
from serving.label_studio.backend import Backend
from serving.label_studio.gateway import Gateway
from serving.label_studio.lessons import Report
from serving.label_studio.studio import LabelStudio
from serving.label_studio.task_photos import TaskPhotos
from tests.serving.label_studio.studio_server import CONFIG, LEGACY, running_studio, upload

SETUP = {
    "project": "1.1795972134",
    "schema": CONFIG,
    "hostname": "http://localhost:8080",
    "access_token": LEGACY,
    "extra_params": None,
}


def predict_request(*photos: str, config: str = CONFIG) -> dict[str, Any]:
    tasks = [
        {
            "id": number,
            "data": {"image": upload(photo)},
            "meta": {},
            "is_labeled": False,
            "inner_id": number,
            "total_annotations": 0,
            "project": 1,
            "updated_by": None,
            "file_upload": number,
            "annotations": [],
            "predictions": [],
        }
        for number, photo in enumerate(photos, 1)
    ]
    params = {"login": None, "password": None, "context": None}
    return {"tasks": tasks, "project": "1.1795972134", "label_config": config, "params": params}


class Lessons:
    """Stands for lessons, which test_lessons.py has."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []
        self.report = Report(taught={"sea": {"version": 2}}, waiting={"helmet": "1 photos with it and 2 without"})

    async def teach(self, project: int, is_asked_for: bool) -> Report:
        self.asked.append((project, is_asked_for))
        return self.report


@pytest.fixture(scope="module")
def studio_url() -> Iterator[str]:
    with running_studio() as (url, _):
        yield url


def backend(gateway: str, studio: str | None, lessons: Lessons | None) -> Backend:
    photos = TaskPhotos(LabelStudio(studio, LEGACY) if studio else None, ())
    return Backend(Gateway(gateway, None, None), photos, lessons)  # type: ignore[arg-type]


@pytest.fixture
def lessons() -> Lessons:
    return Lessons()


@pytest.fixture
def client(gateway_url: str, studio_url: str, lessons: Lessons) -> Iterator[TestClient]:
    app = create_app(backend(gateway_url, studio_url, lessons), None, lambda: None)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_health_setup_and_versions(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "UP"
    assert client.post("/setup", json=SETUP).json() == {"model_version": "scenes 1"}
    assert client.get("/versions").json() == {"versions": ["scenes 1"]}


def test_predictions_have_the_places_of_the_tasks(client: TestClient) -> None:
    request = predict_request("sea-narwhals.jpg", "none.jpg", "coffee-cup.jpg", "sunset-hills.jpg")
    results = client.post("/predict", json=request).json()["results"]
    sea, missing, cup, sunset = results
    assert missing == []
    assert cup["result"] == []
    assert sea["result"][0]["value"] == {"choices": ["Sea"]}
    assert sunset["result"][0]["value"] == {"choices": ["sunset"]}
    assert {result["model_version"] for result in (sea, cup, sunset)} == {"scenes 1"}
    assert all(0 <= result["score"] <= 1 for result in (sea, cup, sunset))


def test_what_was_predicted_is_not_fetched_again(gateway_url: str) -> None:
    """Label Studio asks again if a request took too long for it."""
    request = predict_request("sea-narwhals.jpg", "none.jpg", config=f"{CONFIG}<!--{'long' * 1000}-->")
    with running_studio() as (studio, server):
        bridge = backend(gateway_url, studio, None)
        app = create_app(bridge, None, lambda: None)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            first, second = (client.post("/predict", json=request).json() for _ in range(2))
    assert first == second
    assert sum(map(len, *bridge._remembered)) < 1000  # the configuration would take the memory once per task
    asked = sorted(path for path, _ in server.seen)  # the two photos of a request are fetched together
    assert asked == [upload(photo) for photo in ("none.jpg", "none.jpg", "sea-narwhals.jpg")]


def test_choices_that_the_model_lacks_have_no_prediction(client: TestClient) -> None:
    config = CONFIG.replace('"Sea"', '"lake"').replace('alias="sunset"', "")
    assert client.post("/predict", json=predict_request("sea-narwhals.jpg", config=config)).json()["results"] == [[]]


def test_training_is_answered_when_it_is_done(client: TestClient, lessons: Lessons) -> None:
    training = {"action": "START_TRAINING", "project": {"id": 1, "title": "try"}}
    answer = client.post("/webhook", json=training)
    assert answer.status_code == 200
    assert answer.json() == {"taught": lessons.report.taught, "waiting": lessons.report.waiting}
    assert lessons.asked == [(1, True)]
    lessons.report = Report(failed={"sea": "The model cannot be taught."})
    answer = client.post("/webhook", json=training)
    assert answer.status_code == 502  # so that Label Studio shows an error
    assert answer.json() == {"error": "sea: The model cannot be taught.", "taught": {}}


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED"])
def test_annotations_are_noticed_at_once(client: TestClient, lessons: Lessons, action: str) -> None:
    webhook = {"action": action, "annotation": {"id": 1, "result": []}, "project": {"id": 1}, "task": {"id": 2}}
    assert client.post("/webhook", json=webhook).json() == {"status": "noticed"}
    assert lessons.asked == []  # the lesson comes when the annotator rests


@pytest.mark.parametrize(
    "webhook", [{"action": "TASKS_CREATED", "project": {"id": 1}}, {"action": "ANNOTATION_CREATED"}]
)
def test_other_webhooks_are_ignored(client: TestClient, webhook: dict[str, Any]) -> None:
    assert client.post("/webhook", json=webhook).json()["status"] == "ignored"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/predict", b"[]", 422, "This is not a request of Label Studio"),
        ("/predict", b'{"tasks": [{"data": 1}], "label_config": ""}', 422, "tasks.0.data"),
        ("/setup", b'{"project": "1.1", "schema": "<View/>"}', 422, "no <Choices> for an <Image>"),
        ("/webhook", b"{", 422, "Invalid JSON"),
    ],
)
def test_what_is_wrong_is_one_line(client: TestClient, path: str, body: bytes, status: int, words: str) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_gateway_that_is_down_is_said(studio_url: str) -> None:
    with TestClient(create_app(backend("http://127.0.0.1:9", studio_url, None), None, lambda: None)) as client:
        client.base_url = "http://127.0.0.1"
        answer = client.post("/setup", json=SETUP)
        assert (answer.status_code, answer.json()["error"][:27]) == (503, "http://127.0.0.1:9 does not")
        assert client.get("/health").status_code == 200


def test_without_label_studios_key_there_are_no_lessons(gateway_url: str) -> None:
    with TestClient(create_app(backend(gateway_url, None, None), None, lambda: None)) as client:
        client.base_url = "http://127.0.0.1"
        webhook = {"action": "ANNOTATION_CREATED", "project": {"id": 1}}
        assert "--label-studio-key" in client.post("/webhook", json=webhook).json()["reason"]
        answer = client.post("/webhook", json=webhook | {"action": "START_TRAINING"})
        assert (answer.status_code, "--label-studio-key" in answer.json()["error"]) == (502, True)


def test_pages_of_other_sites_and_names_are_refused(client: TestClient) -> None:
    training = {"action": "START_TRAINING", "project": {"id": 1}}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Host": "attacker.example.org"}):
        assert client.post("/webhook", json=training, headers=headers).status_code in (403, 421)


def test_a_password_is_needed_from_everyone(gateway_url: str) -> None:
    with TestClient(create_app(backend(gateway_url, None, None), "s3cret", lambda: None)) as client:
        for given in ("x:wrong", "x", ":", "s3cret:x"):
            header = "Basic " + base64.b64encode(given.encode()).decode()
            assert client.get("/health", headers={"Authorization": header}).status_code == 401
        for header in ("", "Basic é", "Basic !", "Bearer s3cret"):
            assert client.get("/health", headers={"Authorization": header.encode()}).status_code == 401
        assert client.get("/health", auth=("anyone", "s3cret")).status_code == 200
