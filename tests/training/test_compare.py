"""`labelwise compare`: every method trained alike, resumable, and a table that says what was measured."""

import json
import statistics
from pathlib import Path

import pytest

from labelwise.errors import LabelwiseError
from labelwise.spec import TaggerSpec
from training.compare import METHODS, VARIANTS, Comparison, Run, claims, compare, table

SMALL = (
    "model.backbone=test_resnet",
    "model.feature_level=2",
    "model.dim=16",
    "image.height=32",
    "image.width=32",
    "epochs=1",
    "contrastive_epochs=1",
    "batch_size=8",
    "workers=0",
    "device=cpu",
    "precision=fp32",
)


def test_all_variants_are_trained_once_and_told_apart(dataset: Path, tmp_path: Path):
    comparison = Comparison(str(dataset), tmp_path, tuple(VARIANTS), seeds=2, settings=SMALL)
    runs = compare(comparison, jobs=2)
    assert [(run.method, run.seed) for run in runs] == [(name, seed) for name in VARIANTS for seed in range(2)]
    results = json.loads((tmp_path / "results.json").read_text())
    for run, entry in zip(runs, results, strict=True):
        spec = TaggerSpec.read(comparison.folder(run.method, run.seed))
        assert (entry["metrics"], spec.training["seed"]) == (spec.metrics, run.seed)
        assert run.parameters > 1000
    sizes = {run.method: run.parameters for run in runs}
    assert sizes["bce"] < sizes["supcon"] < sizes["mulcon"] == sizes["label-bce"] == sizes["mulcon+memory"]
    text = (tmp_path / "results.md").read_text()
    values = [100 * run.metrics["mAP"] for run in runs if run.method == "mulcon"]
    assert f"| mulcon | {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} |" in text
    assert "16 photos to train on, 4 for val, 6 labels; preset tiny, 1 + 1 epochs, seeds 0 to 1" in text
    assert "(mulcon − label-bce)" in text
    assert (tmp_path / "results.svg").read_text().count("<use") >= 2 * len(VARIANTS)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/model.safetensors")}
    assert compare(comparison, jobs=2) == runs  # nothing is trained twice
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_the_table_and_the_claims_count_right():
    def run(method: str, seed: int, mean_ap: float) -> Run:
        return Run(method, seed, dict.fromkeys(("mAP", "CF1", "OF1", "LRAP"), mean_ap), 90.0, 1_500_000)

    scores = {"bce": (0.7, 0.8), "supcon": (0.69, 0.80), "label-bce": (0.75, 0.83), "mulcon": (0.76, 0.86)}
    runs = [run(method, seed, scores[method][seed]) for method in METHODS for seed in range(2)]
    assert list(table(runs))[2] == "| bce " + "| 75.00 ± 7.07 " * 4 + "| 1.50 ± 0.00 min | 1.50 M |"
    lines = "\n".join(claims(runs))
    assert "(supcon − bce): -0.50 ± 0.71 points of mAP, better with 0 of 2 seeds" in lines
    assert "(mulcon − label-bce): +2.00 ± 1.41 points of mAP, better with 2 of 2 seeds" in lines


def test_a_wrong_method_or_setting_is_said_before_anything_is_trained(dataset: Path, tmp_path: Path):
    with pytest.raises(LabelwiseError, match="no method magic: choose from bce, supcon"):
        compare(Comparison(str(dataset), tmp_path, ("bce", "magic")))
    with pytest.raises(LabelwiseError, match="epoch:"):
        compare(Comparison(str(dataset), tmp_path, settings=("epoch=1",)))
    assert list(tmp_path.iterdir()) == []
