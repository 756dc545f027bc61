"""What an operator can set, by flags of `labelwise serve` or by environment variables LABELWISE_*."""

import contextlib
import os
import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from labelwise.cores import usable_cores
from labelwise.devices.names import DeviceChoice
from labelwise.errors import LabelwiseError
from labelwise.image import MAX_PIXELS
from labelwise.precision import AUTO, MAX_LOSS
from labelwise.spec import NAME_PATTERN
from labelwise.validation import first_refusal

_PREFIX = "LABELWISE_"


def _split(value: Any) -> Any:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _form(pattern: str, example: str) -> AfterValidator:
    """Refuses text of another form, or with an impossible port: it would fail or match nothing in every request."""

    def check(value: str) -> str:
        with contextlib.suppress(ValueError):
            address = urlsplit(value if "//" in value else f"//{value}")
            if ":" in (address.hostname or ""):
                IPv6Address(address.hostname)  # before Python 3.11.4 urlsplit takes anything in brackets
            if re.fullmatch(pattern, value) and address.port != 0:
                return value
        raise ValueError(f"{value!r} is not of the form {example}")

    return AfterValidator(check)


def _given(value: Any) -> Any:
    if value == "":  # a variable that a script never set; as a path it would mean the current folder
        raise ValueError("it is empty; give it a value, or leave it out")
    return value


T = TypeVar("T")
_ADDRESS = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
Listing = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_split)]  # a,b,c in the environment
Given = Annotated[T, BeforeValidator(_given)]
Seconds = Annotated[float, Field(ge=0.001, le=86_400)]  # the kernel's timers take no shorter times, and no infinite one
Threads = Annotated[int, Field(ge=1, le=1024)]
Model = Annotated[str, _form(NAME_PATTERN, "scenes")]
TritonUrl = Annotated[str, _form(rf"(grpc://)?{_ADDRESS}:\d{{1,5}}", "host:8001")]
WebOrigin = Annotated[
    str, _form(r"\*|https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", "https://photos.example.org")
]
Host = Annotated[str, _form(r"[A-Za-z0-9._-]+", "photos.example.org, without a port")]
FetchHost = Annotated[str, _form(rf"(\*\.)?{_ADDRESS}(:\d{{1,5}})?", "a.org, *.b.org or c.org:8080")]
Collector = Annotated[str, _form(rf"https?://{_ADDRESS}(:\d{{1,5}})?(/[!-~]*)?", "http://host:4318")]


