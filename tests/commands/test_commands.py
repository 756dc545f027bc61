"""`labelwise VERB` as a user types it: errors are one line on stderr, and the verbs reach their stages."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from commands import main
from labelwise import __version__
from tests.conftest import scenes_only

ROOT = Path(__file__).parent.parent.parent
REPOSITORY = scenes_only()
GRAPH = REPOSITORY / "scenes_model/1/model.onnx"
SPEC = REPOSITORY / "scenes/tagger.json"
TINY = [
    "model.pretrained=false",
    "model.backbone=test_resnet",
    "model.feature_level=2",
    "model.dim=16",
    "model.heads=2",
    "model.projection_dim=8",
    "model.dropout=0",
    "image.height=32",
    "image.width=32",
    "epochs=1",
    "contrastive_epochs=0",
    "batch_size=8",
    "workers=0",
    "precision=fp32",
    "memory_format=channels_last",
    "device=cpu",
    "max_batch=2",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """With tiny tensors on busy cores, threads would mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Returns a function that runs the entry point and gives its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["labelwise", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return run


def assert_refused(answer: tuple[int, str, str], *words: str) -> None:
    code, _, error = answer
    assert code == 1
    assert error.startswith("labelwise: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_version_and_help(run):
    assert run("--version") == (0, f"{__version__}\n", "")
    code, out, error = run()
    assert code == 2
    for verb in ("train", "export", "serve", "synth"):
        assert f" {verb} " in out + error


def test_synth_train_resume_and_evaluate(run, tmp_path: Path):
    data, out, file = tmp_path / "data", tmp_path / "run", tmp_path / "evaluation.json"
    assert run("synth", data, "--count", 20, "--seed", 3)[0] == 0
    assert_refused(run("synth", data), str(data), "already holds a data set")

    train = ("train", data, "--out", out, *(part for setting in TINY for part in ("--set", setting)))
    code, printed, error = run(*train, "--seed", 5, "--no-report")
    assert (code, error) == (0, "")
    assert "16 photos to train on, 4 for val, 24 labels" in printed
    assert_refused(run(*train), "--resume")
    assert run(*train, "--seed", 5, "--resume", "--no-report")[0] == 0
    assert_refused(run(*train, "--seed", 6, "--resume"), "other settings")

    code, printed, error = run("evaluate", out, data, "--json", file)
    assert (code, error) == (0, "")
    for word in ("circle", "threshold", "OF1", "top 3", "mAP", "ECE"):
        assert word in printed
    before = json.loads(file.read_text())
    assert run("evaluate", out, data, "--thresholds", "recall=0.9", "--write", "--json", file)[0] == 0
    after = json.loads(file.read_text())
    assert after["metrics"]["OR"] >= 0.9
    assert after["metrics"]["mAP"] == before["metrics"]["mAP"]
    written = json.loads((out / "tagger.json").read_text())
    assert written["thresholds"] == [label["threshold"] for label in after["labels"]]
    assert_refused(run("evaluate", out, data, "--write"), "--thresholds")
    assert_refused(run("evaluate", out, data, "--thresholds", "best"), "'best' is not f1")


def test_photos_without_labels_join_every_step_of_a_run(run, tmp_path: Path):
    """Its seed is among the settings."""
    data, out, nothing = tmp_path / "data", tmp_path / "run", ("--background", tmp_path / "other/images")
    run("synth", data, "--count", 20)
    run("synth", tmp_path / "other", "--count", 10, "--seed", 1)
    settings = [part for setting in (*TINY, "seed=9") for part in ("--set", setting)]
    train = ("train", data, "--out", out, "--no-report", *settings)
    code, printed, error = run(*train, *nothing)
    assert (code, error) == (0, "")
    assert "24 photos to train on, 6 for val, 24 labels" in printed
    assert json.loads((out / "tagger.json").read_text())["training"]["seed"] == 9
    assert_refused(run(*train, "--resume"), "other data")
    assert run(*train, *nothing, "--resume")[0] == 0
    assert "6 photos (val)" in run("evaluate", out, data, *nothing)[1]
    assert "4 photos (val)" in run("evaluate", out, data)[1]  # the same split of what is labelled
    for verb in (("evaluate", out, data), ("report", out, data), ("shards", data, "--to", tmp_path / "shards")):
        assert_refused(run(*verb, "--background", "nowhere"), "--background needs a folder")
    assert_refused(run("compare", data, "--out", tmp_path / "compare", "--background", "nowhere"), "--background needs")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "nowhere", "--out", "run"), ("no labelled data at nowhere",)),
        (("export", "nowhere", "--to", "repository", "--name", "shapes"), ("nowhere is not a trained run",)),
        (("export", "nowhere", "--to", "repository", "--name", "a/b"), ("'a/b' cannot name a model",)),
        (("export", GRAPH, "--to", "repository", "--name", "shapes"), ("model.onnx needs --spec",)),
        (("export", GRAPH, "--spec", "s.json", "--to", "repository", "--name", "../a"), ("cannot name a model",)),
        (
            ("export", GRAPH, "--spec", "s.json", "--to", "repository", "--name", "a"),
            ("s.json cannot be read", "labels"),
        ),
        (("export", "nowhere.onnx", "--spec", SPEC, "--to", "repository", "--name", "a"), ("nowhere.onnx cannot be",)),
        (
            ("export", __file__, "--spec", SPEC, "--to", "repository", "--name", "a"),
            ("test_commands.py is not",),
        ),
        (("check", "nowhere"), ("no model repository at nowhere",)),
        (("check", REPOSITORY, "--run", "nowhere"), ("nowhere is not a trained run",)),
        (("check", REPOSITORY, "--images", "nowhere"), ("nowhere cannot be read",)),
    ],
)
def test_an_error_is_one_line(run, arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "words"), [("epochs", "'epochs' is not key=value"), ("model.dims=8", "model.dims")]
)
def test_a_wrong_setting_is_one_line(run, setting: str, words: str, tmp_path: Path):
    (tmp_path / "labels.csv").touch()
    assert_refused(run("train", tmp_path / "labels.csv", "--out", tmp_path / "run", "--set", setting), words)
    assert not (tmp_path / "run").exists()


