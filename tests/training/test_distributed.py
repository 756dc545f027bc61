"""Two real processes against one: the same loss, the same gradients, the same kind of run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labelwise.spec import TrainedSpec
from tests.training import joined_gradients
from tests.training.joined_gradients import GRADIENTS, GRADIENTS_OF, all_gradients
from training.config import TrainConfig
from training.data.layouts import read_data
from training.distributed import World, any_of, gather, gather_objects

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


# Layer norms, no dropout, a bank that holds all: whatever is drawn or kept per process would rightly differ.
MODEL = {"backbone": "test_convnext", "feature_level": 2, "dim": 16, "heads": 2, "dropout": 0, "drop_path": 0}
CASES = (
    {"method": "mulcon", "loss": {"memory": 64, "memory_confidence": 0, "prototype_weight": 0.2}},
    {"method": "mulcon", "loss": {"absent_negatives": 5}},
    {"method": "supcon", "loss": {"classification": "asymmetric"}},
    {"method": "label-bce"},
)


@pytest.fixture(scope="module")
def cases(config: TrainConfig) -> list[str]:
    plain = config.model_dump(mode="json") | {"epochs": 0, "model": MODEL}
    return [json.dumps(plain | case) for case in CASES]


@pytest.fixture(scope="module")
def trained_by_two(
    dataset: Path, config: TrainConfig, cases: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run of `labelwise train` under torchrun, and the gradients that its two processes had first."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "config.yaml").write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    (folder / "run").mkdir()
    (folder / "run" / GRADIENTS_OF).write_text("\n".join(cases))
    train = (joined_gradients.__file__, "train", dataset, "--out", folder / "run", "--config", folder / "config.yaml")
    done = subprocess.run(
        [*TORCHRUN, *map(str, train), "--no-report"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


def test_two_processes_have_the_gradients_of_one_with_the_joined_batch(
    trained_by_two: Path, dataset: Path, cases: list[str], tmp_path: Path
):
    one, two = all_gradients(read_data(dataset), tmp_path, cases), torch.load(trained_by_two / GRADIENTS)
    assert [len(found) > 20 for found in one] == [True] * 4
    assert ["contrast" in found for found in one] == [True, True, True, False]
    assert one[0].keys() > {"prototype", "prototypes"}
    for case, expected, joined in zip(cases, one, two, strict=True):
        torch.testing.assert_close(
            joined, expected, atol=2e-6, rtol=1e-3, msg=lambda text, case=case: f"{case}: {text}"
        )


def test_torchrun_trains_one_run(trained_by_two: Path):
    assert TrainedSpec.read(trained_by_two).metrics["mAP"] > 0
    assert len((trained_by_two / "history.jsonl").read_text().splitlines()) == 4


def test_alone_nothing_is_joined():
    tensor = torch.ones(2)
    assert gather(tensor, World()) is tensor
    assert gather_objects(3, World()) == [3]
    assert any_of(True, World(), tensor.device) is True
