"""Photos that are decoded in processes: all answers are the same, and what ends a process fails its photo alone."""

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from labelwise.image import ordinary
from tests.conftest import ROOT, running_gateway
from tests.polling import until
from tests.serving.gateway.routes.test_tag import assert_problem

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the decoders as Linux shows processes")

PATIENCE = 60.0  # seconds
ORDINARY = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(ORDINARY)).save(stream, kind)
    return stream.getvalue()


BMP, PNG = encoded("BMP"), encoded("PNG")  # the same pixels, in a process and on a thread


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[str, int]]:
    assert ordinary(PNG)
    assert not ordinary(BMP)
    with running_gateway(threads="1") as (url, process):
        yield url, process.pid


def decoder(gateway: int) -> int:
    """The process id of the only decoder, once there is one."""
    children = Path(f"/proc/{gateway}/task/{gateway}/children")

    def decoders() -> list[int]:
        found = map(int, children.read_text().split())
        return [pid for pid in found if b"serving.decoding.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    return until(decoders)[0]


def post(url: str, photo: bytes, address: str = "/v1/tag", **headers: str) -> httpx.Response:
    return httpx.post(f"{url}{address}", content=photo, headers=headers, timeout=PATIENCE)


def facts(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 200
    return {key: value for key, value in answer.json().items() if key != "request_id"}


@pytest.mark.parametrize("address", ["/v1/tag?scores=all", "/v1/explain", "/v1/embed"])
def test_answers_are_those_of_a_thread(gateway: tuple[str, int], address: str) -> None:
    url, _ = gateway
    assert facts(post(url, BMP, address)) == facts(post(url, PNG, address))


def test_an_overlay_is_that_of_a_thread(gateway: tuple[str, int]) -> None:
    url, _ = gateway
    pictures = [post(url, photo, "/v1/explain", Accept="image/png") for photo in (BMP, PNG)]
    assert pictures[0].headers["content-type"] == "image/png"
    assert pictures[0].content == pictures[1].content


def test_a_decoder_that_hangs_delays_no_ordinary_photo_and_is_replaced(gateway: tuple[str, int]) -> None:
    url, pid = gateway
    hung = decoder(pid)
    os.kill(hung, signal.SIGSTOP)
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(post(url, BMP, **{"X-Request-Timeout": "1"})))
    waiting.start()
    for _ in range(5):
        assert post(url, ORDINARY).status_code == 200
    waiting.join()
    assert_problem(answers[0], 504, "deadline_exceeded")
    assert post(url, BMP).status_code == 200
    assert decoder(pid) != hung


def test_a_decoder_that_dies_fails_its_photo_alone(gateway: tuple[str, int]) -> None:
    url, pid = gateway
    dying = decoder(pid)
    os.kill(dying, signal.SIGSTOP)
    answers: list[httpx.Response] = []
    files = [("files", ("one.jpg", ORDINARY)), ("files", ("two.bmp", BMP)), ("files", ("three.png", PNG))]
    batch = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{url}/v1/tag:batch", files=files, timeout=PATIENCE))
    )
    batch.start()
    time.sleep(0.5)  # so that the photo is with the decoder; without that the next assertion fails nothing
    os.kill(dying, signal.SIGKILL)
    batch.join()
    assert answers[0].status_code == 200
    results = {result["id"]: result for result in answers[0].json()["results"]}
    assert "tags" in results["one.jpg"]
    assert "tags" in results["three.png"]
    if "error" in results["two.bmp"]:
        assert (results["two.bmp"]["error"]["code"], results["two.bmp"]["error"]["status"]) == ("decoder_failed", 500)
    assert post(url, BMP).status_code == 200
    assert 'status="500"' not in httpx.get(f"{url}/metrics").text


def test_a_file_of_too_many_pieces_is_refused(gateway: tuple[str, int]) -> None:
    url, _ = gateway
    assert_problem(post(url, ORDINARY[:2] + b"\xff\xe5\0\2" * 4100 + ORDINARY[2:]), 422, "image_too_complex")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_decoders_end_with_their_gateway(stop: signal.Signals) -> None:
    with running_gateway() as (url, process):
        assert post(url, BMP).status_code == 200
        child = decoder(process.pid)
        process.send_signal(stop)
        process.wait(PATIENCE)
        command = Path(f"/proc/{child}/cmdline")
        until(lambda: not command.exists() or not command.read_bytes())
