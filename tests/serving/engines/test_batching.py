"""What waits together is run together; nothing is lost, mixed up, or held back by another."""

import asyncio
import itertools
import random
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from serving.engines.batching import Batches, BatchSize
from serving.inference import Outputs, Pixels
from serving.workers import Workers, WorkersClosed
from tests.polling import PATIENCE

pytestmark = pytest.mark.anyio

TWICE = ("twice",)
POISON = 255


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def photos(*values: int) -> Pixels:
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1)


class Graph:
    """Doubles its input, keeps what it ran, and waits before each run for `go_on`, if it is held."""

    def __init__(self, held: bool = False) -> None:
        self.runs: list[list[int]] = []
        self.asked: list[tuple[str, ...]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        if not held:
            self.go_on.set()

    def __call__(self, pixels: Pixels, outputs: Sequence[str]) -> Outputs:
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        values = pixels[:, 0, 0, 0]
        self.runs.append(values.tolist())
        self.asked.append(tuple(outputs))
        if POISON in values:
            raise ArithmeticError(f"{len(values)} photos, one of them poisoned")
        made = {"twice": values[:, None] * 2.0, "thrice": values[:, None] * 3.0}
        return {name: made[name].astype(np.float32) for name in outputs}


class ClockOfCosts:
    """Says that a run of n photos takes `costs[n]` seconds a photo."""

    def __init__(self, graph: Graph, costs: dict[int, float]) -> None:
        self._graph, self._costs, self._now, self._seen = graph, costs, 0.0, 0

    def __call__(self) -> float:
        if len(self._graph.runs) > self._seen:
            size = len(self._graph.runs[-1])
            self._now += size * self._costs[size]
            self._seen = len(self._graph.runs)
        return self._now


async def waiting_behind_one(batches: Batches, graph: Graph, *values: int) -> list[Outputs | BaseException]:
    """Answers to one photo each, which all arrive while the first is run."""
    requests = [asyncio.create_task(batches.infer(photos(values[0]), TWICE, 20))]
    await asyncio.to_thread(graph.begun.wait, 20)
    requests += [asyncio.create_task(batches.infer(photos(value), TWICE, 20)) for value in values[1:]]
    await asyncio.sleep(0.05)
    graph.go_on.set()
    return await asyncio.gather(*requests, return_exceptions=True)


async def test_what_waits_is_run_together_and_each_gets_its_own() -> None:
    workers, graph = Workers(1, "test"), Graph(held=True)
    sizes: list[int] = []
    batches = Batches(graph, workers, 8, on_run=sizes.append, clock=ClockOfCosts(graph, {1: 9, 2: 6, 4: 4, 8: 2}))
    answers = await waiting_behind_one(batches, graph, *range(40))
    assert [answer["twice"].tolist() for answer in answers] == [[[2.0 * value]] for value in range(40)]
    assert sorted(value for run in graph.runs for value in run) == list(range(40))
    assert [value for run in graph.runs for value in run] == list(range(40))  # the first comes first
    assert sizes == [len(run) for run in graph.runs] == [*[1] * 5, *[2] * 5, *[4] * 5, 4, 1]
    await workers.close()


async def test_it_does_not_batch_where_a_batch_is_not_faster() -> None:
    workers, graph = Workers(1, "test"), Graph(held=True)
    batches = Batches(graph, workers, 8, clock=ClockOfCosts(graph, {1: 1, 2: 0.98, 4: 1, 8: 1.2}))
    await waiting_behind_one(batches, graph, *range(120))
    assert [len(run) for run in graph.runs[-20:]] == [1] * 20
    await workers.close()


def test_the_cheapest_size_that_can_be_filled_is_chosen() -> None:
    size = BatchSize(12)
    for images, seconds in ((1, 1.0), (2, 1.9), (4, 2.0), (8, 6.0)):
        for slow in (3, 1, 2, 2, 2):  # other work on the machine makes some runs slower
            assert size.choose(images) == images  # each is tried
            size.ran(images, seconds * slow)
    assert {waiting: size.choose(waiting) for waiting in (0, 1, 2, 3, 4, 8, 100)} == {
        0: 1,
        1: 1,
        2: 2,
        3: 2,
        4: 4,
        8: 4,
        100: 4,
    }


async def test_a_poisoned_photo_fails_alone() -> None:
    workers, graph = Workers(1, "test"), Graph(held=True)
    batches = Batches(graph, workers, 4, clock=ClockOfCosts(graph, {1: 9, 2: 1, 4: 1}))
    answers = await waiting_behind_one(batches, graph, *range(12), POISON, *range(13, 20))
    (failed,) = [place for place, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert (failed, str(answers[failed])) == (12, "1 photos, one of them poisoned")
    assert any(POISON in run and len(run) > 1 for run in graph.runs)
    await workers.close()


async def test_who_timed_out_or_hung_up_is_not_run() -> None:
    workers, graph = Workers(1, "test"), Graph(held=True)
    batches = Batches(graph, workers, 8)
    first = asyncio.create_task(batches.infer(photos(1), TWICE, 20))
    await asyncio.to_thread(graph.begun.wait, 20)
    with pytest.raises(asyncio.TimeoutError):
        await batches.infer(photos(2), TWICE, 0.05)
    hung_up = asyncio.create_task(batches.infer(photos(3), TWICE, 20))
    await asyncio.sleep(0.05)
    hung_up.cancel()
    last = asyncio.create_task(batches.infer(photos(4), TWICE, 20))
    await asyncio.sleep(0.05)
    graph.go_on.set()
    await asyncio.gather(first, last)
    assert graph.runs == [[1], [4]]
    await workers.close()


async def test_requests_of_several_photos_and_of_other_outputs_share_a_run() -> None:
    workers, graph = Workers(1, "test"), Graph(held=True)
    batches = Batches(graph, workers, 4, clock=ClockOfCosts(graph, {1: 9, 2: 9, 3: 1, 4: 1, 5: 1}))
    asked = [((1,), TWICE), ((2, 3), TWICE), ((4,), ("thrice",)), ((5, 6, 7, 8, 9), ("thrice", "twice"))]
    requests = []
    for values, outputs in asked:
        requests.append(asyncio.create_task(batches.infer(photos(*values), outputs, 20)))
        await asyncio.to_thread(graph.begun.wait, 20)
    graph.go_on.set()
    answers = await asyncio.gather(*requests)
    for (values, outputs), answer in zip(asked, answers, strict=True):
        assert list(answer) == list(outputs)
        times = {"twice": 2.0, "thrice": 3.0}
        for name in outputs:
            assert answer[name].tolist() == [[times[name] * value] for value in values]
    assert [5, 6, 7, 8, 9] in graph.runs  # more than fit are run as they came
    await workers.close()


async def test_graphs_that_share_threads_take_turns() -> None:
    """A photo for a quiet tagger waits for one batch of a busy one, not for all of its photos."""
    workers, graph = Workers(1, "test"), Graph(held=True)
    order: list[tuple[str, int]] = []

    def batches(name: str) -> Batches:
        def run(pixels: Pixels, outputs: Sequence[str]) -> Outputs:
            order.append((name, len(pixels)))
            return graph(pixels, outputs)

        return in_eights(Batches(run, workers, 8, clock=itertools.count(step=100).__next__))

    busy, quiet = batches("busy"), batches("quiet")
    requests = [asyncio.create_task(busy.infer(photos(0), TWICE, 20))]
    await asyncio.to_thread(graph.begun.wait, 20)
    for tagger, count in ((busy, 8), (quiet, 1), (busy, 24)):
        requests += [asyncio.create_task(tagger.infer(photos(value), TWICE, 20)) for value in range(count)]
    await asyncio.sleep(0.05)
    graph.go_on.set()
    await asyncio.gather(*requests)
    assert order == [("busy", 1), ("busy", 8), ("quiet", 1), ("busy", 8), ("busy", 8), ("busy", 8)]
    await workers.close()


def in_eights(batches: Batches) -> Batches:
    """Has learned that eight photos at once cost least, from runs that were much faster than those to come."""
    for size in (1, 2, 4, 8):
        for _ in range(5):
            batches._size.ran(size, 1.0)
    return batches


class ByHand(Workers):
    """Has no threads: the test takes the turns, while `others` other threads are idle."""

    def __init__(self, others: int) -> None:
        super().__init__(1, "test")
        self.turns: list[Callable[[], None]] = []
        self._idle = set(range(others))

    def submit(self, work: Callable[[], None]) -> None:
        self.turns.append(work)


@pytest.mark.parametrize("seed", range(40))
async def test_every_request_is_run_in_whatever_order_the_threads_come(seed: int) -> None:
    """Threads that begin together may come in another order than their turns, and take requests of each other."""
    workers, graph, chance = ByHand(others=0), Graph(), random.Random(seed)
    clock = ClockOfCosts(graph, chance.choice([{1: 1, 2: 2, 4: 4}, {1: 9, 2: 6, 4: 3}]))
    batches = Batches(graph, workers, 4, clock=clock)
    requests = []
    for value in range(60):
        requests.append(asyncio.create_task(batches.infer(photos(value), TWICE, 20)))
        await asyncio.sleep(0)
        for _ in range(chance.randrange(3) if value < 59 else len(workers.turns)):
            if workers.turns:
                workers.turns.pop(chance.randrange(len(workers.turns)))()
    await asyncio.sleep(0)
    assert sorted(value for run in graph.runs for value in run) == list(range(60))
    await asyncio.gather(*requests)


@pytest.mark.parametrize(("others", "runs"), [(0, [[1, 2]]), (1, [[1], [2]])])
async def test_idle_threads_get_their_share(others: int, runs: list[list[int]]) -> None:
    """Two photos that wait for two idle threads are not run one behind the other."""
    workers, graph = ByHand(others), Graph()
    batches = in_eights(Batches(graph, workers, 8, clock=itertools.count(step=100).__next__))
    requests = [asyncio.create_task(batches.infer(photos(value), TWICE, 20)) for value in (1, 2)]
    await asyncio.sleep(0)  # both are queued
    for turn in workers.turns:
        turn()
    await asyncio.gather(*requests)
    assert graph.runs == runs


async def test_close_refuses_what_waits() -> None:
    workers, graph = Workers(1, "test"), Graph(held=True)
    batches = Batches(graph, workers, 8)
    first = asyncio.create_task(batches.infer(photos(1), TWICE, 20))
    await asyncio.to_thread(graph.begun.wait, 20)
    waiting = asyncio.create_task(batches.infer(photos(2), TWICE, 20))
    await asyncio.sleep(0.05)
    batches.close()
    closing = asyncio.create_task(workers.close())
    with pytest.raises(WorkersClosed):
        await waiting
    graph.go_on.set()
    await closing
    assert (await first)["twice"].tolist() == [[2.0]]
    with pytest.raises(WorkersClosed):
        await batches.infer(photos(3), TWICE, 20)
