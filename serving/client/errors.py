"""What a user of the client may have to catch; each message is one line that says what to do."""

from collections.abc import Mapping
from dataclasses import dataclass

from labelwise.errors import LabelwiseError


class ClientError(LabelwiseError):
    """The root of everything the client raises."""


class ServerUnavailable(ClientError):
    """No server answers, though one was asked again until the deadline."""


class ServerBusy(ServerUnavailable):
    """The server answers, but its queue is full."""


class ServerTimeout(ClientError):
    """A server took the request and did not answer before the deadline."""


class ServerFailed(ClientError):
    """The server failed on this request, or answered what it should not."""


class Unauthorized(ClientError):
    """The gateway wants a valid key."""


class UnknownModel(ClientError):
    """The server has no such model."""


class WrongContract(ClientError):
    """The model there is not the one expected: no contract, other labels, or another version than at first."""


class OutputNotOffered(ClientError):
    """The model has no embeddings, or no attention."""


class ClientClosed(ClientError):
    """The client was closed, or belongs to another process."""


@dataclass(frozen=True)
class PhotoError:
    """Why one photo has no result. `code` is stable and the same everywhere, such as `image_broken`."""

    code: str
    detail: str


class PhotosRefused(ClientError):
    """Photos of a request that cannot be decoded, by their place in it; without them the others are answered."""

    def __init__(self, errors: Mapping[int, PhotoError]) -> None:
        super().__init__("; ".join(f"photo {index + 1}: {error.detail}" for index, error in errors.items()))
        self.errors = errors
