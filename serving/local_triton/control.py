"""Commands to a Triton that labelwise started, which only this process has the key to."""

import asyncio
import secrets

import tritonclient.grpc.aio as grpcclient

from labelwise.repository import model_names
from serving.errors import ServingError
from serving.local_triton.process import first_line
from serving.triton.channel import CHANNEL, ask_for_sign, our_errors

_PROBE_TIMEOUT = 1.0  # seconds


class UnloadableVersions(ServingError):
    """Triton could not load the versions `numbers` of a tagger; what it had before stays."""

    def __init__(self, numbers: frozenset[int], reason: str) -> None:
        super().__init__(reason)
        self.numbers = numbers


class TritonControl:
    """Gives orders to the Triton that is started with `arguments` and listens at `url`, and to no other Triton there.

    Each order raises ServingError if Triton does not follow it within `timeout` seconds.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        self._identity, self._key = secrets.token_hex(), secrets.token_hex()
        self._connected: grpcclient.InferenceServerClient | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        restricted = "model-repository,shared-memory,trace,logging"
        return f"--id={self._identity}", f"--grpc-restricted-protocol={restricted}:key={self._key}"

    async def is_live(self) -> bool:
        """Returns whether it takes orders now."""
        try:
            with our_errors(self._url):
                metadata = await self._client.get_server_metadata(client_timeout=_PROBE_TIMEOUT)
        except ServingError:
            return False
        return bool(metadata.name == self._identity)

    async def is_silent(self) -> bool:
        """Returns whether it takes a question and does not answer it, not even with an error."""
        try:
            await ask_for_sign(self._client, self._url, _PROBE_TIMEOUT)
        except asyncio.TimeoutError:
            return True
        return False

    async def load(self, name: str) -> None:
        """Load what the repository has of a tagger, in place of what was loaded. If that fails, the latter stays.

        Raises UnloadableVersions if it is known which versions are to blame.
        """
        with our_errors(self._url):
            await self._client.load_model(name, headers=self._headers, client_timeout=self._timeout)
            # Triton also calls it a success if the ensemble can go on with the old instances of its models.
            index = await self._client.get_model_repository_index(headers=self._headers, client_timeout=self._timeout)
        names = set(model_names(name)) - {name}
        failed = {
            int(model.version): first_line(model.reason)
            for model in index.models
            if model.name in names and model.state == "UNAVAILABLE" and model.reason not in ("", "unloaded")
        }
        if failed:
            raise UnloadableVersions(frozenset(failed), failed[max(failed)])

    async def unload(self, name: str) -> None:
        """Unload the three models of a tagger."""
        options = {"headers": self._headers, "unload_dependents": True, "client_timeout": self._timeout}
        with our_errors(self._url):
            await self._client.unload_model(name, **options)

    async def close(self) -> None:
        client, self._connected = self._connected, None
        if client is not None:
            await client.close()

    @property
    def _client(self) -> grpcclient.InferenceServerClient:
        if self._connected is None:  # made on the event loop that uses it
            self._connected = grpcclient.InferenceServerClient(self._url, channel_args=CHANNEL)
        return self._connected

    @property
    def _headers(self) -> dict[str, str]:
        return {"triton-grpc-protocol-key": self._key}
