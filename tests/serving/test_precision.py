"""Which graph of a version is served: real graphs, which ONNX Runtime runs and measures."""

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from labelwise.devices.choice import Device
from labelwise.errors import RepositoryError
from labelwise.repository import Repository, TaggerVersion
from serving.engines.embedded import EmbeddedEngine
from serving.precision import Chooser
from tests.several_graphs import QUICK, SIZE, SLOW, publish_graphs

Publish = Callable[..., TaggerVersion]


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/labelwise/speeds.json"


@pytest.fixture
def published(tmp_path: Path) -> Publish:
    return partial(publish_graphs, tmp_path / "repository")


def running(version: TaggerVersion, wanted: str = "auto", max_loss: float = 0.5) -> tuple[str, str]:
    chosen, reason = Chooser(wanted, max_loss).choose(version)
    assert chosen.spec.graph is not None
    assert chosen.weights.name == chosen.spec.graph.file
    return chosen.spec.graph.precision, reason


def test_the_fastest_graph_runs(published: Publish):
    version = published({"fp32": SLOW, "int8": QUICK}, {"fp32": 0.0, "int8": -0.003})
    precision, reason = running(version)
    assert precision == "int8"
    assert "fp32" in reason
    assert reason.endswith("mAP -0.30 points")


def test_an_int8_graph_that_is_slower_here_does_not_run(published: Publish):
    """As on CPUs without instructions for 8 bits."""
    assert running(published({"fp32": QUICK, "int8": SLOW}, {"int8": 0.0}))[0] == "fp32"


def test_a_fast_graph_that_loses_too_much_does_not_run(published: Publish, memory: Path):
    version = published({"fp32": SLOW, "int8": QUICK}, {"int8": -0.006})
    assert running(version) == ("fp32", "int8 changes mAP by -0.60 points, and max_loss is 0.5")
    assert not memory.exists()  # nothing was measured
    assert running(version, max_loss=0.7)[0] == "int8"
    assert running(version, "int8") == ("int8", "as asked")


def test_a_loss_that_nobody_measured_is_named(published: Publish):
    precision, reason = running(published({"fp32": SLOW, "int8": QUICK}, {}))
    assert (precision, reason) == ("fp32", "int8 was exported without --data, so its loss is unknown")


def test_what_is_not_there_is_refused(published: Publish):
    version = published({"fp32": QUICK}, {})
    with pytest.raises(
        RepositoryError, match=r"made version 1 has fp32, not int8: choose another --precision or --device\."
    ):
        running(version, "int8")
    old = TaggerVersion(version.spec.model_copy(update={"graphs": ()}), version.weights)
    assert Chooser("auto", 0.5).choose(old).version == old
    with pytest.raises(RepositoryError, match="does not tell its precision: export it again"):
        Chooser("fp32", 0.5).choose(old)


def test_a_graph_that_the_device_does_not_run_is_no_candidate(published: Publish):
    version = published({"fp32": SLOW, "int8": QUICK}, {"int8": 0.0})
    chosen, reason = Chooser("auto", 0.5, device=Device("tensorrt", 1, "")).choose(version)
    assert chosen.spec.graph is not None
    assert (chosen.spec.graph.precision, reason) == ("fp32", "tensorrt does not run the int8 graph")


def test_the_next_start_measures_nothing(published: Publish, memory: Path):
    version = published({"fp32": SLOW, "int8": QUICK}, {"int8": 0.0})
    running(version)
    stored = json.loads(memory.read_text())
    (key,) = stored
    memory.write_text(json.dumps({key: {"fp32": 1.0, "int8": 2.0}}))
    assert running(version) == ("fp32", "the fastest here: fp32 1000.0 ms, int8 2000.0 ms a photo")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"fp32": "much"}}'])
def test_a_damaged_memory_is_measured_again(published: Publish, memory: Path, content: str):
    version = published({"fp32": SLOW, "int8": QUICK}, {"int8": 0.0})
    memory.parent.mkdir(parents=True)
    memory.write_text(content)
    assert running(version)[0] == "int8"
    assert [set(entry) for entry in json.loads(memory.read_text()).values()] == [{"fp32", "int8"}]


def test_without_a_place_for_a_memory_it_measures_each_time(
    published: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert running(published({"fp32": SLOW, "int8": QUICK}, {"int8": 0.0}))[0] == "int8"


def test_the_log_says_which_graph_runs_and_why(published: Publish, caplog: pytest.LogCaptureFixture):
    version = published({"fp32": SLOW, "int8": QUICK}, {"int8": 0.001})
    caplog.set_level(logging.INFO)

    async def scores() -> float:
        engine = EmbeddedEngine(Repository.open(version.weights.parents[2]), threads=1)
        await engine.start()
        pixels = np.zeros((1, SIZE, SIZE, 3), np.uint8)
        answer = await engine.infer("made", 1, pixels, ["scores"], 60)
        assert engine.reasons[version.key] in caplog.text
        assert engine.catalogue["made"][1].weights_sha256 == version.spec.graphs[1].sha256
        await engine.close()
        return float(answer["scores"][0, 0])

    assert asyncio.run(scores()) == pytest.approx(0.2)  # what the int8 graph says
    assert "loaded made version 1 on cpu: int8, the fastest here: fp32" in caplog.text
