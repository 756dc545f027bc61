"""config.pbtxt of the three models, built as Triton's own protobuf message: an unknown field cannot be written.

All versions of a model share its configuration. A configuration that holds for one version only lets Triton load no
other (`version_policy: specific`): that of the ensemble, whose steps name the version they run, those that name a
TensorRT engine, and that of a version whose labels differ from the others' (`labelwise teach`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from google.protobuf import json_format, text_format
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from tritonclient.grpc import model_config_pb2

from export.tensorrt import Plan
from labelwise.errors import LabelwiseError
from labelwise.image import MAX_PIXELS
from labelwise.profiles import profile_shapes
from labelwise.repository import CONTRACT_PARAMETER, model_names
from labelwise.spec import LABELS_FILE, GraphSpec, TaggerSpec, TensorSpec

Backend = Literal["onnxruntime", "tensorrt", "python"]
Stanza = dict[str, Any]

ENSEMBLE_INPUT = "IMAGE"
ONE_VERSION = frozenset({"plan", "cpu_int8", "cuda_fp16"})  # variants for the newest version, if it has such a file
TRITON_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32"}
_KINDS = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ServingOptions:
    """What the operator of a Triton chooses; the rest follows from the contract."""

    device: Literal["auto", "cpu", "gpu"] = "auto"
    accelerator: Literal["none", "tensorrt"] = "none"  # inside the onnxruntime backend, on a GPU
    instances: int = Field(1, ge=1, le=1_000)  # per GPU, or on the CPU
    threads: int = Field(0, ge=0, le=10_000)  # of ONNX Runtime on the CPU; 0 takes every core
    queue_delay_us: int = Field(500, ge=0, le=10_000_000)  # how long a batch may wait for more requests
    # Limits of Triton's own queue; 0 is no limit. With a limit, an instance of Triton 2.51 pauses up to half a second
    # between two batches of a burst (benchmarks/results/burst.md). The gateway and the clients limit what they send.
    queue_size: int = Field(0, ge=0, le=1_000_000)  # requests; Triton rejects further ones
    # In the queue: then Triton rejects a request, unless the request sets its own timeout.
    deadline_s: float = Field(0.0, ge=0, le=86_400)
    warm_up: bool = True
    # Triton's cache compares only inputs: it ignores the outputs that a request names and all request parameters
    # (seen with 2.51). So callers of NAME_model must ask for all outputs, as the gateway and the client then do.
    # Triton must also run with --cache-config.
    response_cache: bool = False
    versions: int = Field(2, ge=1, le=10_000)  # Triton loads that many of the newest
    # An existing folder on the machine that serves: ONNX Runtime makes a folder in it, but not its parents.
    engine_cache: str = "/tmp"

    def __post_init__(self) -> None:
        if self.accelerator == "tensorrt" and self.device == "cpu":
            raise LabelwiseError("TensorRT runs on a GPU: choose device gpu or auto, or no accelerator.")


def ensemble_config(spec: TaggerSpec) -> str:
    """Encoded bytes -> every output: the model for clients that speak plain Triton.

    One configuration cannot send each version of the ensemble to its own version of the model, so the ensemble has only
    this version. Older versions answer as NAME_model, and over HTTP.

    The parameter `tagger` is the whole contract, so clients learn labels, thresholds and resizing from Triton.
    """
    names = model_names(spec.name)
    pixels, outputs = spec.input.name, {name: name for name in spec.output_names}
    steps = [
        {"model_name": names.decode, "input_map": {ENSEMBLE_INPUT: ENSEMBLE_INPUT}, "output_map": {pixels: pixels}},
        {"model_name": names.model, "input_map": {pixels: pixels}, "output_map": outputs},
    ]
    return _to_pbtxt(
        _common(spec, spec.name)
        | _only(spec)
        | {
            "platform": "ensemble",
            "input": [_ENCODED],
            "output": _outputs(spec),
            "ensemble_scheduling": {"step": [step | {"model_version": spec.version} for step in steps]},
            "parameters": _parameters({CONTRACT_PARAMETER: spec.model_dump_json()}),
        }
    )


def decode_config(spec: TaggerSpec, options: ServingOptions | None = None) -> str:
    """Encoded bytes -> pixels, in one Python process that decodes with several threads."""
    options = options or ServingOptions()
    image = spec.image
    settings = image.model_dump(include={"height", "width", "resize", "interpolation"}) | {"max_pixels": MAX_PIXELS}
    return _to_pbtxt(
        _common(spec, model_names(spec.name).decode)
        | _newest(options)
        | {
            "backend": "python",
            "input": [_ENCODED],
            "output": [_tensor(spec.input)],
            "dynamic_batching": _queue(options),
            "instance_group": [{"kind": "KIND_CPU", "count": 1}],
            "parameters": _parameters(settings),
        }
    )


def model_config(
    spec: TaggerSpec,
    backend: Backend,
    options: ServingOptions | None = None,
    plans: Sequence[Plan] = (),
    graph: GraphSpec | None = None,
    alone: bool = False,
) -> str:
    """Pixels -> every output. `tensorrt` needs `plans`, one per GPU architecture.

    `alone`: Triton loads no other version, because others have other labels.

    The `graph` is one of the contract's, by default that in model.onnx. TensorRT as an accelerator runs that in fp16 if
    the contract has one: the graph alone says in which precision TensorRT computes.
    """
    options = options or ServingOptions()
    if backend == "onnxruntime" and options.accelerator == "tensorrt":
        graph = next((graph for graph in spec.graphs[1:] if graph.precision == "fp16"), graph)
    run = {"onnxruntime": _onnxruntime, "tensorrt": _tensorrt, "python": _python}[backend]
    return _to_pbtxt(
        _common(spec, model_names(spec.name).model)
        | {"input": [_tensor(spec.input)], "output": _outputs(spec)}
        | {"dynamic_batching": {"max_queue_delay_microseconds": options.queue_delay_us} | _queue(options)}
        | _warm_up(spec, options)
        | ({"response_cache": {"enable": True}} if options.response_cache else {})
        | run(spec.with_graph(graph) if graph else spec, options, plans)
        | ({"default_model_filename": graph.file} if graph else {})
        | (_only(spec) if graph or alone else {})
    )


def model_variants(
    spec: TaggerSpec, options: ServingOptions, plans: Sequence[Plan] = (), alone: bool = False
) -> dict[str, str]:
    """Every way to run the model, by the NAME in `tritonserver --model-config-name=NAME`.

    `plan` is there only with a plan, `cpu_int8` and `cuda_fp16` only with such a graph.
    """
    onnx: dict[str, Stanza] = {
        "cpu": {"device": "cpu", "accelerator": "none"},
        "cuda": {"device": "gpu", "accelerator": "none"},
        "tensorrt": {"device": "gpu", "accelerator": "tensorrt"},
    }
    variants = {
        name: model_config(spec, "onnxruntime", replace(options, **change), alone=alone)
        for name, change in onnx.items()
    }
    if plans:
        variants["plan"] = model_config(spec, "tensorrt", options, plans)
    for graph in spec.graphs[1:]:
        device: Literal["cpu", "gpu"] = "cpu" if graph.precision == "int8" else "gpu"
        change = replace(options, device=device, accelerator="none")
        name = f"{'cpu' if device == 'cpu' else 'cuda'}_{graph.precision}"
        variants[name] = model_config(spec, "onnxruntime", change, graph=graph)
    return variants | {"python": model_config(spec, "python", options, alone=alone)}


def read_options(config: str) -> tuple[Backend, ServingOptions]:
    """The backend and the options that `model_config` wrote into a config.pbtxt. Raises LabelwiseError.

    Takes the default for the number of versions if the configuration is for one version only.
    """
    try:
        model = text_format.Parse(config, model_config_pb2.ModelConfig())
        return _read_backend(model), _read_options(model)
    except (text_format.ParseError, ValueError, LookupError) as error:  # pydantic's error is a ValueError
        raise LabelwiseError(f"config.pbtxt is not one that labelwise wrote: {' '.join(str(error).split())}") from error


def _read_backend(model: Any) -> Backend:
    # A plan is for one version's graph.
    return "python" if model.backend == "python" else "onnxruntime"


def _read_options(model: Any) -> ServingOptions:
    queue = model.dynamic_batching.default_queue_policy
    group = model.instance_group[0]
    kind = model_config_pb2.ModelInstanceGroup.Kind.Name(group.kind)
    found: dict[str, Any] = {
        "device": next(device for device, name in _KINDS.items() if name == kind),
        "instances": group.count,
        "threads": int(model.parameters["intra_op_thread_count"].string_value or 0),
        "queue_delay_us": model.dynamic_batching.max_queue_delay_microseconds,
        "queue_size": queue.max_queue_size,
        "deadline_s": queue.default_timeout_microseconds / 1e6,
        "warm_up": bool(model.model_warmup),
        "response_cache": model.response_cache.enable,
    }
    if model.version_policy.HasField("latest"):
        found["versions"] = model.version_policy.latest.num_versions
    for accelerator in model.optimization.execution_accelerators.gpu_execution_accelerator:
        folder = accelerator.parameters["trt_engine_cache_path"]
        found |= {"accelerator": "tensorrt", "engine_cache": folder.rpartition("/")[0] or "/"}
    return ServingOptions(**found)


def engine_key(spec: TaggerSpec) -> str:
    """Tells a version's engines from those of other versions and models.

    ONNX Runtime names an engine PREFIX_HASH_…_smARCHITECTURE.engine. The hash covers the names in the graph and the
    versions of ONNX Runtime, CUDA and TensorRT, but not the weights: two versions of a tagger would share an engine.
    """
    return f"{spec.name}-v{spec.version}-{spec.weights_sha256[:16]}"


def _onnxruntime(spec: TaggerSpec, options: ServingOptions, plans: Sequence[Plan]) -> Stanza:
    stanza = {"backend": "onnxruntime", "parameters": _parameters(_session(options))}
    if options.accelerator == "none":
        return stanza | _newest(options) | _instances(_KINDS[options.device], options)
    accelerator = {"name": "tensorrt", "parameters": _accelerator(spec, options)}
    optimization = {"execution_accelerators": {"gpu_execution_accelerator": [accelerator]}}
    return stanza | _only(spec) | _instances("KIND_GPU", options) | {"optimization": optimization}


def _tensorrt(spec: TaggerSpec, options: ServingOptions, plans: Sequence[Plan]) -> Stanza:
    if not plans:
        raise LabelwiseError("The tensorrt backend needs a plan: build one, or use the onnxruntime backend.")
    files = {plan.capability: plan.file.name for plan in plans}
    return {"backend": "tensorrt", "cc_model_filenames": files} | _only(spec) | _instances("KIND_GPU", options)


def _python(spec: TaggerSpec, options: ServingOptions, plans: Sequence[Plan]) -> Stanza:
    """Its sessions run on the device of their instance; on the CPU the instances share the cores."""
    device = {"auto": "auto", "cpu": "cpu", "gpu": "cuda"}[options.device]
    stanza = {"backend": "python", "parameters": _parameters({"device": device})}
    return stanza | _newest(options) | _instances(_KINDS[options.device], options)


def _session(options: ServingOptions) -> dict[str, Any]:
    """ONNX Runtime's settings, by their names in Triton's onnxruntime backend."""
    settings: dict[str, Any] = {}
    if options.threads:
        settings["intra_op_thread_count"] = options.threads
    if options.device == "cpu" and options.instances > 1:
        settings["share_session_between_instances"] = "true"  # one pool of threads: several would compete for the cores
    if options.device == "gpu" and options.accelerator == "none":
        # 1: by heuristic. The default tries every algorithm again for each new batch size.
        settings["cudnn_conv_algo_search"] = 1
    return settings


def _accelerator(spec: TaggerSpec, options: ServingOptions) -> dict[str, str]:
    """Explicit profiles, because otherwise each new batch size builds an engine, and caches that outlive Triton."""
    key = engine_key(spec)
    folder = f"{options.engine_cache.rstrip('/')}/{key}"
    least, best, largest = profile_shapes(spec)
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_engine_cache_prefix": key,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
        "trt_profile_min_shapes": least,
        "trt_profile_opt_shapes": best,
        "trt_profile_max_shapes": largest,
    }


_ENCODED = {"name": ENSEMBLE_INPUT, "data_type": "TYPE_STRING", "dims": [1]}


def _common(spec: TaggerSpec, name: str) -> Stanza:
    return {"name": name, "max_batch_size": spec.max_batch}


def _newest(options: ServingOptions) -> Stanza:
    return {"version_policy": {"latest": {"num_versions": options.versions}}}


def _only(spec: TaggerSpec) -> Stanza:
    return {"version_policy": {"specific": {"versions": [spec.version]}}}


def _queue(options: ServingOptions) -> Stanza:
    """A policy only if the operator sets a limit: see ServingOptions."""
    policy: Stanza = {}
    if options.queue_size:
        policy["max_queue_size"] = options.queue_size
    if options.deadline_s:
        # Without a default timeout Triton ignores that of a request.
        policy |= {"default_timeout_microseconds": round(options.deadline_s * 1e6), "allow_timeout_override": True}
    return {"default_queue_policy": {"timeout_action": "REJECT"} | policy} if policy else {}


def _instances(kind: str, options: ServingOptions) -> Stanza:
    return {"instance_group": [{"kind": kind, "count": options.instances}]}


def _warm_up(spec: TaggerSpec, options: ServingOptions) -> Stanza:
    """At batch 1 and at the largest batch, so that no user's request waits for them."""
    zeros = {"data_type": TRITON_TYPES[spec.input.dtype], "dims": list(spec.input.shape), "zero_data": True}
    batches = sorted({1, spec.max_batch}) if options.warm_up else []
    samples = [{"name": f"batch_{batch}", "batch_size": batch, "inputs": {spec.input.name: zeros}} for batch in batches]
    return {"model_warmup": samples}


def _parameters(settings: dict[str, Any]) -> Stanza:
    return {key: {"string_value": str(value)} for key, value in settings.items()}


def _tensor(tensor: TensorSpec) -> Stanza:
    return {"name": tensor.name, "data_type": TRITON_TYPES[tensor.dtype], "dims": list(tensor.shape)}


def _outputs(spec: TaggerSpec) -> list[Stanza]:
    """The scores name the file of labels, so that answers to `class_count` requests contain names."""
    scores, *others = map(_tensor, spec.outputs)
    return [scores | {"label_filename": LABELS_FILE}, *others]


def _to_pbtxt(config: Stanza) -> str:
    text = text_format.MessageToString(json_format.ParseDict(config, model_config_pb2.ModelConfig()))
    # Protobuf leaves out values that are the default; a reader of the file wants to see what happens to late requests.
    return text.replace("default_queue_policy {\n", "default_queue_policy {\n    timeout_action: REJECT\n")
