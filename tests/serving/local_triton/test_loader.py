"""A real Triton of our own follows its repository; a client that knows nothing of the repository asks it."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import InferenceServerException

from labelwise.errors import LabelwiseError
from serving.local_triton.install import find_triton
from serving.local_triton.server import LocalTriton
from serving.triton.channel import CHANNEL
from tests.conftest import ROOT, free_port
from tests.polling import until, until_async
from tests.serving.publishing import copy_to_change, publish_next

pytestmark = pytest.mark.anyio

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def changing(repository: Path, tmp_path: Path) -> AsyncIterator[tuple[Path, LocalTriton]]:
    """A copy of the bundled repository, and a Triton that follows it."""
    try:
        find_triton()
    except LabelwiseError as error:
        pytest.skip(str(error))
    copy = copy_to_change(repository, tmp_path / "repository")
    ports = {"grpc_port": free_port(), "metrics_port": free_port()}
    triton = LocalTriton(copy, **ports, reload_interval=0.1, retire_after=1.5)
    await triton.start()
    yield copy, triton
    await triton.stop()


async def versions(client: grpcclient.InferenceServerClient, model: str) -> list[int]:
    try:
        metadata = await client.get_model_metadata(model)
    except InferenceServerException:
        return []
    return sorted(map(int, metadata.versions))


async def until_served(client: grpcclient.InferenceServerClient, model: str, expected: list[int]) -> None:
    async def is_served() -> bool:
        return await versions(client, model) == expected

    await until_async(is_served)


async def ask_on_and_on(client: grpcclient.InferenceServerClient, done: asyncio.Event) -> list[float]:
    """Ask the ensemble, as any gRPC client would. Returns the highest score of each answer."""
    answers = []
    while not done.is_set():
        image = grpcclient.InferInput("IMAGE", [1, 1], "BYTES")
        image.set_data_from_numpy(np.array([[PHOTO]], dtype=np.object_))
        answers.append(float((await client.infer("scenes", [image])).as_numpy("scores").max()))
        await asyncio.sleep(0.1)
    return answers


async def test_it_follows_versions_and_taggers_and_clients_notice_nothing(
    changing: tuple[Path, LocalTriton], caplog: pytest.LogCaptureFixture
) -> None:
    repository, triton = changing
    async with grpcclient.InferenceServerClient(triton.grpc_url, channel_args=CHANNEL) as client:
        done = asyncio.Event()
        asking = asyncio.create_task(ask_on_and_on(client, done))
        publish_next(repository, keep=1)
        await until_served(client, "scenes_model", [1, 2])  # requests that began with the old one still need it
        await until_served(client, "scenes", [2])
        await until_served(client, "scenes_model", [2])
        publish_next(repository)
        await until_served(client, "scenes_model", [2, 3])
        await until_served(client, "scenes", [3])
        publish_next(repository)  # the policy is to load two
        await until_served(client, "scenes_model", [3, 4])
        publish_next(repository, name="other")
        await until_served(client, "other", [1])
        for part in ("other", "other_decode", "other_model"):
            shutil.rmtree(repository / part)
        for part in ("other", "other_decode", "other_model"):
            await until_served(client, part, [])
        done.set()
        assert len(set(np.round(await asking, 4))) == 4  # each version has answered, and nothing has failed
        assert "is not served" not in caplog.text


async def test_broken_versions_take_nothing_down_and_do_not_hinder_a_restart(
    changing: tuple[Path, LocalTriton], caplog: pytest.LogCaptureFixture
) -> None:
    """Also if only Triton finds the fault, which may kill it: it comes back with what it had."""
    repository, triton = changing
    async with grpcclient.InferenceServerClient(triton.grpc_url, channel_args=CHANNEL) as client:
        publish_next(repository, keep=1, broken=True)
        await asyncio.to_thread(until, lambda: "version 2 is not served" in caplog.text)
        assert await versions(client, "scenes") == [1]
        await publish_with_program(repository, 3, "no Python", caplog)
        for model in ("scenes", "scenes_model", "scenes_decode"):
            await until_served(client, model, [1])
        await killed(triton, client)
        await until_served(client, "scenes", [1])
        publish_next(repository, keep=1)
        await until_served(client, "scenes_model", [4])
        await until_served(client, "scenes", [4])
        assert caplog.text.count("is not served") == 2
        # Triton calls the next load a success and goes on with what it had, but could not start again with it.
        await publish_with_program(repository, 5, "import there_is_no_such_module", caplog)
        assert "there_is_no_such_module" in caplog.text
        publish_next(repository)
        await until_served(client, "scenes", [6])
        await killed(triton, client)
        await until_served(client, "scenes", [6])
        assert caplog.text.count("is not served") == 3


async def publish_with_program(repository: Path, version: int, program: str, caplog: pytest.LogCaptureFixture) -> None:
    """Publish the next version with another program, and wait until it is given up."""
    elsewhere = Path(shutil.copytree(repository, repository.with_name(f"elsewhere {version}")))
    publish_next(elsewhere)
    (elsewhere / f"scenes_model/{version}/model.py").write_text(program)
    shutil.copytree(elsewhere, repository, dirs_exist_ok=True)
    await asyncio.to_thread(until, lambda: f"version {version} is not served" in caplog.text)


async def killed(triton: LocalTriton, client: grpcclient.InferenceServerClient) -> None:
    assert triton.pid is not None
    os.kill(triton.pid, signal.SIGKILL)
    await until_served(client, "scenes", [])


async def test_a_version_that_stops_being_loadable_takes_no_other_down(
    changing: tuple[Path, LocalTriton], caplog: pytest.LogCaptureFixture
) -> None:
    """Its file is overwritten in place, which Triton notices only when it has to load the version again."""
    repository, triton = changing
    async with grpcclient.InferenceServerClient(triton.grpc_url, channel_args=CHANNEL) as client:
        publish_next(repository)
        await until_served(client, "scenes", [2])
        await overwritten(repository, 2, caplog)
        assert await versions(client, "scenes_model") == [1, 2]
        await killed(triton, client)
        await until_served(client, "scenes", [1])
        assert await versions(client, "scenes_model") == [1]
        await overwritten(repository, 1, caplog)
        publish_next(repository)
        await until_served(client, "scenes", [3])
        await until_served(client, "scenes_model", [3])
        assert caplog.text.count("is not served") == 2


@pytest.mark.parametrize("deaths", [1, 9])
async def test_a_triton_that_dies_during_a_load_tries_the_version_once_more(
    changing: tuple[Path, LocalTriton], tmp_path: Path, caplog: pytest.LogCaptureFixture, deaths: int
) -> None:
    """The first time, something else may have killed it. The second time, the version is to blame."""
    repository, triton = changing
    async with grpcclient.InferenceServerClient(triton.grpc_url, channel_args=CHANNEL) as client:
        elsewhere = Path(shutil.copytree(repository, repository.with_name("elsewhere")))
        publish_next(elsewhere)
        program = elsewhere / "scenes_model/2/model.py"
        loads = tmp_path / "loads"
        program.write_text(f"{DEADLY.format(loads=loads, deaths=deaths)}\n{program.read_text()}")
        shutil.copytree(elsewhere, repository, dirs_exist_ok=True)
        if deaths == 1:
            await until_served(client, "scenes", [2])
            assert "is not served" not in caplog.text
        else:
            await asyncio.to_thread(until, lambda: "version 2 is not served" in caplog.text)
            await until_served(client, "scenes", [1])
        assert loads.stat().st_size == 2


DEADLY = """
import os, signal
with open("{loads}", "a") as file:
    file.write(".")
if os.stat("{loads}").st_size <= {deaths}:
    os.kill(os.getppid(), signal.SIGKILL)
"""


async def overwritten(repository: Path, version: int, caplog: pytest.LogCaptureFixture) -> None:
    (repository / f"scenes_model/{version}/model.onnx").write_bytes(b"not a graph")
    said = f"scenes version {version} is not served"
    await asyncio.to_thread(until, lambda: said in caplog.text)
