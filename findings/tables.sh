#!/usr/bin/env bash
# DuckDB answers a query for one field of a Parquet struct with the values of another field, without an error.
#
# Date: 2026-11-28. Versions: DuckDB 2.0.1, pyarrow 25.0.0, Python 3.11.
#
# What happens: a Parquet file has a column `scores`, a struct with the fields `Cat` and `cat`. `scores.cat`, and
# `scores."cat"` in quotes, return the values of `Cat`. There is no error and no warning. Two plain columns `Cat` and
# `cat` of a Parquet file are told apart visibly, as `Cat` and `cat_1`. read_json refuses such a struct. Letters
# outside ASCII ("Ä", "ä") are told apart in a struct. pyarrow, which wrote the file, tells all of them apart.
#
# Why it matters to people who tag photos: scores of many labels are naturally a struct with a field per label, and
# label sets made by several people contain "Cat" and "cat". A search for one of them finds the photos of the other.
#
# Output seen:
#   struct:  scores.Cat = 0.1, scores.cat = 0.1, scores."cat" = 0.1   (written: Cat 0.1, cat 0.9)
#   columns: Cat = 0.1, cat_1 = 0.9
#   json:    Duplicate name "cat" in struct
#
# Exits with 1 if this is no longer so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1 pyarrow==25.0.0
cd "$folder"
venv/bin/python - <<'PYTHON'
import json
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

values = [pa.array([0.1]), pa.array([0.9])]
pq.write_table(pa.table({"scores": pa.StructArray.from_arrays(values, names=["Cat", "cat"])}), "struct.parquet")
pq.write_table(pa.table(values, names=["Cat", "cat"]), "columns.parquet")
Path("struct.jsonl").write_text(json.dumps({"scores": {"Cat": 0.1, "cat": 0.9}}) + "\n")

(struct,) = duckdb.sql("SELECT scores.Cat, scores.cat, scores.\"cat\" FROM 'struct.parquet'").fetchall()
print("struct:  scores.Cat = {}, scores.cat = {}, scores.\"cat\" = {}   (written: Cat 0.1, cat 0.9)".format(*struct))
plain = duckdb.sql("FROM 'columns.parquet'")
(columns,) = plain.fetchall()
print("columns: " + ", ".join(f"{name} = {value}" for name, value in zip(plain.columns, columns)))
try:
    duckdb.sql("FROM read_json('struct.jsonl')").fetchall()
    refusal = "read without an error"
except duckdb.Error as error:
    refusal = str(error)
print("json:    " + refusal)
as_described = struct == (0.1, 0.1, 0.1) and columns == (0.1, 0.9) and "Duplicate name" in refusal
sys.exit(0 if as_described else 1)
PYTHON
