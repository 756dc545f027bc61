"""What an operator sees of a request: metrics, a log line and a trace at a collector."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from serving.gateway.access.keys import add_key
from tests.conftest import ROOT, free_port, running_gateway
from tests.polling import until
from tests.serving.bad_images import BROKEN_PROFILE, BROKEN_PROFILE_NOTE

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
PATIENCE = 60.0  # seconds
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Received(NamedTuple):
    """A span as the collector has it; ids in hex, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start: int
    end: int
    attributes: dict[str, str]


def received(body: bytes, content_type: str) -> Iterator[Received]:
    """The gateway sends protobuf; Triton, JSON with ids in hex."""
    if content_type == "application/json":
        message = json.loads(body)
    else:
        message = MessageToDict(ExportTraceServiceRequest.FromString(body))
    for resource in message["resourceSpans"]:
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            ids = [span.get(name, "") for name in ("traceId", "spanId", "parentSpanId")]
            if content_type != "application/json":
                ids = [base64.b64decode(value).hex() for value in ids]
            times = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
            attributes = {each["key"]: str(*each["value"].values()) for each in span.get("attributes", ())}
            yield Received(span["name"], *ids, *times, attributes)


@contextmanager
def collector() -> Iterator[tuple[str, list[Received]]]:
    """An OTLP/HTTP receiver: its address, and the spans it was sent."""
    spans: list[Received] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            spans.extend(received(body, self.headers["content-type"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_line_of_json_for_each_request_with_the_notes_about_its_photos(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys"
    key = add_key(file, "phone-app")
    with running_gateway(log_format="json", keys=str(file)) as (url, _):
        ask = {"X-Request-ID": "order-66", "Authorization": f"Bearer {key}"}
        form = {"file": ("my secret holiday.jpg", PHOTO, "image/jpeg")}
        assert httpx.post(f"{url}/v1/tag", files=form, headers=ask).status_code == 200
        assert httpx.post(f"{url}/v1/tag", content=b"no photo", headers=ask).status_code == 415
        assert httpx.get(f"{url}/invented").status_code == 401
        files = [("files", (name, BROKEN_PROFILE, "image/jpeg")) for name in ("a.jpg", "b.jpg")]
        for path, form in (("/v1/tag", {"file": ("a.jpg", BROKEN_PROFILE)}), ("/v1/tag:batch", files)):
            assert httpx.post(f"{url}{path}", files=form, headers=ask).status_code == 200
    err = capfd.readouterr().err
    every = lines(err)
    good, bad, closed, *noted = [line for line in every if line["logger"] == "labelwise.request"]
    seconds = good.pop("seconds")
    assert isinstance(seconds, float)
    assert 0 < seconds < 60
    assert str(good.pop("time")).endswith("Z")
    assert good == {
        "level": "info",
        "logger": "labelwise.request",
        "message": "POST /v1/tag 200",
        "request_id": "order-66",
        "method": "POST",
        "route": "/v1/tag",
        "status": 200,
        "key_name": "phone-app",
        "model": "scenes",
        "version": 1,
        "images": 1,
    }
    assert (bad["status"], bad["problem"]) == (415, "image_format_unsupported")
    assert (closed["status"], closed["problem"], closed["route"]) == (401, "unauthorized", "other")
    assert [line["notes"] for line in noted] == [BROKEN_PROFILE_NOTE] * 2
    assert "holiday" not in err
    assert key not in err


def test_metrics_of_a_request_and_only_problems_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with running_gateway(log_requests="problems") as (url, _):
        assert httpx.post(f"{url}/v1/tag", content=PHOTO).status_code == 200
        assert httpx.post(f"{url}/v1/tag:batch", files=[("files", PHOTO)] * 3).status_code == 200
        text = httpx.get(f"{url}/metrics").text
        assert httpx.post(f"{url}/v1/tag", content=b"no photo").status_code == 415
    (told,) = [line for line in capfd.readouterr().err.splitlines() if "labelwise.request" in line]
    assert "POST /v1/tag 415 request_id=" in told
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    model = 'model="scenes",version="1"'
    assert float(values[f"labelwise_images_total{{{model}}}"]) == 4
    assert float(values[f"labelwise_batch_images_sum{{{model}}}"]) == 4
    assert float(values[f'labelwise_batch_images_bucket{{le="2.0",{model}}}']) == 1
    assert float(values["labelwise_decode_seconds_count"]) == 4
    assert float(values['labelwise_queue_seconds_count{stage="decode"}']) == 5  # the form is taken apart there, too
    for series in (f"engine_seconds_count{{{model}}}", 'queue_seconds_count{stage="engine"}', "receive_seconds_count"):
        assert float(values[f"labelwise_{series}"]) == 2
    sampled = {name: value for name, value in values.items() if name.startswith("labelwise_label_score_count")}
    assert len(sampled) == 5  # labels
    assert set(map(float, sampled.values())) == {1}  # every fifth photo
    assert float(values[f'labelwise_label_score_sum{{label="sunset",{model}}}']) > 0.9
    assert float(values["labelwise_requests_in_flight"]) == 0


def assert_stages(spans: list[Received], url: str) -> dict[str, Received]:
    """One sampled request as the collector has it; the one that was not sampled is not there."""
    sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    assert httpx.post(f"{url}/v1/tag", content=PHOTO, headers=sampled, timeout=PATIENCE).status_code == 200
    other = {"traceparent": f"00-{'a' * 32}-{PARENT}-00"}
    assert httpx.post(f"{url}/v1/tag", content=PHOTO, headers=other, timeout=PATIENCE).status_code == 200
    until(lambda: len(spans) >= 4)
    found = {span.name: span for span in spans}
    assert set(found) == {"POST /v1/tag", "receive", "decode", "engine"}
    assert {span.trace_id for span in spans} == {TRACE}
    root = found["POST /v1/tag"]
    assert root.parent_id == PARENT
    stages = [found[name] for name in ("receive", "decode", "engine")]
    for before, after in zip(stages, [*stages[1:], None], strict=True):
        assert before.parent_id == root.span_id
        end = after.start if after else root.end
        assert root.start <= before.start <= before.end <= end
    return found


def test_a_trace_arrives_at_the_collector(capfd: pytest.CaptureFixture[str]) -> None:
    with collector() as (endpoint, spans):
        with running_gateway(trace_endpoint=endpoint, trace_ratio="0", log_format="json") as (url, _):
            root = assert_stages(spans, url)["POST /v1/tag"]
        assert (root.attributes["http.response.status_code"], root.attributes["labelwise.model"]) == ("200", "scenes")
    traced = [line["trace_id"] for line in lines(capfd.readouterr().err) if "trace_id" in line]
    assert traced == [TRACE]


def test_a_trace_goes_on_in_triton(triton_arguments: dict[str, str]) -> None:
    ports = {"triton_grpc_port": str(free_port()), "triton_metrics_port": str(free_port())}
    with collector() as (endpoint, spans):
        with running_gateway(trace_endpoint=endpoint, trace_ratio="0", **(triton_arguments | ports)) as (url, _):
            assert httpx.post(f"{url}/v1/tag", content=PHOTO, timeout=PATIENCE).status_code == 200
            # Triton sends its spans every five seconds. It sometimes loses those of the first request that it traces.
            until(lambda: _traced(url) and _below_the_engine(spans))
        assert {span.trace_id for span in spans} == {TRACE}


def _traced(url: str) -> bool:
    sampled = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    return httpx.post(f"{url}/v1/tag", content=PHOTO, headers=sampled, timeout=PATIENCE).status_code == 200


def _below_the_engine(spans: list[Received]) -> list[Received]:
    """The spans of Triton: their parent is the gateway's span of the engine."""
    engine = {span.span_id for span in spans if span.name == "engine"}
    return [span for span in spans if span.parent_id in engine]


def test_what_is_off_is_not_imported() -> None:
    program = """
import sys
from serving.gateway.app import create_app
from serving.engines import create_engine
from serving.settings import Settings
settings = Settings()
create_app(settings, create_engine(settings))
print(*(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
