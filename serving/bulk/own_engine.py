"""An engine in this process, or one that it starts, behind the contract that the transports to servers have."""

from collections.abc import Sequence
from pathlib import Path

from labelwise.spec import TaggerSpec
from serving.arrays import Outputs, Pixels
from serving.engines import create_engine
from serving.errors import ClientError, UnknownModel
from serving.settings import load_settings


class OwnEngine:
    """`engine` on `model` of `repository`, the only one by default, in its newest version; see client.transport."""

    takes_pixels = True

    def __init__(self, engine: str, repository: Path, model: str | None, threads: int | None) -> None:
        settings = load_settings(engine=engine, repository=repository, reload_interval=0, threads=threads)
        self._engine = create_engine(settings)
        self._model = model
        self._spec: TaggerSpec | None = None

    @property
    def spec(self) -> TaggerSpec:
        if self._spec is None:
            raise ClientError("The engine is not started.")
        return self._spec

    async def connect(self) -> None:
        await self._engine.start()
        catalogue = self._engine.catalogue
        names = ", ".join(catalogue)
        if self._model is None and len(catalogue) > 1:
            raise UnknownModel(f"The repository holds {names}: choose one with --model.")
        versions = catalogue.get(self._model or next(iter(catalogue)))
        if versions is None:
            raise UnknownModel(f"The repository has no model {self._model!r}; it holds {names}.")
        self._spec = versions[max(versions)]

    async def infer(self, pixels: Pixels, outputs: Sequence[str], timeout: float) -> Outputs:
        return await self._engine.infer(self.spec.name, self.spec.version, pixels, outputs, timeout)

    async def infer_encoded(self, photos: Sequence[bytes], outputs: Sequence[str], timeout: float) -> Outputs:
        raise ClientError("An engine of our own takes pixels: --send bytes is for servers.")

    async def close(self) -> None:
        await self._engine.close()
