"""HTTP over bare sockets, for requests that no client library would send."""

import contextlib
import json
import re
import socket
import time

import httpx

from tests.conftest import ROOT
from tests.polling import PATIENCE, until

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
GET = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


GET_AND_CLOSE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def connect(url: str) -> socket.socket:
    parts = httpx.URL(url)
    connection = socket.create_connection((parts.host, parts.port))
    connection.settimeout(30)
    return connection


def read_to_the_end(connection: socket.socket) -> bytes:
    """Reads until the server closes the connection; a reset raises."""
    received = bytearray()
    while chunk := connection.recv(65536):
        received += chunk
    return bytes(received)


def exchange(url: str, request: bytes) -> bytes:
    with connect(url) as connection:
        connection.sendall(request)
        return read_to_the_end(connection)


def send_until_cut(connection: socket.socket, data: bytes, pause: float) -> None:
    """Sends `data` repeatedly until the server stops reading."""
    deadline = time.monotonic() + 20
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            connection.sendall(data)
            time.sleep(pause)
        raise AssertionError("the server takes it for ever")


def read_answer(connection: socket.socket) -> bytes:
    """Reads one answer with a Content-Length from a connection that stays open."""
    received = bytearray()
    while not (match := re.search(rb"content-length: (\d+)\r\n(?:.*\r\n)*?\r\n", received)) or (
        len(received) < match.end() + int(match[1])
    ):
        chunk = connection.recv(65536)
        assert chunk, received
        received += chunk
    return bytes(received)


def assert_problem(answer: bytes, status: int, code: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head.lower()
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, code)
    assert re.search(rb"x-request-id: (\S+)", head)[1].decode() == problem["request_id"]  # type: ignore[index]
    assert problem["detail"].endswith(".")


def assert_well(url: str) -> None:
    answer = httpx.post(f"{url}/v1/tag", content=PHOTO, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text


def wait_for_room(url: str) -> None:
    """Waits until a request is answered again: the gateway takes a moment to see that clients have closed."""

    def is_answered() -> bool:
        with connect(url) as connection, contextlib.suppress(OSError):
            connection.sendall(GET)
            return connection.recv(12) == b"HTTP/1.1 200"
        return False

    until(is_answered)


def read_what_comes(connection: socket.socket) -> bytes:
    received = bytearray()
    with contextlib.suppress(OSError):
        while chunk := connection.recv(65536):
            received += chunk
    return bytes(received)
