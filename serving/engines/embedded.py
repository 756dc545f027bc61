"""The embedded engine: ONNX Runtime in this process, reading the same repository as Triton. Needs nothing but pip."""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from labelwise.errors import RepositoryError
from labelwise.repository import Repository, TaggerVersion, VersionKey
from labelwise.spec import TaggerSpec
from serving.engines.base import Catalogue, EngineError, EngineTimeout, EngineUnavailable, Outputs, Pixels, UnknownModel
from serving.engines.watch import RepositoryWatch, catalogue_of, log_broken, repeat
from serving.workers import Workers, WorkersClosed

logger = logging.getLogger("labelwise.engine")

# Asking for CUDA on a machine without a GPU works, after a page of ONNX Runtime's error messages.
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


class _Loaded(NamedTuple):
    spec: TaggerSpec
    session: ort.InferenceSession


class EmbeddedEngine:
    """One ONNX Runtime session per version; `threads` inferences at once, each on `session_threads` cores.

    The repository is looked at every `reload_interval` seconds (0: never). What is taken out of it leaves the catalogue
    at once, and memory `retire_after` seconds later, when no request is left that began with it.
    """

    def __init__(
        self,
        repository: Repository,
        threads: int,
        session_threads: int = 1,
        *,
        reload_interval: float = 0,
        retire_after: float = 60,
        on_wait: Callable[[float], None] | None = None,
    ) -> None:
        self._repository = repository
        self._session_threads = session_threads
        self._workers = Workers(threads, "infer", on_wait)
        self._reload_interval, self._retire_after = reload_interval, retire_after
        self._watch = RepositoryWatch(repository)
        self._watching: asyncio.Task[None] | None = None
        self._loaded: dict[VersionKey, _Loaded] = {}  # more than the catalogue: what was retired, but not long ago
        self._served: set[VersionKey] = set()
        self._closed = False
        self.catalogue: Catalogue = {}

    async def start(self) -> None:
        for versions in self._repository.taggers.values():
            for version in versions.values():
                await self._take_up(version)
        self._serve(self._served)
        if self._reload_interval:
            self._watching = asyncio.create_task(repeat(self.reload, self._reload_interval))

    async def close(self) -> None:
        self._closed = True
        if self._watching:
            self._watching.cancel()
        await self._workers.close()

    async def is_ready(self) -> bool:
        return not self._closed and bool(self.catalogue)

    async def reload(self) -> None:
        """Take up what was published since the last look, let go of what was taken out; broken versions are logged."""
        look = await asyncio.to_thread(self._watch.look)
        for version in look.new:
            try:
                await self._take_up(version)
            except RepositoryError as error:
                log_broken(version.key, error)
        retired = look.retired(self._served)
        if look.new or retired:
            self._serve(self._served - retired)
        for key in retired:
            logger.info("%s version %d was taken out of the repository", *key)
            asyncio.get_running_loop().call_later(self._retire_after, self._drop, key)

    async def infer(self, model: str, version: int, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        loaded = self._loaded.get((model, version))
        if loaded is None:
            raise UnknownModel(f"{model} version {version} is not loaded")
        spec, session = loaded
        if not 1 <= len(pixels) <= spec.max_batch or pixels.shape[1:] != spec.input.shape:
            raise ValueError(f"{model} takes uint8 [1..{spec.max_batch}, {spec.input.shape}], not {pixels.shape}")
        run = functools.partial(_run, session, spec, pixels, outputs)
        try:
            return await self._workers.run(run, timeout)
        except asyncio.TimeoutError as error:
            raise EngineTimeout(f"{model} did not answer within {timeout:.3g} s") from error
        except WorkersClosed:
            raise EngineUnavailable("the engine is closed") from None

    async def _take_up(self, version: TaggerVersion) -> None:
        """Loaded and warm, on a thread that serves nobody."""
        session = await asyncio.to_thread(self._load, version)
        spec = version.spec
        self._loaded[version.key] = _Loaded(spec, session)
        self._served.add(version.key)
        logger.info("loaded %s version %d on %s", spec.name, spec.version, session.get_providers()[0])

    def _serve(self, keys: set[VersionKey]) -> None:
        self._served = keys
        self.catalogue = catalogue_of({key: self._loaded[key].spec for key in keys})

    def _drop(self, key: VersionKey) -> None:
        if key not in self._served:  # it may have been published again
            self._loaded.pop(key, None)

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
