"""Reads each config.pbtxt with Triton's own schema and compares it with the contract."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.check.findings import Finding, verdict
from export.triton_config import ENSEMBLE_INPUT, TRITON_TYPES
from labelwise.errors import SpecError
from labelwise.repository import CONFIG_FILE, CONTRACT_PARAMETER, model_names, tagger_of, version_folders
from labelwise.spec import TaggerSpec, TensorSpec

ConfigMessage = Any  # Triton's message, which protobuf generates without types
_FILES = {"onnxruntime": "model.onnx", "python": "model.py", "tensorrt": "model.plan"}
_PAUSES = (
    "with a limit on its queue and one instance, Triton 2.51 pauses up to half a second between batches of a burst: "
    "export again without queue_size and deadline_s, or with instances=2"
)
_ENCODED = {ENSEMBLE_INPUT: ("TYPE_STRING", [1])}


def check_configs(repository: Path, specs: Mapping[str, TaggerSpec]) -> Iterator[Finding]:
    """Checks every configuration of every model in the repository; `specs` are the newest contracts, by tagger."""
    for name in specs:
        for part in model_names(name):
            if not (repository / part / CONFIG_FILE).is_file():
                yield verdict(part, CONFIG_FILE, "", [f"{part}/{CONFIG_FILE} is missing"])
    for folder in sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for file in sorted([*folder.glob(CONFIG_FILE), *folder.glob("configs/*.pbtxt")]):
            config, faults = _parse(file)
            if config is not None:
                faults = [*_own_faults(config, folder), *_contract_faults(config, folder, specs)]
            found = "" if config is None else f"{config.backend or config.platform}, batches to {config.max_batch_size}"
            where = str(file.relative_to(folder))
            yield verdict(folder.name, where, found, faults)
            if config is not None and _pauses(config):
                yield Finding(folder.name, where, _PAUSES, "note")


def _pauses(config: ConfigMessage) -> bool:
    """Whether Triton pauses between the batches of a burst: benchmarks/results/burst.md."""
    policy = config.dynamic_batching.default_queue_policy
    has_limit = policy.max_queue_size or policy.default_timeout_microseconds or policy.allow_timeout_override
    return bool(has_limit) and sum(max(1, group.count) for group in config.instance_group) <= 1


def _parse(file: Path) -> tuple[ConfigMessage, list[str]]:
    try:
        return text_format.Parse(file.read_text("utf-8"), model_config_pb2.ModelConfig()), []
    except (text_format.ParseError, UnicodeDecodeError, OSError) as error:
        return None, [f"Triton could not read it: {error}"]


def _own_faults(config: ConfigMessage, folder: Path) -> Iterator[str]:
    """What is wrong in any model's configuration: its name, the files it names, the steps of an ensemble."""
    if config.name not in ("", folder.name):
        yield f"it is called {config.name!r} but lies in {folder.name}/"
    for output in config.output:
        if output.label_filename and not (folder / output.label_filename).is_file():
            yield f"{output.name}'s labels {output.label_filename} are missing"
    for step in config.ensemble_scheduling.step:
        if not (folder.parent / step.model_name / CONFIG_FILE).is_file():
            yield f"its step {step.model_name!r} is not a model here"
    versions = version_folders(folder)
    name = config.default_model_filename or _FILES.get(config.backend)
    others = config.cc_model_filenames.values()
    if not versions:
        yield "it has no version folder"
    elif name and not any((versions[max(versions)] / file).is_file() for file in (name, *others)):
        yield f"version {max(versions)} has no {name} for the {config.backend} backend"


def _contract_faults(config: ConfigMessage, folder: Path, specs: Mapping[str, TaggerSpec]) -> Iterator[str]:
    spec = specs.get(tagger_of(folder.name))
    if spec is None:
        return
    names = model_names(tagger_of(folder.name))
    checks = {names.ensemble: _ensemble_faults, names.decode: _decode_faults, names.model: _model_faults}
    if config.max_batch_size != spec.max_batch:
        yield f"max_batch_size is {config.max_batch_size}, the contract says {spec.max_batch}"
    yield from checks[folder.name](config, spec, folder)


