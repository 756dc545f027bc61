"""BentoML with a sync API, which runs in its thread pool. Started by `bentoml serve`."""

from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from tagger_model import TaggerModel


@bentoml.service(workers=1)
class Tagger:
    def __init__(self) -> None:
        self.model = TaggerModel()

    @bentoml.api
    def tag(self, photo: Annotated[Path, ContentType("image/jpeg")], /) -> dict[str, Any]:
        return self.model.tag(photo.read_bytes())
