"""`labelwise bench`: the speed and the loss of half and 8-bit precision on this machine, on its CPU or on a GPU."""

import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from rich.box import SIMPLE
from rich.table import Table

from export.half_arithmetic import open_as_computed
from export.labelled import labelled_map
from export.onnx_file import Pixels, Runner, one_line, open_session, session_runner
from export.pictures import Evidence, Pictures, pictures_for
from export.precision import convert
from export.precision.int8 import MOST_PHOTOS
from export.source import Source
from export.tolerances import Precision
from labelwise.cores import processor, usable_cores
from labelwise.devices.choice import CPU, Device
from labelwise.devices.libraries import gpu_names
from labelwise.devices.sessions import open_session as open_on_device
from labelwise.errors import LabelwiseError
from labelwise.files import sha256_of
from labelwise.spec import TrainedSpec
from labelwise.version import VERSION

BATCHES = (1, 8)
_ROUNDS, _SECONDS = 20, 20.0  # at least that many rounds per batch size, and about that long in all

_FP16 = (
    "ONNX Runtime's CPU provider computes fp16 in fp32, so its speed here says nothing about a GPU. Its mAP is that of "
    "emulated half precision."
)
_HEADINGS = ("precision", "batch", "images/s", "of fp32", "p50 ms", "p95 ms", "mAP", "loss", "MB")


@dataclass(frozen=True)
class _Graph:
    """A graph that gives all outputs or the scores alone, its mAP, 0..1, on labelled photos, and its file's bytes."""

    precision: Precision
    run: Runner
    scores: Runner
    mean_ap: float | None
    size: int


@dataclass(frozen=True)
class Measurement:
    """A graph at one batch size: seconds of each call, and the processor time of a call for the scores alone as a share
    of one for all outputs."""

    graph: _Graph
    batch: int
    seconds: list[float]
    scores_only: float

    @property
    def images_per_second(self) -> float:
        return self.batch * len(self.seconds) / sum(self.seconds)


@dataclass(frozen=True)
class Measurements:
    """The measurements, and the machine they are from."""

    rows: list[Measurement]
    machine: str
    device: Device

    @property
    def note(self) -> str:
        """How to read the rows of fp16, and what outputs cost that a request does not ask for."""
        share = float(np.mean([row.scores_only for row in self.rows]))
        if not self.device.is_cpu:
            return "The mAP of fp16 is that of half precision that a CPU emulates."
        return f"A request for the scores alone takes {share:.3f} of the processor time of one for all outputs. {_FP16}"


def bench_precisions(
    source: Source, evidence: Evidence, threads: int | None = None, device: Device = CPU
) -> Measurements:
    """Writes the source's graph in every precision that `device` runs, int8 if there are photos to calibrate with, and
    runs them in turn, so that other load on the machine slows all equally. Raises LabelwiseError as an export does."""
    spec = source.spec
    photos = pictures_for(spec, evidence.calibrate, MOST_PHOTOS) if evidence.calibrate else None
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8") if photos else ("fp32", "fp16")
    precisions = tuple(precision for precision in precisions if precision not in device.lacks)
    pictures = photos or pictures_for(spec, None)
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "original.onnx"
        source.write("bench", 1, original)
        graphs = []
        for precision in precisions:
            graphs.append(_graph(original, spec, precision, photos, evidence.data, threads or 0, device))
    rows = [row for batch in BATCHES if batch <= spec.max_batch for row in _measure(graphs, batch, pictures)]
    return Measurements(rows, _machine(threads, device), device)


def _graph(
    original: Path,
    spec: TrainedSpec,
    precision: Precision,
    photos: Pictures | None,
    data: str | None,
    threads: int,
    device: Device,
) -> _Graph:
    file = Path(shutil.copyfile(original, original.with_name(f"{precision}.onnx")))
    convert(file, spec, precision, photos)
    session = open_session(file, threads) if device.is_cpu else _open_on(device, file, spec)
    run, scores = session_runner(session, spec), session_runner(session, spec, ("scores",))
    mean_ap = labelled_map(data, spec, session_runner(open_as_computed(file, threads), spec))[0] if data else None
    return _Graph(precision, run, scores, mean_ap, file.stat().st_size)


