"""What a user of the client may choose, once for all its calls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Literal

from labelwise.cores import usable_cores
from labelwise.image import MAX_PIXELS
from serving.errors import ClientError

Send = Literal["auto", "pixels", "bytes"]


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Times are in seconds. Raises ClientError for a value that cannot be.

    `send`: decode here and send `pixels`, or send files as they are, as `bytes`, for the server to decode; a gateway
    always gets bytes. `auto` chooses what was measured to be faster. `expect_labels`: refuse a model with others.
    `shared_memory`: pixels go through shared memory if Triton is on this host and allows it.
    """

    key: str | None = None
    send: Send = "auto"
    expect_labels: Sequence[str] | None = None
    batch: int = 16  # photos per request, at most the model's own limit
    in_flight: int = 4  # requests
    threads: int = field(default_factory=usable_cores)  # that read and decode
    timeout: float = 60.0  # of each request, all its tries included
    connect_timeout: float = 10.0
    shared_memory: bool = True
    max_pixels: int = MAX_PIXELS  # of a photo that is decoded here

    def __post_init__(self) -> None:
        if self.send not in ("auto", "pixels", "bytes"):
            raise ClientError(f"send is 'auto', 'pixels' or 'bytes', not {self.send!r}.")
        for name in ("batch", "in_flight", "threads", "max_pixels"):
            value = getattr(self, name)
            if not (isinstance(value, Integral) and int(value) >= 1):
                raise ClientError(f"{name} is {value!r} and must be a whole number, at least 1.")
        for name in ("timeout", "connect_timeout"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 < float(value) < math.inf):
                raise ClientError(f"{name} is {value!r} and must be a number above 0.")
