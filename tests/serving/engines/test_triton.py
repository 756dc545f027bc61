"""The Triton engine against a real Triton."""

import asyncio
import dataclasses
import json
import os
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import anyio
import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import InferenceServerException

from labelwise.errors import LabelwiseError
from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from serving.engines.triton import TritonEngine
from serving.errors import ServerBusy, ServerFailed, ServerTimeout, ServerUnavailable, UnknownModel
from serving.hanging import ModelStuck
from serving.inference import Pixels
from serving.local_triton.install import find_triton
from serving.local_triton.server import LocalTriton
from serving.triton.channel import translated
from tests.conftest import free_port
from tests.serving.local_triton.test_server import group, shared_memory
from tests.serving.publishing import copy_to_change

pytestmark = pytest.mark.anyio

PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def opened(repository: Path) -> Repository:
    return Repository.open(repository)


@pytest.fixture(scope="module")
def spec(opened: Repository) -> TaggerSpec:
    versions = next(iter(opened.taggers.values()))
    return versions[max(versions)].spec


@pytest.fixture(scope="module")
async def triton(repository: Path) -> AsyncIterator[LocalTriton]:
    """One Triton for the module's tests, each with an engine of its own."""
    triton = local_triton(repository)
    await triton.start()
    yield triton
    await triton.stop()


@pytest.fixture
async def engine(opened: Repository, triton: LocalTriton) -> AsyncIterator[TritonEngine]:
    engine = TritonEngine(opened, [triton.grpc_url])
    await engine.start()
    yield engine
    await engine.close()


def local_triton(repository: Path) -> LocalTriton:
    try:
        find_triton()
    except LabelwiseError as error:
        pytest.skip(str(error))
    return LocalTriton(repository, grpc_port=free_port(), metrics_port=free_port())


def noise(spec: TaggerSpec, batch: int) -> Pixels:
    return np.random.default_rng(batch).integers(0, 256, (batch, *spec.input.shape), dtype=np.uint8)


async def scores(engine: TritonEngine, spec: TaggerSpec, batch: int = 1, within: float = PATIENCE) -> np.ndarray:
    return (await engine.infer(spec.name, spec.version, noise(spec, batch), ["scores"], within))["scores"]


async def outcome(awaitable: Awaitable[object]) -> type | None:
    """The class of the error, if any."""
    try:
        await awaitable
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize("share", [0, 0.5, 1])
async def test_answers_are_onnx_runtimes_own(
    engine: TritonEngine, opened: Repository, spec: TaggerSpec, share: float
) -> None:
    pixels = noise(spec, max(1, int(share * spec.max_batch)))
    session = ort.InferenceSession(opened.taggers[spec.name][spec.version].weights, providers=["CPUExecutionProvider"])
    expected = session.run(list(spec.output_names), {spec.input.name: pixels})
    answer = await engine.infer(spec.name, spec.version, pixels, spec.output_names, PATIENCE)
    assert list(answer) == list(spec.output_names)
    for name, values in zip(spec.output_names, expected, strict=True):
        np.testing.assert_allclose(answer[name], values, atol=1e-4)


async def test_only_what_was_asked_for_comes_back(engine: TritonEngine, spec: TaggerSpec) -> None:
    last = spec.output_names[-1]
    assert list(await engine.infer(spec.name, spec.version, noise(spec, 1), [last], PATIENCE)) == [last]


