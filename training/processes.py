"""Runs tasks in a few processes, which end cleanly: on Ctrl-C, SIGTERM, a killed process, a killed parent."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from labelwise.errors import LabelwiseError
from training.signals import STOPPING, Stopped, handling_signals

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")
_SPAWN = multiprocessing.get_context("spawn")  # torch's threads and CUDA do not survive a fork
_POLL = 0.3  # seconds until a signal is noticed: a wait continues after a signal's handler


def run_all(
    work: Callable[[Task], Outcome],
    tasks: Sequence[Task],
    jobs: int,
    finished: Callable[[Outcome], None],
) -> None:
    """Call `work` on every task in `jobs` spawned processes; `finished` gets each result.

    Ctrl-C and SIGTERM, to this process or its group, reach `work` as one SIGINT. Nothing new begins, and Stopped is
    raised when all processes have ended; the same happens if `work` raises Stopped. The first LabelwiseError of `work`
    stops the others in the same way and is raised here, as is one for a process that was killed. If this process is
    killed, `work` gets SIGTERM.
    """
    queue = deque(tasks)
    workers: list[_TaskProcess[Task, Outcome]] = []
    received: list[int] = []
    with handling_signals(lambda number, _: received.append(number)):
        try:
            for _ in range(min(jobs, len(tasks))):
                workers.append(_TaskProcess(work))
            while not received and (queue or any(worker.is_busy for worker in workers)):
                for worker in workers:
                    if queue and not worker.is_busy:
                        worker.begin(queue.popleft())
                busy = {worker.connection: worker for worker in workers if worker.is_busy}
                for connection in wait(list(busy), timeout=_POLL):
                    finished(busy[connection].take_result())
        finally:
            _end(workers, received)
        if queue or any(worker.is_busy for worker in workers):
            raise Stopped("Stopped.")


def _end(workers: "list[_TaskProcess[Any, Any]]", received: list[int]) -> None:
    """Wait until every process has ended. Passes on a signal that comes in the meantime, which ends them at once."""
    told = len(received)
    for worker in workers:
        worker.stop()
    while alive := [worker for worker in workers if worker.process.is_alive()]:
        wait([worker.process.sentinel for worker in alive], timeout=_POLL)
        if len(received) > told:
            told = len(received)
            for worker in alive:
                worker.stop()


class _TaskProcess(Generic[Task, Outcome]):
    """A process that does one task after another."""

    def __init__(self, work: Callable[[Task], Outcome]) -> None:
        self.connection, other_end = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(work, other_end))
        self.is_busy = False
        resource_tracker.ensure_running()  # starting it later would unblock the signals
        # Blocked until the process can handle them: importing torch takes it seconds, and it must not stop there.
        blocked_before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked_before)
        other_end.close()

    def begin(self, task: Task) -> None:
        self.is_busy = True
        with suppress(BrokenPipeError):  # killed while it waited: take_result reports it
            self.connection.send(task)

    def take_result(self) -> Outcome:
        """Wait for the result. Raises the LabelwiseError of `work`, or one that says how the process died."""
        try:
            outcome = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise self._end() from None
        if isinstance(outcome, LabelwiseError):
            raise outcome
        self.is_busy = False
        return outcome

    def stop(self) -> None:
        """An idle process sees the closed connection and ends."""
        self.connection.close()
        if self.is_busy and self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid or 0, signal.SIGINT)

    def _end(self) -> LabelwiseError:
        code = self.process.exitcode or 0
        if -code in STOPPING:
            return Stopped("Stopped.")
        if code < 0:
            return LabelwiseError("A run was killed, perhaps because memory ran out: start again with fewer --jobs.")
        return LabelwiseError("A run failed, as shown above. The same command continues after the last saved step.")


def _serve(work: Callable[[Task], Outcome], connection: Connection) -> None:
    # Leave the terminal's group: Ctrl-C would come twice, and the second would not wait for the current step.
    os.setpgrp()
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)  # outside training there is nothing to save
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        outcome: Outcome | LabelwiseError
        try:
            outcome = work(task)
        except LabelwiseError as error:
            outcome = error
        with suppress(BrokenPipeError):  # a parent that is stopping no longer listens
            connection.send(outcome)


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
