"""Runs of a graph on one GPU through buffers that are bound: pinned ones for photos, so that copies are quick.

Two threads use a GPU in turns: while one waits for its batch, the other copies the next one. Untried: there was no GPU.
So the first run compares its scores with those of an ordinary run, and an ordinary one is used if they differ.
"""

import logging
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from labelwise.spec import TaggerSpec
from serving.errors import ServerFailed
from serving.inference import Outputs, Pixels
from serving.onnx_session import run_session

logger = logging.getLogger("labelwise.engine")

_SAME = 1e-3  # two runs of one graph on one GPU


class BoundRuns:
    """Runs batches of one `session` on the GPU with the number `gpu`. Safe for several threads."""

    def __init__(self, session: ort.InferenceSession, spec: TaggerSpec, gpu: int) -> None:
        self._session, self._spec, self._gpu = session, spec, gpu
        self._pinned = _pinned_memory(gpu)
        self._is_bound = self._agrees()

    def __call__(self, pixels: Pixels, outputs: Sequence[str]) -> Outputs:
        """Blocks. Raises ServerFailed if the graph fails."""
        if not self._is_bound:
            return run_session(self._session, self._spec, pixels, outputs)
        try:
            return self._run(pixels, outputs)
        except Exception as error:  # onnxruntime raises its own unrelated classes
            raise ServerFailed(f"{self._spec.name} version {self._spec.version} failed: {error}") from error

    def _run(self, pixels: Pixels, outputs: Sequence[str]) -> Outputs:
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._spec.input.name, self._staged(pixels))
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding)
        return dict(zip(outputs, binding.copy_outputs_to_cpu(), strict=True))

    def _staged(self, pixels: Pixels) -> ort.OrtValue:
        if self._pinned is None:
            return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(pixels), "cuda", self._gpu)
        value = ort.OrtValue.ortvalue_from_shape_and_type(pixels.shape, np.uint8, memory_info=self._pinned)
        value.update_inplace(np.ascontiguousarray(pixels))
        return value

    def _agrees(self) -> bool:
        pixels = np.random.default_rng(0).integers(0, 256, (2, *self._spec.input.shape), np.uint8)
        pixels = pixels[: self._spec.max_batch]
        expected = run_session(self._session, self._spec, pixels, ("scores",))["scores"]
        try:
            found = self._run(pixels, ("scores",))["scores"]
        except Exception as error:  # onnxruntime raises its own unrelated classes
            logger.warning("%s runs without bound buffers: %s", self._spec.name, " ".join(str(error).split())[:200])
            return False
        if np.abs(found - expected).max() > _SAME:
            logger.warning("%s runs without bound buffers, which change its scores", self._spec.name)
            return False
        return True


def _pinned_memory(gpu: int) -> ort.OrtMemoryInfo | None:
    """Memory of this machine that the GPU copies from directly; None if ONNX Runtime offers none."""
    try:
        found = [device for device in ort.get_ep_devices() if device.ep_name == "CUDAExecutionProvider"]
        return found[gpu].memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE) if gpu < len(found) else None
    except Exception:  # an older ONNX Runtime
        return None
