"""Runs one version's graph in ONNX Runtime in this process: loads it, checks it against its contract, warms it up."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from labelwise.errors import RepositoryError
from labelwise.repository import TaggerVersion
from labelwise.spec import TaggerSpec
from serving.errors import ServerFailed, ServingError
from serving.inference import Outputs, Pixels

logger = logging.getLogger("labelwise.engine")

_CPU = ("CPUExecutionProvider",)
# Asking for CUDA on a machine without a GPU works, after a page of ONNX Runtime's error messages.
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


def load_session(version: TaggerVersion, threads: int, cpu_only: bool = False) -> ort.InferenceSession:
    """Blocks. Raises RepositoryError if the graph cannot be loaded or run, or differs from the contract."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # A thread that spins while it waits takes its core from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    spec = version.spec
    try:
        session = ort.InferenceSession(version.weights, options, providers=_CPU if cpu_only else _providers())
    except Exception as error:  # onnxruntime raises its own unrelated classes
        logger.debug("loading failed", exc_info=error)
        raise RepositoryError(f"{spec.name} version {spec.version}: ONNX Runtime cannot load its model.") from error
    _check_tensors(session, spec)
    try:
        run_session(session, spec, np.zeros((1, *spec.input.shape), np.uint8), spec.output_names)
    except ServingError as error:
        raise RepositoryError(str(error)) from error
    return session


def run_session(session: ort.InferenceSession, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str]) -> Outputs:
    """Blocks. Raises ServerFailed if the graph fails."""
    try:
        results = session.run(list(outputs), {spec.input.name: pixels})
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise ServerFailed(f"{spec.name} version {spec.version} failed: {error}") from error
    return dict(zip(outputs, results, strict=True))


def _providers() -> tuple[str, ...]:
    """Returns the GPU first, if there is one that this ONNX Runtime can use."""
    has_gpu = "CUDAExecutionProvider" in ort.get_available_providers() and any(map(Path.exists, _GPU_DEVICES))
    return ("CUDAExecutionProvider", *_CPU) if has_gpu else _CPU


def _check_tensors(session: ort.InferenceSession, spec: TaggerSpec) -> None:
    found = {tensor.name: tuple(tensor.shape[1:]) for tensor in (*session.get_inputs(), *session.get_outputs())}
    wanted = {tensor.name: tensor.shape for tensor in (spec.input, *spec.outputs)}
    if found != wanted:
        raise RepositoryError(
            f"{spec.name} version {spec.version}: its model has {found}, its tagger.json says {wanted}; export again."
        )
