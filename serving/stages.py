"""What a request tells about itself on its way: its stages, for metrics and traces, and its facts, for the log."""

import time
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

# The `state` of the scope of the request that is being answered: what was noted, and "trace" where it is traced.
_facts: ContextVar[dict[str, Any]] = ContextVar("labelwise_request")


class Trace(Protocol):
    """One request that is traced; serving/gateway/observe/tracing.py has the only one there is."""

    def stage(self, name: str) -> AbstractContextManager[Any]:
        """A span for the block, below the request's."""

    def traceparent(self) -> str:
        """W3C Trace Context of the innermost span, for whoever is asked next."""

    def end(self, name: str, facts: dict[str, Any]) -> None:
        """The request is answered."""


class _Seconds(Protocol):
    def observe(self, amount: float) -> None: ...


def begin_request(state: dict[str, Any]) -> None:
    """From here on, in this task and those it starts, `state` is the request's."""
    _facts.set(state)


def note(**facts: Any) -> None:
    """Facts about the request, for its line in the log and its trace; never a photo, nor the name of one."""
    if (state := _facts.get(None)) is not None:
        state.update(facts)


def current_trace() -> Trace | None:
    state = _facts.get(None)
    return None if state is None else state.get("trace")


class Stage:
    """Tells `seconds` how long the block took, and makes it a span of the request's trace where there is one."""

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
