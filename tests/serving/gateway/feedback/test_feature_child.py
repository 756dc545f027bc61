"""The process that computes features: it ends when idle and with the gateway, and is replaced when it dies."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from labelwise.repository import Repository
from labelwise.spec import TaggerSpec
from serving.gateway.feedback.feature_child import FeatureChild, NoFeatures
from teaching.feature_graph import open_features
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it looks for processes in /proc"),
]

EVERYDAY = Repository.open(ROOT / "model_repository", only="everyday").taggers["everyday"][1]
PIXELS = np.random.default_rng(0).integers(0, 256, (384, 384, 3), np.uint8)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def until_gone(pid: int) -> None:
    while is_there(pid):  # noqa: ASYNC110 (the kernel tells nobody)
        await asyncio.sleep(0.02)


async def test_it_computes_what_a_lesson_would_and_ends_when_idle() -> None:
    child = FeatureChild(ROOT / "model_repository", idle=0.05)
    found = await child.features(EVERYDAY.spec, PIXELS, 60)
    pid = child.pid
    graph = open_features(EVERYDAY.weights.with_name("model.onnx"), EVERYDAY.spec, 1)
    features, logits = (values[0] for values in graph.see(PIXELS[None]))
    assert found.graph == graph.identity == child.graph_of(EVERYDAY.spec)
    assert np.array_equal(found.features, features)
    assert np.array_equal(found.logits, logits)
    await asyncio.wait_for(until_gone(pid), 20)
    assert child.pid is None
    await child.close()


async def test_one_that_dies_costs_only_its_photo_and_another_takes_its_place() -> None:
    child = FeatureChild(ROOT / "model_repository")
    asked = asyncio.create_task(child.features(EVERYDAY.spec, PIXELS, 60))
    while (first := child.pid) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    with pytest.raises(asyncio.TimeoutError):  # the answer is still awaited, so that the next is not mixed up with it
        await child.features(EVERYDAY.spec, PIXELS, 0.01)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(NoFeatures, match="the gateway's log says why"):
        await asked
    graph = EVERYDAY.spec.graphs[0].model_copy(update={"sha256": "0" * 64})
    other = EVERYDAY.spec.model_copy(update={"graphs": (graph,)})
    with pytest.raises(NoFeatures, match="version 1 of everyday is not in the gateway's own repository"):
        await child.features(other, PIXELS, 60)
    second = child.pid
    assert second not in (None, first)
    await child.close()
    assert not is_there(second)


async def test_without_onnx_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    child = FeatureChild(ROOT / "model_repository")
    with pytest.raises(NoFeatures, match=r"lacks the extra 'onnx': pip install 'labelwise\[onnx\]'"):
        await child.features(EVERYDAY.spec, PIXELS, 60)
    assert child.pid is None


async def test_what_cannot_be_taught_starts_no_process() -> None:
    child = FeatureChild(ROOT / "model_repository")
    with pytest.raises(NoFeatures, match="scenes cannot be taught"):
        await child.features(TaggerSpec.read(ROOT / "model_repository/scenes"), PIXELS, 60)
    assert child.pid is None
