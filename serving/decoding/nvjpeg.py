"""NVIDIA's nvImageCodec: decodes JPEGs into the memory of a GPU. Untried: there was no GPU."""

import ctypes
import threading
from typing import Any

from serving.decoding.resizing import DevicePixels

_OPTIONS = ":fancy_upsampling=1"  # interpolates chroma, as libjpeg-turbo does


class NvJpeg:
    """nvImageCodec on the GPU with the number `gpu`, without its decoders for the CPU. Safe for several threads."""

    def __init__(self, gpu: int = 0) -> None:
        from nvidia import nvimgcodec

        self._library, self._gpu = nvimgcodec, gpu
        self._own = threading.local()  # a decoder decodes one photo at a time
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._params = nvimgcodec.DecodeParams(
            apply_exif_orientation=False, color_spec=nvimgcodec.ColorSpec.SRGB, allow_any_depth=False
        )

    def __call__(self, data: bytes) -> DevicePixels | None:
        """Returns the pixels at full scale, not turned; None if the GPU cannot decode them. Raises RuntimeError."""
        image = self._decoder().decode(self._library.CodeStream(data), params=self._params)
        if image is None:
            return None
        self._wait()
        told = image.__cuda_array_interface__
        height, width, channels = told["shape"]
        if told["typestr"] != "|u1" or channels != 3 or told["strides"] not in (None, (3 * width, 3, 1)):
            raise RuntimeError(f"nvImageCodec returned {told['typestr']} {told['shape']} in steps of {told['strides']}")
        return DevicePixels((height, width, channels), told["data"][0], image)

    def _decoder(self) -> Any:
        if not hasattr(self._own, "decoder"):
            kinds = self._library.BackendKind
            on_gpu = [self._library.Backend(kind) for kind in (kinds.HW_GPU_ONLY, kinds.GPU_ONLY, kinds.HYBRID_CPU_GPU)]
            self._own.decoder = self._library.Decoder(
                device_id=self._gpu, max_num_cpu_threads=1, backends=on_gpu, options=_OPTIONS
            )
        return self._own.decoder

    def _wait(self) -> None:
        """Waits until the pixels are there: `decode` only orders the default stream to wait for them."""
        if code := self._driver.cuStreamSynchronize(None):
            raise RuntimeError(f"the driver's cuStreamSynchronize failed with {code}")
