"""What the gateway takes from uvicorn's inside is there: a release that changes it is noticed here first."""

import inspect
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gateway.requests.protocol import LimitedProtocol

_OWN = {"on_chunk_header"}  # httptools calls it, and uvicorn has none


def _functions(of: type) -> dict[str, Any]:
    return {name: value for name, value in vars(of).items() if inspect.isfunction(value)}


def test_what_is_overridden_takes_the_same_arguments() -> None:
    theirs = _functions(HttpToolsProtocol)
    public = {name for name in _functions(LimitedProtocol) if not name.startswith("_")} - _OWN
    for name in public | {"_start_asgi_task"}:
        ours = inspect.signature(_functions(LimitedProtocol)[name])
        assert list(ours.parameters) == list(inspect.signature(theirs[name]).parameters), name


def test_nothing_else_is_overridden_by_chance() -> None:
    shared = _functions(LimitedProtocol).keys() & _functions(HttpToolsProtocol).keys()
    assert {name for name in shared if name.startswith("_")} == {"_start_asgi_task"}
    assert hasattr(HttpToolsProtocol, "_unset_keepalive_if_required")  # which is called


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (HttpToolsProtocol, {"connections", "cycle", "expect_100_continue", "headers", "parser", "pipeline"}),
        (RequestResponseCycle, {"disconnected", "message_event", "more_body", "response_complete", "response_started"}),
    ],
)
def test_the_attributes_are_there(of: type, names: set[str]) -> None:
    assert names <= set(of.__init__.__code__.co_names)  # type: ignore[misc]
