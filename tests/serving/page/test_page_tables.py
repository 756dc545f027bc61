"""The page's CSV writes several tags in one cell as `labelwise tag` does. Runs in Node, without a browser."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from labelwise.label_names import join_names, split_names
from tests.conftest import ROOT

LABELS = ["sea", "Smith, John", "a;b", "c|d", '5" disc', "[x]", "two\nlines"]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_writes_a_cell_of_tags_as_the_command_does(tmp_path: Path):
    shutil.copy(ROOT / "serving/page/tables.js", tmp_path / "tables.mjs")
    scores = [{"label": label, "score": 0.5} for label in LABELS]
    photo = {"file": {"name": "a.jpg"}, "judged": {"tags": scores, "scores": scores, "model": "m", "version": "1"}}
    code = f"import {{asCsv}} from './tables.mjs'; process.stdout.write(asCsv([{json.dumps(photo)}]))"
    command = ["node", "--input-type=module", "--eval", code]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    (row,) = csv.DictReader(io.StringIO(answer.stdout.replace("\r\n", "\n"), newline=""), strict=True)
    assert row["tags"] == join_names(LABELS)
    assert split_names(row["tags"]) == LABELS
