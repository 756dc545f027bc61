"""config.pbtxt, read back as Triton reads it: complete, and the three models fit together."""

import inspect
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from pydantic import ValidationError
from tritonclient.grpc import model_config_pb2

from export.tensorrt import Plan
from export.triton_config import (
    ENSEMBLE_INPUT,
    ServingOptions,
    decode_config,
    ensemble_config,
    model_config,
    model_variants,
    read_options,
)
from labelwise.errors import LabelwiseError
from labelwise.image import load_pixels
from labelwise.spec import GraphSpec, ImageSpec, TaggerSpec


def parse(text: str):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def tensors(parts) -> dict[str, tuple[str, list[int]]]:
    return {part.name: (model_config_pb2.DataType.Name(part.data_type), list(part.dims)) for part in parts}


OUTPUTS = {"scores": ("TYPE_FP32", [3]), "embeddings": ("TYPE_FP32", [3, 8]), "attention": ("TYPE_FP32", [3, 4, 6])}
PIXELS = {"image": ("TYPE_UINT8", [32, 48, 3])}
ENCODED = {ENSEMBLE_INPUT: ("TYPE_STRING", [1])}


def test_the_ensemble_connects_decoder_and_model(spec: TaggerSpec):
    ensemble, decode, model = (
        parse(text) for text in (ensemble_config(spec), decode_config(spec), model_config(spec, "onnxruntime"))
    )
    assert ensemble.platform == "ensemble"
    assert (ensemble.name, decode.name, model.name) == ("pets", "pets_decode", "pets_model")
    assert {part.max_batch_size for part in (ensemble, decode, model)} == {5}
    assert tensors(ensemble.input) == tensors(decode.input) == ENCODED
    assert tensors(decode.output) == tensors(model.input) == PIXELS
    assert tensors(model.output) == tensors(ensemble.output) == OUTPUTS
    first, second = ensemble.ensemble_scheduling.step
    assert [step.model_version for step in (first, second)] == [1, 1]
    assert list(ensemble.version_policy.specific.versions) == [1]  # no other version would get its own model
    assert (first.model_name, second.model_name) == (decode.name, model.name)
    assert (dict(first.input_map), dict(first.output_map)) == ({ENSEMBLE_INPUT: ENSEMBLE_INPUT}, {"image": "image"})
    assert dict(second.input_map) == {"image": "image"}
    assert dict(second.output_map) == {name: name for name in OUTPUTS}
    for part in (ensemble, model):
        assert [output.label_filename for output in part.output] == ["labels.txt", "", ""]


def test_the_ensemble_carries_the_contract_letter_for_letter(spec: TaggerSpec):
    labels = ('quo"te', "back\\slash", "großer Hund")
    spec = spec.model_copy(update={"labels": labels})
    assert TaggerSpec.parse(parse(ensemble_config(spec)).parameters["tagger"].string_value, "it") == spec


def test_the_decoder_gets_its_settings(spec: TaggerSpec):
    image = ImageSpec(height=32, width=48, resize="crop", interpolation="lanczos")
    config = parse(decode_config(spec.model_copy(update={"image": image})))
    given = {key: value.string_value for key, value in config.parameters.items()}
    assert given.keys() == inspect.signature(load_pixels).parameters.keys() - {"data"}
    assert (given["height"], given["width"], given["resize"], given["interpolation"]) == ("32", "48", "crop", "lanczos")
    assert int(given["max_pixels"]) > 1_000_000
    assert config.backend == "python"


@pytest.mark.parametrize("max_batch", [1, 5])
def test_the_model_warms_up_at_both_ends(spec: TaggerSpec, max_batch: int):
    spec = spec.model_copy(update={"max_batch": max_batch})
    onnx, python = (parse(model_config(spec, backend)) for backend in ("onnxruntime", "python"))
    assert (onnx.backend, python.backend) == ("onnxruntime", "python")
    for config in (onnx, python):
        assert [warmup.batch_size for warmup in config.model_warmup] == sorted({1, max_batch})
        assert {tuple(warmup.inputs["image"].dims) for warmup in config.model_warmup} == {(32, 48, 3)}
        assert config.version_policy.latest.num_versions >= 2  # an old version stays servable
    onnx.backend = python.backend
    assert onnx != python
    onnx.parameters["device"].string_value = "auto"  # which the Python backend's program reads
    assert onnx == python


