"""Unread bodies: the refusal arrives, and the rest is not read without end."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import running_gateway
from tests.serving.raw_http import (
    GET,
    PHOTO,
    assert_problem,
    assert_well,
    connect,
    read_answer,
    read_what_comes,
    send_until_cut,
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway with short limits."""
    limits = {"header_timeout": "1", "send_timeout": "1", "keep_alive_timeout": "1"}
    with running_gateway(**limits) as (url, _):
        yield url


def test_a_refused_body_is_not_read_to_the_end(url: str) -> None:
    head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\n"
    uploads = {
        b"Content-Length: 100000000": bytes(2**20),
        b"Transfer-Encoding: chunked": b"100000\r\n" + bytes(2**20) + b"\r\n",
    }
    with ExitStack() as stack:
        senders = []
        for length, data in uploads.items():
            connection = stack.enter_context(connect(url))
            connection.sendall(head + length + b"\r\n\r\n")
            sender = threading.Thread(target=send_until_cut, args=(connection, data, 0.02))
            sender.start()
            senders.append((connection, sender))
        for connection, sender in senders:
            assert_problem(read_what_comes(connection), 413, "body_too_large")
            sender.join()  # the server cut it, not this test
    assert_well(url)


def test_a_refusal_of_a_short_body_keeps_the_connection(url: str) -> None:
    with connect(url) as connection:
        for _ in range(2):
            connection.sendall(
                b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n" + bytes(20_000)
            )
            assert read_answer(connection).startswith(b"HTTP/1.1 404")
            connection.sendall(bytes(30_000))
        connection.sendall(GET)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")


def test_a_refused_short_body_that_drips_is_cut(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n")
        send_until_cut(connection, b"x", 0.1)
        assert read_what_comes(connection).startswith(b"HTTP/1.1 404")


def test_a_client_that_asks_first_is_told_not_to_send(url: str) -> None:
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n"
    with connect(url) as connection:
        connection.sendall(head)
        answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 404")
        assert b"connection: close" in answer
    with connect(url) as connection:
        connection.sendall(
            b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n"
            % len(PHOTO)
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(PHOTO)
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
