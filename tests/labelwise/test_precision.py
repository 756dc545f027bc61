"""Which graph may run, and which of those does."""

from itertools import count

import pytest

from labelwise.precision import candidates, fastest, seconds_of

GRAPHS = [
    {"precision": "fp32", "map_change": 0.0},
    {"precision": "fp16", "map_change": -0.005},
    {"precision": "int8", "map_change": -0.006},
]


def test_auto_takes_what_loses_little_and_always_the_most_exact():
    assert candidates(GRAPHS, "auto", 0.5) == ["fp32", "fp16"]
    assert candidates(GRAPHS, "auto", 0.6) == ["fp32", "fp16", "int8"]
    assert candidates(GRAPHS[1:], "auto", 0) == ["fp16"]


def test_a_loss_that_nobody_measured_counts_as_too_large():
    assert candidates([GRAPHS[0], {"precision": "int8", "map_change": None}], "auto", 100) == ["fp32"]


def test_a_named_precision_is_taken_whatever_it_loses():
    assert candidates(GRAPHS, "int8", 0) == ["int8"]
    assert candidates(GRAPHS[:1], "int8", 0) == []


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({"fp32": 2.0, "int8": 1.0}, "int8"),
        ({"fp32": 1.0, "int8": 2.0}, "fp32"),
        ({"fp32": 1.0, "int8": 0.97}, "fp32"),  # as good as equal
        ({"fp32": 2.0, "fp16": 1.0, "int8": 0.99}, "fp16"),
    ],
)
def test_a_coarser_graph_has_to_be_clearly_faster(seconds: dict[str, float], best: str):
    assert fastest(seconds) == best


def test_the_quickest_call_counts_and_the_calls_take_turns():
    calls: list[str] = []
    ticks = count()
    steps = {"fp32": iter([5, 3, 4]), "int8": iter([1, 2, 9])}

    def run(name: str) -> None:
        calls.append(name)
        for _ in range(next(steps[name])):
            next(ticks)

    seconds = seconds_of({name: lambda name=name: run(name) for name in steps}, lambda: next(ticks))
    assert calls == ["fp32", "int8"] * 3
    assert seconds == {"fp32": 4, "int8": 2}  # reading this clock is one tick
