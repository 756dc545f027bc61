"""POST and GET /v1/feedback of real gateways: what is stored, exactly once, and what is refused."""

import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from labelwise.feedback import FeedbackError, FeedbackStore, StoreFull
from serving.engines import create_engine
from serving.gateway.app import create_app
from serving.settings import Settings
from tests.conftest import ROOT, running_gateway, scenes_only
from tests.polling import PATIENCE
from tests.serving.gateway.routes.test_tag import assert_problem

SEA, FOREST = (
    (ROOT / f"tests/assets/photos/{name}.jpg").read_bytes() for name in ("sea-narwhals", "trees-forest-stream")
)


class Gateway(NamedTuple):
    url: str
    process: subprocess.Popen[str]
    store: Path

    def post(self, photo: bytes, token: str | None = None, **query: str) -> httpx.Response:
        headers = {} if token is None else {"Idempotency-Key": token}
        return httpx.post(f"{self.url}/v1/feedback", params=query, content=photo, headers=headers, timeout=PATIENCE)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(self.store)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With `everyday`, which can be taught, and `scenes`, which cannot."""
    store = tmp_path_factory.mktemp("feedback") / "feedback.db"
    repository = str(ROOT / "model_repository")
    with running_gateway("--precision", "fp32", feedback=str(store), repository=repository) as (url, process):
        yield Gateway(url, process, store)


def test_a_correction_is_stored_with_features_and_without_the_photo(gateway: Gateway):
    answer = gateway.post(SEA, model="everyday", yes="whale spotting, Dog", no="beach").json()
    assert (answer["model"], answer["version"], answer["stored"]) == ("everyday", 1, 3)
    assert "notes" not in answer
    assert gateway.post(SEA, model="everyday", yes="whale spotting,dog").json()["stored"] == 0
    counts = httpx.get(f"{gateway.url}/v1/feedback").json()["labels"]
    assert {"label": "beach", "yes": 0, "no": 1} in counts
    assert {"label": "dog", "yes": 1, "no": 0} in counts  # as the model spells it
    query = (
        "SELECT length(features) / 4, length(logits) / 4 FROM features JOIN photos ON id = photo WHERE sha256 = '{}'"
    )
    assert gateway.rows(query.format(answer["photo"])) == [(3280, 284)]
    assert gateway.rows("SELECT * FROM contents") == []


def test_without_features_a_note_says_why(gateway: Gateway):
    answer = gateway.post(FOREST, model="scenes", yes="trees").json()
    assert answer["stored"] == 1
    assert answer["notes"] == [
        "Stored without features, because scenes cannot be taught. Without the photo, nothing can be learned from it."
    ]


def test_the_version_that_tagged_the_photo_may_be_gone(gateway: Gateway):
    answer = gateway.post(FOREST, model="scenes", version="7", yes="forest").json()
    assert (answer["version"], answer["stored"]) == (7, 1)
    assert gateway.rows("SELECT version FROM answers ORDER BY id DESC LIMIT 1") == [(7,)]


def test_a_request_sent_again_is_stored_once(gateway: Gateway):
    def post(token: str, **answers: str) -> httpx.Response:
        return gateway.post(FOREST, token, model="scenes", **answers)

    assert post("first", yes="again").json()["stored"] == 1
    assert post("second", no="again").json()["stored"] == 1
    assert post("first", yes="again").json()["stored"] == 1  # the answer that it had
    assert gateway.rows("SELECT count(*) FROM answers JOIN labels ON labels.id = label WHERE name = 'again'") == [(2,)]
    assert_problem(post("first", no="again"), 422, "invalid_request")
    assert_problem(post("x" * 256, yes="again"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({}, "yes, no: name at least one label"),
        ({"yes": " , "}, "yes, no: name at least one label"),
        ({"yes": "fog", "no": "Fog"}, "yes, no: Fog is in both."),
        ({"yes": "a\tb"}, r"yes: 'a\\tb' cannot be printed."),
        ({"yes": "gr\ufffde"}, r"yes: 'gr\\ufffde' cannot be printed."),  # as bytes that are not UTF-8 arrive
        ({"no": "sea," + 201 * "a"}, "no: a label has at most 200 characters."),
        ({"labels": "sea"}, "labels: there is no such parameter."),
    ],
)
def test_an_unclear_correction_is_refused(gateway: Gateway, query: dict[str, str], detail: str):
    refused = gateway.post(FOREST, model="scenes", **query)
    assert_problem(refused, 422, "invalid_request")
    assert refused.json()["detail"].startswith(detail.replace("\\\\", "\\"))


def test_only_of_a_photo_that_can_be_decoded(gateway: Gateway):
    before = gateway.rows("SELECT count(*) FROM photos")
    assert_problem(gateway.post(b"no photo", model="scenes", yes="sea"), 415, "image_format_unsupported")
    assert gateway.rows("SELECT count(*) FROM photos") == before


def test_a_store_that_cannot_be_used_is_a_503_and_works_again_later(gateway: Gateway):
    aside = gateway.store.rename(gateway.store.with_suffix(".aside"))
    try:
        refused = gateway.post(FOREST, model="scenes", yes="later")
        assert_problem(refused, 503, "store_unavailable")
        assert refused.headers["retry-after"] == "2"
    finally:
        aside.rename(gateway.store)
    assert gateway.post(FOREST, model="scenes", yes="later").json()["stored"] == 1


def test_each_request_is_stored_once_while_workers_are_killed(tmp_path: Path):
    """Clients send again what was not answered. The photos are stored, too."""
    store = tmp_path / "feedback.db"
    settings = {"feedback": str(store), "feedback_photos": "true", "workers": "2", "max_requests": "100"}
    with running_gateway(**settings) as (url, process):
        gateway = Gateway(url, process, store)
        done = threading.Event()

        def send(number: int) -> int:
            while True:
                try:
                    answer = gateway.post(SEA + bytes([number]), f"{number}", yes="sea", no=f"number {number}")
                    if answer.status_code == 200:
                        return int(answer.json()["stored"])
                except httpx.TransportError:
                    done.wait(0.05)

        def kill() -> None:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for worker in filter(is_worker, children.read_text().split()):
                os.kill(int(worker), signal.SIGKILL)
                done.wait(0.2)

        with ThreadPoolExecutor(5) as pool:
            killing = pool.submit(kill)
            assert list(pool.map(send, range(40))) == [2] * 40
            killing.result()
        assert gateway.rows("SELECT count(*), count(DISTINCT photo) FROM answers") == [(80, 40)]
        assert gateway.rows("SELECT count(*) FROM requests") == [(40,)]
        assert FeedbackStore(store).content(gateway.rows("SELECT sha256 FROM photos")[0][0]).startswith(SEA)


def is_worker(pid: str) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_switched_off_it_says_how_to_switch_it_on(gateway_url: str):
    for answer in (httpx.get(f"{gateway_url}/v1/feedback"), httpx.post(f"{gateway_url}/v1/feedback?yes=sea")):
        assert_problem(answer, 403, "forbidden")
        assert "--feedback FILE.db" in answer.json()["detail"]


@pytest.mark.anyio
async def test_a_full_disk_is_a_507_and_the_gateway_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = Settings(repository=scenes_only(), feedback=tmp_path / "feedback.db")
    engine = create_engine(settings)
    await engine.start()
    app = create_app(settings, engine)
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", headers={"Content-Type": "image/jpeg"}
        ) as client:
            with monkeypatch.context() as patched:
                patched.setattr(FeedbackStore, "add", full)
                refused = await client.post("/v1/feedback?yes=sea", content=SEA)
                assert (refused.status_code, refused.json()["code"]) == (507, "store_full")
            assert (await client.post("/v1/feedback?yes=sea", content=SEA)).json()["stored"] == 1
    finally:
        await app.state.feedback.close()
        await app.state.service.decoders.close()
        await engine.close()


def full(*_: object) -> int:
    raise StoreFull("There is no room.")


def test_a_file_that_is_no_store_is_refused_at_the_start(tmp_path: Path):
    (tmp_path / "feedback.db").write_text("sea\n" * 100)
    settings = Settings(repository=scenes_only(), feedback=tmp_path / "feedback.db")
    with pytest.raises(FeedbackError, match="is not a store of corrections"):
        create_app(settings, create_engine(settings))
