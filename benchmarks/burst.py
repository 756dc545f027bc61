"""How long a burst of requests to an idle Triton takes, with and without limits on Triton's queue.

    python benchmarks/burst.py [--bursts 12] [--sizes 4 16 64]

The loop is open: all requests of a burst are sent at once, and nothing follows until the model is idle again. A
closed loop does not show the effect, because there each answer causes a new request, which wakes Triton's batcher.
The configurations are those that `labelwise export` writes for Triton's Python backend. The model sleeps 40 ms per
batch, as a CPU does while a GPU works, so other work on the machine changes little. Prints a Markdown table:
milliseconds from the first request to the last answer, and the mean time in Triton's queue.
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as grpcclient

from export.triton_config import ServingOptions, decode_config, ensemble_config, model_config
from labelwise.spec import TaggerSpec
from serving.local_triton.server import LocalTriton

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY, NAME = ROOT / "model_repository", "scenes"
PORTS = {"grpc_port": 18001, "metrics_port": 18002}
LIMITS = {"none": ServingOptions(), "512 requests, 10 s": ServingOptions(queue_size=512, deadline_s=10.0)}
BATCH = 8  # at most this many photos per batch
MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.04)
        return [self.answer(request) for request in requests]

    def answer(self, request):
        scores = np.zeros((1, LABELS), np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("scores", scores)])
"""
REST = 0.7  # seconds between bursts; longer than Triton's batcher ever waits


@dataclass(frozen=True)
class Times:
    """For the bursts of one size: seconds to the last answer of each, and the mean seconds in Triton's queue."""

    bursts: list[float]
    queued: float


async def measure(folder: Path, options: ServingOptions, sizes: list[int], bursts: int) -> dict[int, Times]:
    spec = TaggerSpec.read(REPOSITORY / NAME).model_copy(update={"max_batch": BATCH})
    copy = Path(shutil.copytree(REPOSITORY, folder))
    model = copy / f"{NAME}_model"
    (model / "configs/python.pbtxt").write_text(model_config(spec, "python", replace(options, warm_up=False)))
    (copy / f"{NAME}_decode/config.pbtxt").write_text(decode_config(spec, options))
    (copy / NAME / "config.pbtxt").write_text(ensemble_config(spec))
    (model / "1/model.py").write_text(MODEL.replace("LABELS", str(len(spec.labels))))
    triton = LocalTriton(copy, **PORTS)
    await triton.start()
    try:
        async with grpcclient.InferenceServerClient(triton.grpc_url) as client:
            await run_bursts(client, spec, max(sizes), 3)  # warm
            return {size: await run_bursts(client, spec, size, bursts) for size in sizes}
    finally:
        await triton.stop()


async def run_bursts(client: grpcclient.InferenceServerClient, spec: TaggerSpec, size: int, bursts: int) -> Times:
    pixels = np.zeros((1, *spec.input.shape), np.uint8)
    tensor = grpcclient.InferInput(spec.input.name, list(pixels.shape), "UINT8").set_data_from_numpy(pixels)
    scores = [grpcclient.InferRequestedOutput("scores")]
    before, seconds = await queued(client), []
    for _ in range(bursts):
        await asyncio.sleep(REST)
        started = time.perf_counter()
        await asyncio.gather(*(client.infer(f"{NAME}_model", [tensor], outputs=scores) for _ in range(size)))
        seconds.append(time.perf_counter() - started)
    count, total = (after - earlier for after, earlier in zip(await queued(client), before, strict=True))
    return Times(seconds, total / count)


async def queued(client: grpcclient.InferenceServerClient) -> tuple[int, float]:
    """Returns the model's requests so far and their seconds in its queue, which the autoscaler reads."""
    statistic = (await client.get_inference_statistics(f"{NAME}_model")).model_stats[0].inference_stats
    return statistic.success.count, statistic.queue.ns / 1e9


def row(limits: str, instances: int, size: int, times: Times) -> str:
    median, worst = statistics.median(times.bursts), max(times.bursts)
    cells = [limits, str(instances), str(size), *(f"{1000 * each:.0f}" for each in (median, worst, times.queued))]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bursts", type=int, default=12, help="bursts of each size")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 16, 64], help="requests of one photo each")
    arguments = parser.parse_args()
    print("| queue limits | instances | burst | median ms | worst ms | mean ms in Triton's queue |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for instances in (1, 2):
        for limits, options in LIMITS.items():
            with tempfile.TemporaryDirectory() as folder:
                chosen = replace(options, instances=instances)
                found = asyncio.run(measure(Path(folder) / "repository", chosen, arguments.sizes, arguments.bursts))
            for size, times in found.items():
                print(row(limits, instances, size, times), flush=True)


if __name__ == "__main__":
    main()
