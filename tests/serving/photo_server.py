"""A web server with photos. The path says whether it behaves well or badly."""

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from tests.conftest import ROOT

PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()


class Photos(BaseHTTPRequestHandler):
    """Answers well or badly by path, and records its requests."""

    seen: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, dict(self.headers)))
        act = getattr(self, self.path[1:].partition("?")[0].partition("/")[0], None)
        act() if act else self.send_error(404)

    def photo(self) -> None:
        self.answer(200, {"Content-Length": str(len(PHOTO)), "Content-Type": "text/plain"}, PHOTO)

    def until_the_end(self) -> None:
        self.answer(200, {}, PHOTO)

    def cut(self) -> None:
        self.answer(200, {"Content-Length": str(len(PHOTO))}, PHOTO[:100])

    def large(self) -> None:
        self.answer(200, {}, b"")
        try:
            while True:
                self.wfile.write(bytes(2**20))
        except OSError:
            pass

    def slow(self) -> None:
        self.answer(200, {}, b"")
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)
        except OSError:
            pass

    def nonsense(self) -> None:
        self.wfile.write(b"220 mail.example.org ESMTP\r\n\r\n")

    def headers_for_ever(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000)

    def moved(self) -> None:
        self.answer(302, {"Location": self.path.partition("?")[2]}, b"")

    def lost(self) -> None:
        self.answer(302, {}, b"")

    def loop(self) -> None:
        self.answer(302, {"Location": "/loop"}, b"")

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving_photos(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a server on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Photos) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
