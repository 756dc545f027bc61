"""What the Triton engine takes up and gives up while it runs, against a real Triton."""

import asyncio
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as grpcclient
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from labelwise.errors import LabelwiseError
from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from serving.client import AsyncTagger
from serving.engines.triton import TritonEngine
from serving.errors import UnknownModel
from serving.local_triton.install import find_triton
from serving.local_triton.server import LocalTriton
from serving.triton.channel import CHANNEL
from tests.conftest import ROOT, free_port
from tests.export.test_real_triton import encoded, live
from tests.export.test_real_triton import triton as explicit_triton
from tests.polling import until
from tests.serving.engines.test_triton import noise, outcome
from tests.serving.publishing import copy_to_change, publish_next

pytestmark = pytest.mark.anyio

PHOTO = ROOT / "tests/assets/photos/sunset-bay-palm.jpg"
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


@pytest.mark.parametrize("fault", ["graph", "decoder", "no program"])
async def test_a_start_over_a_broken_newest_version_serves_the_one_before(
    changing: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Triton alone would load neither version; without a program it would hang."""
    find_or_skip()
    publish_next(changing, broken=fault == "graph")
    if fault == "decoder":
        (changing / "scenes_decode/2/model.py").write_text("no Python")
    if fault == "no program":
        (changing / "scenes_model/2/model.py").unlink()
    triton = LocalTriton(changing, grpc_port=free_port(), metrics_port=free_port(), start_timeout=PATIENCE)
    engine = TritonEngine(Repository.open(changing, skip_broken=True), triton)
    await engine.start()
    try:
        assert versions(engine) == [1]
        await scores(engine, 1)
        assert caplog.text.count("scenes version 2 is not served") == 1
        async with grpcclient.InferenceServerClient(triton.grpc_url) as client:
            assert await client.is_server_ready()
            answer = await client.infer("scenes", [encoded(PHOTO)])
            assert answer.as_numpy("scores").shape == (1, 5)
            config = (await client.get_model_config("scenes")).config
            told = TaggerSpec.parse(config.parameters["tagger"].string_value, "it")
            assert told == engine.catalogue["scenes"][1]
    finally:
        await engine.close()


@contextmanager
def triton_after_a_failed_load(repository: Path, folder: Path) -> Iterator[tuple[Path, InferenceServerClient, int]]:
    """A repository, and a Triton that has its version 1 and failed to load its version 2.

    Triton 2.51 crashes now and then when a load fails. Then another one takes its place.
    """
    for attempt in range(5):
        changing = copy_to_change(repository, folder / f"repository-{attempt}")
        with explicit_triton(changing, folder / f"triton-{attempt}") as (client, port, _):
            client.load_model("scenes")
            publish_next(changing, broken=True)
            with pytest.raises(InferenceServerException):
                client.load_model("scenes")
            time.sleep(0.5)  # it answers before it crashes
            if live(client):
                yield changing, client, port
                return
    pytest.fail("each of five Tritons crashed when it could not load a version")


async def test_it_has_versions_loaded_where_it_is_told_to_and_the_newest_cannot_be_loaded_at_first(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Triton that failed to load a version stays unready, and answers with the previous version."""
    monkeypatch.setattr("serving.engines.triton_server._NEWEST_WITHIN", 1.0)
    with triton_after_a_failed_load(repository, tmp_path) as (changing, client, port):
        assert not client.is_server_ready()
        engine = TritonEngine(Repository.open(changing), [f"127.0.0.1:{port}"], load=True)
        await engine.start()
        assert versions(engine) == [1]
        await scores(engine, 1)
        await engine.reload()
        for part in ("scenes", "scenes_decode", "scenes_model"):
            shutil.rmtree(changing / part / "2")
        publish_next(changing)  # the same number, mended
        await engine.reload()
        assert versions(engine) == [1, 2]
        await scores(engine, 2)
        publish_next(changing)
        await engine.reload()
        assert max(versions(engine)) == 3
        await engine.close()


async def test_a_response_cache_gives_every_request_the_outputs_that_it_names(changing: Path, tmp_path: Path) -> None:
    """Triton's cache ignores which outputs are named: what one asked for would be what the next gets."""
    file = changing / "scenes_model/configs/python.pbtxt"
    file.write_text(f"{file.read_text()}\nresponse_cache {{ enable: true }}\n")
    cache = "--cache-config=local,size=16777216"
    with explicit_triton(changing, tmp_path / "triton", cache) as (client, port, metrics):
        client.load_model("scenes")
        url = f"127.0.0.1:{port}"
        engine = TritonEngine(Repository.open(changing), [url])
        await engine.start()
        spec = engine.catalogue["scenes"][1]
        pixels = noise(spec, 1)
        for outputs in (["scores"], ["attention"], ["embeddings", "scores"]):
            answer = await engine.infer("scenes", 1, pixels, outputs, PATIENCE)
            assert list(answer) == outputs
        async with AsyncTagger(f"grpc://{url}", "scenes", send="pixels") as tagger:
            (tagged,) = await tagger.tag([PHOTO])
            (embedded,) = await tagger.embed([PHOTO])
            assert (tagged.error, embedded.error) == (None, None)
        async with httpx.AsyncClient() as asking:
            text = (await asking.get(f"http://127.0.0.1:{metrics}/metrics")).text
        found = re.search(r'nv_cache_num_hits_per_model{model="scenes_model",version="1"} (\d+)', text)
        assert found
        assert int(found[1]) >= 3  # otherwise nothing of this was asked of the cache
        await engine.close()


async def test_a_triton_that_ends_answers_its_queue_but_cancelled_requests_have_left_it(repository: Path) -> None:
    """It may have other clients than the engine that ends it."""
    find_or_skip()
    port = free_port()
    triton = LocalTriton(repository, grpc_port=free_port(), metrics_port=port)
    engine = TritonEngine(Repository.open(repository), triton)
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
        image = grpcclient.InferInput("image", [8, *spec.input.shape], "UINT8").set_data_from_numpy(large[:8])
        async with grpcclient.InferenceServerClient(triton.grpc_url, channel_args=CHANNEL) as client:
            others = [asyncio.create_task(client.infer("scenes_model", [image])) for _ in range(10)]
            await until_counted(port, PENDING, 3)
            closing = asyncio.create_task(engine.close())
            answers = await asyncio.gather(*others, return_exceptions=True)
            assert len([answer for answer in answers if not isinstance(answer, Exception)]) >= 3, answers
        await closing
    finally:
        await engine.close()


async def until_counted(metrics_port: int, what: str, wanted: int) -> None:
    """Triton counts a moment after it has answered."""

    def is_counted() -> bool:
        text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text
        found = re.search(rf"nv_inference_{re.escape(what)} (\d+)", text)
        return found is not None and int(found[1]) >= wanted

    await asyncio.to_thread(until, is_counted)


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
