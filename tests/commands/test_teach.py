"""`labelwise teach` as docs/teaching.md shows it, and what it refuses at once."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commands import app
from labelwise.errors import LabelwiseError
from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs/teaching.md").read_text("utf-8")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def without_numbers(text: str) -> str:
    return re.sub(r"[0-9]+", "N", text)


def test_the_worked_example_prints_what_the_document_says(tmp_path: Path):
    commands, printed = re.findall(r"```(?:bash)?\n(.*?)```", DOCUMENT, flags=re.DOTALL)[:2]
    for name in ("model_repository", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = f'labelwise() {{ "{sys.executable}" -m labelwise "$@"; }}\n' + commands.replace("cp -r ", "cp -rL ")
    run = subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert without_numbers(run.stdout) == without_numbers(printed)


@pytest.mark.parametrize(
    "options",
    [
        *([], ["--label", "a"], ["--label", "a", "--yes", "x"], ["--yes", "x", "--no", "x", "--forget", "a"]),
        *(["--from-feedback", "x", "--yes", "x"], ["--from-feedback", "x", "--forget", "a"]),
    ],
)
def test_what_to_teach_has_to_be_clear(options: list[str]):
    refusal = (
        "Give either --label with --yes and --no, or --labels TABLE.csv, or --from-feedback FILE.db, or "
        "--forget LABEL, or --back-to VERSION."
    )
    with pytest.raises(LabelwiseError, match=f"^{re.escape(refusal)}$"):
        CliRunner().invoke(app, ["teach", str(ROOT / "model_repository"), *options], catch_exceptions=False)


def test_errors_are_json_for_programs(tmp_path: Path):
    command = [sys.executable, "-m", "labelwise", "teach", "model_repository", "--json", "--label", "\udcffa"]
    run = subprocess.run(
        [*command, "--yes", tmp_path, "--no", tmp_path], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (1, "")
    answer = json.loads(run.stdout)
    assert answer["kind"] == "data"
    assert "has no photos" in answer["error"]
