"""One Triton over gRPC: its one channel, and what it was last seen to serve."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import np_to_triton_dtype

from labelwise.repository import VersionKey, model_names
from labelwise.spec import TaggerSpec
from serving.arrays import Outputs, Pixels
from serving.errors import ServerFailed, ServerTimeout, ServerUnavailable, ServingError, UnknownModel
from serving.hanging import CallStuck, Pulse, ServerHangs
from serving.stages import current_trace
from serving.triton.channel import CHANNEL, ask_for_sign, our_errors

logger = logging.getLogger("labelwise.engine")

_PROBE_TIMEOUT = 1.0  # seconds
_STUCK_FOR = 30.0  # seconds until a model that answered nobody is tried again where another Triton serves it


class ModelStuck(ServerUnavailable):
    """Triton lives, and one of its models answers nobody."""


class TritonServer:
    """The Triton at `url` (host:port). Methods raise ServingError."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_healthy = False
        self.is_hung = False  # it takes requests, and gives no sign of life
        self._pulse = Pulse(lambda within: ask_for_sign(self._connected, self.url, within))
        self._answered_at: dict[str, float] = {}  # by tagger: when a request was last answered
        self._stuck_until: dict[str, float] = {}  # by tagger
        self._caching: set[str] = set()  # taggers with a response cache
        self._configured: dict[
            str, list[str]
        ] = {}  # by tagger: the versions that it had when its configuration was read
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
        await self._pulse.close()
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
        except ServingError as error:
            self.complaint = str(error)
            if not isinstance(error, ServerTimeout):
                self.set_unhealthy(str(error))
            elif not await self._pulse.is_alive():  # one that has too much to do is not dead
                self._set_hung()
            return False
        self.is_hung = False
        self._log_change(True)
        self.served, self.differences, self.complaint = frozenset(served), differences, ""
        return True

    async def is_complete(self) -> bool:
        """Whether it has loaded all that it was told to at its start."""
        with our_errors(self.url):
            return bool(await self._connected.is_server_ready(client_timeout=_PROBE_TIMEOUT))

    async def is_ready(self, keys: Sequence[VersionKey]) -> bool:
        """Whether it would run all of these now."""
        if self.is_hung:
            return False
        with our_errors(self.url):
            for name, number in keys:
                model = model_names(name).model
                if not await self._connected.is_model_ready(model, str(number), client_timeout=_PROBE_TIMEOUT):
                    return False
        return True

    def would_answer(self, key: VersionKey) -> bool:
        """As far as is known: it answers, serves that version, and the model is not stuck."""
        return self.is_healthy and key in self.served and self._stuck_until.get(key[0], 0.0) < time.monotonic()

    def set_unhealthy(self, reason: str) -> None:
        self._log_change(False, reason)
        self.complaint, self.is_hung = reason, False

    def _set_hung(self) -> None:
        self.set_unhealthy(f"the Triton at {self.url} hangs: it gives no sign of life")
        self.is_hung = True

    async def infer(
        self,
        spec: TaggerSpec,
        pixels: Pixels,
        outputs: Sequence[str],
        within: float,
        stuck_after: float = float("inf"),
    ) -> Outputs:
        """uint8 [b, h, w, 3] -> float32 [b, ...] by output name, in at most `within` seconds.

        Raises ServerUnavailable if Triton hangs, after half of that time at the latest; ModelStuck if Triton lives, and
        the model has answered nobody for `stuck_after` seconds. A caller that is cancelled cancels the call.
        """
        sent = time.monotonic()

        def is_stuck() -> bool:
            return time.monotonic() - max(sent, self._answered_at.get(spec.name, 0.0)) > stuck_after

        try:
            arrays = await self._pulse.watch(self._infer(spec, pixels, outputs, within), within, is_stuck)
        except CallStuck:
            self._stuck_until[spec.name] = time.monotonic() + _STUCK_FOR
            raise ModelStuck(f"{spec.name} at {self.url} has answered nobody for {stuck_after:.3g} s.") from None
        except ServerHangs:
            self._set_hung()
            raise ServerUnavailable(self.complaint) from None
        self._answered_at[spec.name] = time.monotonic()
        shapes = {output.name: (len(pixels), *output.shape) for output in spec.outputs}
        for name, array in arrays.items():
            if array is None or array.shape != shapes[name] or array.dtype != np.float32:
                raise ServerFailed(f"{name} came as {getattr(array, 'shape', None)}, not as float32 {shapes[name]}")
        return arrays

    async def _infer(self, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str], within: float) -> dict[str, Any]:
        tensor = grpcclient.InferInput(spec.input.name, list(pixels.shape), np_to_triton_dtype(pixels.dtype))
        tensor.set_data_from_numpy(pixels)
        trace = current_trace()
        asked = spec.output_names if spec.name in self._caching else outputs
        with our_errors(self.url):
            result = await self._connected.infer(
                model_names(spec.name).model,
                [tensor],
                str(spec.version),
                [grpcclient.InferRequestedOutput(name) for name in asked],
                timeout=max(1, int(within * 1e6)),  # microseconds; for a model with a deadline in its queue
                client_timeout=within,
                # Triton traces every request that brings one, so it is sent for those that are sampled here alone.
                headers=None if trace is None else {"traceparent": trace.traceparent()},
            )
        return {name: result.as_numpy(name) for name in outputs}

    async def load(self, name: str, timeout: float) -> None:
        """Have it load what its own repository has of a tagger now."""
        with our_errors(self.url):
            await self._connected.load_model(name, client_timeout=timeout)

    async def _survey(
        self,
        name: str,
        known: Mapping[VersionKey, TaggerSpec],
        served: set[VersionKey],
        differences: dict[VersionKey, str],
    ) -> None:
        try:
            with our_errors(self.url):
                metadata = await self._connected.get_model_metadata(
                    model_names(name).model, client_timeout=_PROBE_TIMEOUT
                )
                await self._learn_of_cache(name, metadata.versions)
        except UnknownModel:
            return
        # Triton has one configuration for all versions of a model: one that differs from it could not be loaded.
        for key, spec in known.items():
            if key[0] == name and str(key[1]) in metadata.versions:
                if difference := _difference(metadata, spec):
                    differences[key] = difference
                else:
                    served.add(key)

    async def _learn_of_cache(self, name: str, versions: Sequence[str]) -> None:
        """Triton's response cache ignores which outputs a request names, so all requests must name the same ones."""
        if self._configured.get(name) != list(versions):
            answer = await self._connected.get_model_config(model_names(name).model, client_timeout=_PROBE_TIMEOUT)
            (self._caching.add if answer.config.response_cache.enable else self._caching.discard)(name)
            self._configured[name] = list(versions)

    def _log_change(self, healthy: bool, reason: str = "") -> None:
        if healthy and not self.is_healthy:
            logger.info("the Triton at %s answers", self.url)
        elif self.is_healthy and not healthy:
            logger.warning("the Triton at %s does not answer: %s", self.url, reason)
        self.is_healthy = healthy

    @property
    def _connected(self) -> Any:
        if self._client is None:
            raise ServerUnavailable("The engine is not running.")
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
