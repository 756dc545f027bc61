"""How a run begins and ends."""

import asyncio
import os
import pty
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from commands.tag import _run
from labelwise.errors import LabelwiseError
from serving.bulk.chunks import ChunkRunner
from serving.bulk.run_progress import Counts, RunProgress
from serving.bulk.tag_files import _connect, _signals
from serving.client.transport import create_transport
from serving.errors import ServerUnavailable
from tests.conftest import free_port


def test_it_waits_for_a_first_answer_as_long_as_patience_says(capsys: pytest.CaptureFixture[str]):
    server = create_transport(f"http://127.0.0.1:{free_port()}", connect_timeout=0.05)
    began = time.monotonic()
    with pytest.raises(ServerUnavailable):
        asyncio.run(_connect(server, patience=0.5))
    assert time.monotonic() - began >= 0.5
    said = capsys.readouterr().err
    assert (said.count("\n"), "Waiting for an answer" in said) == (1, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_summary_that_cannot_be_printed_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving.bulk.tag_files.tag_files", lambda *_: "t.csv has 8 rows.")
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(LabelwiseError, match=r"^t\.csv has 8 rows\. But this cannot be printed: No space left"):
            _run([], None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_unless_it_is_ignored(number: signal.Signals):
    async def stops() -> bool:
        runner = ChunkRunner(lambda chunk: None)
        with _signals(runner, RunProgress(lambda: None)):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.01)
        return runner.stopped

    assert asyncio.run(stops())
    before = signal.signal(number, signal.SIG_IGN)  # as nohup does, or a shell for what it puts into the background
    try:
        assert not asyncio.run(stops())
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("opened", [pty.openpty, os.pipe])
def test_a_closed_terminal_or_pipe_does_not_end_the_run(
    opened: Callable[[], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
):
    reader, writer = opened()
    stderr = os.fdopen(writer, "w")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        with RunProgress(lambda: 1) as progress:
            os.close(reader)
            progress.note("It goes on.")
            progress.show(Counts(tagged=1))
    with suppress(OSError):
        stderr.close()