def _ensemble_faults(config: ConfigMessage, spec: TaggerSpec, folder: Path) -> Iterator[str]:
    yield from _tensor_faults("input", config.input, _ENCODED)
    yield from _tensor_faults("output", config.output, _wanted(*spec.outputs))
    yield from _label_faults(config, spec, folder)
    yield from _parameter_faults(config, spec)
    steps = {step.model_name: step for step in config.ensemble_scheduling.step}
    names = model_names(folder.name)
    decode, model = steps.get(names.decode), steps.get(names.model)
    if decode is None or model is None:
        yield f"its steps are {sorted(steps)}, not {names.decode} and {names.model}"
        return
    if dict(decode.input_map) != {ENSEMBLE_INPUT: ENSEMBLE_INPUT}:
        yield f"the decoder's input is {dict(decode.input_map)}"
    pixels = decode.output_map.get(spec.input.name)
    if not pixels or dict(model.input_map) != {spec.input.name: pixels}:
        yield f"the decoder gives {dict(decode.output_map)}, the model takes {dict(model.input_map)}"
    if dict(model.output_map) != {name: name for name in spec.output_names}:
        yield f"the model's outputs go to {dict(model.output_map)}"


def _decode_faults(config: ConfigMessage, spec: TaggerSpec, folder: Path) -> Iterator[str]:
    yield from _tensor_faults("input", config.input, _ENCODED)
    yield from _tensor_faults("output", config.output, _wanted(spec.input))
    for key in ("height", "width", "resize", "interpolation"):
        found, wanted = config.parameters[key].string_value, str(getattr(spec.image, key))
        if found != wanted:
            yield f"parameter {key} is {found!r}, the contract says {wanted!r}"


def _model_faults(config: ConfigMessage, spec: TaggerSpec, folder: Path) -> Iterator[str]:
    yield from _tensor_faults("input", config.input, _wanted(spec.input))
    yield from _tensor_faults("output", config.output, _wanted(*spec.outputs))
    yield from _label_faults(config, spec, folder)


def _label_faults(config: ConfigMessage, spec: TaggerSpec, folder: Path) -> Iterator[str]:
    """Answers to `class_count` take names from this file; if it is missing, the check of the files says so."""
    named = next((output.label_filename for output in config.output if output.name == "scores"), "")
    if not named:
        yield "scores has no label_filename"
    elif (folder / named).is_file():
        lines = (folder / named).read_text("utf-8", errors="replace").splitlines()
        pairs = enumerate(zip_longest(lines, spec.labels), 1)
        if wrong := next(((line, pair) for line, pair in pairs if pair[0] != pair[1]), None):
            yield f"line {wrong[0]} of {named} is {wrong[1][0]!r}, the contract says {wrong[1][1]!r}"


def _parameter_faults(config: ConfigMessage, spec: TaggerSpec) -> Iterator[str]:
    """The contract that gRPC clients read; a repository from elsewhere may have none."""
    text = config.parameters[CONTRACT_PARAMETER].string_value if CONTRACT_PARAMETER in config.parameters else None
    if text is None:
        return
    try:
        if TaggerSpec.parse(text, f"parameter {CONTRACT_PARAMETER}") != spec:
            yield f"parameter {CONTRACT_PARAMETER} is another contract than tagger.json"
    except SpecError as error:
        yield str(error)


def _wanted(*tensors: TensorSpec) -> dict[str, tuple[str, list[int]]]:
    return {tensor.name: (TRITON_TYPES[tensor.dtype], list(tensor.shape)) for tensor in tensors}


def _tensor_faults(kind: str, tensors: Any, wanted: dict[str, tuple[str, list[int]]]) -> Iterator[str]:
    found = {t.name: (model_config_pb2.DataType.Name(t.data_type), list(t.dims)) for t in tensors}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            have, want = (" ".join(map(str, side[name])) if name in side else "nothing" for side in (found, wanted))
            yield f"{kind} {name} is {have}, the contract says {want}"
