"""The stages of a request, for metrics and traces."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.tracing import RequestTrace

# The trace of the request that this task works for, if it is traced.
current_trace: ContextVar["RequestTrace | None"] = ContextVar("labelwise_trace", default=None)


class Stage:
    """Calls `observe` with the seconds that a `with` block takes, and makes it a span if the request is traced."""

    def __init__(self, name: str, observe: Callable[[float], object]) -> None:
        self._name, self._observe = name, observe

    def __enter__(self) -> None:
        trace = current_trace.get()
        self._span = None if trace is None else trace.stage(self._name)
        if self._span is not None:
            self._span.__enter__()
        self._started = time.perf_counter()

    def __exit__(self, *error: Any) -> None:
        self._observe(time.perf_counter() - self._started)
        if self._span is not None:
            self._span.__exit__(*error)
