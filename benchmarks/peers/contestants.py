"""The servers that are compared."""

from dataclasses import dataclass, field

from benchmarks.peers.protocols import LABELWISE, OPEN_INFERENCE, OWN_ROUTE, TRITON, Protocol

LABELWISE_SETTINGS = {"LABELWISE_TRITON_GRPC_PORT": "{port_2}", "LABELWISE_TRITON_METRICS_PORT": "{port_3}"}


@dataclass(frozen=True, eq=False)
class Contestant:
    """How a server is started, in the folder `servers`, and asked.

    In `arguments` and `settings`, {port}, {port_2} and {port_3} stand for free ports, and {repository} for a repository
    that holds only the tagger. `environment` names its requirements; None is the environment of this process. `package`
    is the one whose version is told. With `any_precision` it may run any graph of the tagger, not only the fp32 one.
    """

    key: str
    title: str
    arguments: tuple[str, ...]
    protocol: Protocol = OWN_ROUTE
    environment: str | None = None
    package: str = "labelwise"
    settings: dict[str, str] = field(default_factory=dict)
    any_precision: bool = False
    is_python_peer: bool = False


def _peer(
    key: str, title: str, package: str, *arguments: str, protocol: Protocol = OWN_ROUTE, **settings: str
) -> Contestant:
    return Contestant(key, title, arguments, protocol, package, package, settings, is_python_peer=True)


def _labelwise(key: str, title: str, *arguments: str, any_precision: bool = False) -> Contestant:
    command = ("-m", "labelwise", "serve", "--repository", "{repository}", "--port", "{port}", *arguments)
    return Contestant(key, title, command, LABELWISE, settings=LABELWISE_SETTINGS, any_precision=any_precision)


CONTESTANTS = (
    _peer("fastapi", "FastAPI, sync endpoint", "fastapi", "fastapi_server.py"),
    _peer("robyn", "robyn", "robyn", "robyn_server.py"),
    _peer("litserve-batching", "LitServe, batching", "litserve", "litserve_server.py", "8"),
    _peer("litserve", "LitServe, not batching", "litserve", "litserve_server.py", "1"),
    _peer(
        *("bentoml", "BentoML", "bentoml"),
        *("-m", "bentoml", "serve", "bentoml_server:Tagger", "--host", "127.0.0.1", "--port", "{port}"),
        BENTOML_DO_NOT_TRACK="true",
    ),
    _peer("mlserver", "MLServer, batching", "mlserver", "mlserver_server.py", protocol=OPEN_INFERENCE),
    _peer("ray", "Ray Serve", "ray", "ray_server.py", RAY_USAGE_STATS_ENABLED="0"),
    Contestant(
        *("triton", "Triton asked directly (gRPC, bytes)", ("triton_server.py",), TRITON),
        *("triton", "nvidia-pytriton"),
    ),
    _labelwise("labelwise", "labelwise, embedded, fp32"),
    _labelwise("labelwise-default", "labelwise, as it is by default", any_precision=True),
    _labelwise("labelwise-triton", "labelwise, --engine triton, fp32", "--engine", "triton"),
)
