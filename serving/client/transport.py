"""How a client reaches servers: one interface, over gRPC to Triton or over HTTP to the gateway."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from labelwise.spec import TaggerSpec
from serving.errors import ClientError
from serving.inference import Outputs, Pixels

SCHEMES = ("grpc", "http", "https")


class Transport(Protocol):
    """One model on one or several servers, on one event loop. All methods raise ClientErrors.

    Servers take turns. One that is down is left out until it answers again. While all are down, a request is tried
    again until its deadline, after random pauses that grow.
    """

    takes_pixels: bool  # otherwise `infer` raises

    @property
    def spec(self) -> TaggerSpec:
        """The model's contract, as the servers tell it. Raises ClientClosed before `connect`."""

    async def connect(self) -> None:
        """Reaches at least one server and learns the contract."""

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """uint8 [b, h, w, 3] of the model's size, b at most `max_batch` -> float32 [b, ...] by output name.

        `outputs` are those of one Call. The model has them.
        """

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        """Runs encoded photos, which the server decodes. Raises PhotosRefused for those that it cannot."""

    async def close(self) -> None:
        """Closes the connections. Safe to call twice."""


def create_transport(
    servers: str | Sequence[str],
    model: str | None = None,
    *,
    key: str | None = None,
    connect_timeout: float = 10.0,
    shared_memory: bool = True,
) -> Transport:
    """For `grpc://host:8001` (Triton) or `http://host:8000` (gateway); several as a list, or separated by commas.

    `model` may be left out if a gateway has a default. `key` is the gateway's. `connect` waits `connect_timeout`
    seconds for a first server. `shared_memory`: pixels go through it if Triton is on this host and allows it.
    """
    urls = _urls(servers)
    schemes = {url.partition("://")[0] for url in urls}
    if "grpc" not in schemes:
        from serving.client.gateway_transport import GatewayTransport

        return GatewayTransport(urls, model, key=_header_value(key), connect_timeout=connect_timeout)
    if len(schemes) > 1:
        raise ClientError("The servers of one client are all Tritons (grpc://) or all gateways (http://).")
    if key is not None:
        raise ClientError("Keys are the gateway's: a Triton takes none, so keep it off untrusted networks.")
    if model is None:
        raise ClientError("A Triton needs the name of a model: name one, such as model='scenes'.")
    from serving.client.triton_transport import TritonTransport

    return TritonTransport(urls, model, connect_timeout=connect_timeout, shared_memory=shared_memory)


def _urls(servers: str | Sequence[str]) -> list[str]:
    written = servers.split(",") if isinstance(servers, str) else list(servers or ())
    if not all(isinstance(url, str) for url in written):
        raise ClientError("Servers are a string or a list of strings: grpc://HOST:8001 or http://HOST:8000.")
    urls = [url.strip().rstrip("/") for url in written]
    if not urls or not all(map(_is_address, urls)):
        raise ClientError(
            f"Servers are written grpc://HOST:8001 or http://HOST:8000, not {', '.join(urls) or 'nothing'}."
        )
    return urls


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # the port is not a number
        return False
    # Without a port gRPC would take 443.
    return parts.scheme in SCHEMES and bool(parts.hostname) and (port is not None or parts.scheme != "grpc")


def _header_value(key: str | None) -> str | None:
    """The key without the line break that files end with. Raises ClientError, which does not tell the key."""
    if key is None:
        return None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ClientError("The key is not valid: a key is printable ASCII, as `labelwise keys add` prints it.")
    return key
