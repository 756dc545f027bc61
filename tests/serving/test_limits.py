"""How much a gateway accepts at once, and how it refuses more."""

import io
import re
import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.conftest import ROOT, running_gateway
from tests.polling import PATIENCE

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()


def slow_upload(url: str) -> socket.socket:
    """A request that sends its headers and the first bytes, and then nothing."""
    host, port = httpx.URL(url).host, httpx.URL(url).port
    connection = socket.create_connection((host, port))
    head = f"POST /v1/tag HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
    connection.sendall(head.encode() + PHOTO[:100])
    return connection


def test_slow_uploads_do_not_block_others_and_are_cut_and_those_given_up_cause_no_internal_error() -> None:
    with running_gateway(max_requests="2", upload_timeout="3") as (url, _):
        held = [slow_upload(url) for _ in range(8)]
        assert httpx.post(f"{url}/v1/tag", content=PHOTO).status_code == 200
        for connection in held:
            with connection:
                assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        for _ in range(2):  # as many as may be under way
            slow_upload(url).close()
        assert httpx.post(f"{url}/v1/tag", content=PHOTO).status_code == 200
        assert 'status="500"' not in httpx.get(f"{url}/metrics").text


def test_every_one_of_many_simultaneous_requests_is_answered_once() -> None:
    statuses: list[int] = []
    with running_gateway(max_requests="8") as (url, _):

        def ask() -> None:
            statuses.append(httpx.post(f"{url}/v1/tag", content=PHOTO, timeout=PATIENCE).status_code)

        crowd = [threading.Thread(target=ask) for _ in range(40)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
    assert len(statuses) == 40
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 8


def test_uploads_stay_within_their_limit_and_a_stalled_one_makes_room() -> None:
    least = str(len(PHOTO))
    limits = {"max_body": least, "max_batch_body": least, "max_pending_bytes": least}
    statuses = []
    with running_gateway(**limits) as (url, _), slow_upload(url) as held:
        deadline = time.monotonic() + 20
        while not statuses or statuses[-1] == 429:  # the upload may not have stalled for long enough yet
            assert time.monotonic() < deadline
            statuses.append(httpx.post(f"{url}/v1/tag", content=PHOTO).status_code)
        assert statuses[-1] == 200
        assert held.recv(4096).startswith(b"HTTP/1.1 408")


@pytest.mark.skipif(sys.platform != "linux", reason="counts and returns memory as Linux does")
def test_only_a_few_large_pictures_are_decoded_at_once() -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (2400, 2400)).save(stream, "PNG")
    pixels = 2400**2

    def peak(pid: int) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    with running_gateway(threads="4", max_decoding_pixels=str(pixels)) as (url, process):
        assert httpx.post(f"{url}/v1/tag", content=PHOTO).status_code == 200
        before, statuses = peak(process.pid), []

        def ask() -> None:
            statuses.append(httpx.post(f"{url}/v1/tag", content=stream.getvalue(), timeout=PATIENCE).status_code)

        crowd = [threading.Thread(target=ask) for _ in range(6)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        assert statuses == [200] * 6
        # Without the budget it is 44 to 52 bytes per pixel. Each thread also keeps some megabytes.
        assert peak(process.pid) - before < 18 * pixels + 4 * 2**24
