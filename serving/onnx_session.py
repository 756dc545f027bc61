"""Runs one version's graph in ONNX Runtime in this process: loads it, checks it against its contract, warms it up."""

import logging
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from labelwise.devices.choice import CPU, Device
from labelwise.devices.sessions import open_session
from labelwise.errors import RepositoryError
from labelwise.repository import TaggerVersion
from labelwise.spec import TaggerSpec
from serving.errors import ServerFailed, ServingError
from serving.inference import Outputs, Pixels

logger = logging.getLogger("labelwise.engine")


def load_session(version: TaggerVersion, threads: int, device: Device = CPU, gpu: int = 0) -> ort.InferenceSession:
    """Blocks, with TensorRT for minutes the first time. `gpu` is the number of one of the device's GPUs.

    Raises RepositoryError if the graph cannot be loaded or run, if it differs from the contract, or if it would run on
    another device.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # A thread that spins while it waits takes its core from decoding.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    spec = version.spec
    try:
        session = open_session(version.weights, options, device, gpu, spec, spec.weights_sha256[:16])
    except Exception as error:  # onnxruntime raises its own unrelated classes
        logger.debug("loading failed", exc_info=error)
        where = "" if device.is_cpu else f" on {device.name}: {' '.join(str(error).split())[:300]}"
        raise RepositoryError(
            f"{spec.name} version {spec.version}: ONNX Runtime cannot load its model{where or '.'}"
        ) from error
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


def _check_tensors(session: ort.InferenceSession, spec: TaggerSpec) -> None:
    found = {tensor.name: tuple(tensor.shape[1:]) for tensor in (*session.get_inputs(), *session.get_outputs())}
    wanted = {tensor.name: tensor.shape for tensor in (spec.input, *spec.outputs)}
    if found != wanted:
        raise RepositoryError(
            f"{spec.name} version {spec.version}: its model has {found}, its tagger.json says {wanted}; export again."
        )
