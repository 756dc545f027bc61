"""A server that fails on every photo ends the run; one that fails on some photos does not."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from labelwise.spec import TaggerSpec
from serving.bulk.in_flight import InFlight
from serving.bulk.rows import Row
from serving.bulk.scorer import Scorer
from serving.bulk.sources.found import FoundPhoto
from serving.bulk.tag_errors import ServerGone
from serving.errors import PhotoError, PhotosRefused, ServerFailed
from serving.inference import Outputs, Pixels
from tests.serving.bulk.conftest import ROOT


class Server:
    """Takes photos as bytes and fails on those that begin with a letter of `fails_on`; `x` is not a photo."""

    takes_pixels = False
    spec = TaggerSpec.read(ROOT / "model_repository/scenes/1")

    def __init__(self, fails_on: str) -> None:
        self._fails_on = fails_on.encode()

    async def connect(self) -> None: ...

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        raise NotImplementedError

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        if any(photo[:1] in self._fails_on for photo in photos):
            raise ServerFailed("It answered 500.")
        if refused := {place: PhotoError("image_broken", "") for place, photo in enumerate(photos) if photo == b"x"}:
            raise PhotosRefused(refused)
        return {"scores": np.zeros((len(photos), len(self.spec.labels)), np.float32)}

    async def close(self) -> None: ...


def score(server: Server, *chunks: str) -> list[Row]:
    """Scores chunks one after the other; each photo is a letter."""

    async def all_of_them() -> list[Row]:
        scorer = Scorer(server, InFlight(2), 1, send_bytes=True, sidecars=None, patience=0, note=lambda words: None)
        photos = [[FoundPhoto(name, 1, 0, name.encode) for name in chunk] for chunk in chunks]
        return [row for chunk in photos for row in await scorer.score(chunk)]

    return asyncio.run(all_of_them())


def test_a_photo_that_the_server_fails_on_costs_only_its_own_row():
    errors = [row.error for row in score(Server("f"), "afaa", "aaxf", "f")]
    assert errors == [None, "engine_failed", None, None, None, None, "image_broken", "engine_failed", "engine_failed"]


@pytest.mark.parametrize("chunks", [["a" * 16], ["a"] * 9], ids=["together", "alone"])
def test_a_server_that_fails_on_everything_ends_the_run(chunks: list[str]):
    with pytest.raises(ServerGone, match=r"It answered 500\. Run the same command again"):
        score(Server("a"), *chunks)
