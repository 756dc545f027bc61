"""What ends a request early: its deadline, on both engines, and a client that hangs up."""

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import running_gateway
from tests.polling import until
from tests.serving.gateway.requests.test_decoders import decoder
from tests.serving.gateway.routes.test_tag import assert_problem
from tests.serving.raw_http import PHOTO, connect

PATIENCE = 60.0  # seconds
MANY = 48
TAGGED = 'labelwise_images_total{model="scenes",version="1"}'


@pytest.fixture(scope="module")
def slow() -> bytes:
    """A photo whose decoding takes a while: no JPEG, so it is decoded whole."""
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


@pytest.fixture(scope="module")
def bitmap() -> bytes:
    """A photo that is decoded in a process, which can be made to wait."""
    stream = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).save(stream, "BMP")
    return stream.getvalue()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway with one thread to decode, so that work waits."""
    with running_gateway(threads="1", max_batch_body=str(2**29), max_pending_bytes=str(2**30)) as (url, _):
        yield url


@pytest.mark.parametrize("address", ["/v1/tag", "/v1/explain", "/v1/embed", "/v1/tag:batch"])
def test_a_request_that_gives_little_time_is_told_so(client: httpx.Client, slow: bytes, address: str) -> None:
    body = {"files": [("files", slow)] * 4} if address.endswith("batch") else {"content": slow}
    answer = client.post(address, headers={"X-Request-Timeout": "0.001"}, **body)
    assert_problem(answer, 504, "deadline_exceeded")
    # More than the server gives is no more than the server gives, and no error.
    assert client.post(address, headers={"X-Request-Timeout": "86400"}, **body).status_code == 200


@pytest.mark.parametrize("given", ["", "0", "0.0", "-1", "nan", "inf", "soon", "1_0", "1,5", "0e9", "\xb2"])
def test_what_is_no_time(client: httpx.Client, given: str) -> None:
    headers = {"X-Request-Timeout": given.encode("latin-1")}
    assert_problem(client.post("/v1/tag", content=PHOTO, headers=headers), 422, "invalid_request")


def value(url: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0


def batch_request(photo: bytes, count: int) -> bytes:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n' + photo + b"\r\n"
    body = part * count + b"--x--\r\n"
    head = b"POST /v1/tag:batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.skipif(sys.platform != "linux", reason="finds the decoder as Linux shows processes")
def test_a_client_that_hangs_up_ends_its_work(bitmap: bytes) -> None:
    with running_gateway(threads="1") as (url, process):
        os.kill(decoder(process.pid), signal.SIGSTOP)  # without it, the work does not end by itself
        with connect(url) as connection:
            connection.sendall(batch_request(bitmap, 3))
            until(lambda: value(url, "labelwise_requests_in_flight") == 1)
        until(lambda: value(url, "labelwise_requests_in_flight") == 0)
        assert value(url, 'labelwise_problems_total{code="client_closed"}') == 1
        assert httpx.post(f"{url}/v1/tag", content=PHOTO, timeout=PATIENCE).status_code == 200
        assert value(url, TAGGED) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="finds the decoder as Linux shows processes")
def test_single_photos_nobody_waits_for_are_not_tagged(bitmap: bytes) -> None:
    with running_gateway(threads="1") as (url, process):
        stopped = decoder(process.pid)
        os.kill(stopped, signal.SIGSTOP)
        connections = [connect(url) for _ in range(10)]
        for connection in connections:
            head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(bitmap)
            connection.sendall(head + bitmap)
        until(lambda: value(url, "labelwise_requests_in_flight") == 10)
        for connection in connections:
            connection.close()
        until(lambda: value(url, "labelwise_requests_in_flight") == 0)
        assert value(url, 'labelwise_problems_total{code="client_closed"}') == 10
        assert httpx.post(f"{url}/v1/tag", content=bitmap, timeout=PATIENCE).status_code == 200
        assert value(url, TAGGED) == 1


def test_a_batch_does_not_keep_single_photos_waiting(url: str, slow: bytes) -> None:
    order = []

    def send_batch() -> None:
        answer = httpx.post(f"{url}/v1/tag:batch", files=[("files", slow)] * MANY, timeout=PATIENCE)
        assert len(answer.json()["results"]) == MANY
        order.append("batch")

    batch = threading.Thread(target=send_batch)
    batch.start()
    until(lambda: value(url, "labelwise_requests_in_flight") == 1)
    for _ in range(3):
        assert httpx.post(f"{url}/v1/tag", content=PHOTO, timeout=PATIENCE).status_code == 200
        order.append("single")
    batch.join()
    assert order == ["single"] * 3 + ["batch"]
