"""A label with any characters in its name survives every format, and the tools that read it find it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from labelwise.label_names import split_names
from labelwise.spec import TaggerSpec
from serving.bulk.output import Output
from serving.bulk.output_formats import format_of
from serving.bulk.rows import Row
from serving.bulk.tag_errors import UsageError
from tests.conftest import ROOT

SCENES = TaggerSpec.read(ROOT / "model_repository/scenes/1")
LABELS = ("Smith, John", "a;b", "c|d", '5" disc', "[x]: y.z")
SPEC = SCENES.model_copy(update={"labels": LABELS, "thresholds": (0.5,) * 5})
SCORES = (0.75, 0.875, 0.25, 1.0, 0.5)
TAGS = ['5" disc', "a;b", "Smith, John", "[x]: y.z"]


def write(out: Path, spec: TaggerSpec = SPEC) -> Path:
    output = Output(str(out))
    ledger = output.open(spec, force=False)
    ledger.put([Row("a.jpg", 1, 2, np.array(SCORES, np.float32))])
    output.publish(ledger, spec)
    ledger.delete()
    return out


def query(sql: str) -> list[tuple[Any, ...]]:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    rows: list[tuple[Any, ...]] = duckdb.sql(sql).fetchall()
    return rows


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_an_output_is_read_back_with_the_same_labels(name: str, tmp_path: Path):
    file = write(tmp_path / name)
    (stored,) = format_of(file).read(file)
    assert stored.told == dict(zip(LABELS, SCORES, strict=True))


def test_tags_are_told_apart_in_every_format(tmp_path: Path):
    with write(tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["tags"] == '"5"" disc";"a;b";"Smith, John";"[x]: y.z"'
    assert split_names(row["tags"]) == TAGS  # as training reads names
    assert json.loads(write(tmp_path / "t.jsonl").read_text(encoding="utf-8"))["tags"] == TAGS
    assert pq.read_table(write(tmp_path / "t.parquet")).to_pylist()[0]["tags"] == TAGS


def test_duckdb_finds_every_label(tmp_path: Path):
    table, sheet = write(tmp_path / "t.parquet"), write(tmp_path / "t.csv")
    columns = ", ".join(f"scores.{quoted(label)}" for label in LABELS)
    assert query(f"SELECT {columns}, tags FROM '{table}'") == [(*SCORES, TAGS)]
    columns = ", ".join(quoted(f"scores.{label}") for label in LABELS)
    assert query(f"SELECT {columns} FROM '{sheet}'") == [SCORES]


def test_the_example_of_the_docs(tmp_path: Path):
    table = write(tmp_path / "tags.parquet", SCENES)
    (line,) = [line for line in (ROOT / "docs/tagging.md").read_text("utf-8").splitlines() if "DuckDB: `" in line]
    sql = line.split("`")[1].replace("tags.parquet", str(table))
    sea = SCENES.labels.index("sea")
    assert query(sql) == [("a.jpg",)][: SCORES[sea] > 0.9]
    assert query(sql.replace("0.9", "0.1")) == [("a.jpg",)]


@pytest.mark.parametrize("name", ["t.parquet", "parts/"])
def test_parquet_refuses_labels_that_differ_only_by_case(name: str, tmp_path: Path):
    spec = SPEC.model_copy(update={"labels": ("Cat", "dog", "cat", "Dog", "bird")})
    with pytest.raises(UsageError, match=r"cannot be Parquet: the labels 'Cat' and 'cat'; 'dog' and 'Dog' differ only"):
        Output(f"{tmp_path}/{name}").open(spec, force=False)
    assert list(tmp_path.iterdir()) == []
    (stored,) = format_of(tmp_path / "t.csv").read(write(tmp_path / "t.csv", spec))
    assert stored.told == dict(zip(spec.labels, SCORES, strict=True))
