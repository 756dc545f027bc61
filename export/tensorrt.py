"""ONNX -> TensorRT plan, through the `tensorrt` package or `trtexec`, whichever is there.

No TensorRT was at hand when this was written: the command line is tested with a stand-in for `trtexec`, no engine was
ever built or run by it. A plan runs only with the TensorRT version and on the GPU architecture it was built with, so
both are in its name, and in that of the timing cache that makes the next build on the same machine faster.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labelwise.errors import LabelwiseError
from labelwise.spec import TrainedSpec

PlanPrecision = Literal["fp32", "fp16", "int8"]

_OPTIMAL_BATCH = 8
_OLDEST = 10  # the first TensorRT whose networks always have an explicit batch dimension
# Layers that int8 leaves out may still run in half precision.
_FLAGS: dict[PlanPrecision, tuple[str, ...]] = {"fp32": (), "fp16": ("fp16",), "int8": ("int8", "fp16")}


@dataclass(frozen=True)
class Profile:
    """The batch sizes an engine is built for: it runs any from `minimum` to `maximum`, fastest at `optimum`."""

    minimum: int
    optimum: int
    maximum: int

    @classmethod
    def of(cls, spec: TrainedSpec) -> "Profile":
        """From a single image to the contract's largest batch."""
        return cls(1, min(_OPTIMAL_BATCH, spec.max_batch), spec.max_batch)

    def shapes(self, spec: TrainedSpec) -> tuple[str, str, str]:
        """As trtexec and ONNX Runtime write them: name:BxHxWxC at the least, the best and the largest batch."""
        sizes = (self.minimum, self.optimum, self.maximum)
        return tuple(f"{spec.input.name}:{'x'.join(map(str, (size, *spec.input.shape)))}" for size in sizes)  # type: ignore[return-value]


@dataclass(frozen=True)
class Plan:
    """A built engine; `capability` is the GPU's compute capability as Triton's `cc_model_filenames` writes it: 9.0."""

    file: Path
    capability: str
    tensorrt: str


@dataclass(frozen=True)
class Builder:
    """A TensorRT of some version that turns (onnx, spec, profile, precision, plan, timing cache) into two files."""

    version: str
    build: Callable[[Path, TrainedSpec, Profile, PlanPrecision, Path, Path], None]


def build_plan(
    onnx: Path,
    spec: TrainedSpec,
    out_folder: Path,
    precision: PlanPrecision = "fp16",
    profile: Profile | None = None,
    timing_folder: Path | None = None,
) -> Plan:
    """Build e.g. `model.trt10.3.0-sm90.plan` in `out_folder` for this machine's GPU; minutes.

    The timing cache lies in `timing_folder` (default: `out_folder`) and is used again if it is there. int8 needs a
    graph with symmetric Q/DQ nodes, for TensorRT calibrates no more. LabelwiseError: no TensorRT, no GPU, or a build
    that failed.
    """
    builder = find_builder()
    capability = _compute_capability()
    name = f"trt{builder.version}-sm{capability.replace('.', '')}"
    plan = out_folder / f"model.{name}.plan"
    timing = (timing_folder or out_folder) / f"timing.{name}.cache"
    try:
        builder.build(onnx, spec, profile or Profile.of(spec), precision, plan, timing)
        if not plan.is_file() or not plan.stat().st_size:
            raise LabelwiseError("TensorRT ended without an error, but also without a plan.")
    except BaseException:
        plan.unlink(missing_ok=True)
        raise
    return Plan(plan, capability, builder.version)


def find_builder() -> Builder:
    """The TensorRT of this machine. LabelwiseError: there is none, or it is too old."""
    builder = _python_builder() or _trtexec_builder()
    if builder is None:
        raise LabelwiseError(
            "There is no TensorRT here: pip install tensorrt, or put trtexec on the PATH; export without it makes ONNX."
        )
    if int(builder.version.partition(".")[0]) < _OLDEST:
        raise LabelwiseError(f"TensorRT {builder.version} is too old: {_OLDEST}.0 or newer is needed.")
    return builder


def _compute_capability() -> str:
    """Of the GPU that CUDA uses first. All of several must be of one kind, for nvidia-smi may count them otherwise."""
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
        raise LabelwiseError(f"{program} does not say which TensorRT it is, so a plan of it could not be named.")

    def build(
        onnx: Path, spec: TrainedSpec, profile: Profile, precision: PlanPrecision, plan: Path, timing: Path
    ) -> None:
        done = _run([program, *_trtexec_arguments(onnx, spec, profile, precision, plan, timing)])
        if done.returncode:
            raise LabelwiseError(f"trtexec could not build a plan: {_complaint(done.stdout)}")

    return Builder(_version(int(match[1])), build)


def _trtexec_arguments(
    onnx: Path, spec: TrainedSpec, profile: Profile, precision: PlanPrecision, plan: Path, timing: Path
) -> list[str]:
    least, best, largest = profile.shapes(spec)
    return [
        f"--onnx={onnx}",
        f"--saveEngine={plan}",
        f"--minShapes={least}",
        f"--optShapes={best}",
        f"--maxShapes={largest}",
        f"--timingCacheFile={timing}",
        "--skipInference",
        *(f"--{flag}" for flag in _FLAGS[precision]),
    ]


def _run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    except OSError as error:
        raise LabelwiseError(f"{command[0]} cannot be run: {error.strerror}.") from error


def _version(number: int) -> str:
    """10.3.0 for trtexec's 100300; before version 10 it wrote 8601 for 8.6.1."""
    thousands = 10_000 if number >= 10 * 10_000 else 1_000
    return f"{number // thousands}.{number % thousands // 100}.{number % 100}"


def _complaint(log: str) -> str:
    """The first error in trtexec's log, else its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "[E]" in line]
    return (errors or lines[-1:] or ["it says nothing"])[0][:500]


def _python_builder() -> Builder | None:
    if importlib.util.find_spec("tensorrt") is None:
        return None
    try:
        import tensorrt
    except Exception as error:  # its libraries may be missing, or of another CUDA
        raise LabelwiseError(f"The tensorrt package cannot be imported: {error}") from error

    def build(
        onnx: Path, spec: TrainedSpec, profile: Profile, precision: PlanPrecision, plan: Path, timing: Path
    ) -> None:
        engine, measured = _build_in_process(tensorrt, onnx, spec, profile, precision, timing)
        plan.write_bytes(engine)
        timing.write_bytes(measured)

    return Builder(".".join(re.findall(r"\d+", tensorrt.__version__)[:3]), build)


def _build_in_process(
    trt: Any, onnx: Path, spec: TrainedSpec, profile: Profile, precision: PlanPrecision, timing: Path
) -> tuple[bytes, bytes]:
    """The serialized engine and the timing cache, by TensorRT 10's Python API."""
    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.WARNING))
    if not parser.parse_from_file(str(onnx)):
        raise LabelwiseError(f"TensorRT cannot read the graph: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    for flag in _FLAGS[precision]:
        config.set_flag(getattr(trt.BuilderFlag, flag.upper()))
    shapes = builder.create_optimization_profile()
    sizes = (profile.minimum, profile.optimum, profile.maximum)
    shapes.set_shape(spec.input.name, *((size, *spec.input.shape) for size in sizes))
    config.add_optimization_profile(shapes)
    cache = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise LabelwiseError("TensorRT could not build a plan; its reasons are above.")
    return bytes(engine), bytes(config.get_timing_cache().serialize())
