"""Two real processes against one: the same loss, the same gradients, the same kind of run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labelwise.spec import TrainedSpec
from tests.conftest import free_port
from tests.training import joined_gradients
from tests.training.joined_gradients import all_gradients
from training.config import TrainConfig
from training.distributed import World, any_of, gather, gather_objects, joined_world

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def call(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_have_the_gradients_of_one_with_the_joined_batch(
    dataset: Path, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Layer norms, no dropout, a bank that holds all: whatever is drawn or kept per process would rightly differ.
    model = {"backbone": "test_convnext", "feature_level": 2, "dim": 16, "heads": 2, "dropout": 0, "drop_path": 0}
    cases = [
        {"method": "mulcon", "loss": {"memory": 64, "memory_confidence": 0, "prototype_weight": 0.2}},
        {"method": "mulcon", "loss": {"absent_negatives": 5}},
        {"method": "supcon", "loss": {"classification": "asymmetric"}},
        {"method": "label-bce"},
    ]
    plain = config.model_dump(mode="json") | {"epochs": 0, "model": model}
    texts = [json.dumps(plain | case) for case in cases]
    one = all_gradients(dataset, tmp_path, texts, World())
    two = gradients_of_rank_0(dataset, tmp_path, texts, monkeypatch)
    assert [len(found) > 20 for found in one] == [True] * 4
    assert ["contrast" in found for found in one] == [True, True, True, False]
    assert one[0].keys() > {"prototype", "prototypes"}
    for case, expected, joined in zip(cases, one, two, strict=True):
        torch.testing.assert_close(
            joined, expected, atol=2e-6, rtol=1e-3, msg=lambda text, case=case: f"{case}: {text}"
        )


def gradients_of_rank_0(
    dataset: Path, out: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, torch.Tensor]]:
    """This process is rank 0 of two; the other one is started here."""
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    other = subprocess.Popen(
        [sys.executable, joined_gradients.__file__, str(dataset), str(out), *texts],
        env=os.environ | world | {"RANK": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"  # or it broke, and joining would wait for it
    for name, value in (world | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    with joined_world() as joined:
        assert joined == World(rank=0, size=2)
        found = all_gradients(dataset, out, texts, joined)
    other.communicate(timeout=60)
    assert other.returncode == 0
    return found


def test_torchrun_trains_one_run(dataset: Path, config: TrainConfig, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    train = ("-m", "labelwise", "train", dataset, "--out", tmp_path / "run", "--config", tmp_path / "config.yaml")
    call(*TORCHRUN, *train, "--no-report")
    spec = TrainedSpec.read(tmp_path / "run")
    assert spec.metrics["mAP"] > 0
    assert len((tmp_path / "run/history.jsonl").read_text().splitlines()) == 4


def test_alone_nothing_is_joined():
    tensor = torch.ones(2)
    assert gather(tensor, World()) is tensor
    assert gather_objects(3, World()) == [3]
    assert any_of(True, World(), tensor.device) is True
