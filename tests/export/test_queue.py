"""How a real Triton works off its queue under the configuration that we export."""

import asyncio
import itertools
import re
import shutil
import statistics
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc.aio as grpcclient

from export.triton_config import ServingOptions, model_config
from labelwise.spec import TaggerSpec
from tests.export.test_real_triton import triton

# Instead of the model: works for 50 ms on each batch, or as long as there is a file `hold` beside it, and writes down
# from when to when and for how many requests.
MODEL = """
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.log = Path(args["model_repository"], "runs.txt")
        self.hold = Path(args["model_repository"], "hold")

    def execute(self, requests):
        began = time.monotonic()
        time.sleep(0.05)
        while self.hold.exists():
            time.sleep(0.01)
        with self.log.open("a") as stream:
            stream.write(f"{began} {time.monotonic()} {len(requests)}\\\\n")
        scores = np.zeros((1, 3), np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("scores", scores)]) for _ in requests]
""".replace("\\\\n", "\\n")
Run = tuple[float, float, int]


@dataclass
class SlowTriton:
    """A Triton that has loaded the slow model in `folder`."""

    folder: Path
    port: int
    metrics: int

    def runs(self) -> list[Run]:
        """The batches since the last call."""
        log = self.folder / "runs.txt"
        lines = [line.split() for line in log.read_text().splitlines()]
        log.write_text("")
        return [(float(began), float(ended), int(requests)) for began, ended, requests in lines]


@pytest.fixture(scope="module")
def slow(exported: Path, spec: TaggerSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowTriton]:
    folder = tmp_path_factory.mktemp("slow")
    repository = Path(shutil.copytree(exported, folder / "exported"))
    model = repository / "pets_model"
    (model / "1/model.py").write_text(MODEL)
    (model / "configs/python.pbtxt").write_text(model_config(spec, "python", ServingOptions(warm_up=False)))
    with triton(repository, folder / "triton") as (client, port, metrics):
        client.load_model("pets")
        yield SlowTriton(model, port, metrics)


def ask(client: grpcclient.InferenceServerClient, spec: TaggerSpec) -> "asyncio.Task[object]":
    pixels = np.zeros((1, *spec.input.shape), np.uint8)
    tensor = grpcclient.InferInput(spec.input.name, list(pixels.shape), "UINT8").set_data_from_numpy(pixels)
    scores = [grpcclient.InferRequestedOutput("scores")]
    return asyncio.create_task(client.infer("pets_model", [tensor], outputs=scores))


async def burst(port: int, spec: TaggerSpec, size: int) -> list[object]:
    """`size` requests at once."""
    async with grpcclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
        return await asyncio.gather(*(ask(client, spec) for _ in range(size)), return_exceptions=True)


async def cancelled_burst(port: int, spec: TaggerSpec, size: int, metrics: int, hold: Path) -> list[object]:
    """Sends `size` requests, and cancels all but the first while Triton has all of them and works on the first."""
    await asyncio.to_thread(hold.touch)
    async with grpcclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
        sent = [ask(client, spec) for _ in range(size)]
        await asyncio.to_thread(until_pending, metrics, size)
        for request in sent[1:]:
            request.cancel()
        await asyncio.gather(*sent[1:], return_exceptions=True)
        await asyncio.sleep(2)  # for the cancellations to arrive: Triton does not show them
        await asyncio.to_thread(hold.unlink)
        return await asyncio.gather(*sent, return_exceptions=True)


def until_pending(metrics: int, count: int) -> None:
    """Waits until so many requests, less the batches that are taken ahead, stand in the model's queue."""
    deadline = time.monotonic() + 120
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics") as answer:
            found = re.search(
                r'^nv_inference_pending_request_count{model="pets_model".*} (\d+)$', answer.read().decode(), re.M
            )
        if found and int(found[1]) >= 0.7 * count:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_a_burst_is_worked_off_without_a_pause(slow: SlowTriton, spec: TaggerSpec) -> None:
    """With any limit on the queue, Triton 2.51 pauses up to half a second after each batch."""
    answers = asyncio.run(burst(slow.port, spec, 60))
    assert not [answer for answer in answers if isinstance(answer, BaseException)]
    done = slow.runs()
    assert sum(requests for *_, requests in done) == 60
    assert len(done) >= 60 / spec.max_batch
    rests = [began - ended for (_, ended, _), (began, _, _) in itertools.pairwise(done)]
    assert statistics.median(rests) < 0.2, rests  # of at least eleven, so that a busy machine may delay some


def test_cancelled_requests_are_not_run_beyond_what_triton_has_already_taken(
    slow: SlowTriton, spec: TaggerSpec
) -> None:
    """It takes two batches for each instance ahead of time, and those are run."""
    answers = asyncio.run(cancelled_burst(slow.port, spec, 100, slow.metrics, slow.folder / "hold"))
    asyncio.run(burst(slow.port, spec, 1))  # Triton has dealt with the rest of the first burst when it answers this
    assert sum(isinstance(answer, BaseException) for answer in answers) >= 60
    assert sum(requests for *_, requests in slow.runs()) < 60