PLANS = [Plan(Path(f"model.trt10.3.0-sm{sm}.plan"), f"{sm[0]}.{sm[1]}") for sm in ("90", "86")]
OPTIONS = ServingOptions(
    instances=3,
    threads=2,
    queue_delay_us=250,
    queue_size=100,
    deadline_s=1.5,
    response_cache=True,
    versions=4,
    engine_cache="/engines/",
)


def variant(spec: TaggerSpec, name: str, options: ServingOptions = OPTIONS):
    return parse(model_variants(spec, options, PLANS)[name])


@pytest.mark.parametrize("name", ["cpu", "cuda", "tensorrt", "plan", "python"])
def test_every_variant_is_complete(name: str, spec: TaggerSpec):
    config = variant(spec, name)
    assert (config.name, config.max_batch_size) == ("pets_model", 5)
    assert (tensors(config.input), tensors(config.output)) == (PIXELS, OUTPUTS)
    assert config.output[0].label_filename == "labels.txt"
    queue = config.dynamic_batching.default_queue_policy
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    assert (queue.max_queue_size, queue.default_timeout_microseconds) == (100, 1_500_000)
    assert queue.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
    assert "timeout_action: REJECT" in model_variants(spec, OPTIONS, PLANS)[name]  # to be seen by who reads it
    assert (config.instance_group[0].count, config.response_cache.enable) == (3, True)
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 5]
    bare = variant(spec, name, replace(OPTIONS, warm_up=False, response_cache=False, queue_size=0, deadline_s=0))
    assert not bare.model_warmup
    assert not bare.HasField("response_cache")
    assert not bare.dynamic_batching.HasField("default_queue_policy")


def test_no_queue_has_a_limit_unless_the_operator_sets_one(spec: TaggerSpec):
    """Triton pauses within a burst as soon as a model has any limit: tests/export/test_queue.py."""
    for text in (
        decode_config(spec),
        model_config(spec, "onnxruntime"),
        *model_variants(spec, ServingOptions()).values(),
    ):
        batching = parse(text).dynamic_batching
        assert parse(text).HasField("dynamic_batching")
        assert not batching.HasField("default_queue_policy")
        assert not batching.priority_levels
    sized = parse(model_config(spec, "onnxruntime", ServingOptions(queue_size=3))).dynamic_batching.default_queue_policy
    assert (sized.max_queue_size, sized.default_timeout_microseconds, sized.allow_timeout_override) == (3, 0, False)
    timed = parse(decode_config(spec, ServingOptions(deadline_s=2))).dynamic_batching.default_queue_policy
    assert (timed.max_queue_size, timed.default_timeout_microseconds, timed.allow_timeout_override) == (
        0,
        2_000_000,
        True,
    )


def test_the_variants_differ_in_who_runs_the_model(spec: TaggerSpec):
    found = {name: parse(text) for name, text in model_variants(spec, OPTIONS, PLANS).items()}
    kinds = {
        name: (config.backend, config.instance_group[0].Kind.Name(config.instance_group[0].kind))
        for name, config in found.items()
    }
    assert kinds == {
        "cpu": ("onnxruntime", "KIND_CPU"),
        "cuda": ("onnxruntime", "KIND_GPU"),
        "tensorrt": ("onnxruntime", "KIND_GPU"),
        "plan": ("tensorrt", "KIND_GPU"),
        "python": ("python", "KIND_AUTO"),
    }
    parameters = {name: {k: v.string_value for k, v in config.parameters.items()} for name, config in found.items()}
    assert parameters["cpu"] == {"intra_op_thread_count": "2", "share_session_between_instances": "true"}
    assert parameters["cuda"] == {"intra_op_thread_count": "2", "cudnn_conv_algo_search": "1"}
    assert parameters["python"] == {"device": "auto"}
    assert dict(found["plan"].cc_model_filenames) == {
        "9.0": "model.trt10.3.0-sm90.plan",
        "8.6": "model.trt10.3.0-sm86.plan",
    }
    assert "plan" not in model_variants(spec, OPTIONS)
    assert found["cuda"].version_policy.latest.num_versions == found["python"].version_policy.latest.num_versions == 4


