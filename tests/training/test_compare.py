"""`labelwise compare`: every method trained in the same way, resumable, and a table that says what was measured."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from labelwise.errors import LabelwiseError
from tests.polling import PATIENCE, until
from training.checkpoint import load_state
from training.compare import METHODS, VARIANTS, Comparison, Run, claims, compare, cores_used, table, write_results
from training.signals import Stopped
from training.synth import draw_dataset

ROOT = Path(__file__).parents[2]

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


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=3", "The setting seed differs .* --seeds"),
        ("method=bce", "The setting method differs .* --methods"),
        ("model.head=ml-decoder", "The setting model.head differs .* --methods"),
    ],
)
def test_a_setting_that_the_methods_or_seeds_decide_is_refused(tmp_path: Path, setting: str, message: str):
    with pytest.raises(LabelwiseError, match=message):
        compare(Comparison("nowhere", tmp_path, tuple(VARIANTS), settings=(setting,)))


def test_a_method_named_twice_is_trained_once(tmp_path: Path):
    assert Comparison("nowhere", tmp_path, ("bce", "supcon", "bce"), seeds=1).tasks() == [("bce", 0), ("supcon", 0)]
    with pytest.raises(LabelwiseError, match="Name a method"):
        Comparison("nowhere", tmp_path, ()).tasks()


def test_an_undefined_metric_is_a_dash_and_failures_are_one_line(tmp_path: Path):
    """Val with no fully labelled photo; then a file that cannot be written; then other settings in the same place."""
    draw_dataset(tmp_path / "data", 20, seed=0, labels=6, unknown=0.5)
    comparison = Comparison(str(tmp_path / "data"), tmp_path / "out", ("bce", "supcon"), seeds=1, settings=SMALL)
    runs = [comparison.train(task) for task in comparison.tasks()]
    assert all("LRAP" not in run.metrics for run in runs)
    write_results(comparison, runs, cores_used(jobs=1, threads=2))
    text = (tmp_path / "out/results.md").read_text()
    assert "were chosen on val. 1 run at a time, 2 threads each." in text
    assert text.count("| – |") == 2
    assert "(supcon − bce)" in text
    picture = tmp_path / "out/results.svg"
    picture.unlink()
    picture.mkdir()
    with pytest.raises(LabelwiseError, match=r"results\.svg cannot be written: .* give the same command again"):
        write_results(comparison, runs, "1 run at a time")
    assert not list(tmp_path.glob("out/.results*"))
    other = Comparison(comparison.source, comparison.out, ("bce",), 1, settings=(*SMALL, "lr=0.5"))
    with pytest.raises(LabelwiseError, match=r"bce-0 was trained with other settings: .* use a new --out\.$"):
        other.train(("bce", 0), threads=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_a_stopped_comparison_leaves_nothing_running_and_goes_on(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Several processes, SIGTERM, and signals to the parent alone: test_processes.py."""
    settings = (*SMALL, "epochs=30000")
    with _started(dataset, tmp_path, settings) as process:
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)  # ends if nobody holds the pipes: no orphan is left
    assert (process.returncode, errors) == (130, "labelwise: Stopped: run the same command again to continue.\n")
    assert "of 4:" not in output  # no run was finished
    assert [run.name for run in tmp_path.iterdir()] == ["bce-0"]  # the others were never begun
    before = load_state(tmp_path / "bce-0")
    comparison, _ = Comparison(str(dataset), tmp_path, seeds=1, settings=settings).settled(6)
    monkeypatch.setattr("training.loop.any_of", lambda *_: True)  # as Ctrl-C
    with pytest.raises(Stopped):
        comparison.train(("bce", 0))
    assert load_state(tmp_path / "bce-0")["_step_count"] == before["_step_count"] + 1  # not begun again


@contextlib.contextmanager
def _started(dataset: Path, out: Path, settings: tuple[str, ...]) -> Iterator["subprocess.Popen[str]"]:
    """`labelwise compare` of four long runs, once the first has trained an epoch."""
    command = [sys.executable, "-m", "labelwise", "compare", str(dataset), "--out", str(out)]
    for setting in settings:
        command += ["--set", setting]
    process = subprocess.Popen(
        [*command, "--seeds", "1"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: process.poll() is not None or [*out.glob("*/history.jsonl")])
        assert process.poll() is None, process.communicate()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
