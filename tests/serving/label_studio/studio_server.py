"""A stand-in for Label Studio 1.23: its API as far as labelwise asks it, with answers recorded from the real one."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.conftest import ROOT

PHOTOS = ROOT / "tests/assets/photos"
LEGACY = "0123456789abcdef0123456789abcdef01234567"
CONFIG = """<View><Image name="image" value="$image"/>
<Choices name="scene" toName="image" choice="multiple">
<Choice value="Sea"/><Choice value="Sonnenuntergang" alias="sunset"/><Choice value="helmet"/></Choices></View>"""


def _token(kind: str, end: float) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"token_type": kind, "exp": int(end), "user_id": "1"})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


PERSONAL = _token("refresh", time.time() + 1e9)


class Studio(BaseHTTPRequestHandler):
    """`tasks` is what the export says; `seen` has the path and the headers of each request."""

    tasks: list[dict[str, Any]]
    backends: list[dict[str, Any]]
    seen: list[tuple[str, dict[str, str]]]
    valid: set[str]  # values of Authorization

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.seen.append((self.path, dict(self.headers)))
        if self.headers["Authorization"] not in self.valid:
            self.answer(401, {"detail": "Authentication token no longer valid: legacy token authentication has been…"})
        elif path == "/api/projects/1":
            self.answer(200, {"id": 1, "title": "try", "label_config": CONFIG})
        elif self.path == "/api/projects/1/export?exportType=JSON":
            self.answer(200, self.tasks)
        elif self.path == "/api/ml?project=1":
            self.answer(200, self.backends)
        elif path.startswith("/data/upload/1/") and (photo := PHOTOS / path[24:]).is_file():
            self.photo(photo.read_bytes())
        else:
            self.answer(404, {"detail": "Not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, dict(self.headers)))
        if self.path != "/api/token/refresh/" or body != {"refresh": PERSONAL}:
            return self.answer(401, {"detail": "Token is invalid or expired", "code": "token_not_valid"})
        access = _token("access", time.time() + 300)
        self.valid.add(f"Bearer {access}")
        return self.answer(200, {"access": access})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        [backend] = [each for each in self.backends if self.path == f"/api/ml/{each['id']}"]
        assert body.keys() == {"title", "url", "project"}  # without the last two it answers 500
        backend.update(body)
        self.answer(200, backend)

    def photo(self, content: bytes) -> None:
        """As its web framework does, which knows that the view renders JSON."""
        if "*/*" not in self.headers["Accept"]:
            return self.answer(406, {"detail": "Could not satisfy the request Accept header."})
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def running_studio(*tasks: dict[str, Any]) -> Iterator[tuple[str, type[Studio]]]:
    """Its URL and the class that answers there."""
    state = {"tasks": list(tasks), "backends": [], "seen": [], "valid": {f"Token {LEGACY}"}}
    handler = type("Handler", (Studio,), state)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler
        finally:
            server.shutdown()
            thread.join()


def upload(photo: str) -> str:
    """What a task calls an uploaded photo."""
    return f"/data/upload/1/0a1b2c3d-{photo}"


def annotated(photo: str, *annotations: list[str] | None) -> dict[str, Any]:
    """A task of the JSON export; an annotation that is None was skipped."""
    return {
        "id": 1,
        "annotations": [
            {
                "id": 1,
                "completed_by": 1,
                "result": [
                    {
                        "id": "x",
                        "from_name": "scene",
                        "to_name": "image",
                        "type": "choices",
                        "value": {"choices": chosen},
                    }
                ]
                if chosen
                else [],
                "was_cancelled": chosen is None,
                "ground_truth": False,
            }
            for chosen in annotations
        ],
        "file_upload": f"0a1b2c3d-{photo}",
        "drafts": [],
        "predictions": [2],
        "data": {"image": upload(photo)},
        "meta": {},
    }
