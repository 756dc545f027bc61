"""Shared memory with a real Triton: used if allowed, returned, and removed after a client is killed."""

import contextlib
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray

from serving.client import ClientError, Tagger
from serving.triton.shared_memory import is_on_this_host
from tests.conftest import free_port
from tests.export.test_real_triton import triton

SHARED = Path("/dev/shm")

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="shared memory is no folder here")


@contextmanager
def open_triton(repository: Path, folder: Path, port: int | None = None) -> Iterator[grpcclient.InferenceServerClient]:
    """A Triton that allows shared memory, which the one of the gateway does not."""
    with triton(repository, folder, "--load-model=scenes", port=port) as (client, port, _):
        client.url = f"grpc://127.0.0.1:{port}"
        yield client


@pytest.fixture(scope="module")
def allowing(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpcclient.InferenceServerClient]:
    with open_triton(repository, tmp_path_factory.mktemp("triton")) as client:
        yield client


def regions(client: grpcclient.InferenceServerClient) -> set[str]:
    """Those of our clients that Triton knows."""
    names = set(client.get_system_shared_memory_status().regions)
    assert names <= files()
    return names


def files() -> set[str]:
    return {file.name for file in SHARED.glob("labelwise-pixels-*")}


def scores(tagger: Tagger, photos: list[Path]) -> NDArray[np.float64]:
    results = tagger.tag(photos)
    assert not any(result.error for result in results)
    return np.array([list(result.scores.values()) for result in results])


def age(names: set[str]) -> None:
    """A region that is new may belong to a client that has not locked it yet."""
    for name in names:
        os.utime(SHARED / name, (time.time() - 61,) * 2)


def test_the_same_scores_and_nothing_left(allowing: grpcclient.InferenceServerClient, photos: list[Path]) -> None:
    with Tagger(allowing.url, "scenes", shared_memory=False) as tagger:
        expected = scores(tagger, photos)
        assert regions(allowing) == set()
    with Tagger(allowing.url, "scenes", batch=3, in_flight=2) as tagger:
        seen: set[str] = set()
        for _ in range(5):
            np.testing.assert_allclose(scores(tagger, photos), expected, atol=1e-5)
            seen |= regions(allowing)
        assert 1 <= len(seen) <= 2
        embeddings = tagger.embed(photos[:1])[0].embeddings
        assert embeddings is not None
        assert embeddings.shape[0] == len(tagger.spec.labels)
    assert regions(allowing) == set()
    assert not files() & seen


def test_a_triton_that_forbids_it_gets_pixels_in_requests(
    triton_url: str, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "labelwise.client"), Tagger(triton_url, "scenes") as tagger:
        scores(tagger, photos)
    (line,) = [record.message for record in caplog.records]
    assert line.startswith(f"pixels go to {triton_url} in requests: ")
    assert "restricted" in line


def test_a_triton_that_was_restarted_gets_new_regions(repository: Path, photos: list[Path], tmp_path: Path) -> None:
    port = free_port()
    with contextlib.closing(Tagger(f"grpc://127.0.0.1:{port}", "scenes")) as tagger:
        with open_triton(repository, tmp_path / "first", port) as client:
            expected = scores(tagger, photos)
            before = regions(client)
            assert before
        with open_triton(repository, tmp_path / "second", port) as client:
            np.testing.assert_allclose(scores(tagger, photos), expected, atol=1e-5)
            np.testing.assert_allclose(scores(tagger, photos), expected, atol=1e-5)
            after = regions(client)
            assert after
            assert not (after | files()) & before
            tagger.close()
            assert regions(client) == set()
    assert not files() & after


def test_the_next_client_clears_away_what_a_killed_one_left(
    allowing: grpcclient.InferenceServerClient, photos: list[Path]
) -> None:
    program = (
        "import os, sys; from serving.client import Tagger;"
        "Tagger(sys.argv[1], 'scenes').tag(sys.argv[2:]); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, allowing.url, *photos], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = regions(allowing)
    assert left
    age(left)
    with Tagger(allowing.url, "scenes") as first:
        scores(first, photos)
        living = regions(allowing)
        assert living
        assert not living & left
        age(living)
        with Tagger(allowing.url, "scenes") as second:
            scores(second, photos)
            assert regions(allowing) > living
        scores(first, photos)
    assert regions(allowing) == set()
    assert not files() & (left | living)


def test_pixels_go_into_requests_if_memory_is_short(
    allowing: grpcclient.InferenceServerClient, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with caplog.at_level(logging.INFO, "labelwise.client"), Tagger(allowing.url, "scenes") as tagger:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            scores(tagger, photos)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "in requests: shared memory: File too large" in caplog.text
    assert regions(allowing) == set()


def test_a_call_that_ends_early_harms_nothing(allowing: grpcclient.InferenceServerClient, photos: list[Path]) -> None:
    """Triton still works on its requests when their regions are removed."""
    for _ in range(5):
        with Tagger(allowing.url, "scenes") as tagger:
            results = tagger.tag_stream(photos * 30)
            assert next(results).error is None
            taken = regions(allowing)
    assert allowing.is_server_live()
    deadline = time.monotonic() + 60
    while left := regions(allowing):  # Triton keeps what it is reading
        assert time.monotonic() < deadline
        age(left)
        with Tagger(allowing.url, "scenes") as tagger:
            scores(tagger, photos)
    assert not files() & taken


def test_a_program_that_closes_nothing_leaves_nothing(
    allowing: grpcclient.InferenceServerClient, photos: list[Path]
) -> None:
    program = (
        "import sys; from serving.client import Tagger;"
        "tagger = Tagger(sys.argv[1], 'scenes'); tagger.tag(sys.argv[2:]);"
        "print(*(region.name for region in tagger._client._transport._fleet.servers[0].link._memory._regions))"
    )
    ended = subprocess.run([sys.executable, "-c", program, allowing.url, *photos], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    names = set(ended.stdout.split())
    assert names
    assert not names & (regions(allowing) | files())


def test_a_triton_that_hangs_costs_no_more_than_the_timeout(
    repository: Path, photos: list[Path], tmp_path: Path
) -> None:
    with open_triton(repository, tmp_path / "triton") as client:
        (process,) = [
            int(file.parent.name)
            for file in Path("/proc").glob("[0-9]*/cmdline")
            if f"--grpc-port={client.url.rpartition(':')[2]}".encode() in file.read_bytes()
        ]
        tagger = Tagger(client.url, "scenes", timeout=3, batch=1, in_flight=8)
        tagger.connect()
        os.kill(process, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(ClientError):
                tagger.tag(photos)
            assert time.monotonic() - started < 5
            started = time.monotonic()
            tagger.close()
            assert time.monotonic() - started < 5
        finally:
            os.kill(process, signal.SIGCONT)
        assert client.is_server_live()


@pytest.mark.anyio
async def test_which_servers_are_on_this_host() -> None:
    own_name = socket.gethostname()
    for url in ("grpc://127.0.0.1:1", "grpc://localhost:1", f"grpc://{own_name}:1"):
        assert await is_on_this_host(url)
    for url in ("grpc://192.0.2.1:8001", "grpc://no-such-host.invalid:8001"):
        assert not await is_on_this_host(url)
