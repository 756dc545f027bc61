"""What the Triton engine takes up and gives up while it runs, against a real Triton."""

import asyncio
import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from labelwise.errors import LabelwiseError
from labelwise.repository import Repository
from serving.engines.base import UnknownModel
from serving.engines.local_triton import LocalTriton
from serving.engines.triton import TritonEngine
from serving.engines.triton_install import find_triton
from tests.conftest import free_port
from tests.export.test_real_triton import triton as explicit_triton
from tests.serving.engines.test_triton import noise, outcome
from tests.serving.publishing import copy_to_change, publish_next

pytestmark = pytest.mark.anyio

PATIENCE = 60.0  # seconds
PENDING = 'pending_request_count{model="scenes_model",version="1"}'
CANCELED = 'request_failure{model="scenes_model",reason="CANCELED",version="1"}'


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def changing(repository: Path, tmp_path: Path) -> Path:
    return copy_to_change(repository, tmp_path / "repository")


async def scores(engine: TritonEngine, version: int) -> np.ndarray:
    spec = engine.catalogue["scenes"][max(engine.catalogue["scenes"])]
    return (await engine.infer("scenes", version, noise(spec, 1), ["scores"], PATIENCE))["scores"]


def versions(engine: TritonEngine) -> list[int]:
    return list(engine.catalogue["scenes"])


async def test_it_follows_a_triton_that_others_look_after(changing: Path, tmp_path: Path) -> None:
    with explicit_triton(changing, tmp_path / "triton") as (client, port, _):
        client.load_model("scenes")
        engine = TritonEngine(Repository.open(changing), [f"127.0.0.1:{port}"])
        await engine.start()
        publish_next(changing)
        await engine.reload()
        assert versions(engine) == [1]  # Triton has not loaded it
        client.load_model("scenes")
        await engine.reload()
        assert versions(engine) == [1, 2]
        assert np.abs(await scores(engine, 2) - await scores(engine, 1)).max() > 0.01
        publish_next(changing, keep=1)
        client.load_model("scenes")  # which lets go of the others at once
        assert await outcome(scores(engine, 1)) is UnknownModel  # and this looks for what there is instead
        assert versions(engine) == [3]
        await scores(engine, 3)
        client.unload_model("scenes_model")
        await engine.reload()
        assert versions(engine) == [3]  # the last one stays, and is not ready
        assert not await engine.is_ready()
        await engine.close()


async def test_it_has_versions_loaded_where_it_is_told_to(changing: Path, tmp_path: Path) -> None:
    with explicit_triton(changing, tmp_path / "triton") as (client, port, _):
        client.load_model("scenes")
        engine = TritonEngine(Repository.open(changing), [f"127.0.0.1:{port}"], load=True)
        await engine.start()
        publish_next(changing)
        await engine.reload()
        assert versions(engine) == [1, 2]
        await scores(engine, 2)
        await engine.close()


async def test_cancelled_requests_leave_tritons_queue(repository: Path) -> None:
    find_or_skip()
    port = free_port()
    engine = TritonEngine(
        Repository.open(repository), LocalTriton(repository, grpc_port=free_port(), metrics_port=port)
    )
    await engine.start()
    try:
        spec = engine.catalogue["scenes"][1]
        large = noise(spec, spec.max_batch)
        running = [asyncio.create_task(engine.infer("scenes", 1, large, ["scores"], PATIENCE)) for _ in range(10)]
        await until_counted(port, PENDING, 7)
        for request in running[2:]:
            request.cancel()
        answers = await asyncio.gather(*running, return_exceptions=True)
        assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [False] * 2 + [True] * 8
        await until_counted(port, CANCELED, 4)  # some may have begun already
    finally:
        await engine.close()


async def until_counted(metrics_port: int, what: str, wanted: int) -> None:
    """Triton counts a moment after it has answered."""
    async with httpx.AsyncClient() as client:
        for _ in range(int(PATIENCE / 0.05)):
            text = (await client.get(f"http://127.0.0.1:{metrics_port}/metrics")).text
            found = re.search(rf"nv_inference_{re.escape(what)} (\d+)", text)
            if found and int(found[1]) >= wanted:
                return
            await asyncio.sleep(0.05)
    raise AssertionError(f"Triton never counted {wanted} of {what}")


async def test_two_at_the_same_ports_at_once_do_not_share_a_triton(repository: Path) -> None:
    """Both find the ports free, and one is faster."""
    find_or_skip()
    ports = {"grpc_port": free_port(), "metrics_port": free_port()}
    both = [LocalTriton(repository, **ports) for _ in range(2)]  # type: ignore[arg-type]
    results = await asyncio.gather(*(triton.start() for triton in both), return_exceptions=True)
    try:
        (failure,) = [result for result in results if result is not None]
        assert isinstance(failure, LabelwiseError)
        assert "Triton did not start" in str(failure)
        assert "\n" not in str(failure)
        assert [triton.pid is None for triton in both] == [result is not None for result in results]
    finally:
        for triton in both:
            await triton.stop()


def find_or_skip() -> None:
    try:
        find_triton()
    except LabelwiseError as error:
        pytest.skip(str(error))
