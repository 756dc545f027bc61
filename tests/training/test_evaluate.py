"""Runs and repositories on labelled photos: the figures, the alignment of labels, and what may be written where."""

import csv
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from labelwise.errors import DataError, LabelwiseError
from labelwise.spec import TaggerSpec, TrainedSpec
from tests.conftest import ROOT
from tests.serving.publishing import copy_to_change, publish_next
from training.checkpoint import WEIGHTS_FILE, load_checkpoint, make_spec, save_weights
from training.config import TrainConfig
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledPhotos
from training.data.layouts import read_data
from training.evaluate import Evaluation, evaluate_tagger, headline, label_table, metric_table, write_json
from training.evaluator import expected_calibration_error, predict, sigmoid
from training.metrics import evaluate, fit_thresholds, parse_objective
from training.model import TaggerNetwork
from training.report.page import report_run

THRESHOLDS = [0.1, 0.3, 0.4, 0.5, 0.6, 0.9]


@pytest.fixture
def run(dataset: Path, config: TrainConfig, tmp_path: Path) -> Path:
    """An untrained tagger's checkpoint for the labels of `dataset`, as training writes it."""
    data = read_data(dataset)
    torch.manual_seed(0)
    tagger = TaggerNetwork(len(data.labels), config.image, config.model)
    out = tmp_path / "run"
    out.mkdir()
    digest = save_weights(out / WEIGHTS_FILE, tagger.state_dict())
    metrics = {"mAP": -1.0, "temperature": 1.0}
    make_spec(config, data.labels, tagger.grid, data.describe(), THRESHOLDS, metrics, digest).write(out)
    return out


def rows_of(dataset: Path) -> list[dict[str, str]]:
    with (dataset / "labels.csv").open(newline="") as stream:
        return [{**row, "image": str(dataset / "images" / row["image"])} for row in csv.DictReader(stream)]


def write_rows(file: Path, columns: list[str], rows: list[dict[str, str]]) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return file


def scores_of(run: Path, files: tuple[Path, ...]) -> np.ndarray:
    tagger, spec = load_checkpoint(run)
    photos = LabelledPhotos(tuple(files), np.zeros((len(files), len(spec.labels)), np.float32))
    return sigmoid(predict(tagger, EvalBatches(photos, spec.image, 3)))


def shown(*parts: object) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(*parts)
    return capture.get()


def test_a_run_is_measured_at_its_own_thresholds(run: Path, dataset: Path):
    evaluation = evaluate_tagger(run, dataset)
    val = read_data(dataset).val
    scores = scores_of(run, val.files)
    expected = evaluate(scores, val.targets, np.array(THRESHOLDS))
    assert evaluation.metrics == pytest.approx(expected | {"ECE": expected_calibration_error(scores, val.targets)})
    assert (evaluation.split, evaluation.photos) == ("val", 4)
    for index, row in enumerate(evaluation.labels):
        actual, predicted = val.targets[:, index] == 1, scores[:, index] >= THRESHOLDS[index]
        assert (row.label, row.threshold) == (read_data(dataset).labels[index], THRESHOLDS[index])
        assert row.photos == actual.sum()
        assert row.precision == pytest.approx((actual & predicted).sum() / max(predicted.sum(), 1))
        if actual.any():
            assert row.recall == pytest.approx((actual & predicted).sum() / actual.sum())
        else:
            assert (row.average_precision, row.recall, row.f1) == (None, None, None)


@pytest.mark.parametrize(("split", "photos"), [("train", 16), ("val", 4), ("all", 20)])
def test_every_part_of_the_data_can_be_measured(run: Path, dataset: Path, split: str, photos: int):
    evaluation = evaluate_tagger(run, dataset, split)
    assert (evaluation.split, evaluation.photos) == (split, photos)


@pytest.mark.parametrize("only", ["train", "val", "test"])
def test_a_list_with_one_split_is_measured_but_not_trained_on(run: Path, dataset: Path, tmp_path: Path, only: str):
    rows = [{**row, "split": only} for row in rows_of(dataset)]
    listed = write_rows(tmp_path / "listed.csv", [*rows[0]], rows)
    split = "train" if only == "train" else "val"
    evaluation = evaluate_tagger(run, listed)
    assert (evaluation.split, evaluation.photos) == (split, 20)
    assert evaluate_tagger(run, listed, "all").metrics == evaluation.metrics
    other = {"train": "val", "val": "train"}[split]
    with pytest.raises(DataError, match=rf"listed\.csv has no photo of {other}: leave out --split"):
        evaluate_tagger(run, listed, other)
    for refusing in (read_data, partial(report_run, run)):
        with pytest.raises(DataError, match=r"listed\.csv needs photos in both splits: "):
            refusing(listed)


