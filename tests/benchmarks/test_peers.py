"""The comparison with other servers, without the other servers."""

import asyncio

import pytest

from benchmarks.peers.contestants import CONTESTANTS
from benchmarks.peers.environments import version_of
from benchmarks.peers.load import HttpConnection, Load, Window
from benchmarks.peers.protocols import OWN_ROUTE
from benchmarks.peers.running import SERVERS
from benchmarks.peers.table import tables
from benchmarks.peers.turns import CONNECTIONS, OVERLOAD, BareLoop, Turn

ANSWERS = {
    b"1": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"2": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    b"3": b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno",
    b"4": b"",
}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (request := await reader.read(1)) and ANSWERS[request]:
        writer.write(ANSWERS[request])
    writer.close()
    await writer.wait_closed()


def test_what_a_client_reads() -> None:
    async def ask() -> list[tuple[int, bytes]]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            connection = HttpConnection(server.sockets[0].getsockname()[1])
            answers = [await connection.ask(request) for request in (b"1", b"2", b"3", b"4", b"1")]
            await connection.close()
            return answers

    assert asyncio.run(ask()) == [(200, b"ok"), (200, b"ok"), (429, b"no"), (0, b""), (200, b"ok")]


def test_a_window_counts_refusals_and_no_latency_of_theirs() -> None:
    async def measure() -> Window:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            load = Load(lambda: HttpConnection(port), [b"1", b"3"])
            await load.grow(2, 30)
            window = await load.measure(0.1)
            await load.stop()
            return window

    window = asyncio.run(measure())
    assert abs(len(window.latencies) - window.refused) <= 2  # each client gets one and the other in turn
    assert window.failed == 0


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda contestant: contestant.key)
def test_every_contestant_is_pinned_and_has_its_file(contestant) -> None:
    if contestant.environment:
        assert version_of(contestant.package, contestant.environment)
    for argument in contestant.arguments:
        assert not argument.endswith(".py") or (SERVERS / argument).is_file()


def test_the_tables_show_servers_that_answered_nothing_or_were_left_out() -> None:
    everywhere = (*CONNECTIONS, OVERLOAD)
    bare = BareLoop(rate=70, cpu=14, memory=100)
    good = Turn({n: Window(1, [0.02] * 35) for n in everywhere}, dict.fromkeys(everywhere, 0.7), 200, 1, bare)
    silent = Turn({n: Window(1) for n in everywhere}, dict.fromkeys(everywhere, 0.0), 200, 1, bare)
    turns = {one: [silent if one.key == "triton" else good] for one in CONTESTANTS if one.key != "ray"}
    (ray,) = set(CONTESTANTS) - set(turns)
    text = tables({1: [bare], 8: []}, turns, {ray: "no 200 within 120 s: a reason"})
    assert "| labelwise | bare loop, batch 8 | 16 | 0.95 | 0.50 (0.50 to 0.50) | 0.70 (0.70 to 0.70) |" in text
    assert "Not measured: Ray Serve: no 200 within 120 s: a reason." in text
    assert "none" in text
    assert OWN_ROUTE.scores(b'{"scores": {"b": 0.25, "a": 0.5}}', ["a", "b"]).tolist() == [0.5, 0.25]