class Settings(BaseSettings):
    """Sizes in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    repository: Given[Path] = Path("model_repository")
    engine: Literal["embedded", "triton"] = "embedded"
    default_model: Model | None = Field(
        None, description="for requests that name none; by default the only one, or everyday"
    )
    device: DeviceChoice = Field(
        "auto", description="what the embedded engine runs on; auto is cuda if it loads, otherwise cpu"
    )
    decode: Literal["cpu", "gpu"] = Field("cpu", description="where ordinary JPEGs are decoded; gpu is untried")
    precision: Literal["auto", "fp32", "fp16", "int8"] = Field(
        "auto", description="of the models; auto is the fastest here that loses at most max_loss"
    )
    max_loss: float = Field(MAX_LOSS, ge=0, le=100, description="points of mAP that a faster precision may lose")
    host: Given[str] = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)

    reload_interval: float = Field(2, ge=0, le=86_400, description="how often to look for new versions; 0 never")
    triton_url: Listing[TritonUrl] = Field(
        (), description="host:port of running Tritons' gRPC: a:8001,b:8001; without it, one is started"
    )
    triton_load: bool = Field(False, description="ask the Tritons at triton_url to load what was published")
    triton_grpc_port: int = Field(8001, ge=1, le=65535)
    triton_metrics_port: int = Field(8002, ge=1, le=65535)
    start_timeout: Seconds = Field(120, description="how long Triton may take to become ready")

    keys: Given[Path] | None = Field(None, description="file of API keys; with it, requests need one")
    insecure_no_keys: bool = Field(False, description="let other machines use the gateway without a key")
    public_metrics: bool = Field(False, description="/metrics needs no key")
    cors_origins: Listing[WebOrigin] = Field(
        (), description="web pages from elsewhere that may use the API: https://a,https://b"
    )
    allowed_hosts: Listing[Host] = Field(
        (), description="host names to answer for; on loopback without keys, localhost's only"
    )
    fetch_hosts: Listing[FetchHost] = Field(
        (), description="hosts that photos may be fetched from: a.org, *.b.org, c.org:8080"
    )
    fetch_timeout: Seconds = Field(10, description="how long fetching a photo may take, redirects included")

    teach: bool = Field(False, description="clients may teach, forget and roll back; with keys, those that may")
    max_teach_images: int = Field(1000, ge=6, description="photos of a lesson; beyond it 413")
    max_teach_body: int = Field(
        2**30, ge=1, description="the photos of a lesson, kept on disk meanwhile; beyond it 413"
    )
    teach_timeout: Seconds = Field(600, description="from the beginning of a lesson's upload to its answer")
    teach_keep: int = Field(
        10, ge=2, description="newest versions of a tagger that lessons keep, besides the last one from before them"
    )
    feedback: Given[Path] | None = Field(None, description="file for corrections by clients; without it, none is kept")
    feedback_photos: bool = Field(False, description="keep the photos of corrections, too")

    max_connections: int = Field(1000, ge=1, description="open at once; beyond it 503")
    header_timeout: Seconds = Field(10, description="how long a request's headers may take to arrive")
    keep_alive_timeout: int = Field(
        5, ge=1, le=86_400, description="idle between requests; set it above that of a proxy in front"
    )
    send_timeout: Seconds = Field(30, description="how long a client may take no byte of its answer")

    workers: int = Field(1, ge=1, le=256, description="processes that serve; each has the limits below for itself")
    threads: Threads = Field(
        default_factory=usable_cores, description="decoding at once, and embedded inferences at once"
    )
    session_threads: Threads = Field(1, description="threads within one embedded inference")
    max_requests: int = Field(1000, ge=1, description="complete requests, working or waiting; beyond it 429")
    max_images: int = Field(64, ge=1, description="photos in one request; beyond it 413")
    max_pending_images: int = Field(1024, ge=1, description="photos of all complete requests; beyond it 429")
    max_body: int = Field(20 * 2**20, ge=1, description="a photo, or what it comes in; beyond it 413")
    max_batch_body: int = Field(64 * 2**20, ge=1, description="the photos of one request; beyond it 413")
    max_pending_bytes: int = Field(512 * 2**20, ge=1, description="all uploads together; beyond it 429")
    max_decoding_pixels: int = Field(MAX_PIXELS, ge=1, description="held decoded at once, 18 bytes each at the worst")
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=89_000_000, description="above it Pillow itself begins to refuse")
    upload_timeout: Seconds = Field(30, description="how long a request's body may take to arrive")
    request_timeout: Seconds = Field(30, description="from a complete upload to the answer")
    shutdown_timeout: Seconds = Field(35, description="how long accepted requests may take to finish at the end")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    log_requests: Literal["all", "problems"] = Field("all", description="a line for each, or for those that failed")
    trace_endpoint: Collector | None = Field(
        None, description="OTLP/HTTP collector, http://host:4318; switches traces on"
    )
    trace_ratio: float = Field(0.01, ge=0, le=1, description="traced, of requests that bring no traceparent")

    @model_validator(mode="after")
    def _one_request_fits_into_what_all_may_hold(self) -> "Settings":
        if self.max_pending_images < self.max_images:
            raise ValueError("max_pending_images must be at least max_images")
        if self.max_pending_bytes < max(self.max_body, self.max_batch_body):
            raise ValueError("max_pending_bytes must be at least max_body and max_batch_body")
        return self

    @model_validator(mode="after")
    def _photos_are_kept_with_their_corrections(self) -> "Settings":
        if self.feedback_photos and self.feedback is None:
            raise ValueError("feedback_photos needs a file for the corrections: add --feedback FILE.db")
        return self

    @model_validator(mode="after")
    def _lessons_are_served_soon(self) -> "Settings":
        if self.teach and not self.reload_interval:
            raise ValueError("teach needs a reload_interval: with 0, no lesson would ever be served")
        return self

    @model_validator(mode="after")
    def _a_url_needs_its_engine(self) -> "Settings":
        if self.triton_url and self.engine != "triton":
            raise ValueError("triton_url is used by the triton engine only: add --engine triton")
        if self.engine == "triton" and self.device not in (AUTO, "cpu"):
            raise ValueError("device is for the embedded engine: Triton's configuration says what it runs on")
        if self.triton_url and self.precision != AUTO:
            raise ValueError("precision is for models that run here: the Tritons at triton_url choose it themselves")
        if self.triton_load and not self.triton_url:
            raise ValueError("triton_load is for Tritons that run elsewhere: name them in triton_url")
        return self


def unknown_variables() -> list[str]:
    """Lists environment variables that start with LABELWISE_ but match no setting."""
    known = {_PREFIX + name.upper() for name in (*Settings.model_fields, "key")}  # LABELWISE_KEY is for `labelwise tag`
    return sorted(name for name in os.environ if name.upper().startswith(_PREFIX) and name.upper() not in known)


def load_settings(**flags: Any) -> Settings:
    """Reads flags that are not None, then the environment, then defaults. Raises LabelwiseError for a wrong value."""
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        refusal = first_refusal(error)
        raise LabelwiseError(f"The {'setting ' if refusal.place else 'settings: '}{refusal}.") from error
