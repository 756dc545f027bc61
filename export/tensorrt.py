"""ONNX -> TensorRT plan, by the `tensorrt` package or by `trtexec`, whichever is installed.

The graph says in which precision each operator computes: the network is strongly typed, as TensorRT 11 always has it.

This is untried: the tests replace both builders by stand-ins, and no engine has been built or run. A plan runs only
with the TensorRT version and on the GPU architecture that it was built with, so its name and that of the timing cache
contain both.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labelwise.errors import LabelwiseError
from labelwise.files import cache_folder, write_atomically
from labelwise.profiles import engine_batches, profile_shapes
from labelwise.spec import TrainedSpec

_MAJORS = ("10", "11")  # by which the graph's types can be kept
_ASKED = "10"  # this one must be asked to keep them


@dataclass(frozen=True)
class Plan:
    """A built engine; `capability` is the GPU's compute capability as Triton's `cc_model_filenames` writes it: 9.0."""

    file: Path
    capability: str


@dataclass(frozen=True)
class Job:
    """A graph to build an engine from, and the two files that a builder writes."""

    onnx: Path
    spec: TrainedSpec
    plan: Path
    timing: Path  # makes the next build faster, also of another tagger with such layers


@dataclass(frozen=True)
class Builder:
    """A TensorRT of some version, and what it does with a job."""

    version: str
    build: Callable[[Job], None]


def build_plan(onnx: Path, spec: TrainedSpec, out_folder: Path) -> Plan:
    """Builds e.g. `model.trt11.4.0-sm90.plan` in `out_folder` for this machine's GPU, which takes minutes.

    `onnx` is a graph that `convert_for_tensorrt` wrote. Raises LabelwiseError if there is no TensorRT or no GPU, or if
    the build fails.
    """
    builder = find_builder()
    capability = _compute_capability()
    name = f"trt{builder.version}-sm{capability.replace('.', '')}"
    plan = out_folder / f"model.{name}.plan"
    try:
        builder.build(Job(onnx, spec, plan, _timing_folder(out_folder) / f"timing.{name}.cache"))
        if not plan.is_file() or not plan.stat().st_size:
            raise LabelwiseError("TensorRT ended without an error, but also without a plan.")
    except BaseException:
        plan.unlink(missing_ok=True)
        raise
    return Plan(plan, capability)


def _timing_folder(otherwise: Path) -> Path:
    with contextlib.suppress(OSError, RuntimeError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return otherwise


def find_builder() -> Builder:
    """Finds this machine's TensorRT. Raises LabelwiseError if there is none, or if it is neither 10 nor 11."""
    builder = _python_builder() or _trtexec_builder()
    if builder is None:
        raise LabelwiseError(
            "There is no TensorRT here: pip install 'labelwise[tensorrt]', or put trtexec on the PATH; "
            "export without it makes ONNX."
        )
    if _major(builder.version) not in _MAJORS:
        raise LabelwiseError(f"TensorRT {builder.version} cannot build a plan: {' or '.join(_MAJORS)} is needed.")
    return builder


def _compute_capability() -> str:
    """Of the GPU that CUDA uses first. Several must be of one kind: nvidia-smi may number them in another order."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader", *([f"--id={visible}"] * bool(visible))]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise LabelwiseError("A TensorRT plan is built on the GPU that will run it; nvidia-smi finds none.") from error
    found = sorted(set(answer.split()))
    if len(found) != 1 or not re.fullmatch(r"\d+\.\d+", found[0]):
        raise LabelwiseError(
            f"A TensorRT plan is built for one kind of GPU, and nvidia-smi names {', '.join(found) or 'none'}: "
            "choose one with CUDA_VISIBLE_DEVICES."
        )
    return found[0]


def _trtexec_builder() -> Builder | None:
    program = shutil.which("trtexec")
    if program is None:
        return None
    banner = _run([program, "--help"]).stdout
    match = re.search(r"\[TensorRT v(\d+)\]", banner)
    if match is None:
        raise LabelwiseError(f"{program} does not say which TensorRT it is, so its plan cannot be named.")
    version = _version(int(match[1]))
    return Builder(version, partial(_build_by_trtexec, program, _major(version) == _ASKED))


def _build_by_trtexec(program: str, ask_for_types: bool, job: Job) -> None:
    smallest, best, largest = profile_shapes(job.spec)
    arguments = [
        f"--onnx={job.onnx}",
        f"--saveEngine={job.plan}",
        f"--minShapes={smallest}",
        f"--optShapes={best}",
        f"--maxShapes={largest}",
        f"--timingCacheFile={job.timing}",
        "--skipInference",
        *["--stronglyTyped"] * ask_for_types,
    ]
    done = _run([program, *arguments])
    if done.returncode:
        raise LabelwiseError(f"trtexec could not build a plan: {_complaint(done.stdout)}")


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except OSError as error:
        raise LabelwiseError(f"{command[0]} cannot be run: {error.strerror}.") from error


def _version(number: int) -> str:
    """10.3.0 for trtexec's 100300; before version 10 it wrote 8601 for 8.6.1."""
    thousands = 10_000 if number >= 10 * 10_000 else 1_000
    return f"{number // thousands}.{number % thousands // 100}.{number % 100}"


def _major(version: str) -> str:
    return version.partition(".")[0]


def _complaint(log: str) -> str:
    """The first error in trtexec's log, or its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line]
    return (errors or lines[-1:] or ["it gives no reason"])[0][:500]


def _python_builder() -> Builder | None:
    if importlib.util.find_spec("tensorrt") is None:
        return None
    try:
        import tensorrt
    except Exception as error:  # its libraries may be missing, or of another CUDA
        raise LabelwiseError(f"The tensorrt package cannot be imported: {error}") from error

    version = ".".join(re.findall(r"\d+", tensorrt.__version__)[:3])
    return Builder(version, partial(_build_in_process, tensorrt, _major(version) == _ASKED))


def _build_in_process(trt: Any, ask_for_types: bool, job: Job) -> None:
    """By the Python API of TensorRT 10 and 11."""
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed if ask_for_types else 0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse_from_file(str(job.onnx)):
        raise LabelwiseError(f"TensorRT cannot read the graph: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    shapes = builder.create_optimization_profile()
    shapes.set_shape(job.spec.input.name, *((size, *job.spec.input.shape) for size in engine_batches(job.spec)))
    config.add_optimization_profile(shapes)
    for timings in (job.timing.read_bytes() if job.timing.is_file() else b"", b""):
        cache = config.create_timing_cache(timings)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            break  # otherwise they are broken, or of another GPU
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise LabelwiseError("TensorRT could not build a plan; its reasons are above.")
    job.plan.write_bytes(bytes(engine))
    write_atomically(job.timing, bytes(config.get_timing_cache().serialize()))
