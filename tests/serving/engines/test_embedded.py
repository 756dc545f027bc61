"""The embedded engine while its repository changes."""

import asyncio
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from labelwise.devices.choice import Device, choose_device
from labelwise.errors import RepositoryError
from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from serving.engines import create_engine
from serving.engines.embedded import EmbeddedEngine
from serving.errors import UnknownModel
from serving.settings import load_settings
from tests.polling import until_async
from tests.serving.publishing import BUNDLED, publish_next

SHAPE = TaggerSpec.read(BUNDLED / "scenes").input.shape  # publish_next publishes the same for every name

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def changing(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "repository"))


async def started(repository: Path, retire_after: float = 60) -> EmbeddedEngine:
    engine = EmbeddedEngine(Repository.open(repository), threads=1, retire_after=retire_after)
    await engine.start()
    return engine


async def scores(engine: EmbeddedEngine, name: str, version: int) -> np.ndarray:
    pixels = np.zeros((1, *SHAPE), np.uint8)
    return (await engine.infer(name, version, pixels, ["scores"], 60))["scores"]


def catalogue(engine: EmbeddedEngine) -> dict[str, list[int]]:
    return {name: list(versions) for name, versions in engine.catalogue.items()}


async def test_new_versions_and_new_taggers_are_taken_up(changing: Path) -> None:
    engine = await started(changing)
    before, first = engine.catalogue, await scores(engine, "scenes", 1)
    publish_next(changing)
    publish_next(changing, name="other")
    await engine.reload()
    assert catalogue(engine) == {"other": [1], "scenes": [1, 2]}
    assert list(before) == ["scenes"]  # an iteration over the old one can finish
    assert np.abs(await scores(engine, "scenes", 2) - first).max() > 0.01
    assert (await scores(engine, "scenes", 1) == first).all()
    await engine.close()


async def test_a_retired_version_is_run_for_a_while_and_then_dropped(changing: Path) -> None:
    engine = await started(changing, retire_after=0.2)
    publish_next(changing, keep=1)
    await engine.reload()
    assert catalogue(engine) == {"scenes": [2]}
    await scores(engine, "scenes", 1)
    await asyncio.sleep(0.3)
    with pytest.raises(UnknownModel):
        await scores(engine, "scenes", 1)
    await engine.close()


@pytest.mark.parametrize("keep", [None, 1])
async def test_a_broken_version_is_named_once_and_takes_nothing_down(
    changing: Path, keep: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await started(changing)
    publish_next(changing, keep=keep, broken=True)
    for _ in range(3):
        await engine.reload()
    assert catalogue(engine) == {"scenes": [1]}  # also where it is the only one left on the disk
    await scores(engine, "scenes", 1)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "scenes version 2 is not served" in record.message
    assert "\n" not in record.message
    publish_next(changing, keep=1)
    await engine.reload()
    assert catalogue(engine) == {"scenes": [3]}
    await engine.close()


@pytest.mark.parametrize("whole", [True, False])
async def test_a_start_over_a_broken_newest_version_serves_the_one_before(
    changing: Path, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    publish_next(changing, broken=True)
    if not whole:  # also where the files are not even those that were exported
        (changing / "scenes_model/2/model.onnx").write_bytes(b"half of it")
    engine = EmbeddedEngine(Repository.open(changing, skip_broken=True), threads=1)
    await engine.start()
    await engine.reload()
    assert catalogue(engine) == {"scenes": [1]}
    await scores(engine, "scenes", 1)
    assert caplog.text.count("scenes version 2 is not served") == 1
    publish_next(changing)
    await engine.reload()
    assert catalogue(engine) == {"scenes": [1, 3]}
    await engine.close()


async def test_a_start_over_broken_versions_alone_fails(changing: Path) -> None:
    publish_next(changing, keep=1, broken=True)
    with pytest.raises(RepositoryError, match="scenes version 2: ONNX Runtime cannot load"):
        await EmbeddedEngine(Repository.open(changing, skip_broken=True), threads=1).start()


async def test_it_looks_by_itself_and_only_while_it_runs(changing: Path) -> None:
    engine = EmbeddedEngine(Repository.open(changing), threads=1, reload_interval=0.05)
    await engine.start()
    publish_next(changing)
    await until_async(lambda: catalogue(engine) == {"scenes": [1, 2]})
    await engine.close()
    assert not await engine.is_ready()


async def test_each_device_has_a_queue_and_the_shortest_is_taken(repository: Path) -> None:
    """Two queues on the CPU stand for two GPUs."""
    ran_on: list[str] = []
    engine = EmbeddedEngine(
        Repository.open(repository),
        threads=1,
        device=Device("cpu", 2, "a test"),
        on_run=lambda key, images: ran_on.append(threading.current_thread().name.rpartition("-")[0]),
    )
    await engine.start()
    pixels = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
    answers = await asyncio.gather(
        *(engine.infer("scenes", 1, pixels[place : place + 1], ["scores"], 60) for place in range(len(pixels)))
    )
    assert sorted(set(ran_on)) == ["infer-gpu0", "infer-gpu1"]
    alone = [await engine.infer("scenes", 1, pixels[place : place + 1], ["scores"], 60) for place in range(len(pixels))]
    np.testing.assert_allclose(
        [answer["scores"] for answer in answers], [answer["scores"] for answer in alone], atol=1e-5
    )
    await engine.close()


async def test_a_request_that_ends_early_leaves_its_queue(repository: Path) -> None:
    engine = EmbeddedEngine(Repository.open(repository), threads=1)
    await engine.start()
    (batches,) = engine._loaded["scenes", 1].batches
    pixels = np.zeros((1, *SHAPE), np.uint8)
    requests = [asyncio.ensure_future(engine.infer("scenes", 1, pixels, ["scores"], 60)) for _ in range(5)]
    await asyncio.sleep(0)
    assert batches.images == 5
    for request in requests[1:]:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)
    assert batches.images == 0
    await engine.close()


async def test_the_log_says_what_models_run_on(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    create_engine(load_settings(repository=repository))
    (line,) = [record.message for record in caplog.records if record.message.startswith("models run on ")]
    device = choose_device("auto")
    assert line == f"models run on {device}: {device.reason}"
