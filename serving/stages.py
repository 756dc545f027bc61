"""What a request reports on its way: its stages, for metrics and traces, and facts, for the log."""

import time
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

# The `state` in the scope of the current request: what was noted, and "trace" if the request is traced.
_facts: ContextVar[dict[str, Any]] = ContextVar("labelwise_request")


class Trace(Protocol):
    """A request that is traced, as serving/gateway/observe/tracing.py does it."""

    def stage(self, name: str) -> AbstractContextManager[Any]:
        """Returns a span for the `with` block, below the request's."""

    def traceparent(self) -> str:
        """Returns the W3C Trace Context of the innermost span, for the next server."""

    def end(self, name: str, facts: dict[str, Any]) -> None:
        """Ends the trace: the request is answered."""


class _Seconds(Protocol):
    def observe(self, amount: float) -> None: ...


def begin_request(state: dict[str, Any]) -> None:
    """Makes `state` the current request's, in this task and in those that it starts."""
    _facts.set(state)


def note(**facts: Any) -> None:
    """Adds facts about the request to its log line and its trace; never a photo or a photo's name."""
    if (state := _facts.get(None)) is not None:
        state.update(facts)


def current_trace() -> Trace | None:
    state = _facts.get(None)
    return None if state is None else state.get("trace")


class Stage:
    """Measures a `with` block in `seconds`, and makes it a span if the request is traced."""

    def __init__(self, name: str, seconds: _Seconds) -> None:
        self._name, self._seconds = name, seconds

    def __enter__(self) -> None:
        trace = current_trace()
        self._span = None if trace is None else trace.stage(self._name)
        if self._span is not None:
            self._span.__enter__()
        self._started = time.perf_counter()

    def __exit__(self, *error: Any) -> None:
        self._seconds.observe(time.perf_counter() - self._started)
        if self._span is not None:
            self._span.__exit__(*error)
