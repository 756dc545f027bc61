"""Reads from a graph from elsewhere how it takes pictures: layout, type and batch."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from export.onnx_file import GraphError, Pixels, graph_inputs, shape_of
from labelwise.errors import SpecError
from labelwise.spec import ImageSpec

_DTYPES = {
    onnx.TensorProto.UINT8: np.uint8,
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.FLOAT16: np.float16,
}


@dataclass(frozen=True)
class InputForm:
    """The one input: its name, its ONNX type, whether channels come first, and its batch if that is fixed."""

    name: str
    type: int
    channels_first: bool
    batch: int | None

    @property
    def is_normalised(self) -> bool:
        """Whether the caller normalises; a graph that takes 8-bit pixels does it inside."""
        return self.type != onnx.TensorProto.UINT8

    def feed(self, pixels: Pixels, image: ImageSpec) -> NDArray:
        """Converts pixels uint8 [b, h, w, 3] to what this graph takes."""
        values: NDArray = pixels
        if self.is_normalised:
            mean, std = (255 * np.array(part, np.float32) for part in (image.mean, image.std))
            values = ((pixels - mean) / std).astype(_DTYPES[self.type])
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if self.channels_first else values)


def read_input(model: onnx.ModelProto, image: ImageSpec) -> InputForm:
    """Raises GraphError if the input is not a picture, and SpecError if its size is not that of `image`."""
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise GraphError(f"The graph takes {len(inputs)} inputs ({names}), but a tagger takes one, the picture.")
    (value,) = inputs
    kind, shape = value.type.tensor_type.elem_type, shape_of(value)
    called = f"{value.name} is {onnx.TensorProto.DataType.Name(kind).lower()} {shape}"
    if kind not in _DTYPES or len(shape) != 4:
        raise GraphError(f"The graph's input {called}, but pictures [b, 3, h, w] or [b, h, w, 3] are needed.")
    channels_first = shape[1] == 3 or (isinstance(shape[1], str) and shape[3] != 3)
    channels, height, width = shape[1:] if channels_first else (shape[3], *shape[1:3])
    if isinstance(channels, int) and channels != 3:
        raise GraphError(f"The graph's input {called}, but pictures with three channels are needed.")
    for side, size, wanted in (("height", height, image.height), ("width", width, image.width)):
        if isinstance(size, int) and size != wanted:
            raise SpecError(f"The spec does not fit the graph: image.{side}: it says {wanted}, the graph takes {size}.")
    return InputForm(value.name, kind, channels_first, shape[0] if isinstance(shape[0], int) else None)
