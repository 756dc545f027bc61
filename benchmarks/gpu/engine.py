"""One tagger on one device in one precision: parity with the CPU, then images per second by batch, then memory.

    python -m benchmarks.gpu.engine FOLDER TAGGER DEVICE PRECISION [--quick]

It runs as the embedded engine does: two batches at once on a GPU, through bound buffers; a batch per core on a CPU.
"""

import argparse
import functools
import logging
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.gpu.memory import note_memory
from benchmarks.gpu.subjects import pixels_of, read_subject
from benchmarks.gpu.tasks import emit
from benchmarks.gpu.timing import measure
from labelwise.cores import usable_cores
from labelwise.devices.choice import Device, choose_device
from labelwise.repository import TaggerVersion
from labelwise.spec import TaggerSpec
from serving.bound_runs import BoundRuns
from serving.engines.batching import Run
from serving.engines.embedded import BOUND, MOST_ON_CPU, RUNS_ON_GPU  # the engine's own choices
from serving.onnx_session import load_session, run_session

_OUTPUTS = ("scores",)  # what /v1/tag asks for
_SECONDS = 0.5  # for each batch


class _Notes(logging.Handler):
    """Puts the engine's warnings into the report, such as that it runs without bound buffers."""

    def emit(self, record: logging.LogRecord) -> None:
        emit("note", what=record.getMessage())


def open_run(tagger: TaggerVersion, device: Device) -> Run:
    session = load_session(tagger, 1, device)
    if device.name in BOUND:
        return BoundRuns(session, tagger.spec, 0)
    return functools.partial(run_session, session, tagger.spec)


def batches_up_to(most: int) -> list[int]:
    """Returns 1, 2, 4, …, and `most` as the last."""
    return sorted({most, *(2**power for power in range(most.bit_length()))})


def parity(run: Run, tagger: TaggerVersion, expected: np.ndarray) -> dict[str, float]:
    """Returns how far scores are from those of the CPU in fp32, 0..1, and how many tags change."""
    pixels, size = pixels_of(tagger.spec, len(expected)), min(8, tagger.spec.max_batch)
    parts = [run(pixels[at : at + size], _OUTPUTS)["scores"] for at in range(0, len(pixels), size)]
    scores = np.concatenate(parts)
    off = np.abs(scores - expected)
    flipped = (scores >= tagger.spec.thresholds) != (expected >= tagger.spec.thresholds)
    return {"largest": float(off.max()), "mean": float(off.mean()), "changed_tags": int(flipped.sum())}


def note_speeds(run: Run, spec: TaggerSpec, device: Device, subject: dict[str, str], is_quick: bool) -> None:
    """Prints a row for each batch."""
    threads, most = RUNS_ON_GPU, spec.max_batch
    if device.is_cpu:
        threads, most = usable_cores(), min(most, MOST_ON_CPU)
    generator = np.random.default_rng(0)
    for batch in [1] if is_quick else batches_up_to(most):
        pixels = generator.integers(0, 256, (batch, *spec.input.shape), np.uint8)
        speed = measure(functools.partial(run, pixels, _OUTPUTS), threads, 0 if is_quick else _SECONDS)
        found = {"images_per_second": batch * speed.rate, "runs": len(speed.latencies)}
        found |= {"p50_ms": 1000 * speed.quantile(0.5), "p99_ms": 1000 * speed.quantile(0.99)}
        emit("engine", **subject, batch=batch, at_once=threads, **found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for name in ("tagger", "device", "precision"):
        parser.add_argument(name)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    subject = {name: getattr(arguments, name) for name in ("tagger", "device", "precision")}
    tagger = read_subject(arguments.folder, arguments.tagger)
    (graph,) = [graph for graph in tagger.spec.graphs if graph.precision == arguments.precision]
    tagger = tagger.with_graph(graph)
    logging.getLogger("labelwise").addHandler(_Notes(logging.WARNING))
    device = choose_device(arguments.device)
    started = time.perf_counter()
    run = open_run(tagger, device)
    loading = time.perf_counter() - started
    expected = np.load(arguments.folder / f"{arguments.tagger}.npy")
    emit("parity", **subject, photos=len(expected), **parity(run, tagger, expected))
    note_speeds(run, tagger.spec, device, subject, arguments.quick)
    note_memory(f"engine, {' '.join(subject.values())}, after the largest batch", [os.getpid()], loading)


if __name__ == "__main__":
    main()
