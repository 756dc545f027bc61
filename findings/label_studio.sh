#!/usr/bin/env bash
# Label Studio's "Uncertainty sampling" is random, and sorting by "Prediction score" does nothing, if predictions come from
# a connected model.
#
# Date: 2026-11-29. Version: label-studio 1.23.2, with its default SQLite.
#
# What happens: connecting a model (an "ML backend") sets the project's `model_version` to the model's *title*. The
# predictions keep the version that the model states. Uncertainty sampling and the column "Prediction score" look for
# predictions whose version equals the project's `model_version`, find none, and say so only in the debug log. If the
# title happens to be the version, both work, until the model learns and has a new version.
#
# Why it matters to people who tag photos: labelling the photos first that the model is least sure of is the reason to
# connect a model that learns. The setting is accepted, predictions with scores are shown, and the order is random.
#
# Output seen (the scores ascend in the order of the photos' numbers; the first row differs in each run):
#   titled "my model":  the first photos asked for 5 10 4 8 2 9, sorted by score: 6 11 4 9 2 7
#   titled "version 1": the first photos asked for 0 1 2 3 4 5, sorted by score: 0 1 2 3 4 5
#
# Exits with 1 if this is no longer so. It needs two to three minutes, most of them for packages, and 1 GB of disk.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --no-compile label-studio==1.23.2
cd "$folder"

export ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false # the model is on this machine
export COLLECT_ANALYTICS=false LATEST_VERSION_CHECK=false SENTRY_DSN='' FRONTEND_SENTRY_DSN=''
port=$(python3 -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
token=0123456789abcdef0123456789abcdef01234567
venv/bin/label-studio start --no-browser --data-dir data --port "$port" --internal-host 127.0.0.1 \
    --username me@example.org --password some-password --user-token $token --enable-legacy-api-token >log 2>&1 &
server=$!

venv/bin/python - "http://127.0.0.1:$port" $token <<'PYTHON'
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

url, token = sys.argv[1:]
COUNT = 12


class Model(BaseHTTPRequestHandler):
    """States the version `version 1`, and predicts with scores that ascend with the number of the photo."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        chosen = {"from_name": "kind", "to_name": "photo", "type": "choices", "value": {"choices": ["cat"]}}
        results = [
            {"result": [chosen], "score": (1 + number(task)) / 20, "model_version": "version 1"}
            for task in asked.get("tasks", ())
        ]
        body = json.dumps({"status": "UP", "model_version": "version 1", "results": results}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def number(task):
    return int(task["data"]["photo"].rpartition("/")[2].partition(".")[0])


def ask(method, path, **request):
    answer = requests.request(method, url + path, headers={"Authorization": f"Token {token}"}, timeout=60, **request)
    answer.raise_for_status()
    return answer.json()


def orders(title):
    """The photos in the order in which they are given out to be labelled, and in that of the column of scores."""
    config = """<View><Image name="photo" value="$photo"/><Choices name="kind" toName="photo">
        <Choice value="cat"/><Choice value="dog"/></Choices></View>"""
    project = {"title": title, "label_config": config, "sampling": "Uncertainty sampling"}
    project = ask("POST", "/api/projects", json=project)["id"]
    ask("POST", "/api/ml", json={"project": project, "title": title, "url": f"http://127.0.0.1:{model.server_port}"})
    for place in range(COUNT):  # not in the order of their scores
        photo = f"https://example.org/{(5 * place + 6) % COUNT}.jpg"
        ask("POST", "/api/tasks", json={"project": project, "data": {"photo": photo}})
    everything = {"project": project, "selectedItems": {"all": True, "excluded": []}}
    ask("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", json=everything)
    query = json.dumps({"ordering": ["tasks:predictions_score"]})
    column = [number(task) for task in ask("GET", "/api/tasks", params={"project": project, "query": query})["tasks"]]
    given = []
    for _ in range(COUNT // 2):
        task = ask("GET", f"/api/projects/{project}/next")
        given.append(number(task))
        ask("POST", f"/api/tasks/{task['id']}/annotations", json={"result": []})
    return given, column[: COUNT // 2]


model = ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=model.serve_forever, daemon=True).start()
for _ in range(170):
    try:
        ask("GET", "/health")
        break
    except requests.RequestException:
        time.sleep(1)

found = {}
for title in ("my model", "version 1"):
    found[title] = given, column = orders(title)
    shown = [" ".join(map(str, numbers)) for numbers in (given, column)]
    print(f'titled "{title}":'.ljust(20) + f"the first photos asked for {shown[0]}, sorted by score: {shown[1]}")

right = list(range(COUNT // 2))
sys.exit(0 if found["version 1"] == (right, right) and right not in found["my model"] else 1)
PYTHON
