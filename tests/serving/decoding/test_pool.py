"""Decoder processes: what they answer, what ends them, and that other photos are still answered."""

import asyncio
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelwise.errors import LabelwiseError
from labelwise.image import ImageError, load_photo, open_small
from serving.decoding import decoder_process
from serving.decoding.decoder_process import DecoderEnded
from serving.decoding.messages import Limits
from serving.decoding.pixel_budget import PixelBudget
from serving.decoding.pool import DecoderPool
from serving.workers import WorkersClosed
from tests.conftest import ROOT
from tests.polling import until, until_async

pytestmark = pytest.mark.anyio

PATIENCE = 60.0  # seconds
PHOTO = (ROOT / "tests/assets/photos/sunset-bay-palm.jpg").read_bytes()
SIZE = {"height": 128, "width": 128}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def pool(count: int = 1, pixels: int = 10_000_000, **options: Any) -> AsyncIterator[DecoderPool]:
    made = DecoderPool(count, PixelBudget(pixels), **options)
    try:
        made.launch()
        await made.started()
        yield made
    finally:
        await made.close()


def encoded(side: int, kind: str = "PNG", **options: Any) -> bytes:
    """A photo that cannot be compressed, so that decoding takes some time."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def only(made: DecoderPool) -> Any:
    (process,) = made.processes
    return process


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_pixels_are_those_of_the_decoder_itself() -> None:
    async with pool() as made:
        said, pixels = await made.run("photo", PHOTO, SIZE, PATIENCE)
        expected = load_photo(PHOTO, **SIZE)
        assert np.array_equal(pixels, expected.pixels)
        assert (tuple(said["size"]), said["orientation"]) == (expected.size, expected.orientation)
        _, small = await made.run("small", PHOTO, {"side": 100}, PATIENCE)
        assert np.array_equal(small, np.asarray(open_small(PHOTO, 100)))


async def test_a_photo_larger_than_the_pipe_and_many_at_once() -> None:
    large = encoded(1200)
    assert len(large) > 2 * 2**20
    async with pool(2) as made:
        photos = [large, PHOTO] * 6
        answers = await asyncio.gather(*(made.run("photo", photo, SIZE, PATIENCE) for photo in photos))
        for photo, (_, pixels) in zip(photos[:2], answers[:2], strict=True):
            assert np.array_equal(pixels, load_photo(photo, **SIZE).pixels)
        assert 1 <= len(made.processes) <= 2


async def test_what_is_wrong_with_a_photo_comes_back_as_its_error() -> None:
    async with pool() as made:
        for photo in (b"", b"nonsense", PHOTO[:2000]):
            with pytest.raises(ImageError) as expected:
                load_photo(photo, **SIZE)
            with pytest.raises(ImageError) as found:
                await made.run("photo", photo, SIZE, PATIENCE)
            assert (found.value.code, str(found.value)) == (expected.value.code, str(expected.value))
        with pytest.raises(RuntimeError, match="a decoder failed"):
            await made.run("photo", PHOTO, {"height": 128}, PATIENCE)
        assert await made.run("photo", PHOTO, SIZE, PATIENCE)


async def test_what_is_logged_during_a_photo_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    async with pool() as made:
        with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError):
            await made.run("photo", PHOTO, {"height": 128}, PATIENCE)
    assert "TypeError" in caplog.text


async def test_a_process_that_hangs_is_replaced_after_the_deadline() -> None:
    async with pool(2, grace=0.0) as made:
        hung = only(made)
        os.kill(hung.pid, signal.SIGSTOP)  # as hung as can be: no code of its own runs any more
        late = asyncio.create_task(made.run("photo", PHOTO, SIZE, 0.2))
        await until_async(lambda: hung.job is not None)
        assert await made.run("photo", PHOTO, SIZE, PATIENCE)  # by a second one
        with pytest.raises(asyncio.TimeoutError):
            await late
        await until_async(lambda: hung not in made.processes and len(made.processes) == 2)
        assert not is_alive(hung.pid)
        assert await asyncio.gather(*(made.run("photo", PHOTO, SIZE, PATIENCE) for _ in range(4)))


async def test_a_process_is_ended_when_its_caller_is_gone() -> None:
    async with pool(grace=0.0) as made:
        hung = only(made)
        os.kill(hung.pid, signal.SIGSTOP)
        gone = asyncio.create_task(made.run("photo", PHOTO, SIZE, PATIENCE))
        await until_async(lambda: hung.job is not None)
        await asyncio.sleep(0)  # the job is sent in the loop's next turn
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert await made.run("photo", PHOTO, SIZE, PATIENCE)
        assert not is_alive(hung.pid)


async def test_a_photo_that_nobody_waits_for_but_is_done_soon_costs_no_process() -> None:
    async with pool(grace=PATIENCE) as made:
        before = only(made)
        os.kill(before.pid, signal.SIGSTOP)
        with pytest.raises(asyncio.TimeoutError):
            await made.run("photo", PHOTO, SIZE, 0.05)
        os.kill(before.pid, signal.SIGCONT)
        assert await made.run("photo", PHOTO, SIZE, PATIENCE)
        assert only(made) is before


async def test_a_photo_that_takes_more_processor_time_than_its_size_explains_ends_its_process() -> None:
    async with pool(limits=Limits(seconds=0.02, seconds_per_byte=0, seconds_per_pixel=0)) as made:
        before = only(made)
        with pytest.raises(DecoderEnded) as ended:
            await made.run("photo", encoded(2000), SIZE, PATIENCE)
        assert ended.value.is_out_of_time
        assert not is_alive(before.pid)


async def test_a_large_file_has_no_more_time_to_be_opened_for_its_size_in_pixels() -> None:
    limits = Limits(seconds=0.001, seconds_per_byte=0, seconds_per_pixel=1)
    comment = b"\x21\xfe" + b"\x01a" * 190_000 + b"\0"  # in pieces that take some milliseconds to count
    photo = encoded(64, "GIF")
    head = 13 + (3 << (photo[10] & 7) + 1)
    async with pool(limits=limits) as made:
        with pytest.raises(DecoderEnded) as ended:
            await made.run("photo", photo[:head] + comment + photo[head:], SIZE, PATIENCE)
        assert ended.value.is_out_of_time


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
async def test_a_photo_that_takes_more_memory_than_its_size_explains_is_refused() -> None:
    limits = Limits(memory=8 * 2**20, memory_per_byte=0, memory_per_pixel=0)
    async with pool(limits=limits) as made:
        before = only(made)
        assert await made.run("photo", encoded(64), SIZE, PATIENCE)
        with pytest.raises(ImageError, match="more memory"):
            await made.run("photo", encoded(2000, "BMP"), SIZE, PATIENCE)
        assert await made.run("photo", encoded(64), SIZE, PATIENCE)
        assert only(made) is before


async def test_a_process_that_is_killed_fails_its_photo_alone() -> None:
    async with pool(2) as made:
        killed = only(made)
        os.kill(killed.pid, signal.SIGSTOP)
        fails = asyncio.create_task(made.run("photo", PHOTO, SIZE, PATIENCE))
        await until_async(lambda: killed.job is not None)
        others = [asyncio.create_task(made.run("photo", PHOTO, SIZE, PATIENCE)) for _ in range(3)]
        os.kill(killed.pid, signal.SIGKILL)  # as the kernel does when memory is short
        with pytest.raises(DecoderEnded) as ended:
            await fails
        assert ended.value.status == -signal.SIGKILL
        assert not ended.value.is_out_of_time
        assert all(await asyncio.gather(*others))


async def test_an_idle_process_that_dies_is_replaced() -> None:
    async with pool() as made:
        dead = only(made)
        os.kill(dead.pid, signal.SIGKILL)
        await until_async(lambda: dead not in made.processes)
        assert await made.run("photo", PHOTO, SIZE, PATIENCE)


async def test_pictures_wait_for_room_and_small_ones_share_it() -> None:
    budget = PixelBudget(1_000_000)
    made = DecoderPool(2, budget)
    taken = budget.ask(900_000, lambda: None)
    try:
        large = asyncio.create_task(made.run("photo", encoded(1000), SIZE, PATIENCE))
        await asyncio.sleep(0.3)
        assert not large.done()
        taken.give_back()
        assert await large
        assert budget.ask(1_000_000, lambda: None).is_held  # all of it was given back
    finally:
        await made.close()


async def test_a_picture_that_waits_for_room_does_not_keep_its_process_when_nobody_waits() -> None:
    budget = PixelBudget(2_000_000)
    made = DecoderPool(1, budget, grace=PATIENCE)
    taken = budget.ask(900_000, lambda: None)
    try:
        large = asyncio.create_task(made.run("photo", encoded(1200), SIZE, PATIENCE))
        await until_async(lambda: any(process.job is not None for process in made.processes))
        before = only(made)
        await until_async(
            lambda: before.job.is_sent and not before.job.share.is_held
        )  # it was given a million, and needs more
        large.cancel()
        assert await made.run("photo", PHOTO, SIZE, PATIENCE)
        assert only(made) is before
        taken.give_back()
        assert budget.ask(2_000_000, lambda: None).is_held
    finally:
        await made.close()


async def test_signals_to_the_group_end_no_decoder() -> None:
    async with pool() as made:
        before = only(made)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(before.pid, number)
        assert await made.run("photo", PHOTO, SIZE, PATIENCE)
        assert only(made) is before


async def test_close_ends_all_processes_and_refuses_waiting_and_new_photos() -> None:
    async with pool() as made:
        process = only(made)
        os.kill(process.pid, signal.SIGSTOP)
        waiting = [asyncio.create_task(made.run("photo", PHOTO, SIZE, PATIENCE)) for _ in range(2)]
        await until_async(lambda: process.job is not None)
        await made.close()
        for one in waiting:
            with pytest.raises(WorkersClosed):
                await one
        with pytest.raises(WorkersClosed):
            await made.run("photo", PHOTO, SIZE, PATIENCE)
        assert not is_alive(process.pid)


async def test_a_decoder_that_cannot_start_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "_CHILD", "raise SystemExit(3)")
    made = DecoderPool(1, PixelBudget(1))
    made.launch()
    with pytest.raises(LabelwiseError, match="status 3"):
        await made.started()
    await made.close()


_PARENT = """
import asyncio, os, signal
from serving.decoding.pixel_budget import PixelBudget
from serving.decoding.pool import DecoderPool

async def main():
    pool = DecoderPool(1, PixelBudget(1))
    pool.launch()
    await pool.started()
    print(*(process.pid for process in pool.processes), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_no_decoder_outlives_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_alive(child)
    os.kill(child, signal.SIGSTOP)  # it cannot see the end of its pipes
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not is_alive(child))