def _open_on(device: Device, file: Path, spec: TrainedSpec) -> ort.InferenceSession:
    """On the first GPU. Raises LabelwiseError if it does not run there."""
    try:
        return open_on_device(file, ort.SessionOptions(), device, 0, spec, sha256_of(file)[:16])
    except Exception as error:  # onnxruntime raises classes of its own
        raise LabelwiseError(f"The graph does not run on {device.name}: {one_line(error)}.") from error


def _measure(graphs: list[_Graph], batch: int, pictures: Pictures) -> Iterator[Measurement]:
    batches = [pictures.pixels[rows] for rows in pictures.batches(batch)]
    seconds: dict[Precision, list[float]] = {graph.precision: [] for graph in graphs}
    costs = {graph.precision: np.zeros(2) for graph in graphs}  # of all outputs, and of the scores alone
    for graph in graphs:
        graph.run(batches[0])  # the first call of a size allocates
    until = time.monotonic() + _SECONDS / len(BATCHES)
    round_ = 0
    while round_ < _ROUNDS or time.monotonic() < until:
        pixels = batches[round_ % len(batches)]
        for graph in graphs:
            took, cost = _seconds(graph.run, pixels)
            seconds[graph.precision].append(took)
            costs[graph.precision] += cost, _seconds(graph.scores, pixels)[1]
        round_ += 1
    for graph in graphs:
        every, scores = costs[graph.precision]
        yield Measurement(graph, batch, seconds[graph.precision], scores / every)


def _seconds(run: Runner, pixels: Pixels) -> tuple[float, float]:
    """Seconds of the clock, and of the processor for all threads of this process."""
    started, worked = time.perf_counter(), time.process_time()
    run(pixels)
    return time.perf_counter() - started, time.process_time() - worked


def _machine(threads: int | None, device: Device) -> str:
    if not device.is_cpu:
        return f"{gpu_names(1)[0]} by {device.name}; ONNX Runtime {ort.__version__}, labelwise {VERSION}"
    model = processor().get("model name") or platform.processor() or platform.machine()
    return f"{model}, {threads or usable_cores()} threads; ONNX Runtime {ort.__version__}, labelwise {VERSION}"


def _cells(measured: Measurements) -> Iterator[tuple[str, ...]]:
    fp32 = {row.batch: row for row in measured.rows if row.graph.precision == "fp32"}
    for row in measured.rows:
        base, graph = fp32[row.batch], row.graph
        loss = None if graph.mean_ap is None else base.graph.mean_ap - graph.mean_ap
        milliseconds = 1e3 * np.percentile(row.seconds, (50, 95))
        yield (
            graph.precision,
            str(row.batch),
            f"{row.images_per_second:.1f}",
            f"{row.images_per_second / base.images_per_second:.2f}",
            *(f"{value:.2f}" for value in milliseconds),
            "" if graph.mean_ap is None else f"{100 * graph.mean_ap:.2f}",
            "" if loss is None else f"{round(100 * loss, 2) + 0.0:.2f}",
            f"{graph.size / 1e6:.1f}",
        )


def table(measured: Measurements) -> Table:
    """For a terminal."""
    made = Table(title=measured.machine, caption=measured.note, box=SIMPLE, pad_edge=False)
    for heading in _HEADINGS:
        made.add_column(heading, justify="left" if heading == "precision" else "right")
    for cells in _cells(measured):
        made.add_row(*cells)
    return made


def markdown(measured: Measurements) -> str:
    """For a page; mAP and its loss are in points of a hundred."""
    rows = [_HEADINGS, ("---", *["---:"] * (len(_HEADINGS) - 1)), *_cells(measured)]
    return f"{measured.machine}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows) + f"\n{measured.note}\n"
