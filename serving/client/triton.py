"""The transport to Triton: pixels to NAME_model, or encoded photos to the ensemble NAME."""

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import np_to_triton_dtype

from labelwise.errors import SpecError
from labelwise.repository import CONTRACT_PARAMETER, model_names
from labelwise.spec import TaggerSpec
from serving.arrays import Outputs, Pixels
from serving.errors import ClientClosed, ClientError, OutputNotOffered, ServerFailed, UnknownModel, WrongContract
from serving.fleet import Servers
from serving.triton.channel import CHANNEL, RegionForgotten, ask_for_sign, our_errors
from serving.triton.shared_memory import SharedMemory

Shapes = dict[str, tuple[int, ...]]  # of the outputs that are wanted

_ENSEMBLE_INPUT = "IMAGE"


class _Process:
    """Which process uses gRPC: in a fork of it, gRPC crashes."""

    def __init__(self) -> None:
        self._pid: int | None = None

    def claim(self) -> None:
        """ClientError in a fork of a process that has claimed."""
        if self._pid not in (None, os.getpid()):
            raise ClientError(
                "This process was forked from one that uses gRPC, which does not survive that: start processes by "
                "'spawn', or make the first client after the fork."
            )
        self._pid = os.getpid()


_process = _Process()


class TritonTransport:
    """See Transport. `urls` are grpc://host:port of Tritons that serve the same version of `model`."""

    takes_pixels = True

    def __init__(self, urls: Sequence[str], model: str, *, connect_timeout: float, shared_memory: bool = True) -> None:
        self._urls, self._model, self._connect_timeout = urls, model, connect_timeout
        self._shares_memory = shared_memory
        self._servers: Servers[_TritonLink] | None = None

    @property
    def spec(self) -> TaggerSpec:
        return self._connected.contract

    @property
    def _connected(self) -> "Servers[_TritonLink]":
        if self._servers is None:
            raise ClientClosed("The client is not connected.")
        return self._servers

    async def connect(self) -> None:
        """Raises ServerUnavailable, UnknownModel, or WrongContract where Triton does not tell the contract."""
        _process.claim()
        self._servers = Servers([_TritonLink(url, self._model, self._shares_memory) for url in self._urls])
        try:
            await self._connected.connect(self._connect_timeout)
        except BaseException:
            await self.close()
            raise

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        spec, shapes = self.spec, self._shapes(outputs, len(pixels))
        return await self._connected.call(lambda link, within: link.infer_pixels(spec, pixels, shapes, within), timeout)

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        tensor = grpcclient.InferInput(_ENSEMBLE_INPUT, [len(photos), 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[photo] for photo in photos], dtype=np.object_))
        spec, shapes = self.spec, self._shapes(outputs, len(photos))
        return await self._connected.call(
            lambda link, within: link.infer(self._model, spec, tensor, shapes, within), timeout
        )

    async def close(self) -> None:
        if self._servers is not None:
            await self._servers.close()

    def _shapes(self, outputs: Sequence[str], batch: int) -> Shapes:
        spec = self.spec
        if missing := sorted(set(outputs) - set(spec.output_names)):
            raise OutputNotOffered(
                f"{spec.name} has no {', '.join(missing)}; it offers {', '.join(spec.output_names)}."
            )
        return {output.name: (batch, *output.shape) for output in spec.outputs if output.name in outputs}


class _TritonLink:
    """One channel to one Triton."""

    def __init__(self, url: str, model: str, shares_memory: bool) -> None:
        self.url, self._model = url, model
        self._client: Any = grpcclient.InferenceServerClient(url.removeprefix("grpc://"), channel_args=CHANNEL)
        self._memory = SharedMemory(self._client, url) if shares_memory else None
        self._has_cache = False

    async def close(self) -> None:
        if self._memory:
            await self._memory.close()
        await self._client.close()

    async def give_sign(self, timeout: float) -> None:
        await ask_for_sign(self._client, self.url, timeout)

    async def contract(self, version: int | None, timeout: float) -> TaggerSpec:
        with our_errors(self.url):
            answer = await self._client.get_model_config(self._model, client_timeout=timeout)
        await self._learn_of_cache(timeout)
        parameters = answer.config.parameters
        if CONTRACT_PARAMETER not in parameters:
            raise WrongContract(
                f"{self._model} at {self.url} does not tell its contract (no parameter {CONTRACT_PARAMETER!r} in "
                f"config.pbtxt): export it again with `labelwise export`, or name the ensemble, not one of its parts."
            )
        try:
            return TaggerSpec.parse(parameters[CONTRACT_PARAMETER].string_value, f"the contract at {self.url}")
        except SpecError as error:
            raise WrongContract(f"{error}; export the model again with `labelwise export`.") from error

    async def _learn_of_cache(self, timeout: float) -> None:
        """Triton's response cache ignores which outputs a request names, so all requests must name the same ones."""
        with contextlib.suppress(UnknownModel), our_errors(self.url):  # the ensemble may have been named otherwise
            answer = await self._client.get_model_config(model_names(self._model).model, client_timeout=timeout)
            self._has_cache = answer.config.response_cache.enable

    async def infer_pixels(self, spec: TaggerSpec, pixels: Pixels, shapes: Shapes, timeout: float) -> Outputs:
        """By the model itself, in shared memory where that can be."""
        model, until = model_names(self._model).model, time.monotonic() + timeout
        tensor = grpcclient.InferInput(spec.input.name, list(pixels.shape), np_to_triton_dtype(pixels.dtype))

        def left() -> float:
            return max(until - time.monotonic(), 0.001)

        if self._memory:
            with contextlib.suppress(RegionForgotten):
                async with self._memory.holding(pixels, pixels[0].nbytes * spec.max_batch) as region:
                    if region:
                        tensor.set_shared_memory(region, pixels.nbytes)
                        return await self.infer(model, spec, tensor, shapes, left())
        tensor.set_data_from_numpy(pixels)
        return await self.infer(model, spec, tensor, shapes, left())

    async def infer(self, model: str, spec: TaggerSpec, tensor: Any, shapes: Shapes, timeout: float) -> Outputs:
        """`model` is the one of `spec`, or the ensemble around it."""
        asked = spec.output_names if self._has_cache and model != self._model else tuple(shapes)
        with our_errors(self.url):
            result = await self._client.infer(
                model,
                [tensor],
                str(spec.version),
                [grpcclient.InferRequestedOutput(name) for name in asked],
                timeout=max(1, int(timeout * 1e6)),  # microseconds; for a model with a deadline in its queue
                client_timeout=timeout,
            )
        arrays = {name: result.as_numpy(name) for name in shapes}
        for name, array in arrays.items():
            if array is None or array.shape != shapes[name] or array.dtype != np.float32:
                found = getattr(array, "shape", None)
                raise ServerFailed(f"{name} from {self.url} came as {found}, not as float32 {shapes[name]}.")
        return arrays
