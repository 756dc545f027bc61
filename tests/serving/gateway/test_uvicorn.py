"""The gateway builds on parts of uvicorn that are not public; a release that changes one of them fails here first."""

import inspect
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gateway.requests.protocol import LimitedProtocol
from serving.gateway.worker import AnnouncingServer

PRIVATE = {"_start_asgi_task"}  # overridden though its name is private
NOT_UVICORNS = {"on_chunk_header"}  # httptools calls it
CHANGED = (
    f"uvicorn {uvicorn.__version__} {{}}: adapt serving/gateway/requests/protocol.py and serving/gateway/worker.py, "
    "or lower uvicorn's upper bound in pyproject.toml."
)


def functions_of(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if inspect.isfunction(value)}


def parameters_of(kind: type, name: str) -> list[str]:
    found = getattr(kind, name, None)
    assert found is not None, CHANGED.format(f"has no {kind.__name__}.{name}")
    return list(inspect.signature(found).parameters)


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (
            LimitedProtocol,
            HttpToolsProtocol,
            {name for name in functions_of(LimitedProtocol) if not name.startswith("_")} - NOT_UVICORNS | PRIVATE,
        ),
        (AnnouncingServer, uvicorn.Server, {"startup", "handle_exit"}),
    ],
)
def test_what_is_overridden_takes_the_same_arguments(ours: type, theirs: type, names: set[str]) -> None:
    for name in names:
        changed = CHANGED.format(f"calls {theirs.__name__}.{name} with other arguments")
        assert parameters_of(theirs, name) == parameters_of(ours, name), changed


@pytest.mark.parametrize(("ours", "theirs"), [(LimitedProtocol, HttpToolsProtocol), (AnnouncingServer, uvicorn.Server)])
def test_no_private_method_is_overridden_by_chance(ours: type, theirs: type) -> None:
    shared = {name for name in functions_of(ours).keys() & functions_of(theirs).keys() if name[0] == "_" != name[1]}
    assert shared - PRIVATE == set(), CHANGED.format(f"has methods of these names itself: {shared - PRIVATE}")


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (HttpToolsProtocol.__init__, {"connections", "cycle", "expect_100_continue", "headers", "loop", "parser"}),
        (HttpToolsProtocol.__init__, {"pipeline", "transport"}),
        (HttpToolsProtocol.on_message_begin, {"headers", "url"}),
        (RequestResponseCycle.__init__, {"disconnected", "message_event", "more_body", "response_complete"}),
        (RequestResponseCycle.__init__, {"response_started", "scope", "default_headers", "flow", "keep_alive"}),
        (RequestResponseCycle.__init__, {"on_response", "transport", "waiting_for_100_continue"}),
        (RequestResponseCycle.send, {"HEADER_VALUE_RE", "STATUS_LINE", "write_paused"}),
        (uvicorn.Server.__init__, {"force_exit", "should_exit"}),
    ],
)
def test_the_attributes_that_are_used_are_there(method: Any, names: set[str]) -> None:
    missing = ", ".join(sorted(names - set(method.__code__.co_names)))
    assert not missing, CHANGED.format(f"does not set {missing} in {method.__qualname__}")


def test_the_method_that_is_called_is_there() -> None:
    assert parameters_of(HttpToolsProtocol, "_unset_keepalive_if_required") == ["self"]
