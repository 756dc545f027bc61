"""How a client reaches servers: one contract, spoken over gRPC to Triton or over HTTP to the gateway."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from labelwise.spec import TaggerSpec
from serving.arrays import Outputs, Pixels
from serving.errors import ClientError

SCHEMES = ("grpc", "http", "https")


class Transport(Protocol):
    """One model on one or several servers, on one event loop. Everything raises ClientErrors.

    Servers take turns; one that is down is left out until it answers again, and while all are down a request is tried
    again, with growing and random pauses, until its deadline.
    """

    takes_pixels: bool  # whether `infer` is the way for pixels, or a detour through encoded photos

    @property
    def spec(self) -> TaggerSpec:
        """The model's contract, as the servers tell it; known after `connect`."""

    async def connect(self) -> None:
        """Reach at least one server and learn the contract."""

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        """Run uint8 `pixels` [b, h, w, 3] of the model's size, at most `max_batch`; float32 [b, ...] by output name."""

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        """Run encoded photos, which the server decodes. PhotosRefused names those that it cannot."""

    async def close(self) -> None:
        """Let go of the connections. Safe to call twice."""


def create_transport(
    servers: str | Sequence[str],
    model: str | None = None,
    *,
    key: str | None = None,
    connect_timeout: float = 10.0,
    shared_memory: bool = True,
) -> Transport:
    """For `grpc://host:8001` (Triton) or `http://host:8000` (gateway); several as a list, or separated by commas.

    `model` may be left out where a gateway has a default. `key` is the gateway's. `connect` waits so many seconds for
    a first server. `shared_memory`: for pixels, with a Triton on this host that allows it.
    """
    urls = _urls(servers)
    schemes = {url.partition("://")[0] for url in urls}
    if "grpc" not in schemes:
        from serving.client.gateway import GatewayTransport

        return GatewayTransport(urls, model, key=_header_value(key), connect_timeout=connect_timeout)
    if len(schemes) > 1:
        raise ClientError("Servers of one client are all Tritons (grpc://) or all gateways (http://).")
    if key is not None:
        raise ClientError("Keys are the gateway's: Triton knows none, keep it off untrusted networks.")
    if model is None:
        raise ClientError("Triton does not list its models to everybody: name one, such as model='scenes'.")
    from serving.client.triton import TritonTransport

    return TritonTransport(urls, model, connect_timeout=connect_timeout, shared_memory=shared_memory)


def _urls(servers: str | Sequence[str]) -> list[str]:
    written = servers.split(",") if isinstance(servers, str) else list(servers or ())
    if not all(isinstance(url, str) for url in written):
        raise ClientError("Servers are a text, or a list of such: grpc://HOST:8001 or http://HOST:8000.")
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
    except ValueError:  # a port that is none
        return False
    # gRPC would take 443 where none is given.
    return parts.scheme in SCHEMES and bool(parts.hostname) and (port is not None or parts.scheme != "grpc")


def _header_value(key: str | None) -> str | None:
    """A key as it was meant: files end with a line break. ClientError, without the key, where it is none."""
    if key is None:
        return None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ClientError("The key is none: keys are printable ASCII, as `labelwise keys add` prints them.")
    return key