def test_missing_data_is_said_before_torch_is_imported(tmp_path: Path):
    code = "import sys; sys.modules['torch'] = None; sys.argv = ['labelwise', 'train', 'nowhere', '--out', 'run']\n"
    code += "from commands import main; main()"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert_refused((answer.returncode, answer.stdout, answer.stderr), "no labelled data at nowhere")


def test_shards_of_a_data_set(run, tmp_path: Path):
    run("synth", tmp_path / "data", "--count", 10)
    shards = ("shards", tmp_path / "data", "--to", tmp_path / "shards", "--shard-mb", 1)
    code, printed, error = run(*shards)
    assert (code, error) == (0, "")
    assert "8 photos to train on and 2 for val" in " ".join(printed.split())
    assert sorted(file.name for file in (tmp_path / "shards").glob("*.tar")) == ["train-000000.tar", "val-000000.tar"]
    assert_refused(run(*shards), "not an empty folder")

    (tmp_path / "data/images/00005.jpg").unlink()
    other = (*shards[:3], tmp_path / "other")
    assert_refused(run(*other), "1 photo cannot be decoded: 00005.jpg (missing)", "--skip-broken")
    assert run(*other, "--skip-broken")[0] == 0


def test_a_base_install_names_the_extra_that_a_verb_needs(tmp_path: Path):
    data = tmp_path / "labels.csv"
    data.touch()
    code = (
        f"import sys; sys.modules['torch'] = None; sys.argv = ['labelwise', 'train', {str(data)!r}, '--out', 'run']\n"
    )
    code += "from commands import main; main()"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert_refused((answer.returncode, answer.stdout, answer.stderr), "'train' extra", "pip install 'labelwise[train]'")
