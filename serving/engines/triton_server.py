"""One Triton over gRPC: its one channel, and what it was last seen to serve."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import np_to_triton_dtype

from labelwise.repository import MODEL_SUFFIX, VersionKey
from labelwise.spec import TaggerSpec
from serving.engines.base import EngineError, EngineTimeout, EngineUnavailable, Outputs, Pixels, UnknownModel
from serving.engines.triton_grpc import CHANNEL, our_errors
from serving.gateway.observe.stages import current_trace

logger = logging.getLogger("labelwise.engine")

_PROBE_TIMEOUT = 1.0  # seconds
_LATE_AT_MOST = 3  # probes in a row: one that has too much to do is not dead, and the others have no more room


class TritonServer:
    """The Triton at `url` (host:port). Methods raise EngineError."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_healthy = False
        self._late = 0
        self.served: frozenset[VersionKey] = frozenset()
        self.differences: dict[VersionKey, str] = {}
        self.complaint = "it was not asked yet"
        self._client: grpcclient.InferenceServerClient | None = None

    def connect(self) -> None:
        """Opens the channel, on the event loop that will use it; the connection is made when it is needed."""
        self._client = grpcclient.InferenceServerClient(self.url, channel_args=CHANNEL)

    async def close(self) -> None:
        client, self._client = self._client, None
        self.is_healthy = False
        if client is not None:
            await client.close()

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    async def probe(self, known: Mapping[VersionKey, TaggerSpec]) -> bool:
        """Whether it answers; then `served` are those of the `known` versions that it runs as their contracts say."""
        served: set[VersionKey] = set()
        differences: dict[VersionKey, str] = {}
        try:
            for name in dict.fromkeys(name for name, _ in known):
                await self._survey(name, known, served, differences)
        except EngineError as error:
            self.complaint = str(error)
            self._late = self._late + 1 if isinstance(error, EngineTimeout) else _LATE_AT_MOST
            if self._late >= _LATE_AT_MOST:
                self.set_unhealthy(str(error))
            return False
        self._late = 0
        self._log_change(True)
        self.served, self.differences, self.complaint = frozenset(served), differences, ""
        return True

    async def is_complete(self) -> bool:
        """Whether it has loaded all that it was told to at its start."""
        with our_errors():
            return bool(await self._connected.is_server_ready(client_timeout=_PROBE_TIMEOUT))

    async def is_ready(self, keys: Sequence[VersionKey]) -> bool:
        """Whether it would run all of these now."""
        with our_errors():
            for name, number in keys:
                model = name + MODEL_SUFFIX
                if not await self._connected.is_model_ready(model, str(number), client_timeout=_PROBE_TIMEOUT):
                    return False
        return True

    def set_unhealthy(self, reason: str) -> None:
        self._log_change(False, reason)
        self.complaint = reason

    async def infer(self, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str], within: float) -> Outputs:
        """uint8 [b, h, w, 3] -> float32 [b, ...] by output name, in at most `within` seconds.

        Where the caller is cancelled, so is the call, and Triton drops it from its queue.
        """
        tensor = grpcclient.InferInput(spec.input.name, list(pixels.shape), np_to_triton_dtype(pixels.dtype))
        tensor.set_data_from_numpy(pixels)
        trace = current_trace()
        with our_errors():
            result = await self._connected.infer(
                spec.name + MODEL_SUFFIX,
                [tensor],
                str(spec.version),
                [grpcclient.InferRequestedOutput(name) for name in outputs],
                timeout=max(1, int(within * 1e6)),  # microseconds; takes a late request out of Triton's queue
                client_timeout=within,
                # Triton traces every request that brings one, so it is sent for those that are sampled here alone.
                headers=None if trace is None else {"traceparent": trace.traceparent()},
            )
        arrays = {name: result.as_numpy(name) for name in outputs}
        shapes = {output.name: (len(pixels), *output.shape) for output in spec.outputs}
        for name, array in arrays.items():
            if array is None or array.shape != shapes[name] or array.dtype != np.float32:
                raise EngineError(f"{name} came as {getattr(array, 'shape', None)}, not as float32 {shapes[name]}")
        return arrays

    async def load(self, name: str, timeout: float) -> None:
        """Have it load what its own repository has of a tagger now."""
        with our_errors():
            await self._connected.load_model(name, client_timeout=timeout)

    async def _survey(
        self,
        name: str,
        known: Mapping[VersionKey, TaggerSpec],
        served: set[VersionKey],
        differences: dict[VersionKey, str],
    ) -> None:
        try:
            with our_errors():
                metadata = await self._connected.get_model_metadata(name + MODEL_SUFFIX, client_timeout=_PROBE_TIMEOUT)
        except UnknownModel:
            return
        # Triton has one configuration for all versions of a model: one that differs from it could not be loaded.
        for key, spec in known.items():
            if key[0] == name and str(key[1]) in metadata.versions:
                if difference := _difference(metadata, spec):
                    differences[key] = difference
                else:
                    served.add(key)

    def _log_change(self, healthy: bool, reason: str = "") -> None:
        if healthy and not self.is_healthy:
            logger.info("the Triton at %s answers", self.url)
        elif self.is_healthy and not healthy:
            logger.warning("the Triton at %s does not answer: %s", self.url, reason)
        self.is_healthy = healthy

    @property
    def _connected(self) -> Any:
        if self._client is None:
            raise EngineUnavailable("the engine is not running")
        return self._client


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
