"""Chooses the graph of a version that runs on this machine, and remembers what it measured for the next start.

All processes of a gateway choose the same, and so does a later run of `labelwise tag`: the first one measures, the
others read its numbers from ~/.cache/labelwise.
"""

import contextlib
import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from labelwise.cores import processor
from labelwise.devices.choice import CPU, Device
from labelwise.devices.libraries import gpu_names
from labelwise.errors import RepositoryError
from labelwise.files import cache_folder, locked_folder, read_regular_file, write_atomically
from labelwise.precision import AUTO, candidates, fastest, seconds_of
from labelwise.repository import TaggerVersion
from labelwise.spec import GraphSpec
from serving.onnx_session import load_session, run_session

logger = logging.getLogger("labelwise.engine")

_FILE = "speeds.json"
_LARGEST_FILE = 2**20  # bytes
_MOST_ENTRIES = 200
_BATCH_ON_GPU = 8


class Choice(NamedTuple):
    """A version with the graph that runs, and why it is that one."""

    version: TaggerVersion
    reason: str


class Chooser:
    """Chooses graphs for sessions on `device`, with `threads` threads each on a CPU.

    `wanted` is a precision, or "auto" for the fastest graph that loses at most `max_loss` points of mAP.
    """

    def __init__(self, wanted: str, max_loss: float, threads: int = 1, device: Device = CPU) -> None:
        self._wanted, self._max_loss, self._threads, self._device = wanted, max_loss, threads, device

    def choose(self, version: TaggerVersion) -> Choice:
        """Blocks while it measures. Raises RepositoryError if the version has no such graph, or one does not run."""
        graphs: dict[str, GraphSpec] = {graph.precision: graph for graph in version.spec.graphs}
        called = f"{version.spec.name} version {version.spec.version}"
        if not graphs and self._wanted != AUTO:
            raise RepositoryError(f"{called} does not tell its precision: export it again, or use --precision auto.")
        if not graphs:
            return Choice(version, "its contract tells no precision")
        able = [graph for graph in graphs.values() if self._wanted != AUTO or graph.precision not in self._device.lacks]
        allowed = candidates([graph.model_dump() for graph in able], self._wanted, self._max_loss)
        if not allowed:
            missing = f"none that {self._device.name} runs" if self._wanted == AUTO else f"not {self._wanted}"
            raise RepositoryError(
                f"{called} has {' and '.join(graphs)}, {missing}: choose another --precision or --device."
            )
        if len(allowed) == 1:
            return Choice(version.with_graph(graphs[allowed[0]]), self._why_only(graphs, allowed[0]))
        seconds = self._measured({name: version.with_graph(graphs[name]) for name in allowed})
        best = graphs[fastest(seconds)]
        return Choice(version.with_graph(best), _why_fastest(seconds, best))

    def _why_only(self, graphs: Mapping[str, GraphSpec], precision: str) -> str:
        if len(graphs) == 1:
            return "its only graph"
        if self._wanted != AUTO:
            return "as asked"
        return "; ".join(self._why_not(graph) for name, graph in graphs.items() if name != precision)

    def _why_not(self, graph: GraphSpec) -> str:
        if graph.precision in self._device.lacks:
            return f"{self._device.name} does not run the {graph.precision} graph"
        if graph.map_change is None:
            return f"{graph.precision} was exported without --data, so its loss is unknown"
        return f"{graph.precision} changes mAP by {_points(graph.map_change)}, and max_loss is {self._max_loss:g}"

    def _measured(self, versions: Mapping[str, TaggerVersion]) -> dict[str, float]:
        """Returns seconds a photo by precision, from an earlier measurement on this machine if there is one."""
        with _memory() as memory:
            key = self._key(versions)
            known = memory.get(key)
            if known is None or known.keys() != versions.keys():
                known = memory[key] = self._measure(versions)
            return {name: known[name] for name in versions}  # the most exact first

    def _measure(self, versions: Mapping[str, TaggerVersion]) -> dict[str, float]:
        runs: dict[str, Callable[[], object]] = {}
        # The processor time of a thread says what a run costs whatever else the machine does.
        clock = time.thread_time if self._threads == 1 and self._device.is_cpu else time.perf_counter
        images = 1 if self._device.is_cpu else min(_BATCH_ON_GPU, *(one.spec.max_batch for one in versions.values()))
        for name, version in versions.items():
            session = load_session(version, self._threads, self._device)
            pixels = np.zeros((images, *version.spec.input.shape), np.uint8)
            runs[name] = partial(run_session, session, version.spec, pixels, version.spec.output_names)
            if images > 1:
                runs[name]()  # it prepares for each size of batch
        return {name: seconds / images for name, seconds in seconds_of(runs, clock).items()}

    def _key(self, versions: Mapping[str, TaggerVersion]) -> str:
        facts = (
            *_kind_of_processor(),
            ort.__version__,
            self._device.name,
            self._threads,
            *gpu_names(self._device.gpus),
        )
        hashes = [version.spec.weights_sha256 for version in versions.values()]
        return hashlib.sha256(json.dumps([*facts, *hashes]).encode()).hexdigest()


def _points(map_change: float) -> str:
    return f"{100 * map_change:+.2f} points"


def _why_fastest(seconds: Mapping[str, float], best: GraphSpec) -> str:
    times = ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in seconds.items())
    change = "" if best.map_change is None else f"; mAP {_points(best.map_change)}"
    return f"the fastest here: {times} a photo{change}"


def _kind_of_processor() -> list[str]:
    """What tells one kind of processor from another, also its instructions where a virtual machine hides some."""
    core = processor()
    told = [core[name] for name in ("model name", "CPU part", "flags", "Features") if name in core]
    return told or [platform.machine(), platform.processor()]


@contextlib.contextmanager
def _memory() -> Iterator[dict[str, dict[str, float]]]:
    """The measurements of this machine, locked; those that are added are kept. Empty if they cannot be."""
    with contextlib.ExitStack() as stack:
        file = None
        try:
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked_folder(folder))
            file = folder / _FILE
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
            logger.debug("measurements are not kept: %s", error)
        memory = _read(file) if file else {}
        before = dict(memory)
        yield memory
        if file and memory != before:
            kept = dict(list(memory.items())[-_MOST_ENTRIES:])
            with contextlib.suppress(OSError):
                write_atomically(file, json.dumps(kept).encode())


def _read(file: Path) -> dict[str, dict[str, float]]:
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        stored = json.loads(read_regular_file(file, _LARGEST_FILE))
        return {key: {name: float(value) for name, value in entry.items()} for key, entry in stored.items()}
    return {}
