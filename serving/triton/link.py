"""The connection to one Triton: contracts, readiness, and inference on pixels or encoded photos."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tritonclient.grpc.aio as grpcclient
from tritonclient.utils import np_to_triton_dtype

from labelwise.errors import SpecError
from labelwise.repository import CONTRACT_PARAMETER, model_names
from labelwise.spec import TaggerSpec
from serving.errors import ServerFailed, UnknownModel, WrongContract
from serving.inference import Outputs, Pixels
from serving.stages import current_trace
from serving.triton.channel import CHANNEL, RegionForgotten, ask_for_sign, our_errors
from serving.triton.shared_memory import SharedMemory

_ENSEMBLE_INPUT = "IMAGE"
_AT_LEAST = 0.001  # seconds


class TritonLink:
    """One channel to the Triton at `url`, for the event loop that it is made on. Everything raises ServingErrors.

    A tagger `name` is the ensemble NAME, which takes encoded photos, around NAME_model, which takes pixels.
    `shares_memory`: pixels go through shared memory if Triton is on this host and allows it.
    """

    def __init__(self, url: str, shares_memory: bool = False) -> None:
        self.url = url
        self._client: Any = grpcclient.InferenceServerClient(url.removeprefix("grpc://"), channel_args=CHANNEL)
        self._memory = SharedMemory(self._client, url) if shares_memory else None
        self._cached: set[str] = set()  # names of taggers with a response cache

    async def close(self) -> None:
        if self._memory:
            await self._memory.close()
        await self._client.close()

    async def give_sign(self, timeout: float) -> None:
        await ask_for_sign(self._client, self.url, timeout)

    async def contract(self, name: str, timeout: float) -> TaggerSpec:
        """The contract of the newest version. Raises WrongContract if Triton does not tell it."""
        with our_errors(self.url):
            answer = await self._client.get_model_config(name, client_timeout=timeout)
        with contextlib.suppress(UnknownModel):  # the ensemble may have been named otherwise
            await self.learn_of_cache(name, timeout)
        parameters = answer.config.parameters
        if CONTRACT_PARAMETER not in parameters:
            raise WrongContract(
                f"{name} at {self.url} does not tell its contract (no parameter {CONTRACT_PARAMETER!r} in "
                f"config.pbtxt): export it again with `labelwise export`, or name the ensemble, not one of its parts."
            )
        try:
            return TaggerSpec.parse(parameters[CONTRACT_PARAMETER].string_value, f"the contract at {self.url}")
        except SpecError as error:
            raise WrongContract(f"{error}; export the model again with `labelwise export`.") from error

    async def metadata(self, name: str, timeout: float) -> Any:
        """What Triton says about NAME_model: its versions, inputs and outputs. Raises UnknownModel."""
        with our_errors(self.url):
            return await self._client.get_model_metadata(model_names(name).model, client_timeout=timeout)

    async def learn_of_cache(self, name: str, timeout: float) -> None:
        """Triton's response cache ignores which outputs a request names, so all requests must name the same ones."""
        with our_errors(self.url):
            answer = await self._client.get_model_config(model_names(name).model, client_timeout=timeout)
        (self._cached.add if answer.config.response_cache.enable else self._cached.discard)(name)

    async def is_server_ready(self, timeout: float) -> bool:
        """Whether Triton has loaded all that it was told to at its start."""
        with our_errors(self.url):
            return bool(await self._client.is_server_ready(client_timeout=timeout))

    async def load(self, name: str, timeout: float) -> None:
        """Has Triton load what its repository now has of a tagger."""
        with our_errors(self.url):
            await self._client.load_model(name, client_timeout=timeout)

    async def infer(
        self, name: str, spec: TaggerSpec, pixels: Pixels, outputs: Sequence[str], timeout: float
    ) -> Outputs:
        """uint8 [b, h, w, 3] -> float32 [b, ...] by output name."""
        until = time.monotonic() + timeout
        tensor = grpcclient.InferInput(spec.input.name, list(pixels.shape), np_to_triton_dtype(pixels.dtype))
        model = model_names(name).model
        asked = spec.output_names if name in self._cached else outputs

        async def ask() -> Outputs:
            left = max(until - time.monotonic(), _AT_LEAST)
            return _checked(await self._ask(model, spec, tensor, asked, left), outputs, spec, len(pixels), self.url)

        if self._memory:
            with contextlib.suppress(RegionForgotten):
                async with self._memory.holding(pixels, pixels[0].nbytes * spec.max_batch) as region:
                    if region:
                        tensor.set_shared_memory(region, pixels.nbytes)
                        return await ask()
        tensor.set_data_from_numpy(pixels)
        return await ask()

    async def infer_encoded(
        self, name: str, spec: TaggerSpec, photos: Sequence[bytes], outputs: Sequence[str], timeout: float
    ) -> Outputs:
        """Encoded photos, which Triton decodes. Raises PhotosRefused for those that it cannot."""
        tensor = grpcclient.InferInput(_ENSEMBLE_INPUT, [len(photos), 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[photo] for photo in photos], dtype=np.object_))
        return _checked(await self._ask(name, spec, tensor, outputs, timeout), outputs, spec, len(photos), self.url)

    async def _ask(self, model: str, spec: TaggerSpec, tensor: Any, outputs: Sequence[str], timeout: float) -> Any:
        trace = current_trace.get()
        with our_errors(self.url):
            return await self._client.infer(
                model,
                [tensor],
                str(spec.version),
                [grpcclient.InferRequestedOutput(output) for output in outputs],
                timeout=max(1, int(timeout * 1e6)),  # microseconds; for a model with a deadline in its queue
                client_timeout=timeout,
                # Triton traces every request with this header, so only requests that are sampled here get one.
                headers=None if trace is None else {"traceparent": trace.traceparent()},
            )


def _checked(result: Any, outputs: Sequence[str], spec: TaggerSpec, batch: int, url: str) -> Outputs:
    """The `outputs` in Triton's answer for `batch` photos. Raises ServerFailed if they are not as in the contract."""
    arrays = {name: result.as_numpy(name) for name in outputs}
    shapes = {output.name: (batch, *output.shape) for output in spec.outputs}
    for name, array in arrays.items():
        if array is None or array.shape != shapes[name] or array.dtype != np.float32:
            found = getattr(array, "shape", None)
            raise ServerFailed(f"{name} from {url} came as {found}, not as float32 {shapes[name]}.")
    return arrays
