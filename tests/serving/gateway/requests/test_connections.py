"""Raw sockets against the running gateway: slow, huge, many and broken; each is answered, and others do not notice."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.conftest import ROOT, running_gateway
from tests.polling import PATIENCE, until
from tests.serving.raw_http import (
    GET,
    GET_AND_CLOSE,
    PHOTO,
    assert_problem,
    assert_well,
    connect,
    exchange,
    read_answer,
    read_to_the_end,
    read_what_comes,
    send_until_cut,
    wait_for_room,
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A gateway with short limits."""
    limits = {"max_connections": "16", "header_timeout": "1", "send_timeout": "1", "keep_alive_timeout": "1"}
    with running_gateway(**limits) as (url, _):
        yield url


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS on the plain port
        b"HELLO\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nA: \x00\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
        b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n",
        b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/tag HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [localhost]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost:port\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: local host\r\n\r\n",
        b"GET http://user@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/0.9\r\nHost: localhost\r\n\r\n",
    ],
)
def test_malformed_http_is_a_problem_too(url: str, request_: bytes) -> None:
    assert_problem(exchange(url, request_), 400, "malformed_request")
    assert_well(url)


CHUNKED = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


@pytest.mark.parametrize(
    "endless", [b"0\r\n" + b"A: b\r\n" * 100_000, b"0\r\nA: " + b"b" * 600_000, b"1;a=" + b"b" * 600_000]
)
def test_chunk_extensions_and_trailers_are_limited(url: str, endless: bytes) -> None:
    """They do not count as upload, and would be kept as headers: a gigabyte within seconds."""
    with connect(url) as connection:
        connection.sendall(CHUNKED + endless)
        assert_problem(read_what_comes(connection), 431, "headers_too_large")
    assert_well(url)


@pytest.mark.parametrize(
    "framing",
    [
        b"0\r\nA: " + b"b" * 2**15 + b"\r\n\r\n",
        b"0\r\n" + b"A: bbbbbbbb\r\n" * 2800 + b"\r\n",
        b"1;a=" + b"b" * 2**15 + b"\r\nx\r\n0\r\n\r\n",
    ],
    ids=["trailer", "trailers", "extension"],
)
@pytest.mark.parametrize("before", [b"", b"1\r\nx\r\n" * 10_000], ids=["alone", "after many small chunks"])
def test_frames_of_a_body_have_the_documented_limit(url: str, framing: bytes, before: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(CHUNKED + before + framing)
        assert_problem(read_what_comes(connection), 431, "headers_too_large")


@pytest.mark.parametrize("framing", [b"0\r\nA: %b\r\n\r\n", b"1;a=%b\r\nx\r\n0\r\n\r\n"], ids=["trailer", "extension"])
def test_frames_within_the_limit_are_read(url: str, framing: bytes) -> None:
    once = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    assert_problem(exchange(url, once + framing % (b"b" * 24_000)), 415, "image_format_unsupported")


@pytest.mark.parametrize("size", [7, 100, 5000, 200_000])
def test_ordinary_chunks_of_any_size_are_read(url: str, size: int) -> None:
    chunks = (PHOTO[start : start + size] for start in range(0, len(PHOTO), size))
    body = b"".join(b"%x;name=value\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n"
    assert b'"label":"sunset"' in exchange(url, head + body + b"0\r\nA: trailer\r\n\r\n")


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"x,chunked"])
def test_other_transfer_codings_are_not_read_as_plain(url: str, coding: bytes) -> None:
    head = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: %b\r\n\r\n" % coding
    assert_problem(exchange(url, head + b"1\r\nx\r\n0\r\n\r\n"), 501, "transfer_coding_unsupported")
    assert_well(url)


@pytest.mark.parametrize(
    ("target", "status"),
    [(b"http://localhost/v2/health/live", 200), (b"HTTP://127.0.0.1:1/v2/health/live", 200),
     (b"http://[::1]/v2/health/live", 200), (b"http://evil.example/v2/health/live", 421),
     (b"http://localhost", 200), (b"http://localhost?a=/b", 200), (b"http://localhost:/v2/health/live", 200)],
)  # fmt: skip
def test_a_target_that_names_a_host_overrides_the_header(url: str, target: bytes, status: int) -> None:
    for header in (b"localhost", b"evil.example"):
        answer = exchange(url, b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (target, header))
        assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_white_space_around_a_header_value_is_ignored(url: str) -> None:
    request = b"GET /v2/health/live HTTP/1.1\r\nHost: \t localhost \t\r\nConnection: \t close \t\r\n\r\n"
    assert exchange(url, request).startswith(b"HTTP/1.1 200")


