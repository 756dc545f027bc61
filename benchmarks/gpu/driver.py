"""What NVIDIA's driver itself tells and does, without any other library: memory, and copies to the GPU."""

import ctypes
import time
from typing import Any

_BYTES = 256 * 2**20  # of one copy
_TURNS = 5


class Driver:
    """The driver, with the context of GPU 0 that ONNX Runtime uses, too. Raises OSError without driver or GPU."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def used_memory(self) -> float:
        """Returns the MiB of the GPU that all processes on it use, this context included."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return (total.value - free.value) / 2**20

    def copy_rate(self) -> float:
        """Returns the bytes per second from pinned memory of this machine to the GPU: the best of some copies."""
        host, device = ctypes.c_void_p(), ctypes.c_uint64()
        self._call("cuMemAllocHost_v2", ctypes.byref(host), ctypes.c_size_t(_BYTES))
        self._call("cuMemAlloc_v2", ctypes.byref(device), ctypes.c_size_t(_BYTES))
        ctypes.memset(host, 1, _BYTES)
        try:
            return _BYTES / min(self._seconds_of_copy(device, host) for _ in range(_TURNS))
        finally:
            self._call("cuMemFree_v2", device)
            self._call("cuMemFreeHost", host)

    def _seconds_of_copy(self, device: ctypes.c_uint64, host: ctypes.c_void_p) -> float:
        started = time.perf_counter()
        self._call("cuMemcpyHtoD_v2", device, host, ctypes.c_size_t(_BYTES))
        self._call("cuCtxSynchronize")
        return time.perf_counter() - started

    def _call(self, name: str, *arguments: Any) -> None:
        if code := getattr(self._cuda, name)(*arguments):
            raise OSError(f"the driver's {name} failed with {code}")
