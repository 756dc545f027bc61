"""Counts and log lines that wait: all are written, in their order, a moment later or when someone wants to see them."""

import asyncio

from serving.gateway.observe.delayed_writes import DelayedWrites


def test_values_are_written_in_order_a_moment_later() -> None:
    async def main() -> list[int]:
        written: list[int] = []
        done = asyncio.Event()

        def write(value: int) -> None:
            written.append(value)
            if value % 3 == 2:
                done.set()

        writes = DelayedWrites(at_once=False)
        add = writes.channel(write)
        for start in (0, 3):  # after a moment it begins to wait again
            for value in range(start, start + 3):
                add(value)
                writes.write_soon()
            assert len(written) == start
            await done.wait()
            done.clear()
        return written

    assert asyncio.run(asyncio.wait_for(main(), 60)) == [0, 1, 2, 3, 4, 5]


def test_what_waits_is_written_on_demand_and_only_once() -> None:
    first: list[str] = []
    second: list[str] = []
    writes = DelayedWrites(at_once=False)
    writes.channel(first.append)("a")
    writes.channel(second.append)("b")
    writes.write()
    writes.write()
    assert (first, second) == (["a"], ["b"])


def test_nothing_waits_where_other_processes_read() -> None:
    written: list[int] = []
    writes = DelayedWrites(at_once=True)
    writes.channel(written.append)(1)
    writes.write_soon()  # needs no event loop
    assert written == [1]