def test_options_of_the_whole_server(url: str) -> None:
    answer = exchange(url, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert_problem(answer, 404, "not_found")


def test_http_1_0_knows_no_interim_answers(url: str) -> None:
    head = b"POST /v1/tag HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
    assert exchange(url, head + PHOTO).startswith(b"HTTP/1.1 200")


def test_http_1_0_needs_no_host(url: str) -> None:
    assert exchange(url, b"GET /v2/health/live HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_trailers_are_not_headers(url: str) -> None:
    trailed = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1) + b"0\r\nX-Request-ID: trailer\r\n\r\n"
    answer = exchange(url, trailed)
    assert b"image_format_unsupported" in answer
    assert b"trailer" not in answer


def test_a_body_that_breaks_off_into_nonsense(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        time.sleep(0.3)  # so that the request is being worked on
        connection.sendall(b"nonsense\r\n")
        assert_problem(read_to_the_end(connection), 400, "malformed_request")


def test_nonsense_after_a_request_does_not_harm_its_answer(url: str) -> None:
    post = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
    answer = exchange(url, post + PHOTO + b"nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert_problem(answer[answer.index(b"HTTP/1.1 400") :], 400, "malformed_request")


def test_complete_requests_before_a_bad_one_are_answered(url: str) -> None:
    post = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
    for bad in (b"nonsense\r\n\r\n", CHUNKED + b"nonsense\r\n"):
        answer = exchange(url, (post + PHOTO) * 3 + bad)
        assert answer.count(b'"label":"sunset"') == 3
        assert_problem(answer[answer.index(b"HTTP/1.1 400") :], 400, "malformed_request")


def test_a_client_that_has_finished_sending_gets_its_answers(url: str) -> None:
    post = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
    for requests in (1, 3):
        for rest in (b"", b"GET / HTT"):  # what is not complete can never be
            with connect(url) as connection:
                connection.sendall((post + PHOTO) * requests + rest)
                connection.shutdown(socket.SHUT_WR)
                assert read_to_the_end(connection).count(b'"label":"sunset"') == requests
    with connect(url) as connection:
        connection.sendall(post + PHOTO[:1000])
        connection.shutdown(socket.SHUT_WR)
        assert read_to_the_end(connection) == b""


@pytest.mark.parametrize(
    "flood",
    [
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(200_000)),
        b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 3_000_000,
        b"GET /" + b"x" * 3_000_000,
        b"GET / HTTP/1.1\r\n" + b"X" * 3_000_000,
    ],
    ids=["many", "endless", "large", "an endless value", "an endless address", "an endless name"],
)
def test_header_floods(url: str, flood: bytes) -> None:
    with connect(url) as connection:
        sender = threading.Thread(target=send_until_cut, args=(connection, flood, 0.1))
        sender.start()
        assert_problem(read_to_the_end(connection), 431, "headers_too_large")
        connection.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert_well(url)


def test_slow_headers_are_cut(url: str) -> None:
    with ExitStack() as stack:
        slow = {b"GET /": b"x", GET[:-2] + b"X: ": b"x", GET + b"GET /": b"x", GET: b"\r\n"}
        connections = [stack.enter_context(connect(url)) for _ in slow]
        drips = []
        for connection, (head, drop) in zip(connections, slow.items(), strict=True):
            connection.sendall(head)
            drips.append(threading.Thread(target=send_until_cut, args=(connection, drop, 0.1)))
            drips[-1].start()
        assert_well(url)
        answers = [read_to_the_end(connection) for connection in connections]
        for connection, drip in zip(connections, drips, strict=True):
            connection.shutdown(socket.SHUT_RDWR)
            drip.join()
    assert answers[2].startswith(b"HTTP/1.1 200")
    for answer in answers:
        assert_problem(answer[answer.rindex(b"HTTP/1.1 4") :], 408, "header_timeout")


def test_connections_without_a_request_are_closed(url: str) -> None:
    with ExitStack() as stack:
        sent = (b"", GET, GET + b"\r\n")
        connections = [stack.enter_context(connect(url)) for _ in sent]
        for connection, data in zip(connections, sent, strict=True):
            connection.sendall(data)
        answers = [read_to_the_end(connection) for connection in connections]
    assert [answer.count(b"HTTP/1.1 200") for answer in answers] == [0, 1, 1]


def test_too_many_connections(url: str) -> None:
    with ExitStack() as stack:
        for _ in range(16):  # uploads on their way: those have more time than anything else here
            connection = stack.enter_context(connect(url))
            connection.sendall(b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
        answer = exchange(url, GET)
        assert_problem(answer, 503, "too_many_connections")
        assert b"retry-after: 1" in answer
        for _ in range(200):
            stack.enter_context(connect(url))  # far more than it even answers
    wait_for_room(url)
    assert_well(url)
    assert 'labelwise_problems_total{code="too_many_connections"}' in httpx.get(f"{url}/metrics").text


def test_more_connections_than_descriptors() -> None:
    command = f"ulimit -n 400; exec {sys.executable} -m labelwise serve --port 0"
    with subprocess.Popen(
        ["sh", "-c", command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        try:
            url = process.stdout.readline().split()[-1]
            with ExitStack() as stack:
                for _ in range(450):
                    stack.enter_context(connect(url))
                with connect(url) as connection:
                    assert read_what_comes(connection)[:12] in (b"", b"HTTP/1.1 503")
            wait_for_room(url)
        finally:
            process.terminate()
            log = process.communicate(timeout=PATIENCE)[1]
    assert "80 connections at most, not 1000: the limit on open files is 400" in log
    assert "Traceback" not in log


def test_pipelined_requests(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(GET * 4 + GET_AND_CLOSE)
        assert read_to_the_end(connection).count(b"HTTP/1.1 200") == 5
    with connect(url) as connection:
        connection.sendall(GET * 5000)
        assert read_what_comes(connection).count(b"HTTP/1.1 200") < 5000
    assert_well(url)


def test_a_client_that_hangs_up_during_its_answers_causes_no_internal_error(url: str) -> None:
    def answered() -> str:
        metrics = httpx.get(f"{url}/metrics").text
        assert 'code="internal"' not in metrics
        return metrics

    counted = 'labelwise_requests_total{route="other",status="200"}'
    assert counted not in answered()
    with connect(url) as connection:
        connection.sendall(GET.replace(b"/v2/health/live", b"/docs/assets/swagger-ui-bundle.js") * 8)
        connection.recv(1)
    until(lambda: counted in answered())


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0"])
def test_offers_of_other_protocols_change_nothing(url: str, protocol: bytes) -> None:
    offer = b"\r\nConnection: Upgrade\r\nUpgrade: %s\r\n" % protocol
    post = b"POST /v1/tag HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d%s\r\n" % (len(PHOTO), offer)
    with connect(url) as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", offer + b"\r\n"))
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        connection.sendall(post + PHOTO[:1000])
        time.sleep(0.1)
        connection.sendall(PHOTO[1000:])
        answer = read_answer(connection)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"label":"sunset"' in answer
    answers = exchange(url, (post + PHOTO) * 2 + GET_AND_CLOSE)
    assert (answers.count(b"HTTP/1.1 200"), answers.count(b'"label":"sunset"')) == (3, 2)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has this limit")
def test_clients_that_take_no_answer_are_cut(url: str) -> None:
    ask = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(16):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((httpx.URL(url).host, httpx.URL(url).port))
            connection.sendall(ask * 5)
        wait_for_room(url)


def test_answers_do_not_wait_for_acknowledgements(gateway_url: str) -> None:
    """Nagle's algorithm is off: with it on, every one of these would take 40 ms more."""
    seconds = []
    with connect(gateway_url) as connection:
        for _ in range(20):
            started = time.perf_counter()
            connection.sendall(GET)
            read_answer(connection)
            seconds.append(time.perf_counter() - started)
    assert min(seconds[5:]) < 0.03  # on a busy machine too: with the algorithm on, not one of them is
