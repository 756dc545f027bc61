"""deploy/prometheus asks for metrics that are there, in words that Prometheus understands, and alerts in time."""

import json
import re
import shutil
from pathlib import Path

import httpx
import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy.files import DEPLOY, passes, queries, read
from tests.test_operations_docs import DOCUMENT, PHOTO, series

FOLDER = DEPLOY / "prometheus"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def documented() -> list[str]:
    """The queries of docs/operations.md, each in one line."""
    blocks = re.findall(r"^```promql\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    text = "\n\n".join(blocks).replace("_count[5m]))\nsum", "_count[5m]))\n\nsum")  # two under one comment
    return [one_line(re.sub(r"^#.*\n", "", query, flags=re.MULTILINE)) for query in text.split("\n\n")]


def one_line(query: str) -> str:
    return re.sub(r"(?<=[(]) | (?=[)])", "", " ".join(query.split()))


def test_every_metric_is_one_of_the_gateways_or_tritons(gateway_url: str) -> None:
    for _ in range(5):  # as many as there are labels, so that scores are counted
        httpx.post(f"{gateway_url}/v1/tag", content=PHOTO).raise_for_status()
    httpx.get(f"{gateway_url}/nowhere")
    known = series(httpx.get(f"{gateway_url}/metrics").text)
    known |= set(re.findall(r"nv_\w+", DOCUMENT))  # which tests/test_operations_docs.py compares with a real Triton
    for where, query in queries().items():
        named = set(re.findall(r"\b(?:labelwise|nv)_\w+|\bup\b", query))
        assert named, where
        assert named <= known | {"up"}, where


def test_nothing_reads_tritons_counter_of_failures() -> None:
    """It leaves out requests refused by a full queue, and counts a failure inside an ensemble twice."""
    for where, query in queries().items():
        assert "nv_inference_request_failure" not in query, where
        assert "nv_inference_" not in query or "queue" in query or "exec_count" in query, where


def test_every_label_that_is_asked_for_has_such_values(gateway_url: str) -> None:
    httpx.post(f"{gateway_url}/v1/tag", content=PHOTO).raise_for_status()
    text = httpx.get(f"{gateway_url}/metrics").text
    assert 'labelwise_request_seconds_bucket{le="+Inf",route="/v1/tag"}' in text
    errors = (ROOT / "serving/gateway/problems.py").read_text()
    asked = {code for codes in re.findall(r'code=~"([^"]+)"', "".join(queries().values())) for code in codes.split("|")}
    assert asked
    assert all(f'"{code}"' in errors for code in asked)


def test_the_dashboard_shows_what_the_document_says_is_worth_asking() -> None:
    panels = [one_line(query) for where, query in queries().items() if where.startswith("panel")]
    assert sorted(panels) == sorted(documented())


def test_alerts_are_the_documents_queries_with_a_limit() -> None:
    for where, query in queries().items():
        if where.startswith("alert") and "up{" not in query:
            assert any(known in one_line(query) for known in documented()), where


def test_every_alert_is_tested() -> None:
    tested = re.findall(
        r"alertname: (\w+)\n +exp_alerts", read("prometheus/alerts.test.yaml") + read("prometheus/drift.test.yaml")
    )
    groups = yaml.safe_load(read("prometheus/alerts.yaml"))["groups"]
    assert {rule["alert"] for group in groups for rule in group["rules"]} == set(tested)


@needs_promtool
def test_prometheus_accepts_its_configuration() -> None:
    passes("promtool", "check", "config", "--syntax-only", FOLDER / "prometheus.yaml")
    mounted = yaml.safe_load(read("compose.yaml"))["services"]["prometheus"]["volumes"]
    for file in yaml.safe_load(read("prometheus/prometheus.yaml"))["rule_files"]:
        assert f"./prometheus/{file}:/etc/prometheus/{file}:ro" in mounted


@needs_promtool
def test_alerts_come_when_they_should() -> None:
    tests = sorted(FOLDER.glob("*.test.yaml"))
    assert len(tests) == 2
    passes("promtool", "test", "rules", *tests)


@needs_promtool
def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries().values())]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    assert f"SUCCESS: {len(rules)} rules found" in passes("promtool", "check", "rules", file)
