"""The options of a run, and the engine, transport and scorer for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labelwise.repository import default_tagger, published_names
from labelwise.spec import TaggerSpec
from serving.bulk.in_flight import InFlight
from serving.bulk.scorer import Scorer
from serving.bulk.tag_errors import UsageError
from serving.client.transport import Transport, create_transport
from serving.engines import create_engine
from serving.errors import ClientError, UnknownModel
from serving.inference import Outputs, Pixels
from serving.settings import load_settings

if TYPE_CHECKING:
    from serving.bulk.xmp.sidecars import Sidecars  # a run without sidecars does not load lxml

# Photos per request, within the model's own limit. An engine in this process gains nothing from more.
_CHUNK, _CHUNK_FOR_SERVERS = 8, 16
REQUEST_BYTES = 16 * 2**20  # of encoded photos in a request
_CONNECT_TIMEOUTS = (1.0, 10.0)  # seconds for a first answer; in between, as long as patience
_MOST_IN_FLIGHT = 64
_BYTES_IN_FLIGHT = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """`servers` are URLs separated by commas, and take the place of an `engine` on `repository`."""

    out: str
    engine: Literal["embedded", "triton"] = "embedded"
    device: str = "auto"
    precision: str = "auto"
    repository: Path = Path("model_repository")
    servers: str | None = None
    model: str | None = None
    key: str | None = None
    send: Literal["auto", "pixels", "bytes"] = "auto"
    every_score: bool = True
    embeddings: bool = False  # keep those of the tags
    sidecars: "Sidecars | None" = None
    hidden: bool = False  # also take hidden folders and those of other programs
    exclude: tuple[str, ...] = ()  # globs
    force: bool = False
    patience: float = 300.0  # seconds without an answer
    threads: int | None = None  # that decode and run the embedded engine; by default one per core
    in_flight: int | None = None  # requests to servers at once; by default found by trying
    ray: bool = False
    workers: int | None = None  # actors of Ray; by default one per core of its cluster

    @property
    def at_gateway(self) -> bool:
        return (self.servers or "").startswith("http")

    def transport(self) -> Transport:
        """The transport to the engine or the servers, not yet connected."""
        if self.servers is None:
            return OwnEngine(self)
        connect_timeout = max(_CONNECT_TIMEOUTS[0], min(_CONNECT_TIMEOUTS[1], self.patience))
        return create_transport(self.servers, self.model, key=self.key, connect_timeout=connect_timeout)

    def chunk_size(self, spec: TaggerSpec) -> int:
        """Photos per request."""
        return min(_CHUNK_FOR_SERVERS if self.servers else _CHUNK, spec.max_batch)

    def scorer(self, transport: Transport, note: Callable[[str], None]) -> tuple[Scorer, Callable[[], int]]:
        """The scorer for a connected transport, and a function that tells how many chunks it can use at once now."""
        threads, spec = self.threads or load_settings().threads, transport.spec
        send_bytes = self.send == "bytes" or self.at_gateway
        request = REQUEST_BYTES if send_bytes else self.chunk_size(spec) * spec.image.height * spec.image.width * 3
        most = max(2, min(_MOST_IN_FLIGHT, _BYTES_IN_FLIGHT // request))
        embedded = self.servers is None and self.engine == "embedded"
        fixed = threads if embedded else self.in_flight
        in_flight = InFlight(fixed, fixed) if fixed else InFlight(most)
        scorer = Scorer(
            transport,
            in_flight,
            threads,
            send_bytes=send_bytes,
            sidecars=self.sidecars,
            embeddings=self.embeddings,
            patience=self.patience,
            note=note,
        )
        return scorer, lambda: threads + in_flight.places


def check_options(options: TagOptions) -> None:
    """Raises UsageError for options that do not go together."""
    if options.servers and options.engine != "embedded":
        raise UsageError("--server asks servers, and --engine runs the model here: choose one.")
    if options.key and not options.servers:
        raise UsageError("--key is for --server.")
    if options.workers and not options.ray:
        raise UsageError("--workers is for --ray: without it all cores of this machine are used.")
    if options.send == "bytes" and not options.servers:
        raise UsageError("--send bytes is for servers: an engine here always gets pixels.")
    if options.send == "pixels" and options.at_gateway:
        raise UsageError("--send pixels is for Triton: the gateway takes photos as they are.")
    if options.embeddings and options.at_gateway:
        raise UsageError("A gateway does not give embeddings with tags: to keep them, use a Triton or an engine here.")


class OwnEngine:
    """An engine in this process, or one that it starts, behind the contract that the transports to servers have.

    It runs the `engine` of `options` on their `model` of their `repository`, by default its `default_tagger`, in the
    newest version; see client.transport.
    """

    takes_pixels = True
    spec: TaggerSpec  # once it is connected

    def __init__(self, options: TagOptions) -> None:
        settings = load_settings(
            engine=options.engine,
            device=options.device,
            precision=options.precision,
            repository=options.repository,
            reload_interval=0,
            threads=options.threads,
        )
        is_embedded = options.engine == "embedded"  # a Triton loads the whole repository in any case
        only = default_tagger(published_names(options.repository), options.model) if is_embedded else None
        self._engine = create_engine(settings, only=only)
        self._model = options.model

    async def connect(self) -> None:
        await self._engine.start()
        catalogue = self._engine.catalogue
        names = ", ".join(catalogue)
        name = default_tagger(catalogue, self._model)
        if name is None and self._model is None:
            raise UnknownModel(f"The repository holds {names}: choose one with --model.")
        if name is None:
            raise UnknownModel(f"The repository has no model {self._model!r}; it holds {names}.")
        versions = catalogue[name]
        self.spec = versions[max(versions)]

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        return await self._engine.infer(self.spec.name, self.spec.version, pixels, outputs, timeout)

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        raise ClientError("An engine of our own takes pixels: --send bytes is for servers.")

    async def close(self) -> None:
        await self._engine.close()