def test_data_with_more_labels_in_another_order_is_aligned(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    labels = read_data(dataset).labels
    columns = ["image", "unheard of", *reversed(labels), "split"]
    rows = [{**row, "unheard of": "1"} for row in rows_of(dataset)]
    other = write_rows(tmp_path / "other.csv", columns, rows)
    assert evaluate_tagger(run, other) == evaluate_tagger(run, dataset)
    said = capsys.readouterr().out
    assert said.startswith(
        "Read as a CSV list.\n7 labels, with their photos to train on + for val: unheard of 16 + 4, "
    )
    assert "Left out, because the tagger does not know them: the labels unheard of." in said


def test_a_run_of_an_old_release_is_measured_and_may_get_other_thresholds(run: Path, dataset: Path):
    """labelwise 0.1 wrote a placeholder for a name and a version into a run's tagger.json."""
    expected = evaluate_tagger(run, dataset)
    trained = json.loads((run / "tagger.json").read_text("utf-8"))
    (run / "tagger.json").write_text(json.dumps({"name": "untitled", "version": 1, **trained}), "utf-8")
    assert evaluate_tagger(run, dataset) == expected
    evaluate_tagger(run, dataset, thresholds="f1", write=True)
    assert [*json.loads((run / "tagger.json").read_text("utf-8"))] == [*trained]


def test_a_label_that_the_data_does_not_have_is_not_measured(
    run: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    missing, *kept = read_data(dataset).labels
    other = write_rows(tmp_path / "other.csv", ["image", *kept, "split"], rows_of(dataset))
    whole, part = evaluate_tagger(run, dataset), evaluate_tagger(run, other)
    said = f"Not measured, because the data does not have them: the labels {missing}."
    assert said in capsys.readouterr().out.splitlines()
    assert [row.average_precision for row in part.labels] == [
        None,
        *(row.average_precision for row in whole.labels[1:]),
    ]


def test_data_with_none_of_the_labels_is_refused(run: Path, dataset: Path, tmp_path: Path):
    rows = [{"image": row["image"], "split": row["split"], "other": "1"} for row in rows_of(dataset)]
    other = write_rows(tmp_path / "other.csv", ["image", "other", "split"], rows)
    with pytest.raises(
        DataError,
        match=r"The data has none of the labels red circle, .*: name its labels like them",
    ):
        evaluate_tagger(run, other)


def test_data_where_nothing_of_the_tagger_is_present_is_refused(run: Path, dataset: Path, tmp_path: Path):
    labels = read_data(dataset).labels
    rows = [{**row, **dict.fromkeys(labels, "0"), "other": "1"} for row in rows_of(dataset)]
    other = write_rows(tmp_path / "other.csv", ["image", *labels, "other", "split"], rows)
    with pytest.raises(DataError, match="no label of the tagger present in val"):
        evaluate_tagger(run, other)


def test_without_a_split_column_val_is_what_the_run_never_trained_on(run: Path, dataset: Path, tmp_path: Path):
    columns = ["image", *read_data(dataset).labels]
    unsplit = write_rows(tmp_path / "unsplit.csv", columns, rows_of(dataset))
    seed = TrainedSpec.read(run).training["seed"]
    assert read_data(unsplit, seed).val.files != read_data(unsplit).val.files
    val = read_data(unsplit, seed).val
    expected = evaluate(scores_of(run, val.files), val.targets, np.array(THRESHOLDS))
    assert evaluate_tagger(run, unsplit).metrics.items() >= expected.items()


@pytest.mark.parametrize("objective", ["f1", "precision=0.9", "recall=0.9"])
def test_thresholds_are_fitted_on_the_photos_and_only_shown(run: Path, dataset: Path, objective: str):
    before = (run / "tagger.json").read_bytes()
    evaluation = evaluate_tagger(run, dataset, "train", objective)
    train = read_data(dataset).train
    scores = scores_of(run, train.files)
    thresholds = fit_thresholds(scores, train.targets, parse_objective(objective))
    assert [row.threshold for row in evaluation.labels] == pytest.approx(list(thresholds))
    assert evaluation.metrics.items() >= evaluate(scores, train.targets, thresholds).items()
    assert (run / "tagger.json").read_bytes() == before


def test_written_thresholds_are_in_the_contract_with_their_metrics(run: Path, dataset: Path):
    before = TrainedSpec.read(run)
    evaluation = evaluate_tagger(run, dataset, thresholds="recall=0.9", write=True)
    after = load_checkpoint(run)[1]  # which still fits its weights
    assert after.thresholds == tuple(row.threshold for row in evaluation.labels) != before.thresholds
    assert after.metrics == {"temperature": 1.0} | evaluation.metrics
    assert after.model_copy(update={"thresholds": before.thresholds, "metrics": before.metrics}) == before
    assert evaluate_tagger(run, dataset) == evaluation


def test_tags_on_photos_without_labels_are_told_and_what_was_measured_before_is_not_kept(
    run: Path, dataset: Path, tmp_path: Path
):
    photo = next(dataset.glob("images/*.jpg")).read_bytes()
    (tmp_path / "nothing").mkdir()
    for number in range(5):
        (tmp_path / "nothing" / f"{number}.jpg").write_bytes(photo)
    options = {"thresholds": "recall=1", "write": True}
    evaluation = evaluate_tagger(run, dataset, **options, background=tmp_path / "nothing")
    said = " ".join(shown(headline(evaluation)).split())
    assert re.search(r" false_alarm_share [01]\.\d{4} \(of \d photos with none of the labels\) ", said)
    assert "photos_without_labels" in TrainedSpec.read(run).metrics
    rows = [{**row, read_data(dataset).labels[0]: "1"} for row in rows_of(dataset)]
    evaluate_tagger(run, write_rows(tmp_path / "labelled.csv", [*rows[0]], rows), **options)
    assert "photos_without_labels" not in TrainedSpec.read(run).metrics


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"write": True}, "add --thresholds"),
        ({"write": True, "thresholds": "f1", "split": "train"}, "trained on train of this data"),
        ({"write": True, "thresholds": "f1", "split": "all"}, "trained on all of this data"),
        ({"thresholds": "accuracy"}, "'accuracy' is not f1, precision=0.9 or recall=0.9"),
    ],
)
def test_what_cannot_be_written_or_fitted_is_refused(run: Path, dataset: Path, options: dict[str, str], words: str):
    before = (run / "tagger.json").read_bytes()
    with pytest.raises(LabelwiseError, match=words):
        evaluate_tagger(run, dataset, **options)
    assert (run / "tagger.json").read_bytes() == before


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """The committed photographs as a data set for the bundled tagger; the coffee cup shows nothing it knows."""
    labels = ("desert", "mountains", "sea", "sunset", "trees")
    files = sorted((ROOT / "tests/assets/photos").glob("*.jpg"))
    rows = [{"image": str(file), "split": "val"} | {n: str(int(n in file.stem)) for n in labels} for file in files]
    rows[0] = rows[0] | {"split": "train"}
    return write_rows(tmp_path / "photographs.csv", ["image", *labels, "split"], rows)


