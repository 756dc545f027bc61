"""A client for each way that a photo may take."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from serving.client import Tagger

WAYS = ["pixels", "bytes", "gateway"]

Arguments = Callable[[str], tuple[tuple[str, str], dict[str, Any]]]


@pytest.fixture(scope="session")
def arguments(triton_url: str, triton_gateway_url: str) -> Arguments:
    """How to make a client of each way."""
    return lambda way: (
        ((triton_gateway_url, "scenes"), {}) if way == "gateway" else ((triton_url, "scenes"), {"send": way})
    )


@pytest.fixture(scope="session", params=WAYS)
def tagger(request: pytest.FixtureRequest, arguments: Arguments) -> Iterator[Tagger]:
    positional, named = arguments(request.param)
    with Tagger(*positional, **named) as tagger:
        yield tagger