def test_tensorrt_inside_onnxruntime_has_profiles_and_a_cache_of_its_own(spec: TaggerSpec):
    """The parameters are those that the onnxruntime backend documents; it refuses any other name."""
    config = variant(spec, "tensorrt")
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    key = f"pets-v1-{spec.weights_sha256[:16]}"
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"/engines/{key}",
        "trt_engine_cache_prefix": key,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": f"/engines/{key}",
        "trt_profile_min_shapes": "image:1x32x48x3",
        "trt_profile_opt_shapes": "image:5x32x48x3",
        "trt_profile_max_shapes": "image:5x32x48x3",
    }


def test_tensorrt_inside_onnxruntime_runs_the_graph_in_half_precision(spec: TaggerSpec):
    half = GraphSpec(precision="fp16", file="model.fp16.onnx", sha256="c" * 64, differences={})
    both = spec.model_copy(update={"graphs": (*spec.graphs, half)})
    config = variant(both, "tensorrt")
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert config.default_model_filename == "model.fp16.onnx"
    assert accelerator.parameters["trt_engine_cache_prefix"] == "pets-v1-" + 16 * "c"
    assert list(config.version_policy.specific.versions) == [1]
    assert parse(model_config(both, "onnxruntime", replace(OPTIONS, accelerator="tensorrt"))) == config
    for name in ("cpu", "cuda", "plan", "python"):
        accelerated = variant(both, name, replace(OPTIONS, accelerator="tensorrt"))
        assert not accelerated.default_model_filename
    assert not variant(spec, "tensorrt").default_model_filename


@pytest.mark.parametrize("name", ["tensorrt", "plan"])
def test_no_version_uses_the_engine_of_another(name: str, spec: TaggerSpec):
    second = spec.model_copy(update={"version": 2, "weights_sha256": "b" * 64})
    for each in (spec, second):
        assert list(variant(each, name).version_policy.specific.versions) == [each.version]
    paths = {str(variant(each, "tensorrt").optimization) for each in (spec, second)}
    assert len(paths) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"device": "cpu", "accelerator": "tensorrt"}, "TensorRT runs on a GPU"),
        ({"instances": 0}, r"instances\n *Input should be greater than or equal to 1"),
        ({"deadline_s": -1}, r"deadline_s\n *Input should be greater than or equal to 0"),
        ({"versions": 0}, r"versions\n *Input should be greater than or equal to 1"),
        ({"deadline_s": float("inf")}, r"deadline_s\n *Input should be less than or equal to 86400"),
        ({"deadline_s": float("nan")}, r"deadline_s\n *Input should be"),
        ({"queue_size": 99_999_999_999}, r"queue_size\n *Input should be less than or equal to 1000000"),
    ],
)
def test_impossible_options_are_refused(change: dict[str, object], words: str):
    with pytest.raises((LabelwiseError, ValidationError), match=words):
        ServingOptions(**change)  # type: ignore[arg-type]


def test_a_plan_backend_without_a_plan_is_refused(spec: TaggerSpec):
    with pytest.raises(LabelwiseError, match="needs a plan"):
        model_config(spec, "tensorrt")


@pytest.mark.parametrize(
    "options",
    [
        ServingOptions(),
        ServingOptions(device="cpu", instances=3, threads=2, queue_delay_us=7, queue_size=9, versions=4),
        ServingOptions(deadline_s=1.5, warm_up=False, response_cache=True, device="gpu"),
    ],
)
@pytest.mark.parametrize("backend", ["onnxruntime", "python"])
def test_the_operators_options_are_read_back(backend: str, options: ServingOptions, spec: TaggerSpec):
    if backend == "python":
        options = replace(options, threads=0)  # its instances share the cores
    assert read_options(model_config(spec, backend, options)) == (backend, options)


def test_tensorrt_is_read_back(spec: TaggerSpec):
    options = ServingOptions(accelerator="tensorrt", engine_cache="/var/engines")
    found = read_options(model_config(spec, "onnxruntime", options))
    assert found == ("onnxruntime", replace(options, device="gpu"))


def test_a_configuration_from_elsewhere_is_refused():
    with pytest.raises(LabelwiseError, match="is not one that labelwise wrote"):
        read_options("nonsense {")
