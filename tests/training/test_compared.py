"""A whole comparison with a frozen backbone: resumed, every variant trained once, features shared, and told apart."""

import contextlib
import io
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors.torch import load_file

from labelwise.spec import TrainedSpec
from tests.training.test_frozen import make_weights
from tests.training.test_loop import assert_same
from training.checkpoint import WEIGHTS_FILE
from training.compare import VARIANTS, Comparison, Run, compare
from training.config import TrainConfig

FROM_SCRATCH = tuple(name for name in VARIANTS if name != "mulcon+queries")


class Compared(NamedTuple):
    comparison: Comparison
    runs: list[Run]
    printed: list[str]
    earlier: list[Run]
    times: dict[Path, int]  # of the weights of earlier runs


@pytest.fixture(scope="module")
def compared(dataset: Path, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    """All variants with two seeds, two runs at a time; four of the runs were there before."""
    weights = make_weights(tmp_path_factory.mktemp("weights") / "resnet.safetensors")
    model = config.model.model_copy(update={"freeze": True, "weights": weights})
    settings = (
        f"model={model.model_dump_json(exclude={'head', 'image_queries', 'pretrained'})}",
        *("image={height: 32, width: 32}", "epochs=1", "contrastive_epochs=1", "workers=0", "precision=fp32"),
    )
    out = tmp_path_factory.mktemp("compared")
    comparison = Comparison(str(dataset), out, ("bce", "mulcon"), seeds=2, settings=settings)
    first, *others = comparison.tasks()
    earlier = [comparison.train(first)]
    assert len(list(comparison.features.iterdir())) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.frozen._FeatureFiles._write", None)  # the features are shared
        earlier += [comparison.train(task) for task in others]
    times = {file: file.stat().st_mtime_ns for file in out.glob("*/model.safetensors")}
    with (comparison.folder("bce", 0) / "history.jsonl").open("a") as history:
        history.write('{"epoch": 3, "sec')  # a machine that lost its power
    comparison = replace(comparison, methods=FROM_SCRATCH)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runs = compare(comparison, jobs=2)
    return Compared(comparison, runs, printed.getvalue().splitlines(), earlier, times)


def test_every_variant_is_trained_once(compared: Compared):
    assert [(run.method, run.seed) for run in compared.runs] == [(name, n) for name in FROM_SCRATCH for n in (0, 1)]
    again = [run for run in compared.runs if run.method in ("bce", "mulcon")]
    assert sorted(again, key=lambda run: run.seed) == compared.earlier
    assert {file: file.stat().st_mtime_ns for file in compared.times} == compared.times


def test_the_runs_share_features_and_keep_the_backbone(compared: Compared):
    assert not compared.comparison.features.exists()
    folders = compared.comparison.folder("bce", 0), compared.comparison.folder("ml-decoder", 1)
    backbones = [
        {name: tensor for name, tensor in load_file(folder / WEIGHTS_FILE).items() if name.startswith("backbone.")}
        for folder in folders
    ]
    assert_same(*backbones)


def test_it_says_what_it_reads_and_how_far_it_is(compared: Compared):
    layout, labels, _, start, given, computing, *said = compared.printed
    assert layout == "Read as a CSV list."  # said once, for all runs, and before the first
    assert labels.startswith("6 labels, with their photos to train on + for val: red circle ")
    assert start.startswith("Start: the weights in ")
    assert given.startswith("Input: 32x32 pixels; bilinear; mean 0.5, 0.5, 0.5;")
    assert computing.startswith("Computes in float32, c")  # chosen once, for all runs
    assert [line.split(":")[0] for line in said] == [f"{k} of 16" for k in range(1, 17)]
    for run in compared.runs:
        line = f"{run.method}, seed {run.seed}: mAP {run.metrics['mAP']:.4f} after {run.seconds / 60:.1f} min"
        assert sum(line in each for each in said) == 1


def test_runs_are_told_apart(compared: Compared):
    specs = [TrainedSpec.read(compared.comparison.folder(run.method, run.seed)) for run in compared.runs]
    assert len({spec.training["memory_format"] for spec in specs}) == 1
    results = json.loads((compared.comparison.out / "results.json").read_text())
    for run, entry, spec in zip(compared.runs, results, specs, strict=True):
        assert (entry["metrics"], spec.training["seed"]) == (spec.metrics, run.seed)
        assert run.parameters > 1000
    sizes = {run.method: run.parameters for run in compared.runs}
    assert sizes["bce"] < sizes["supcon"] < sizes["mulcon"] == sizes["label-bce"] == sizes["mulcon+memory"]
    assert (compared.comparison.out / "results.svg").read_text().count("<use") >= len(compared.runs)


def test_the_results_say_what_was_measured(compared: Compared):
    text = (compared.comparison.out / "results.md").read_text()
    values = [100 * run.metrics["mAP"] for run in compared.runs if run.method == "mulcon"]
    for words in (
        "16 photos to train on, 4 for val, 6 labels; preset tiny, 1 + 1 epochs, seeds 0 to 1",
        "resnet is frozen: its features of 4 views per photo were computed once",
        "were chosen on val. 2 runs at a time, 1 thread each.",
        f"| mulcon | {statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} |",
        "(mulcon − label-bce)",
    ):
        assert words in text
