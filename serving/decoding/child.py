"""A decoder process: decodes one photo at a time for its parent, and ends with it.

The kernel limits what a photo may cost, because a decoder that is busy in C does not cooperate. This imports nothing of
the gateway, which has metrics, threads and connections.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import traceback
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import AvifImagePlugin

from labelwise.image import ImageError, Photo, load_photo, open_small
from serving.decoding.messages import GRANTED, HEAD_SIZE, Kind, Limits, pack, unpack_head
from serving.processes import end_with, log_warnings, return_large_blocks

logger = logging.getLogger("labelwise.decoder")


class _Denied(Exception):
    """Nobody waits for this photo now."""


def main(parent: int) -> None:
    """Works until the pipes end. `parent` is the id of the process that started this one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when this process ends
    end_with(parent)  # also during a photo, when it does not see the end of the pipes
    return_large_blocks()
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # what a library prints must not mix with the messages
    with contextlib.suppress(BrokenPipeError, EOFError):
        _Decoder(incoming, outgoing).work()


class _Decoder:
    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming, self._outgoing = os.fdopen(incoming, "rb"), outgoing
        self._log = _Log()
        self._idle_memory = _memory()

    def work(self) -> NoReturn:
        self._warm_up()
        self._send(pack(Kind.READY, None))
        while True:
            _, text_size, size = unpack_head(self._receive(HEAD_SIZE))
            job = json.loads(self._receive(text_size))
            self._send(*self._done(_PhotoJob(self, job, self._receive(size))))

    def _done(self, job: "_PhotoJob") -> tuple[bytes | memoryview, ...]:
        """Returns a message with the photo's pixels, or with the reason why there are none."""
        try:
            with job.limited():
                said, pixels = job.run()
        except ImageError as error:
            return (self._failed(error.code, str(error)),)
        except _Denied:
            return (self._failed(None, "no request waits for it"),)
        except Exception:  # a bug, which must not cost a process
            logger.error("a photo could not be decoded because of a bug:\n%s", traceback.format_exc())
            return (self._failed(None, "the log has the details"),)
        content = np.ascontiguousarray(pixels).data.cast("B")
        head = pack(Kind.DONE, {**said, "shape": pixels.shape, "log": self._log.taken()}, len(content))
        return head, content

    def _failed(self, code: str | None, text: str) -> bytes:
        return pack(Kind.FAILED, {"code": code, "text": text, "log": self._log.taken()})

    def ask_for(self, pixels: int) -> None:
        """Waits for room. Raises _Denied if the parent no longer wants the photo."""
        self._send(pack(Kind.HOLD, pixels))
        if self._receive(1) != GRANTED:
            raise _Denied

    def limit_memory(self, space: int | None) -> None:
        """Limits the memory to `space` bytes above that of an idle process, or lifts the limit."""
        if self._idle_memory:
            _, most = resource.getrlimit(resource.RLIMIT_DATA)
            limit = most if space is None else self._idle_memory + space
            limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, most))

    def _warm_up(self) -> None:
        """Decodes a first time, which loads Pillow's plugins and shows whether they work."""
        # More threads would take more memory, and other photos are decoded at the same time.
        AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        with contextlib.suppress(ImageError):
            load_photo(b"none", 8, 8)

    def _receive(self, size: int) -> bytes:
        data = self._incoming.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _send(self, *parts: bytes | memoryview) -> None:
        views = [memoryview(part) for part in parts]
        while views:
            sent = os.writev(self._outgoing, views)
            while views and sent >= len(views[0]):
                sent -= len(views.pop(0))
            if sent:
                views[0] = views[0][sent:]


class _PhotoJob:
    """One photo, within the limits on what it may cost."""

    def __init__(self, decoder: _Decoder, job: dict[str, Any], data: bytes) -> None:
        self._decoder, self._data = decoder, data
        self._task, self._arguments = job["task"], job["arguments"]
        self._limits, self._granted = Limits(**job["limits"]), job["pixels"]
        self._held, self._is_open = 0, False

    def run(self) -> tuple[dict[str, Any], Any]:
        """Returns the facts about the photo, and its pixels."""
        if self._task == "small":
            return {}, np.asarray(open_small(self._data, **self._arguments, hold=self._hold))
        photo = load_photo(self._data, **self._arguments, hold=self._hold)
        said = {field.name: getattr(photo, field.name) for field in fields(Photo) if field.name != "pixels"}
        return said, photo.pixels

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        self._limit(0)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._decoder.limit_memory(None)  # the next photo is received before its limits are known

    @contextlib.contextmanager
    def _hold(self, pixels: int) -> Iterator[None]:
        self._held += pixels
        if self._held > self._granted:
            self._decoder.ask_for(self._held)
            self._granted = self._held
        # While a file is opened, its bytes are held. Only a larger canvas takes time and memory by pixels.
        self._limit(self._held if self._is_open or pixels > len(self._data) else 0)
        try:
            yield
        finally:
            self._held -= pixels
            self._is_open = True

    def _limit(self, pixels: int) -> None:
        """Limits what follows: SIGPROF ends a process that takes more time, and allocations beyond the memory fail."""
        size = len(self._data)
        signal.setitimer(signal.ITIMER_PROF, self._limits.time(size, pixels))
        self._decoder.limit_memory(self._limits.space(size, pixels))


class _Log(logging.Handler):
    """Keeps log lines and warnings about a photo for the parent, which knows the format of the log."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[tuple[str, int, str]] = []
        logging.basicConfig(handlers=[self], level=logging.INFO)
        log_warnings()

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append((record.name, record.levelno, record.getMessage()))

    def taken(self) -> list[tuple[str, int, str]]:
        records, self._records = self._records, []
        return records


def _memory() -> int:
    """Returns the bytes of private memory that RLIMIT_DATA counts, or 0 if unknown; there is no limit then."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return 0
