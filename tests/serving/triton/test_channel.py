"""What Triton's errors mean: its words count before its status. The words are those of Triton 2.51."""

import pytest
from tritonclient.utils import InferenceServerException

from serving.errors import (
    PhotoError,
    PhotosRefused,
    ServerBusy,
    ServerFailed,
    ServerTimeout,
    ServerUnavailable,
    ServingError,
    UnknownModel,
)
from serving.triton.channel import ModelProcessDied, RegionForgotten, VersionUnloaded, translated


@pytest.mark.parametrize(
    ("words", "status", "kind"),
    [
        ("failed to connect to all addresses", "UNAVAILABLE", ServerUnavailable),
        ("Exceeds maximum queue size", "UNAVAILABLE", ServerBusy),
        ("Request timeout expired", "UNAVAILABLE", ServerTimeout),
        ("Request for unknown model: 'scenes_model' version 1 is not at ready state", "UNAVAILABLE", VersionUnloaded),
        ("Stub process 'scenes_model_0_0' is not healthy.", "INTERNAL", ModelProcessDied),
        ("Request for unknown model: 'nobody' is not found", "NOT_FOUND", UnknownModel),
        ("Unable to find shared memory region: 'labelwise-pixels-1'", "NOT_FOUND", RegionForgotten),
        ("Deadline Exceeded", "DEADLINE_EXCEEDED", ServerTimeout),
        ("Failed to process the request(s):\n  ValueError: no", "INTERNAL", ServerFailed),
    ],
)
def test_each_error_has_its_kind_and_one_line(words: str, status: str, kind: type[ServingError]) -> None:
    error = translated(InferenceServerException(words, f"StatusCode.{status}"), "grpc://host:8001")
    assert type(error) is kind
    assert str(error).count("grpc://host:8001") == 1
    assert "\n" not in str(error)


def test_photos_that_the_decode_model_refuses_are_named_by_their_place() -> None:
    words = "Failed to process: image 2 of 3: image_broken: The image cannot be decoded."
    error = translated(InferenceServerException(words, "StatusCode.INTERNAL"), "grpc://host:8001")
    assert isinstance(error, PhotosRefused)
    assert error.errors == {1: PhotoError("image_broken", "The image cannot be decoded.")}
