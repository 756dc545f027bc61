"""The embedded engine: ONNX Runtime in this process, reading the same repository as Triton. Needs nothing but pip."""

import asyncio
import functools
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort

from labelwise.errors import RepositoryError
from labelwise.repository import Repository, TaggerVersion
from labelwise.spec import TaggerSpec
from serving.engines.base import Catalogue, EngineError, EngineTimeout, EngineUnavailable, Outputs, Pixels, UnknownModel

logger = logging.getLogger("labelwise.engine")

# Asking for CUDA on a machine without a GPU works, after a page of ONNX Runtime's error messages.
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


class EmbeddedEngine:
    """One ONNX Runtime session per version; `threads` inferences at once, each on `session_threads` cores."""

    def __init__(self, repository: Repository, threads: int, session_threads: int = 1) -> None:
        self._repository = repository
        self._session_threads = session_threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="infer")
        self._sessions: dict[tuple[str, int], ort.InferenceSession] = {}
        self._closed = False
        self.catalogue: Catalogue = {
            name: {number: version.spec for number, version in versions.items()}
            for name, versions in repository.taggers.items()
        }

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for name, versions in self._repository.taggers.items():
            for number, version in versions.items():
                session = await loop.run_in_executor(self._pool, self._load, version)
                self._sessions[name, number] = session
                logger.info("loaded %s version %d on %s", name, number, session.get_providers()[0])

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def is_ready(self) -> bool:
        return not self._closed and bool(self._sessions)

    async def infer(self, model: str, version: int, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        session = self._sessions.get((model, version))
        if session is None:
            raise UnknownModel(f"{model} version {version} is not loaded")
        if self._closed:
            raise EngineUnavailable("the engine is closed")
        spec = self.catalogue[model][version]
        if not 1 <= len(pixels) <= spec.max_batch or pixels.shape[1:] != spec.input.shape:
            raise ValueError(f"{model} takes uint8 [1..{spec.max_batch}, {spec.input.shape}], not {pixels.shape}")
        run = functools.partial(_run, session, spec, pixels, outputs)
        try:
            # A timeout cancels what still waits for a thread; a running inference ends by itself, soon.
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._pool, run), timeout)
        except asyncio.TimeoutError as error:
            raise EngineTimeout(f"{model} did not answer within {timeout:.3g} s") from error

    def _load(self, version: TaggerVersion) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._session_threads
        # A thread that spins while it waits takes its core from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        spec = version.spec
        try:
            session = ort.InferenceSession(version.weights, options, providers=_providers())
        except Exception as error:  # onnxruntime raises its own unrelated classes
            logger.debug("loading failed", exc_info=error)
            raise RepositoryError(f"{spec.name} version {spec.version}: ONNX Runtime cannot load its model.") from error
        _check_tensors(session, spec)
        try:
            _run(session, spec, np.zeros((1, *spec.input.shape), np.uint8), spec.output_names)  # warm-up
        except EngineError as error:
            raise RepositoryError(str(error)) from error
        return session


def _providers() -> list[str]:
    """The GPU first where there is one that this ONNX Runtime can use."""
    has_gpu = "CUDAExecutionProvider" in ort.get_available_providers() and any(map(Path.exists, _GPU_DEVICES))
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if has_gpu else ["CPUExecutionProvider"]


def _check_tensors(session: ort.InferenceSession, spec: TaggerSpec) -> None:
    found = {tensor.name: tuple(tensor.shape[1:]) for tensor in (*session.get_inputs(), *session.get_outputs())}
    wanted = {tensor.name: tensor.shape for tensor in (spec.input, *spec.outputs)}
    if found != wanted:
        raise RepositoryError(
            f"{spec.name} version {spec.version}: its model has {found}, its tagger.json says {wanted}; export again."
        )


def _run(session: ort.InferenceSession, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str]) -> Outputs:
    try:
        results = session.run(list(outputs), {spec.input.name: pixels})
    except Exception as error:  # onnxruntime raises its own unrelated classes
        raise EngineError(f"{spec.name} version {spec.version} failed: {error}") from error
    return dict(zip(outputs, results, strict=True))
