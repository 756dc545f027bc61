"""Lessons over HTTP: what is learned is served when it is answered; whatever goes wrong, the version before stays."""

import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from fastapi import Request
from PIL import Image

from labelwise.errors import LabelwiseError
from labelwise.files import locked_folder
from serving.gateway.lessons.child import LessonEnded
from serving.gateway.lessons.lessons import Lessons, _Words
from serving.gateway.lessons.preflight import require_lessons
from serving.gateway.observe.metrics import Metrics
from serving.gateway.problems import GatewayError
from serving.gateway.requests.deadline import deadline_exceeded
from serving.gateway.requests.lesson_form import SentPhoto
from serving.settings import load_settings
from tests.conftest import only_in_fp32, running_gateway
from tests.polling import until
from tests.serving.raw_http import connect, read_answer
from tests.serving.test_reload import Load, assert_only_that_label_came_and_went

PATIENCE = 120.0  # seconds
Photo = tuple[str, tuple[str, bytes]]


def picture(number: int, striped: bool) -> bytes:
    """Stripes, or a bright disc; all of them differ."""
    rows, columns = np.mgrid[:96, :96]
    shape = rows // (6 + number) % 2 if striped else (rows - 40 - 4 * number) ** 2 + (columns - 48) ** 2 < 30**2
    noise = np.random.default_rng(number).integers(0, 60, (96, 96, 3))
    file = io.BytesIO()
    Image.fromarray((noise + 150 * shape[..., None]).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


PHOTOS: list[Photo] = [
    (answer, (f"{answer} {number}.png", picture(number, answer == "yes")))
    for number in range(4)
    for answer in ("yes", "no")
]


class Served(NamedTuple):
    url: str
    process: "subprocess.Popen[str]"
    repository: Path
    scratch: Path

    @property
    def version(self) -> int:
        return int(httpx.get(f"{self.url}/v1/models/everyday").json()["version"])

    def teach(self, photos: list[Photo] = PHOTOS, label: str = "stripes") -> httpx.Response:
        return httpx.post(f"{self.url}/v1/teach", data={"label": label}, files=photos, timeout=PATIENCE)

    def children(self) -> list[int]:
        """The processes of lessons."""
        every = [child for task in Path(f"/proc/{self.process.pid}/task").iterdir() for child in _children(task)]
        return [pid for pid in every if b"--json" in _command(pid)]

    def leftovers(self) -> list[str]:
        return [path.name for path in self.scratch.iterdir() if "lesson" in path.name]


def _children(task: Path) -> list[int]:
    return [int(pid) for pid in (task / "children").read_text().split()]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("lessons")
    shutil.copytree(only_in_fp32("everyday"), folder / "repository")
    (folder / "tmp").mkdir()
    settings = {"reload_interval": "0.2", "max_teach_images": "20", "max_teach_body": "1000000", "teach_keep": "2"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "tmp"))
        arguments = ("--repository", str(folder / "repository"), "--teach")
        with running_gateway(*arguments, **settings) as (url, process):
            yield Served(url, process, folder / "repository", folder / "tmp")


def streamed(served: Served, photos: list[Photo]) -> Iterator[str]:
    """The lines of a lesson; the client hangs up when the iterator is closed."""
    headers = {"Accept": "application/x-ndjson"}
    with httpx.stream(
        *("POST", f"{served.url}/v1/teach"), data={"label": "stripes"}, files=photos, headers=headers, timeout=PATIENCE
    ) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        yield from answer.iter_lines()


