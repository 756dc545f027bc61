"""The page and the API reference behind a proxy that serves them under a path."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.serving import chromium
from tests.serving.chromium import card, expect, opened_page, pick_done

browser = chromium.browser


@contextmanager
def proxy(gateway: str) -> Iterator[str]:
    """Passes on requests below /tags/, without that prefix, and no others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/tags/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
            answer = client.request(self.command, gateway + self.path[5:], content=body, headers=headers)
            self.send_response(answer.status_code)
            for name in ("Content-Type", "Content-Length", "Content-Security-Policy"):
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with httpx.Client() as client, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/tags/"
        server.shutdown()


def test_works_under_a_path_of_a_proxy(browser: Any, gateway_url: str, photos: list[Path]) -> None:
    with proxy(gateway_url) as address, opened_page(browser, address) as page:
        page.goto(address)
        pick_done(page, photos[1])
        card(page, photos[1].name).locator(".bar").first.click()
        expect(card(page, photos[1].name).locator(".where")).to_contain_text("desert: ")
        expect(page.locator("#curl")).to_contain_text(f'"{address}v1/tag"')

        page.get_by_role("link", name="API reference").click()
        page.get_by_role("button", name="get /v2/health/live", exact=True).click()
        page.get_by_role("button", name="Try it out").click()
        page.get_by_role("button", name="Execute").click()
        expect(page.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
