"""Notes what processes and the GPU hold."""

from benchmarks.gpu.driver import Driver
from benchmarks.gpu.tasks import emit
from benchmarks.process_tree import memory_of


def note_memory(what: str, processes: list[int], loading_seconds: float | None = None) -> None:
    """Prints a row: the MiB of these processes together, and those in use on the first GPU by whatever process."""
    try:
        on_gpu = Driver().used_memory()
    except OSError:
        on_gpu = None
    emit("memory", what=what, process_mib=memory_of(processes), gpu_mib=on_gpu, loading_seconds=loading_seconds)
