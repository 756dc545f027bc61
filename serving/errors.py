"""What can go wrong between a request and the model's answer: one family for engines, links to servers and the client.

Each message is one line. It names the server where there is one, and reaches the log or the user of the Python client,
never an HTTP client.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from labelwise.errors import LabelwiseError


class ServingError(LabelwiseError):
    """The root of everything that engines and the client raise."""


ClientError = ServingError  # the name by which users of the client know it


class ServerUnavailable(ServingError):
    """No server answers now, though one may again. The gateway answers 503."""


class ServerBusy(ServerUnavailable):
    """The server answers, but its queue is full. The gateway answers 429."""


class ServerTimeout(ServingError):
    """A server took the request and did not answer before the deadline. The gateway answers 504."""


class ServerFailed(ServingError):
    """The server failed on this request, or answered what it should not. The gateway answers 500."""


class UnknownModel(ServingError):
    """The server has no such model or version. The gateway answers 404."""


class Unauthorized(ServingError):
    """The gateway wants a valid key."""


class WrongContract(ServingError):
    """The model there is not the one expected: no contract, other labels, or another version than at first."""


class OutputNotOffered(ServingError):
    """The model has no embeddings, or no attention."""


class ClientClosed(ServingError):
    """The client was closed, or belongs to another process."""


@dataclass(frozen=True)
class PhotoError:
    """Why one photo has no result. `code` is stable and the same everywhere, such as `image_broken`."""

    code: str
    detail: str


class PhotosRefused(ServingError):
    """Photos of a request that cannot be decoded, by their place in it; without them the others are answered."""

    def __init__(self, errors: Mapping[int, PhotoError]) -> None:
        super().__init__("; ".join(f"photo {index + 1}: {error.detail}" for index, error in errors.items()))
        self.errors = errors