def test_a_repository_is_measured_by_its_exported_graph(photographs: Path, repository: Path):
    evaluation = evaluate_tagger(repository, photographs)
    spec = TaggerSpec.read(repository / "scenes")
    assert [row.label for row in evaluation.labels] == list(spec.labels)
    assert [row.threshold for row in evaluation.labels] == list(spec.thresholds)
    assert evaluation.photos == 7
    assert evaluation.metrics["mAP"] > 0.8  # it was trained for such photographs
    assert evaluate_tagger(repository, photographs, thresholds="f1").metrics["CF1"] >= evaluation.metrics["CF1"]


def test_of_several_taggers_one_is_chosen(photographs: Path, repository: Path, run: Path, tmp_path: Path):
    two = copy_to_change(repository, tmp_path / "repository")
    publish_next(two, name="other")
    with pytest.raises(LabelwiseError, match="holds the taggers other, scenes: choose one with --model"):
        evaluate_tagger(two, photographs)
    assert evaluate_tagger(two, photographs, model="scenes") == evaluate_tagger(repository, photographs)
    with pytest.raises(LabelwiseError, match="leave out --model"):
        evaluate_tagger(run, photographs, model="scenes")


def test_nothing_is_written_into_a_repository(photographs: Path, repository: Path):
    before = (repository / "scenes/tagger.json").read_bytes()
    with pytest.raises(LabelwiseError, match="published versions never change"):
        evaluate_tagger(repository, photographs, thresholds="f1", write=True)
    assert (repository / "scenes/tagger.json").read_bytes() == before


@pytest.fixture
def evaluation(run: Path, dataset: Path) -> Evaluation:
    """With one label that no photo has."""
    measured = evaluate_tagger(run, dataset)
    absent = replace(measured.labels[0], photos=0, average_precision=None, recall=None, f1=None)
    return replace(measured, labels=[absent, *measured.labels[1:]])


def test_the_tables_show_every_metric_and_label(evaluation: Evaluation):
    text = shown(label_table(evaluation), metric_table(evaluation), headline(evaluation))
    assert "4 photos (val)" in text
    for name in {name.partition("@")[0] for name in evaluation.metrics} - {"photos_without_labels"}:
        assert name in text
    first = next(line for line in text.splitlines() if evaluation.labels[0].label in line)
    assert [cell.strip() for cell in first.split("│")[2:7]] == [
        "0",
        "-",
        f"{evaluation.labels[0].precision:.3f}",
        "-",
        "-",
    ]
    overall = next(line for line in text.splitlines() if "OF1" in line)
    values = [evaluation.metrics[name] for name in ("OF1", "OF1@0.5", "OF1@top3")]
    assert [cell.strip() for cell in overall.split("│")[2:5]] == [f"{value:.3f}" for value in values]


def test_the_json_holds_everything(evaluation: Evaluation, tmp_path: Path):
    write_json(evaluation, tmp_path / "evaluation.json")
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["metrics"] == evaluation.metrics
    assert written["labels"][0]["average_precision"] is None
    assert [label["label"] for label in written["labels"]] == [row.label for row in evaluation.labels]
    with pytest.raises(LabelwiseError, match=r"nowhere/evaluation\.json cannot be written"):
        write_json(evaluation, tmp_path / "nowhere/evaluation.json")
