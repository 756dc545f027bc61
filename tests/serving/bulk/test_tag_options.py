"""The engine of a run on this machine loads only the tagger that the run uses."""

import asyncio
import logging
import shutil
from pathlib import Path

import pytest

from labelwise.errors import RepositoryError
from serving.bulk.tag_options import OwnEngine, TagOptions
from serving.errors import UnknownModel
from tests.serving.publishing import publish_next


@pytest.fixture
def with_birds(repository: Path, tmp_path: Path) -> Path:
    """`scenes`, and `birds`, whose graph no engine can load."""
    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    publish_next(copy, name="birds", broken=True)
    return copy


def connected(repository: Path, model: str | None) -> str:
    """The tagger that the engine has taken up."""

    async def connect() -> str:
        engine = OwnEngine(TagOptions(out="t.csv", repository=repository, model=model, threads=1))
        try:
            await engine.connect()
            return engine.spec.name
        finally:
            await engine.close()

    return asyncio.run(connect())


def test_it_touches_no_other_tagger(with_birds: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    assert connected(with_birds, "scenes") == "scenes"
    assert "birds" not in caplog.text
    with pytest.raises(RepositoryError, match="cannot load"):
        connected(with_birds, "birds")


def test_without_a_choice_it_takes_the_only_tagger_that_loads(with_birds: Path):
    assert connected(with_birds, None) == "scenes"


def test_an_unknown_tagger_is_refused_with_those_that_there_are(with_birds: Path):
    with pytest.raises(UnknownModel, match=r"no model 'cats'; it holds scenes\."):
        connected(with_birds, "cats")
