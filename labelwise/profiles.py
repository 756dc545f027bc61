"""The batches that TensorRT compiles a graph for."""

from labelwise.spec import TrainedSpec

_OPTIMAL_BATCH = 8


def engine_batches(spec: TrainedSpec) -> tuple[int, int, int]:
    """The batches that an engine is built for: the smallest, the one that it runs fastest, and the largest."""
    return 1, min(_OPTIMAL_BATCH, spec.max_batch), spec.max_batch


def profile_shapes(spec: TrainedSpec) -> list[str]:
    """The three batches as trtexec and ONNX Runtime write them: name:BxHxWxC."""
    return [f"{spec.input.name}:{'x'.join(map(str, (size, *spec.input.shape)))}" for size in engine_batches(spec)]
