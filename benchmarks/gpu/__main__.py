"""What labelwise does on this machine's GPU, measured by one command within 8 minutes.

    python -m benchmarks.gpu [--minutes 8] [--devices cuda,tensorrt] [--out FOLDER] [--quick]

Needs the installed extras and the bundled models, nothing else. The parts, in this order:

1. doctor: what works on this machine, and so which devices are measured
2. subjects: the bundled tagger, also in fp16, and an untrained ResNet-50
3. roofline: the rates of multiplying matrices and of copying to the GPU
4. engine: parity with the CPU, and images per second by batch, for each tagger, device and precision
5. end_to_end: decoding alone, `labelwise serve` over HTTP and its Triton over gRPC under load
6. training: steps of two networks in each precision

Each measurement is a process of its own. If it fails, or its part's time is over, the report says so and goes on.
Writes gpu.md and gpu.json into FOLDER, benchmarks/results by default. With --quick everything is tiny, without
Triton: that tries the command and measures nothing. Only the first GPU is measured. Linux only.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from benchmarks.gpu.report import report
from benchmarks.gpu.subjects import BUNDLED, RESNET
from benchmarks.gpu.tasks import ROOT, Results, Task, run_process, run_task
from benchmarks.process_tree import adopt_orphans
from labelwise.cores import usable_cores
from labelwise.devices.names import DeviceName

DEVICES: tuple[str, ...] = get_args(DeviceName)
PRECISIONS = ("fp16", "fp32", "int8")  # what matters on a GPU first
# When each part has to end, as a share of the whole time. What a part does not use, the next ones have.
ENDS = {"doctor": 0.1, "subjects": 0.22, "roofline": 0.3, "engine": 0.53, "end_to_end": 0.72, "training": 1.0}
_NETWORKS = ("resnet50", "tf_efficientnet_lite0")


@dataclass(frozen=True)
class Run:
    """What was asked for, and what is known so far: `devices` are those that work here, GPUs first."""

    scratch: Path
    results: Results
    devices: tuple[str, ...]
    has_triton: bool
    is_quick: bool
    nvjpeg_fault: str = ""

    @property
    def gpus(self) -> tuple[str, ...]:
        return tuple(device for device in self.devices if device != "cpu")

    def task(self, part: str, title: str, module: str, *arguments: str, seconds: float) -> Task:
        quick = ["--quick"] if self.is_quick else []
        return Task(part, title, f"benchmarks.gpu.{module}", [str(self.scratch), *arguments, *quick], seconds)


def examine(scratch: Path, results: Results, end: float) -> dict[str, object]:
    """Returns what `labelwise doctor` finds, or nothing."""
    text, reason = run_process(Task("doctor", "labelwise doctor", "labelwise", ["doctor", "--json"]), scratch, end)
    if reason:
        results.missing.append(("doctor", "labelwise doctor", reason))
        return {"findings": []}
    return dict(json.loads(text))


def usable_devices(doctor: dict, wanted: tuple[str, ...], results: Results) -> tuple[str, ...]:
    """Returns the wanted devices that work, GPUs first, and notes why others do not. The CPU always works."""
    faults = {one["subject"]: one["found"] for one in doctor["findings"] if one["works"] is False}
    for device in wanted:
        if device in faults:
            results.missing.append(("engine", device, faults[device]))
    works = {one["subject"] for one in doctor["findings"] if one["works"]} | {"cpu"}
    return tuple(device for device in (*DEVICES[1:], "cpu") if device in works and device in wanted)


def fault_of(subject: str, doctor: dict) -> str:
    """Returns why it does not work, as doctor found; empty if it works."""
    for one in doctor["findings"]:
        if one["subject"] == subject:
            return "" if one["works"] else one["found"]
    return "labelwise doctor did not tell"


def subjects(run: Run) -> Iterator[Task]:
    yield run.task("subjects", f"{BUNDLED}, bundled", "subjects", BUNDLED, seconds=90)
    yield run.task("subjects", f"{RESNET}, untrained", "subjects", RESNET, seconds=120)


def roofline(run: Run) -> Iterator[Task]:
    for device in run.devices:
        for precision in ("fp32",) if device == "cpu" else ("fp16", "fp32"):
            arguments = [device, precision, *(["--quick"] if run.is_quick else [])]
            yield Task("roofline", f"{device}, {precision}", "benchmarks.gpu.roofline", arguments, 45)


def engine(run: Run) -> Iterator[Task]:
    """On GPUs first, and there the goals' ResNet-50 in fp16 first: what comes last may find no time left."""
    having = {row["tagger"]: row["precisions"] for row in run.results.of("subject")}
    for devices in (run.gpus, ("cpu",) if "cpu" in run.devices else ()):
        for precision in PRECISIONS:
            for tagger in (RESNET, BUNDLED):
                for device in devices:
                    if precision in having.get(tagger, ()):
                        title = f"{tagger}, {device}, {precision}"
                        yield run.task("engine", title, "engine", tagger, device, precision, seconds=100)