def test_a_lesson_is_served_when_it_is_answered(served: Served) -> None:
    """No request is dropped while its label comes and goes."""
    odd: list[Photo] = [("yes", ("../../odd\n", b"no photo")), ("no", ("again.png", PHOTOS[1][1][1]))]
    before = served.version
    with (
        Load(served.url, 1, pause=0.3, photo=PHOTOS[0][1][1]) as load,
        Load(served.url, 1, as_batch=True, pause=0.3, photo=PHOTOS[0][1][1]) as batches,
    ):
        load.wait_for(2)
        lines = list(streamed(served, [*PHOTOS, *odd]))
        batches.wait_for(2)
        tags = httpx.post(f"{served.url}/v1/tag?labels=stripes", content=PHOTOS[0][1][1]).json()
        taught = httpx.get(f"{served.url}/v1/models/everyday/taught").json()["taught"]
        to = {"version": before}
        back = httpx.post(f"{served.url}/v1/models/everyday/rollback", params=to, timeout=PATIENCE).json()
        batches.wait_for(2)
    assert_only_that_label_came_and_went((load, batches), "stripes", [before, before + 1, before + 2])
    for path in (served.repository, served.scratch):
        assert str(path) not in "".join(lines)
    steps, (last,) = [json.loads(line) for line in lines[:-1]], [json.loads(line) for line in lines[-1:]]
    looks = [{"step": "look", "done": done, "of": 10} for done in (0, 10)]
    assert steps == [*looks, {"step": "fit"}, {"step": "publish"}]
    result = last["result"]
    facts = [result[name] for name in ("label", "version", "previous_version", "photos_with", "photos_without")]
    assert facts == ["stripes", before + 1, before, 4, 4]
    assert [(photo["index"], photo["photo"]) for photo in result["left_out"]] == [
        (8, "../../odd%0A"),  # as httpx sends a line end
        (9, "again.png"),
    ]
    assert result["left_out"][1]["reason"] == "a copy of no 0.png"
    assert (tags["version"], [tag["label"] for tag in tags["tags"]]) == (before + 1, ["stripes"])
    assert taught["stripes"]["average_precision"] == result["average_precision"]
    assert (back["version"], back["previous_version"]) == (before + 2, before + 1)
    found = httpx.get(f"{served.url}/v1/models/everyday/versions").json()["versions"]
    assert [(version["labels"], version["taught"]) for version in found] == [
        (285, ["stripes"]),
        (284, []),
    ]  # teach_keep
    again = httpx.delete(f"{served.url}/v1/models/everyday/taught/stripes", timeout=PATIENCE)
    assert (again.status_code, again.json()["code"]) == (404, "not_found")
    assert 'labelwise_lessons_total{outcome="published"} 2.0' in httpx.get(f"{served.url}/metrics").text
    assert served.leftovers() == []


@pytest.mark.parametrize(
    ("label", "also", "said"),
    [
        ("stripes", [("no", ("b.png", PHOTOS[0][1][1]))], "given as 'stripes' and as not: yes 0.png and b.png"),
        ("Dog", [], "has the label 'dog' already"),
    ],
)
def test_what_cannot_be_learned_is_said_in_the_words_of_the_client(
    served: Served, label: str, also: list[Photo], said: str
) -> None:
    before = served.version
    answer = served.teach([*PHOTOS, *also], label)
    assert (answer.status_code, answer.json()["code"]) == (422, "lesson_refused")
    assert said in answer.json()["detail"]
    assert "/" not in answer.json()["detail"]
    assert (served.version, served.leftovers()) == (before, [])


def begun(served: Served) -> socket.socket:
    """A connection with a lesson that has begun. It waits for its turn while another program has the repository."""
    request = httpx.Request("POST", f"{served.url}/v1/teach", data={"label": "stripes"}, files=PHOTOS)
    head = [b"POST /v1/teach HTTP/1.1", *(b": ".join(header) for header in request.headers.raw)]
    connection = connect(served.url)
    connection.sendall(b"\r\n".join([*head, b"", b""]) + request.read())
    until(served.children)
    return connection


def test_a_client_that_hangs_up_and_a_kill_leave_the_version_before(served: Served) -> None:
    before = served.version
    with locked_folder(served.repository):
        with begun(served):
            busy = served.teach()
            assert (busy.status_code, busy.json()["code"]) == (429, "overloaded")
            assert busy.headers["retry-after"] == "10"
        until(lambda: served.teach([]).status_code == 415)  # no longer 429
        assert not served.children()
        assert not served.leftovers()
        with begun(served) as connection:
            (child,) = served.children()
            until(lambda: os.getpriority(os.PRIO_PROCESS, child) >= 10)
            os.kill(child, signal.SIGKILL)
            assert json.loads(read_answer(connection).partition(b"\r\n\r\n")[2])["code"] == "lesson_failed"
    assert (served.version, served.leftovers()) == (before, [])


