"""Two real Tritons behind one gateway: while one of them lives, no client gets an error."""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from tritonclient.grpc.aio import InferenceServerClient

from labelwise.errors import LabelwiseError
from serving.client import AsyncTagger
from serving.local_triton.install import find_triton
from serving.local_triton.server import LocalTriton
from tests.conftest import ROOT, free_port, running_gateway
from tests.export.test_real_triton import triton as explicit_triton
from tests.polling import until, until_async
from tests.serving.publishing import copy_to_change, publish_next

pytestmark = pytest.mark.anyio

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
PATIENCE = 60.0  # seconds
ENOUGH = 10  # requests
SOON = 20.0  # seconds: far from the deadline of 30, and from half of the client's 120


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def tritons(*repositories: Path, **options: float) -> AsyncIterator[tuple[list[LocalTriton], list[int]]]:
    """A Triton for each repository, and the ports of their metrics."""
    try:
        find_triton()
    except LabelwiseError as error:
        pytest.skip(str(error))
    ports = [free_port() for _ in repositories]
    started = [
        LocalTriton(repository, grpc_port=free_port(), metrics_port=port, **options)  # type: ignore[arg-type]
        for repository, port in zip(repositories, ports, strict=True)
    ]
    try:
        for triton in started:
            await triton.start()
        yield started, ports
    finally:
        for triton in started:
            await triton.stop()


@asynccontextmanager
async def load(url: str, clients: int = 2) -> AsyncIterator[list[httpx.Response]]:
    """Clients that send one photo after the other, and keep every answer."""
    answers: list[httpx.Response] = []

    async def send(client: httpx.AsyncClient) -> None:
        while True:
            answers.append(await client.post("/v1/tag", content=PHOTO))
            await asyncio.sleep(0.05)  # leaves Triton time to load

    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        tasks = [asyncio.create_task(send(client)) for _ in range(clients)]
        yield answers
        for task in tasks:
            task.cancel()
        failures = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(failure, asyncio.CancelledError) for failure in failures), failures


def served(metrics_port: int) -> int:
    """How many requests a Triton has answered since it was started; 0 while it is down."""
    try:
        text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    except httpx.HTTPError:
        return 0
    found = re.search(r'nv_inference_request_success{model="scenes_model",version="1"} (\d+)', text)
    return int(found[1]) if found else 0


async def test_each_of_two_may_be_killed_and_a_version_is_served_once_both_serve_it(
    repository: Path, tmp_path: Path
) -> None:
    """A killed Triton is replaced by the other, and used again when it is back. A version goes once neither has it."""
    copies = [copy_to_change(repository, tmp_path / name) for name in ("one", "two")]
    gateways = copy_to_change(repository, tmp_path / "gateways")
    async with tritons(*copies, reload_interval=0.2, retire_after=6) as (both, ports):
        # The gateway also starts if one Triton is missing.
        urls = ",".join([f"127.0.0.1:{free_port()}", *(triton.grpc_url for triton in both)])
        arguments = ("--repository", str(gateways), "--engine", "triton", "--triton-url", urls)
        with running_gateway(*arguments, reload_interval="0.2") as (url, _):
            async with load(url) as answers:
                await each_is_killed(both, ports)
                ready = await asyncio.to_thread(httpx.get, f"{url}/v2/health/ready")
                assert len({answer.text.partition(',"request_id"')[0] for answer in answers}) == 1
                assert ready.status_code == 200
                await a_version_comes_to_one_and_then_to_the_other(url, gateways, copies, both)
                sent = len(answers)
                await asyncio.to_thread(until, lambda: len(answers) > sent + 10)
                # Its own request: one of the load that began before may be the last that is answered.
                newest = await asyncio.to_thread(httpx.post, f"{url}/v1/tag", content=PHOTO)
    assert {answer.status_code for answer in answers} == {200}
    assert (newest.status_code, newest.json()["version"]) == (200, 2)


async def each_is_killed(both: list[LocalTriton], ports: list[int]) -> None:
    for triton, port in zip(both, ports, strict=True):
        await asyncio.to_thread(until, lambda: min(map(served, ports)) > ENOUGH)  # they take turns
        assert triton.pid is not None
        os.kill(triton.pid, signal.SIGKILL)
        await asyncio.to_thread(until, lambda port=port: served(port) == 0)  # type: ignore[misc]
    await asyncio.to_thread(until, lambda: min(map(served, ports)) > ENOUGH)


async def a_version_comes_to_one_and_then_to_the_other(
    url: str, gateways: Path, copies: list[Path], both: list[LocalTriton]
) -> None:
    def versions() -> list[int]:
        return list(httpx.get(f"{url}/v1/models/scenes").json()["versions"])

    publish_next(gateways, keep=1)
    publish_next(copies[0], keep=1)
    async with InferenceServerClient(both[0].grpc_url) as client:
        await until_async(lambda: client.is_model_ready("scenes", "2"))
    await asyncio.sleep(1)  # five looks of the gateway
    assert await asyncio.to_thread(versions) == [1]  # the other does not serve it yet
    publish_next(copies[1], keep=1)
    await asyncio.to_thread(until, lambda: versions() == [2])


async def test_the_other_triton_answers_the_requests_of_one_that_hangs(repository: Path, tmp_path: Path) -> None:
    """Through the gateway and the Python client. SIGSTOP suspends the Triton, so its connections stay open."""
    copy = copy_to_change(repository, tmp_path / "copy")
    with (
        explicit_triton(copy, tmp_path / "one") as (first, *ports),
        explicit_triton(copy, tmp_path / "two") as (second, *others),
    ):
        for client in (first, second):
            client.load_model("scenes")
        urls = [f"127.0.0.1:{port}" for port, _ in (ports, others)]
        metrics = [ports[1], others[1]]
        hung = pid_listening_at(others[0])
        with running_gateway("--engine", "triton", "--triton-url", ",".join(urls)) as (url, _):
            async with (
                AsyncTagger([f"grpc://{each}" for each in urls], "scenes", batch=1, timeout=120) as tagger,
                load(url, clients=6) as answers,
            ):
                while min(map(served, metrics)) < ENOUGH:
                    assert (await tagger.tag([PHOTO]))[0].error is None
                os.kill(hung, signal.SIGSTOP)
                try:
                    started, before = time.monotonic(), len(answers)
                    results = await tagger.tag([PHOTO] * 12)
                    took = time.monotonic() - started
                    await asyncio.to_thread(until, lambda: len(answers) > before + 30)
                finally:
                    os.kill(hung, signal.SIGCONT)
                was = served(metrics[1])
                await asyncio.to_thread(until, lambda: served(metrics[1]) > was + ENOUGH)  # it is used again
    assert {answer.status_code for answer in answers} == {200}
    assert max(answer.elapsed.total_seconds() for answer in answers) < SOON
    assert [result.error for result in results] == [None] * 12
    assert took < SOON


def pid_listening_at(port: int) -> int:
    """The Triton that was started with this gRPC port."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_text().split("\0")
            if words[0].endswith("tritonserver") and f"--grpc-port={port}" in words:
                return int(file.parent.name)
    raise AssertionError(f"no Triton listens at {port}")
