"""Processes that the gateway starts while it speaks gRPC to a Triton."""

import subprocess
import sys

from tests.conftest import ROOT
from tests.polling import PATIENCE

_PROGRAM = """
import asyncio
import serving.gateway
import grpc, uvloop

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    call = grpc.aio.insecure_channel(f"127.0.0.1:{port}").unary_unary("/no/such")

    async def keep_calling():
        while True:
            try:
                await call(b"")
            except grpc.aio.AioRpcError:
                pass

    calling = asyncio.create_task(keep_calling())
    processes = [await asyncio.create_subprocess_exec("/bin/true") for _ in range(150)]
    print({await process.wait() for process in processes})
    calling.cancel()

uvloop.run(main())
"""


def test_none_crashes_before_it_begins() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert run.stdout == "{0}\n", run.stderr[-2000:]
