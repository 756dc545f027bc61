"""Versions come and go under load: no request is dropped, and every answer names its true version."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.conftest import ROOT, free_port, only_in_fp32, running_gateway
from tests.polling import until
from tests.serving.publishing import copy_to_change, publish_next

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
PATIENCE = 90.0  # seconds


@pytest.fixture(params=["embedded", "triton"])
def engine_settings(request: pytest.FixtureRequest) -> dict[str, str]:
    settings = {"reload_interval": "0.2", "upload_timeout": "60", "request_timeout": "30"}
    if request.param == "triton":
        ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
        settings |= request.getfixturevalue("triton_arguments") | ports
    return settings


@pytest.fixture
def served(engine_settings: dict[str, str], repository: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A separate gateway on a copy of the bundled repository, and that copy."""
    copy = copy_to_change(repository, tmp_path / "repository")
    with running_gateway("--repository", str(copy), **engine_settings) as (url, _):
        yield url, copy


@pytest.fixture
def everyday_url(triton_arguments: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """A separate gateway with a Triton and `everyday`, in fp32, that can be taught."""
    copy = copy_to_change(only_in_fp32("everyday"), tmp_path / "repository")
    ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
    settings = triton_arguments | ports | {"reload_interval": "0.2", "request_timeout": "30"}
    with running_gateway("--repository", str(copy), "--teach", **settings) as (url, _):
        yield url


class Answer(NamedTuple):
    sent: float  # when, by time.monotonic
    status: int
    body: dict[str, Any]


class Load:
    """Clients that send the photo on and on, each over its own connection, and keep every answer.

    With `as_batch`, each photo is a batch of one. The `pause` after each answer leaves the engine time to load.
    """

    def __init__(
        self, url: str, clients: int = 2, as_batch: bool = False, pause: float = 0.05, photo: bytes = PHOTO
    ) -> None:
        self.answers: list[Answer] = []
        self._path = "/v1/tag:batch" if as_batch else "/v1/tag"
        self._body: dict[str, Any] = {"files": {"files": photo}} if as_batch else {"content": photo}
        self._pause, self._done = pause, threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(url,)) for _ in range(clients)]

    def _send(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            while not self._done.is_set():
                sent = time.monotonic()
                answer = client.post(self._path, **self._body, params={"scores": "all"})
                self.answers.append(Answer(sent, answer.status_code, answer.json()))
                time.sleep(self._pause)

    def wait_for(self, more: int) -> None:
        """Waits for this many more answers."""
        wanted = len(self.answers) + more
        until(lambda: len(self.answers) >= wanted)

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()


def until_newest(url: str, version: int, name: str = "scenes") -> None:
    until(lambda: httpx.get(f"{url}/v1/models/{name}").json()["version"] == version)


def slow_upload(half: threading.Event, go_on: threading.Event) -> Iterator[bytes]:
    yield PHOTO[:1000]
    half.set()
    go_on.wait(PATIENCE)
    yield PHOTO[1000:]


def test_no_request_is_dropped_while_versions_come_and_go(served: tuple[str, Path]) -> None:
    """One upload begins with a version that is gone before the upload ends."""
    url, repository = served
    half, go_on = threading.Event(), threading.Event()
    with Load(url) as load, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(httpx.post, f"{url}/v1/tag", content=slow_upload(half, go_on), timeout=PATIENCE)
        assert half.wait(PATIENCE)
        for version in (2, 3):
            load.wait_for(6)
            publish_next(repository, keep=1)
            until_newest(url, version)
        newest_since = time.monotonic()
        go_on.set()
        load.wait_for(6)
    assert {answer.status for answer in load.answers} == {200}
    scores: dict[int, set[str]] = {}
    for answer in load.answers:
        scores.setdefault(answer.body["version"], set()).add(str(answer.body["scores"]))
    assert sorted(scores) == [1, 2, 3]
    assert [len(different) for different in scores.values()] == [1, 1, 1]  # each version has its own scores
    assert len(set.union(*scores.values())) == 3
    # A request sent earlier may get the last answer, from the version that it began with.
    assert {answer.body["version"] for answer in load.answers if answer.sent > newest_since} == {3}
    assert (slow.result().status_code, slow.result().json()["version"]) == (200, 1), slow.result().text
    gone = httpx.post(f"{url}/v1/tag", content=PHOTO, params={"version": 1})
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_model")


def assert_only_that_label_came_and_went(loads: Iterable[Load], label: str, versions: list[int]) -> None:
    """Of the three versions, the one in the middle has the label. No request was dropped."""
    answers = [answer for load in loads for answer in load.answers]
    assert {answer.status for answer in answers} == {200}
    found = [answer.body["results"][0] if "results" in answer.body else answer.body for answer in answers]
    numbers = [answer.body["version"] for answer in answers]
    scores = [{each["label"]: each["score"] for each in body["scores"]} for body in found]
    by_version = dict(zip(numbers, scores, strict=True))
    assert sorted(by_version) == versions
    first, second, third = (by_version[number] for number in versions)
    assert second.pop(label) > 0.5
    assert second == pytest.approx(first, abs=1e-5)  # requests may have run together
    assert third == pytest.approx(first, abs=1e-5)


def test_no_request_is_dropped_while_labels_come_and_go(everyday_url: str) -> None:
    """The versions differ in their labels, so a Triton cannot have two of them at once."""
    url = everyday_url
    folders = {"yes": ROOT / "tests/assets/photos", "no": ROOT / "tests/assets/photos-everyday"}
    files = {answer: sorted(folder.glob("*.jpg"))[-4:] for answer, folder in folders.items()}
    photos = [(answer, file.read_bytes()) for answer in files for file in files[answer]]
    with Load(url, 1, pause=0.3) as load, Load(url, 1, as_batch=True, pause=0.3) as batches:
        load.wait_for(3)
        taught = httpx.post(f"{url}/v1/teach", data={"label": "landscape"}, files=photos, timeout=PATIENCE)
        assert (taught.status_code, taught.json().get("version")) == (200, 2), taught.text
        batches.wait_for(3)
        forgotten = httpx.delete(f"{url}/v1/models/everyday/taught/landscape", timeout=PATIENCE)
        assert (forgotten.status_code, forgotten.json().get("version")) == (200, 3), forgotten.text
        batches.wait_for(3)
        load.wait_for(3)
    assert_only_that_label_came_and_went((load, batches), "landscape", [1, 2, 3])