def end_to_end(run: Run) -> Iterator[Task]:
    yield run.task("end_to_end", "decoding alone", "decoding", "cpu", seconds=40)
    if not run.nvjpeg_fault:
        yield run.task("end_to_end", "decoding alone, on the GPU", "decoding", "gpu", seconds=60)
    elif run.gpus:
        run.results.missing.append(("end_to_end", "decoding on the GPU", run.nvjpeg_fault))
    workers = ["1"] if run.is_quick else sorted({"1", str(max(1, usable_cores() // 4))})
    for device in run.devices:
        for number in workers:
            yield _http(run, device, number, "cpu")
    if run.gpus and not run.nvjpeg_fault:
        yield _http(run, run.gpus[0], workers[-1], "gpu")
    if run.has_triton and not run.is_quick:  # it takes seconds to start and to end
        device = run.devices[0]
        arguments = ("grpc", "auto", fastest(run, device), "1", "cpu")
        yield run.task("end_to_end", "gRPC, labelwise serve --engine triton", "end_to_end", *arguments, seconds=60)


def _http(run: Run, device: str, workers: str, decode: str) -> Task:
    arguments = ("http", device, fastest(run, device), workers, decode)
    title = f"HTTP, {device}, {workers} worker processes, photos decoded on the {decode}"
    return run.task("end_to_end", title, "end_to_end", *arguments, seconds=60)


def fastest(run: Run, device: str) -> str:
    """Returns the precision in which the bundled tagger was fastest on `device`; that which `serve` chooses if none."""
    rows = run.results.of("engine", tagger=BUNDLED, device=device)
    return str(max(rows, key=lambda row: row["images_per_second"])["precision"]) if rows else "auto"


def training(run: Run) -> Iterator[Task]:
    networks, ways = _NETWORKS, [("bf16", "--whole"), ("fp16",), ("fp32",), ("bf16", "--compile")]
    if not run.gpus:  # there, networks of this size take minutes
        networks, ways = ("test_resnet",), [("fp32",)]
    for way in ways:
        for network in networks:
            arguments = [str(run.scratch), network, *way]
            seconds = 120 if "--compile" in way else 60
            yield Task("training", " ".join(arguments[1:]), "benchmarks.gpu.train_steps", arguments, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--devices", type=lambda text: tuple(text.split(",")), default=DEVICES, metavar="A,B")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.devices) - set(DEVICES):
        parser.error(f"there is no device {min(unknown)!r}: choose among {', '.join(DEVICES)}")
    adopt_orphans()
    results, started = Results(), time.monotonic()

    def end(part: str) -> float:
        return started + 60 * arguments.minutes * ENDS[part]

    with tempfile.TemporaryDirectory(prefix="labelwise-gpu-") as folder:
        scratch = Path(folder)
        doctor = examine(scratch, results, end("doctor"))
        devices = usable_devices(doctor, arguments.devices, results)
        has_triton = not fault_of("triton", doctor)
        run = Run(scratch, results, devices, has_triton, arguments.quick, fault_of("nvjpeg", doctor))
        for part in (subjects, roofline, engine, end_to_end, training):
            for task in part(run):
                run_task(task, results, scratch, end(part.__name__))
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {"quick": arguments.quick, "date": time.strftime("%Y-%m-%d"), "minutes": (time.monotonic() - started) / 60}
    written = facts | {"doctor": doctor, "rows": results.rows, "not_available": results.missing}
    (arguments.out / "gpu.json").write_text(json.dumps(written, indent=1) + "\n")
    (arguments.out / "gpu.md").write_text(report(facts, doctor, results))
    print(f"Wrote gpu.md and gpu.json in {arguments.out}.")


if __name__ == "__main__":
    main()
