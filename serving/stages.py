"""What a request reports on its way: its stages, for metrics and traces, and facts, for the log."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.tracing import RequestTrace

# The `state` in the scope of the current request: what was noted, and "trace" if the request is traced.
_facts: ContextVar[dict[str, Any]] = ContextVar("labelwise_request")


def begin_request(state: dict[str, Any]) -> None:
    """Makes `state` the current request's, in this task and in those that it starts."""
    _facts.set(state)


def note(**facts: Any) -> None:
    """Adds facts about the request to its log line and its trace; never a photo or a photo's name."""
    if (state := _facts.get(None)) is not None:
        state.update(facts)


def current_trace() -> "RequestTrace | None":
    state = _facts.get(None)
    return None if state is None else state.get("trace")


class Stage:
    """Calls `observe` with the seconds that a `with` block takes, and makes it a span if the request is traced."""

    def __init__(self, name: str, observe: Callable[[float], object]) -> None:
        self._name, self._observe = name, observe

    def __enter__(self) -> None:
        trace = current_trace()
        self._span = None if trace is None else trace.stage(self._name)
        if self._span is not None:
            self._span.__enter__()
        self._started = time.perf_counter()

    def __exit__(self, *error: Any) -> None:
        self._observe(time.perf_counter() - self._started)
        if self._span is not None:
            self._span.__exit__(*error)
