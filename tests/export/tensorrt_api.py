"""A stand-in for the `tensorrt` package with the names that our builder may use.

The names and keywords are those of the packages 10.16.1 and 11.4.0: version 11 has no flag for a precision, and none
for calibration, so asking for one is an AttributeError here, too.
"""

from collections.abc import Sequence
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

Shape = Sequence[int]


class Logger:
    WARNING = 2

    def __init__(self, min_severity: int = WARNING) -> None: ...


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[Shape]] = {}

    def set_shape(self, input: str, min: Shape, opt: Shape, max: Shape) -> None:
        self.shapes[input] = [min, opt, max]


class Config:
    def __init__(self) -> None:
        self.cache = SimpleNamespace(serialize=lambda: b"")

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profile = profile
        return 0

    def create_timing_cache(self, serialized_timing_cache: bytes) -> SimpleNamespace | None:
        self.given = bytes(serialized_timing_cache)
        is_whole = self.given != b"broken"
        return SimpleNamespace(serialize=lambda: b"timings", start=self.given) if is_whole else None

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
        if cache.start == b"of another GPU":
            return ignore_mismatch
        self.cache = cache
        return True

    def get_timing_cache(self) -> SimpleNamespace:
        return self.cache


class TensorRT(ModuleType):
    """The module. `networks` and `configs` are what was built; without an `engine`, no build succeeds."""

    Logger = Logger

    def __init__(self, version: str, engine: bytes | None = b"engine", fault: str = "") -> None:
        super().__init__("tensorrt")
        self.__spec__ = ModuleSpec("tensorrt", None)
        self.__version__ = version
        is_10 = version.startswith("10.")
        names = [*["EXPLICIT_BATCH"] * is_10, "STRONGLY_TYPED"]
        values = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
        self.NetworkDefinitionCreationFlag = IntEnum("Flag", {name: values[name] for name in names})
        self.BuilderFlag = SimpleNamespace(TF32=7, **({"FP16": 0, "INT8": 2} if is_10 else {}))
        self.networks: list[SimpleNamespace] = []
        self.configs: list[Config] = []
        self.engine, self.fault = engine, fault

    def Builder(self, logger: Logger) -> SimpleNamespace:
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=Config,
            create_optimization_profile=Profile,
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: SimpleNamespace, logger: Logger) -> SimpleNamespace:
        def parse(model: str) -> bool:
            network.file = model
            return not self.fault

        error = SimpleNamespace(desc=lambda: self.fault)
        return SimpleNamespace(parse_from_file=parse, get_error=lambda index: error)

    def _network(self, flags: int = 0) -> SimpleNamespace:
        self.networks.append(SimpleNamespace(flags=flags))
        return self.networks[-1]

    def _build(self, network: SimpleNamespace, config: Config) -> bytes | None:
        self.configs.append(config)
        return self.engine
