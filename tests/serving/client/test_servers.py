"""Servers that are down, that die, hang, come back, or serve something else."""

import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.client import AsyncTagger, ServerTimeout, ServerUnavailable, Tagger, TagResult, WrongContract
from tests.conftest import free_port, running_gateway
from tests.serving.engines.test_triton import local_triton


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def requests_of(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("labelwise_images_total"))


@pytest.mark.parametrize("first", [True, False])
def test_one_of_two_is_down(first: bool, triton_url: str, photos: list[Path]) -> None:
    servers = [f"grpc://127.0.0.1:{free_port()}", triton_url][:: 1 if first else -1]
    with Tagger(servers, "scenes") as tagger:
        started = time.monotonic()
        for _ in range(3):
            assert all(result.error is None for result in tagger.tag(photos[:4]))
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_one_of_two_hangs(scheme: str, silent: int, triton_url: str, gateway_url: str, photos: list[Path]) -> None:
    live = triton_url if scheme == "grpc" else gateway_url
    servers = f"{scheme}://127.0.0.1:{silent},{live}"
    with Tagger(servers, "scenes", timeout=6, connect_timeout=4) as tagger:
        assert all(result.error is None for result in tagger.tag(photos))


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_only_one_hangs(scheme: str, silent: int) -> None:
    started = time.monotonic()
    # gRPC treats a connection without HTTP/2 as no connection, and may know the port from another test.
    words = f"{scheme}://127.0.0.1:{silent} (did|does) not answer"
    with pytest.raises((ServerTimeout, ServerUnavailable), match=words):
        Tagger(f"{scheme}://127.0.0.1:{silent}", "scenes", connect_timeout=1).connect()
    assert time.monotonic() - started < 5


def test_gateways_take_turns_and_one_may_die_and_return(gateway_url: str, photos: list[Path]) -> None:
    port, before = free_port(), requests_of(gateway_url)
    expected = [str(photo) for photo in itertools.islice(itertools.cycle(photos), 60)]
    with (
        running_gateway("--port", str(port)) as (dying, process),
        Tagger([gateway_url, dying], "scenes", batch=2) as tagger,
    ):
        until_served(dying, tagger, photos)
        stream = tagger.tag_stream(expected)
        results = [next(stream) for _ in range(20)]
        assert min(requests_of(gateway_url) - before, requests_of(dying)) > 0
        process.kill()
        process.wait()
        results += stream
        assert [result.id for result in results] == expected
        assert [result.error for result in results] == [None] * len(expected)
        with running_gateway("--port", str(port)) as (returned, _):
            until_served(returned, tagger, photos)


def until_served(url: str, tagger: Tagger, photos: list[Path]) -> None:
    """Tag until that gateway has had its turn."""
    deadline = time.monotonic() + 60
    while not requests_of(url):
        assert time.monotonic() < deadline
        tagger.tag(photos[:4])


def test_the_other_gateway_answers_what_one_took_before_it_hung(gateway_url: str, photos: list[Path]) -> None:
    """Without signs of life, half of the timeout would have to pass first: 60 s."""
    with (
        running_gateway() as (hanging, process),
        Tagger([gateway_url, hanging], "scenes", batch=1, timeout=120) as tagger,
    ):
        until_served(hanging, tagger, photos)
        process.send_signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            results = tagger.tag(itertools.islice(itertools.cycle(photos), 12))
            took = time.monotonic() - started
        finally:
            process.send_signal(signal.SIGCONT)
    assert [result.error for result in results] == [None] * 12
    assert took < 40


@pytest.fixture
def newer(repository: Path, tmp_path: Path) -> Path:
    """The repository with its version called 2."""
    copy = shutil.copytree(repository, tmp_path / "repository")
    for part in ("scenes", "scenes_model", "scenes_decode"):
        (copy / part / "1").rename(copy / part / "2")
    for file in ("scenes/tagger.json", "scenes_model/tagger.json", "scenes/2/tagger.json"):
        text = json.loads((copy / file).read_text())
        (copy / file).write_text(json.dumps(text | {"version": 2}))
    return copy


def test_another_version_is_not_mixed_in(gateway_url: str, newer: Path, photos: list[Path]) -> None:
    with running_gateway("--repository", str(newer)) as (url, _):
        with Tagger([gateway_url, url], "scenes") as tagger:
            mine = tagger.spec.version
            for _ in range(4):
                assert {result.version for result in tagger.tag(photos[:2])} == {mine}
        with Tagger(url, "scenes") as tagger:
            assert tagger.tag(photos[:1])[0].version == 2


def test_the_only_gateway_dies_and_returns_with_the_same_version_and_another(newer: Path, photos: list[Path]) -> None:
    port = free_port()
    results, source = [], itertools.cycle(photos)
    with running_gateway("--port", str(port)) as (url, process):
        tagger = Tagger(url, "scenes", batch=2, timeout=60)
        stream = tagger.tag_stream(itertools.islice(source, 40))
        results += [next(stream) for _ in range(10)]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with running_gateway("--port", str(port)):
        results += stream
    assert [(result.error, result.version) for result in results] == [(None, 1)] * 40
    with (
        running_gateway("--port", str(port), "--repository", str(newer)),
        tagger,
        pytest.raises(WrongContract, match="serves scenes version 2, not 1 as at first; make a new client"),
    ):
        tagger.tag(photos[:1])


def test_a_gateway_that_takes_less_at_once(photos: list[Path], tmp_path: Path) -> None:
    """Batches are halved until they fit; the photo that never does has an error of its own."""
    sizes = sorted(photo.stat().st_size for photo in photos[:8])
    with (
        running_gateway(max_images="3", max_body=str(sizes[-1] - 1)) as (url, _),
        Tagger(url, "scenes") as tagger,
    ):
        results = tagger.tag(photos[:8])
    errors = [result.error.code if result.error else None for result in results]
    assert errors == ["body_too_large" if photo.stat().st_size == sizes[-1] else None for photo in photos[:8]]


def test_triton_dies_and_returns(repository: Path, photos: list[Path]) -> None:
    async def tagged() -> list[TagResult]:
        triton = local_triton(repository)
        await triton.start()
        try:
            async with AsyncTagger(f"grpc://{triton.grpc_url}", "scenes") as tagger:
                results = []
                async for result in tagger.tag_stream(itertools.islice(itertools.cycle(photos), 60)):
                    results.append(result)
                    if len(results) == 20:
                        assert triton.pid is not None
                        os.kill(triton.pid, signal.SIGKILL)
                return results
        finally:
            await triton.stop()

    assert [result.error for result in asyncio.run(tagged())] == [None] * 60
