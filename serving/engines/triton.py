"""The engine that sends pixels to NVIDIA Triton over gRPC, a running one or one that it starts itself."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import np_to_triton_dtype

from labelwise.errors import LabelwiseError
from labelwise.repository import MODEL_SUFFIX, Repository
from labelwise.spec import TaggerSpec
from serving.engines.base import (
    Catalogue,
    EngineError,
    EngineTimeout,
    EngineUnavailable,
    Outputs,
    Pixels,
    UnknownModel,
)
from serving.engines.local_triton import LocalTriton
from serving.engines.triton_grpc import CHANNEL, DEAD_STUB, our_errors

logger = logging.getLogger("labelwise.engine")

_PROBE_TIMEOUT = 1.0  # seconds
_PROBE_KEPT_FOR = 0.5  # seconds
_DRAIN_WITHIN = 10.0  # seconds, for what is running at `close`


class TritonEngine:
    """Serves the taggers of `repository` through Triton, which has to serve the same repository.

    `triton` is the `host:port` of a running Triton's gRPC, or a LocalTriton for the engine to start and stop. At most
    `max_in_flight` requests are under way at once; `start` gives up after `start_timeout` seconds.
    """

    def __init__(
        self,
        repository: Repository,
        triton: str | LocalTriton,
        *,
        max_in_flight: int = 64,
        start_timeout: float = 60.0,
    ) -> None:
        self._specs = {
            name: {number: version.spec for number, version in versions.items()}
            for name, versions in repository.taggers.items()
        }
        self._local = triton if isinstance(triton, LocalTriton) else None
        self._url = triton.grpc_url if isinstance(triton, LocalTriton) else triton.removeprefix("grpc://")
        self._max_in_flight = max_in_flight
        self._permits = asyncio.Semaphore(max_in_flight)
        self._start_timeout = start_timeout
        self._client: grpcclient.InferenceServerClient | None = None
        self._ready, self._ready_until = False, 0.0

    @property
    def catalogue(self) -> Catalogue:
        """The versions that Triton serves too; its version policy may leave old ones out."""
        return self._specs

    async def start(self) -> None:
        """Connect, wait for Triton, compare its models with tagger.json and warm up. Raises LabelwiseError."""
        try:
            if self._local is not None:
                await self._local.start()
            self._client = grpcclient.InferenceServerClient(self._url, channel_args=CHANNEL)
            await self._until_ready()
            self._specs = {name: await self._verified(name, versions) for name, versions in self._specs.items()}
            await self._warm_up()
        except EngineError as error:
            await self.close()
            raise LabelwiseError(f"The Triton at {self._url} does not answer as it should: {error}") from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Let running requests finish (at most 10 s), then disconnect and stop a Triton of our own."""
        client, self._client = self._client, None
        try:
            if client is not None:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._nothing_runs(), _DRAIN_WITHIN)
                await client.close()
        finally:
            if self._local is not None:
                await self._local.stop()

    async def _nothing_runs(self) -> None:
        for _ in range(self._max_in_flight):  # whoever holds every permit knows that nobody else does
            await self._permits.acquire()

    async def is_ready(self) -> bool:
        """Whether Triton answers for every model now; asked at most twice a second."""
        if time.monotonic() >= self._ready_until:
            try:
                self._ready = await self._all_models_ready()
            except EngineError:
                self._ready = False
            self._ready_until = time.monotonic() + _PROBE_KEPT_FOR
        return self._ready

    async def infer(self, model: str, version: int, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """Run uint8 `pixels` [b, h, w, 3] through Triton; returns float32 [b, ...] by output name.

        `timeout` seconds count from the call on, the wait for a free place included. Raises an EngineError, or
        ValueError for pixels that are not what tagger.json says.
        """
        spec = self._specs.get(model, {}).get(version)
        if spec is None:
            raise UnknownModel(f"{model} version {version}")
        if not 1 <= len(pixels) <= spec.max_batch or pixels.shape[1:] != spec.input.shape or pixels.dtype != np.uint8:
            raise ValueError(f"{model} takes uint8 [1..{spec.max_batch}, {spec.input.shape}], not {pixels.shape}")
        if self._client is None:
            raise EngineUnavailable("the engine is not running")
        request = asyncio.create_task(self._request(spec, pixels, outputs, time.monotonic() + timeout))
        try:
            # A task of its own, because a cancelled RPC forgets who cancelled it, which anyio's callers have to know.
            await asyncio.wait([request], timeout=timeout)
            if not request.done():
                raise EngineTimeout(f"no answer within {timeout:g} s")
        finally:
            request.cancel()
        if request.cancelled():
            raise EngineUnavailable("the connection was closed meanwhile")
        try:
            return request.result()
        except EngineUnavailable as error:
            if DEAD_STUB in str(error) and self._local is not None:
                self._local.restart()
            raise

    async def _request(self, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str], deadline: float) -> Outputs:
        tensor = grpcclient.InferInput(spec.input.name, list(pixels.shape), np_to_triton_dtype(pixels.dtype))
        tensor.set_data_from_numpy(pixels)
        async with self._permits:
            within = deadline - time.monotonic()
            with our_errors():
                result = await self._connected.infer(
                    spec.name + MODEL_SUFFIX,
                    [tensor],
                    str(spec.version),
                    [grpcclient.InferRequestedOutput(name) for name in outputs],
                    timeout=max(1, int(within * 1e6)),  # microseconds; takes a late request out of Triton's queue
                    client_timeout=within,
                )
        arrays = {name: result.as_numpy(name) for name in outputs}
        shapes = {output.name: (len(pixels), *output.shape) for output in spec.outputs}
        for name, array in arrays.items():
            if array is None or array.shape != shapes[name] or array.dtype != np.float32:
                raise EngineError(f"{name} came as {getattr(array, 'shape', None)}, not as float32 {shapes[name]}")
        return arrays

    @property
    def _connected(self) -> Any:
        if self._client is None:
            raise EngineUnavailable("the engine is not running")
        return self._client

    async def _until_ready(self) -> None:
        """Wait until every model answers; a Triton that was ready without one of them will not get it later."""
        logger.info("waiting for the Triton at %s", self._url)
        deadline = time.monotonic() + self._start_timeout
        while True:
            try:
                with our_errors():
                    complete = await self._connected.is_server_ready(client_timeout=_PROBE_TIMEOUT)
                if await self._all_models_ready():
                    return
                if complete:
                    names = ", ".join(self._specs)
                    raise LabelwiseError(
                        f"The Triton at {self._url} does not serve the newest version of each of {names}."
                    )
                reason = "it is still loading"
            except EngineError as error:
                reason = str(error)
            if time.monotonic() > deadline:
                raise LabelwiseError(f"No Triton is ready at {self._url} after {self._start_timeout:g} s: {reason}")
            await asyncio.sleep(0.1)

    async def _all_models_ready(self) -> bool:
        newest = [versions[max(versions)] for versions in self._specs.values()]
        with our_errors():
            answers = await asyncio.gather(
                *(
                    self._connected.is_model_ready(
                        spec.name + MODEL_SUFFIX, str(spec.version), client_timeout=_PROBE_TIMEOUT
                    )
                    for spec in newest
                )
            )
        return all(answers)

    async def _verified(self, name: str, versions: dict[int, TaggerSpec]) -> dict[int, TaggerSpec]:
        """The versions that Triton serves as tagger.json describes them; LabelwiseError if the newest is not one."""
        newest = max(versions)
        with our_errors():
            metadata = await self._connected.get_model_metadata(name + MODEL_SUFFIX, client_timeout=self._start_timeout)
        if difference := _difference(metadata, versions[newest]):
            raise LabelwiseError(f"The Triton at {self._url} serves another {name} version {newest}: {difference}.")
        # Triton has one configuration for all versions of a model: one that differs from it could not be loaded.
        kept = {
            number: spec
            for number, spec in versions.items()
            if str(number) in metadata.versions and not _difference(metadata, spec)
        }
        if left_out := sorted(versions.keys() - kept.keys()):
            logger.info("Triton does not serve these versions of %s: %s", name, left_out)
        return kept

    async def _warm_up(self) -> None:
        """One image through every version, so that nobody's first request pays for lazy set-up."""
        for spec in [spec for versions in self._specs.values() for spec in versions.values()]:
            blank = np.zeros((1, *spec.input.shape), np.uint8)
            await self.infer(spec.name, spec.version, blank, spec.output_names, self._start_timeout)


def _difference(metadata: Any, spec: TaggerSpec) -> str | None:
    """What about Triton's description of a model is not as tagger.json says, if anything."""
    found = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in (*metadata.inputs, *metadata.outputs)}
    for tensor in (spec.input, *spec.outputs):
        expected = (np_to_triton_dtype(np.dtype(tensor.dtype)), [-1, *tensor.shape])
        if tensor.name not in found:
            return f"it has no {tensor.name}"
        if found[tensor.name] != expected:
            return f"its {tensor.name} is {found[tensor.name]} and not {expected}"
    return None
