"""config.pbtxt, read back as Triton reads it: complete, and the three models fit together."""

import inspect

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export.triton_config import ENSEMBLE_INPUT, decode_config, ensemble_config, model_config
from labelwise.image import load_pixels
from labelwise.spec import ImageSpec, TaggerSpec


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
    assert (first.model_name, second.model_name) == (decode.name, model.name)
    assert (dict(first.input_map), dict(first.output_map)) == ({ENSEMBLE_INPUT: ENSEMBLE_INPUT}, {"image": "image"})
    assert dict(second.input_map) == {"image": "image"}
    assert dict(second.output_map) == {name: name for name in OUTPUTS}
    for part in (ensemble, model):
        assert [output.label_filename for output in part.output] == ["labels.txt", "", ""]


def test_the_decoder_gets_all_that_it_takes(spec: TaggerSpec):
    image = ImageSpec(height=32, width=48, resize="crop", interpolation="lanczos")
    config = parse(decode_config(spec.model_copy(update={"image": image})))
    given = {key: value.string_value for key, value in config.parameters.items()}
    assert given.keys() == inspect.signature(load_pixels).parameters.keys() - {"data"}
    assert (given["height"], given["width"], given["resize"], given["interpolation"]) == ("32", "48", "crop", "lanczos")
    assert int(given["max_pixels"]) > 1_000_000
    assert config.backend == "python"


@pytest.mark.parametrize("max_batch", [1, 5])
def test_the_model_warms_up_at_both_ends_and_queues_with_a_limit(spec: TaggerSpec, max_batch: int):
    spec = spec.model_copy(update={"max_batch": max_batch})
    onnx, python = (parse(model_config(spec, backend)) for backend in ("onnxruntime", "python"))
    assert (onnx.backend, python.backend) == ("onnxruntime", "python")
    for config in (onnx, python):
        assert [warmup.batch_size for warmup in config.model_warmup] == sorted({1, max_batch})
        assert {tuple(warmup.inputs["image"].dims) for warmup in config.model_warmup} == {(32, 48, 3)}
        assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
        assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds > 0
        assert config.version_policy.latest.num_versions >= 2  # an old version stays servable
    onnx.backend = python.backend
    assert onnx != python  # the Python backend's session is on the CPU
    onnx.instance_group[0].kind = python.instance_group[0].kind
    assert onnx == python
