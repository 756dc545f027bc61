"""Decoding in threads: in order, never far ahead, and in memory only what fits."""

import threading
import time

import pytest

from training.data.decode import keeps, ordered_map


def test_results_come_in_order_and_only_a_bounded_number_is_computed_ahead():
    taken, started = 0, []
    lock = threading.Lock()

    def slow_for_even(item: int) -> int:
        with lock:
            started.append(item)
            assert item <= taken + 4
        time.sleep(0.002 * (item % 2 == 0))
        return item * item

    results = []
    for result in ordered_map(slow_for_even, range(20), ahead=4):
        results.append(result)
        with lock:
            taken += 1
    assert results == [item * item for item in range(20)]
    assert sorted(started) == list(range(20))


def test_what_is_left_when_nobody_takes_more_is_not_computed():
    started = []
    results = ordered_map(started.append, range(100), ahead=4)
    next(results)
    results.close()
    assert len(started) <= 5


def test_an_error_arrives_where_its_result_would():
    results = ordered_map(lambda item: 1 / item, [1, 0], ahead=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_quarter_of_the_free_memory_is_the_limit():
    assert keeps("auto", 1 << 20)
    assert not keeps("auto", 1 << 50)
    assert not keeps("auto", 1 << 20, processes=1 << 30)
    assert keeps("memory", 1 << 50)
    assert not keeps("none", 1)
