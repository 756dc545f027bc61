"""Which graph of a version runs: the fastest on this machine whose loss in mAP is small enough.

Triton's Python backend has a copy of this file beside its model, so it needs nothing else of labelwise.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

AUTO = "auto"
MAX_LOSS = 0.5  # points of mAP

_ROUNDS = 3
_CLEARLY = 0.95  # of the time of a more exact graph: chance should not decide between equals


def candidates(graphs: Sequence[Mapping[str, Any]], wanted: str, max_loss: float) -> list[str]:
    """Returns the precisions of those of a contract's `graphs` that may run, the most exact first.

    `wanted` is a precision, or "auto" for the most exact graph and all whose measured loss is at most `max_loss` points
    of mAP.
    """
    if wanted != AUTO:
        return [graph["precision"] for graph in graphs if graph["precision"] == wanted]
    return [graph["precision"] for place, graph in enumerate(graphs) if place == 0 or _loss(graph) <= max_loss]


def _loss(graph: Mapping[str, Any]) -> float:
    """In points of mAP; infinite if it was not measured."""
    return float("inf") if graph["map_change"] is None else -100 * float(graph["map_change"])


def seconds_of(
    runs: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Measures each of `runs`, all in turns. Returns the seconds of the quickest call of each. They have warmed up."""
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            before = clock()
            run()
            seconds[name] = min(seconds[name], clock() - before)
    return seconds


def fastest(seconds: Mapping[str, float]) -> str:
    """Returns the clearly fastest of `seconds`, which begins with the most exact."""
    best, *others = seconds
    for name in others:
        if seconds[name] < _CLEARLY * seconds[best]:
            best = name
    return best