async def test_wrong_pixels_are_the_callers_error(engine: TritonEngine, spec: TaggerSpec) -> None:
    one = noise(spec, 1)
    for pixels in (noise(spec, spec.max_batch + 1), one[:0], one[:, 1:], one.astype(np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            await engine.infer(spec.name, spec.version, pixels, ["scores"], PATIENCE)


async def test_unknown_model_and_version(engine: TritonEngine, spec: TaggerSpec) -> None:
    for name, version in (("nobody", 1), (spec.name, spec.version + 1)):
        with pytest.raises(UnknownModel):
            await engine.infer(name, version, noise(spec, 1), ["scores"], PATIENCE)


async def test_tritons_own_errors_are_translated(triton: LocalTriton, spec: TaggerSpec) -> None:
    client = grpcclient.InferenceServerClient(triton.grpc_url)
    model, largest = f"{spec.name}_model", noise(spec, spec.max_batch)
    fitting = grpcclient.InferInput(spec.input.name, list(largest.shape), "UINT8").set_data_from_numpy(largest)
    wrong = grpcclient.InferInput(spec.input.name, [1, 1], "UINT8").set_data_from_numpy(np.zeros((1, 1), np.uint8))
    cases = [
        (client.infer("nobody", [fitting]), UnknownModel),
        (client.infer(model, [fitting], "999"), UnknownModel),
        (client.infer(model, [fitting], client_timeout=0.01), ServerTimeout),
        (client.infer(model, [wrong]), ServerFailed),
    ]
    for call, expected in cases:
        with pytest.raises(InferenceServerException) as failure:
            await call
        assert type(translated(failure.value, triton.grpc_url)) is expected, failure.value
    await client.close()


async def test_deadline(engine: TritonEngine, spec: TaggerSpec) -> None:
    started = time.monotonic()
    with pytest.raises(ServerTimeout):
        await scores(engine, spec, spec.max_batch, within=0.01)
    assert time.monotonic() - started < 1
    await scores(engine, spec)


async def test_late_requests_in_tritons_queue_time_out(engine: TritonEngine, spec: TaggerSpec) -> None:
    calls = [outcome(scores(engine, spec, spec.max_batch, within=0.3)) for _ in range(20)]
    assert set(await asyncio.gather(*calls)) <= {None, ServerTimeout}
    await scores(engine, spec)


async def test_waiting_for_a_place_counts_and_cancelling_gives_it_back(
    opened: Repository, triton: LocalTriton, spec: TaggerSpec
) -> None:
    engine = TritonEngine(opened, [triton.grpc_url], max_in_flight=1)
    await engine.start()
    running = asyncio.create_task(scores(engine, spec, spec.max_batch))
    await asyncio.sleep(0.01)
    assert await outcome(scores(engine, spec, within=0.01)) is ServerTimeout
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await scores(engine, spec)
    await engine.close()


async def test_close_lets_running_requests_finish(opened: Repository, triton: LocalTriton, spec: TaggerSpec) -> None:
    engine = TritonEngine(opened, [triton.grpc_url])
    assert await outcome(scores(engine, spec)) is ServerUnavailable
    await engine.start()
    running = asyncio.create_task(scores(engine, spec, spec.max_batch))
    await asyncio.sleep(0.01)
    await engine.close()
    await engine.close()
    assert (await running).shape == (spec.max_batch, len(spec.labels))
    assert await outcome(scores(engine, spec)) is ServerUnavailable
    assert not await engine.is_ready()


async def test_unavailable_until_a_killed_triton_is_back(repository: Path, spec: TaggerSpec) -> None:
    """Also if what is killed is the process in which it runs the model."""
    triton = local_triton(repository)
    engine = TritonEngine(Repository.open(repository), triton)
    await engine.start()
    try:
        expected = await scores(engine, spec)
        assert await engine.is_ready()
        await is_killed_and_comes_back(triton, engine, spec, "triton")
        np.testing.assert_allclose(await scores(engine, spec), expected, atol=1e-6)
        await is_killed_and_comes_back(triton, engine, spec, "stub")
        np.testing.assert_allclose(await scores(engine, spec), expected, atol=1e-6)
    finally:
        await engine.close()
    assert triton.pid is None


async def is_killed_and_comes_back(triton: LocalTriton, engine: TritonEngine, spec: TaggerSpec, victim: str) -> None:
    killed = triton.pid
    assert killed is not None
    regions = shared_memory(group(killed))
    os.kill(victim_of(triton, spec, victim), signal.SIGKILL)
    started = time.monotonic()
    assert issubclass(await outcome(scores(engine, spec)) or object, ServerUnavailable)
    assert time.monotonic() - started < 5
    with anyio.fail_after(PATIENCE):
        while triton.pid in (None, killed) or not await engine.is_ready():  # which the next one may be at once
            assert issubclass(await outcome(scores(engine, spec)) or ServerUnavailable, ServerUnavailable)
            await asyncio.sleep(0.1)
    assert not [region for region in regions if region.exists()]


async def test_a_model_that_answers_nobody_has_its_triton_started_again(
    repository: Path, spec: TaggerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton itself gives signs of life all the while, and so does the process in which it runs the model."""
    monkeypatch.setattr("serving.engines.triton._STUCK_AFTER", 3.0)
    copy, stuck = copy_to_change(repository, tmp_path / "repository"), tmp_path / "stuck"
    program = copy / f"{spec.name}_model/{spec.version}/model.py"
    begin = "    def execute(self, requests):\n"
    hang = f"        while Path({str(stuck)!r}).exists(): __import__('time').sleep(0.1)\n"
    assert begin in program.read_text()
    program.write_text(program.read_text().replace(begin, begin + hang))
    triton = local_triton(copy)
    engine = TritonEngine(Repository.open(copy), triton)
    await engine.start()
    try:
        expected, first = await scores(engine, spec), triton.pid
        stuck.touch()
        assert await outcome(scores(engine, spec, within=10 * PATIENCE)) is ModelStuck
        stuck.unlink()
        with anyio.fail_after(PATIENCE):
            while (found := await outcome(scores(engine, spec))) is not None:
                assert issubclass(found, ServerUnavailable)
                await asyncio.sleep(0.1)
        assert triton.pid not in (None, first)
        np.testing.assert_allclose(await scores(engine, spec), expected, atol=1e-6)
    finally:
        await engine.close()


def victim_of(triton: LocalTriton, spec: TaggerSpec, victim: str) -> int:
    """Triton's process, or that in which its Python backend runs the model."""
    assert triton.pid is not None
    if victim == "triton":
        return triton.pid
    for pid, command in group(triton.pid).items():
        if command[0].endswith("_stub") and f"/{spec.name}_model/" in command[1]:
            return pid
    pytest.skip("this Triton runs the model in its own process")


@pytest.fixture
def three_versions(repository: Path, spec: TaggerSpec, tmp_path: Path) -> Path:
    """The repository with its newest version three times, and a queue that takes one request."""
    copy = shutil.copytree(repository, tmp_path / "repository")
    ensemble, model = copy / spec.name, copy / f"{spec.name}_model"
    for number in (spec.version + 1, spec.version + 2):
        for part in (ensemble, model, copy / f"{spec.name}_decode"):
            shutil.copytree(part / str(spec.version), part / str(number))
        file = ensemble / str(number) / "tagger.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"version": number}))
    for config in (model / "config.pbtxt", model / "configs/python.pbtxt"):
        text = config.read_text()
        assert "num_versions: 2" in text
        batching = "dynamic_batching {\n"
        assert batching in text
        config.write_text(text.replace(batching, f"{batching}  default_queue_policy {{ max_queue_size: 1 }}\n"))
    pinned = ensemble / "config.pbtxt"  # as an export would have left it: to the newest version
    pins = re.compile(rf"(?<=version: ){spec.version}$|(?<=versions: ){spec.version}$", re.MULTILINE)
    text, count = pins.subn(str(spec.version + 2), pinned.read_text())
    assert count == 3
    pinned.write_text(text)
    return copy


async def test_version_policy_and_full_queue(three_versions: Path, spec: TaggerSpec) -> None:
    engine = TritonEngine(Repository.open(three_versions), local_triton(three_versions))
    await engine.start()
    try:
        assert list(engine.catalogue[spec.name]) == [spec.version + 1, spec.version + 2]
        newest = engine.catalogue[spec.name][spec.version + 2]
        calls = [outcome(scores(engine, newest, spec.max_batch)) for _ in range(20)]
        outcomes = await asyncio.gather(*calls)
        assert set(outcomes) == {None, ServerBusy}
    finally:
        await engine.close()


async def test_another_model_there_is_refused(opened: Repository, triton: LocalTriton, spec: TaggerSpec) -> None:
    version = opened.taggers[spec.name][spec.version]
    outputs = (*spec.outputs[:-1], spec.outputs[-1].model_copy(update={"shape": (1, 2, 3)}))
    reshaped = spec.model_copy(update={"outputs": outputs})
    newer = spec.model_copy(update={"version": spec.version + 1})
    for other, words in ((reshaped, spec.outputs[-1].name), (newer, "newest version")):
        tagger = {other.version: dataclasses.replace(version, spec=other)}
        with pytest.raises(LabelwiseError, match=words) as failure:
            await TritonEngine(Repository(opened.path, {spec.name: tagger}), [triton.grpc_url]).start()
        assert "\n" not in str(failure.value)


async def test_no_triton_there(opened: Repository) -> None:
    url = f"127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(LabelwiseError, match=f"No Triton is ready at {url}") as failure:
        await TritonEngine(opened, [url], start_timeout=0.5).start()
    assert "\n" not in str(failure.value)
    assert time.monotonic() - started < 3
