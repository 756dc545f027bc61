#!/usr/bin/env bash
# Found 2026-11-28 with label-studio-sdk 2.1.2, whose converter writes Label Studio's exports.
#
# In the CSV of a project with choices, one column has two notations. A photo with one choice has it as plain text; a
# photo with several has a JSON object in the same column. A program that counts the values of that column, or splits it
# at commas, gets labels such as {"choices": ["cat" and "dog"]}. A choice that itself holds a comma stays plain text, so
# text must not be split and JSON must be parsed. The export "TSV" has tabs, but its file is also called result.csv, so
# a reader that trusts the name finds one column. No value is lost in either case.
#
# Why it matters to people who tag photos: CSV is the usual way from Label Studio to a spreadsheet or to training. The
# photos with several labels are the reason to use a multi-label tagger, and exactly these come out wrong.
#
# Output seen:
#   result.csv of CSV: cat | {"choices":["cat","dog"]} | dog, wet
#   result.csv of TSV: the header has 8 columns by tabs, 1 by commas
#
# Exits 1 if a column has one notation and the TSV is not called CSV.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q label-studio-sdk==2.1.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import csv
import json
import pathlib
import sys

from label_studio_sdk.converter import Converter

SETUP = """<View><Image name="image" value="$image"/><Choices name="kind" toName="image" choice="multiple">
<Choice value="cat"/><Choice value="dog"/><Choice value="dog, wet"/></Choices></View>"""


def task(number, choices):
    result = {"id": "r", "type": "choices", "from_name": "kind", "to_name": "image", "value": {"choices": choices}}
    time = "2026-11-28T10:00:00Z"
    person = {"id": 1, "email": "me@example.org"}
    about = {"completed_by": person, "created_at": time, "updated_at": time, "lead_time": 1.0, "was_cancelled": False}
    return {
        "id": number,
        "annotations": [{"id": number, "result": [result], **about}],
        "data": {"image": f"/data/upload/1/0a1b2c3d-{number}.jpg"},
    }


tasks = [task(1, ["cat"]), task(2, ["cat", "dog"]), task(3, ["dog, wet"])]
pathlib.Path("tasks.json").write_text(json.dumps(tasks))
converter = Converter(SETUP, ".")
for kind in ("CSV", "TSV"):
    converter.convert("tasks.json", kind, kind, is_dir=False)

with open("CSV/result.csv", newline="") as stream:
    cells = [row["kind"] for row in csv.DictReader(stream)]
print("result.csv of CSV:", " | ".join(cells))
mixed = cells[0] == "cat" and json.loads(cells[1]) == {"choices": ["cat", "dog"]} and cells[2] == "dog, wet"

(table,) = (file for file in pathlib.Path("TSV").iterdir() if file.is_file())
header = table.read_text().splitlines()[0]
print(f"{table.name} of TSV: the header has {len(header.split(chr(9)))} columns by tabs, {len(header.split(','))} by commas")
misnamed = table.suffix == ".csv" and "\t" in header

sys.exit(0 if mixed and misnamed else 1)
PYTHON