def test_uploads_beyond_the_limits(served: Served) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="yes"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(20_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{served.url}/v1/teach", content=chunks(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    too_many = served.teach([("yes", ("a", b""))] * 21)
    assert (too_many.status_code, too_many.json()["code"]) == (413, "too_many_images")
    assert served.leftovers() == []


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux sets another process's limits")
def test_a_full_disk_fails_the_lesson_and_nothing_else(served: Served) -> None:
    unlimited = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (0, unlimited[1]))
    try:
        answer = served.teach()
        assert (answer.status_code, answer.json()["code"]) == (500, "lesson_failed")
        assert answer.json()["detail"] == "The photos cannot be kept here meanwhile: File too large."
    finally:
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, unlimited)
    assert served.leftovers() == []


def test_switched_off(gateway_url: str) -> None:
    answers = [
        httpx.post(f"{gateway_url}/v1/teach"),
        httpx.get(f"{gateway_url}/v1/models/scenes/taught"),
        httpx.delete(f"{gateway_url}/v1/models/scenes/taught/sea"),
        httpx.get(f"{gateway_url}/v1/models/scenes/versions"),
        httpx.post(f"{gateway_url}/v1/models/scenes/rollback?version=1"),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert "labelwise serve --teach" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("kind", "message", "detail"),
    [
        ("data", "{folder}/1 and {folder}/0.", "b\\n.png and a.png."),
        ("setup", "this needs the 'onnx' extra: pip install 'labelwise[onnx]'", None),
        ("failed", "Not published: {repository} cannot be written: Read-only file system.", None),
        (
            "failed",
            "{repository}/everyday is broken.",
            "The lesson failed; the log here says why under this request id.",
        ),
    ],
)
def test_no_path_reaches_a_client(kind: str, message: str, detail: str | None, tmp_path: Path) -> None:
    settings = load_settings(repository=tmp_path / "repository", feedback=tmp_path / "feedback.db")
    words = _Words(settings, str(tmp_path / "photos"), [SentPhoto("yes", "a.png"), SentPhoto("no", "b\n.png")])
    message = message.format(folder=tmp_path / "photos", repository=tmp_path / "repository")
    said: Any = words.refusal(LessonEnded(kind, message)).detail
    assert str(tmp_path) not in said
    if detail:
        assert said.replace("'", "") == detail


def test_what_lessons_need_is_looked_for_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_lessons(load_settings(repository=tmp_path))
    require_lessons(load_settings(repository=tmp_path, teach=True))
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(LabelwiseError, match="cannot be written here: make it writable, or leave out --teach"):
        require_lessons(load_settings(repository=tmp_path, teach=True))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(LabelwiseError, match=r"pip install 'labelwise\[onnx\]'"):
        require_lessons(load_settings(repository=tmp_path, teach=True))


@pytest.mark.anyio
@pytest.mark.parametrize(("is_published", "outcome"), [(True, "published"), (False, "failed")])
async def test_a_version_counts_as_published_whatever_its_client_gets(
    is_published: bool, outcome: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def run_lesson(_: object, __: object, ___: object, on_published: Callable[[], None]) -> None:
        if is_published:
            on_published()
        raise deadline_exceeded()

    monkeypatch.setattr("serving.gateway.lessons.lessons.run_lesson", run_lesson)
    metrics = Metrics()
    none: Any = None
    lessons = Lessons(load_settings(repository=tmp_path), none, none, metrics)
    spec: Any = SimpleNamespace(name="everyday", version=1, is_teachable=True)
    scope = {"type": "http", "headers": [], "query_string": b"", "state": {"request_id": "x"}}
    with pytest.raises(GatewayError, match="not enough time"):
        await lessons.undo(Request(scope), spec, "--forget=sea")
    assert f'labelwise_lessons_total{{outcome="{outcome}"}} 1.0' in metrics.exposition({}).decode()
