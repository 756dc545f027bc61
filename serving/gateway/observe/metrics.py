"""The metrics that Prometheus reads, in base units. Each app has its own registry, so that tests share no counts.

If PROMETHEUS_MULTIPROC_DIR is set (serving/gateway/supervisor.py sets it), every process of a gateway writes its counts
into that folder, and each of them answers for all.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import prometheus_client.values
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, mmap_dict
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from labelwise.repository import VersionKey
from labelwise.spec import TaggerSpec
from serving.gateway.observe.delayed_writes import DelayedWrites
from serving.inference import Catalogue

logger = logging.getLogger("labelwise.metrics")

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LESSON_SECONDS = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)
_SCORES = (0.1, 0.25, 0.5, 0.75, 0.9)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)
_MOST_LABELS = 500  # the scores of a model with more are not counted: each label is several series


class Metrics:
    """The gateway's metrics; durations in seconds. Counts are written in batches, unless other processes read them."""

    def __init__(self) -> None:
        if FOLDER_VARIABLE in os.environ:
            prometheus_client.values.MmapedDict = ReservedMmapedDict  # type: ignore[attr-defined]
        self.registry = CollectorRegistry()
        self.writes = DelayedWrites(at_once=FOLDER_VARIABLE in os.environ)
        model = ("model", "version")
        self.requests = self._counter("requests", "Answered requests.", ("route", "status"))
        self.problems = self._counter("problems", "Error answers by code, rejections included.", ("code",))
        self.request_seconds = self._histogram(
            "request_seconds", "From the first header to the last byte.", _SECONDS, ("route",)
        )
        receive_seconds = self._histogram("receive_seconds", "Reading a request's body.", _SECONDS)
        self.observe_receive = self.writes.channel(receive_seconds.observe)
        self._queue_seconds = self._histogram(
            "queue_seconds", "Waiting for a thread; Triton's own queue is not in it.", _SECONDS, ("stage",)
        )
        decode_seconds = self._histogram("decode_seconds", "Decoding a photo, waiting included.", _SECONDS)
        self.observe_decode = self.writes.channel(decode_seconds.observe)
        self.engine_seconds = self._histogram(
            "engine_seconds", "The engine's answer to one batch, waiting included.", _SECONDS, model
        )
        self.batch_images = self._histogram(
            "batch_images", "Photos that the engine ran, or sent to Triton, at once.", _IMAGES, model
        )
        self.images = self._counter("images", "Photos answered by the engine.", model)
        self.lessons, self.lesson_seconds = self._of_lessons()
        self.label_score = self._histogram("label_score", "Scores of a sample.", _SCORES, (*model, "label"))
        in_flight = Gauge(
            "labelwise_requests_in_flight",
            "Completely uploaded and not yet answered.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self._change_in_flight = self.writes.channel(in_flight.inc)
        self._add_run = self.writes.channel(self._write_run)
        self._answers: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._models: dict[tuple[str, int], ModelMetrics] = {}

    def observe_wait(self, stage: str) -> Callable[[float], None]:
        """Returns a function, for any thread, that counts the seconds that one job of this stage waited."""
        return self.writes.channel(self._queue_seconds.labels(stage).observe)

    def in_flight(self) -> "_InFlight":
        """The request counts as in flight during the `with` block."""
        return _InFlight(self._change_in_flight, self.writes)

    def count_answer(self, route: str, status: int, seconds: float) -> None:
        """Counts one answered request."""
        found = self._answers.get((route, status))
        if found is None:  # looking series up in each request would cost more than counting
            found = self.requests.labels(route, str(status)), self.request_seconds.labels(route)
            self._answers[route, status] = found
        answers, durations = found
        answers.inc()
        durations.observe(seconds)

    def of(self, spec: TaggerSpec) -> "ModelMetrics":
        """Returns the series of one version of a model."""
        found = self._models.get((spec.name, spec.version))
        if found is None:
            found = self._models[spec.name, spec.version] = ModelMetrics(self, spec)
        return found

    def count_run(self, key: VersionKey, images: int) -> None:
        """Counts one run of a graph. May be called on any thread."""
        self._add_run((key, images))

    def _write_run(self, run: tuple[VersionKey, int]) -> None:
        (name, version), images = run
        self.batch_images.labels(name, str(version)).observe(images)

    def exposition(self, served: Catalogue, reasons: Mapping[VersionKey, str] | None = None, device: str = "") -> bytes:
        """Returns the text that Prometheus reads, for all processes of this gateway.

        `reasons` are those of an engine on `device`: for what is in them, the text tells the precision that runs.

        Leaves out versions that are no longer `served`, or a gateway that runs for months would have ever more series.
        """
        self.writes.write()
        every = self.registry
        if FOLDER_VARIABLE in os.environ:
            every = CollectorRegistry()
            MultiProcessCollector(every)  # type: ignore[no-untyped-call]
        shown = CollectorRegistry()
        shown.register(_Served(every, served))
        shown.register(_Precisions(served, reasons or {}, device))
        return generate_latest(shown)

    def _of_lessons(self) -> tuple[Counter, Histogram]:
        lessons = self._counter("lessons", "Lessons by clients, forgetting and going back included.", ("outcome",))
        for outcome in ("published", "refused", "failed"):
            lessons.labels(outcome)  # so that each is there from the start, as 0
        return lessons, self._histogram("lesson_seconds", "From a lesson's first byte to its end.", _LESSON_SECONDS)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(f"labelwise_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        return Histogram(f"labelwise_{name}", text, labels, buckets=buckets, registry=self.registry)


class _InFlight:
    def __init__(self, change: Callable[[int], None], writes: DelayedWrites) -> None:
        self._change, self._writes = change, writes

    def __enter__(self) -> None:
        self._change(1)
        self._writes.write_soon()

    def __exit__(self, *error: object) -> None:
        self._change(-1)  # written soon, as the answer is


class _Served(Collector):
    """The series of `every`, of versions of models only those in `served`."""

    def __init__(self, every: CollectorRegistry, served: Catalogue) -> None:
        self._every = every
        self._versions = {(name, str(version)) for name, versions in served.items() for version in versions}

    def collect(self) -> Iterator[Metric]:
        for metric in self._every.collect():
            metric.samples = [sample for sample in metric.samples if self._is_shown(sample.labels)]
            yield metric

    def _is_shown(self, labels: Mapping[str, str]) -> bool:
        return "version" not in labels or (labels["model"], labels["version"]) in self._versions

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing else is in this registry


class _Precisions(Collector):
    """One series for each version of a model: the graph that runs, and why it does."""

    def __init__(self, served: Catalogue, reasons: Mapping[VersionKey, str], device: str) -> None:
        self._served, self._reasons, self._device = served, reasons, device

    def collect(self) -> Iterator[Metric]:
        found = GaugeMetricFamily(
            "labelwise_model_precision",
            "1 for the precision that a model runs in.",
            labels=("model", "version", "device", "precision", "reason"),
        )
        for name, versions in self._served.items():
            for version, spec in versions.items():
                if spec.graph and (name, version) in self._reasons:
                    reason = self._reasons[name, version]
                    found.add_metric((name, str(version), self._device, spec.graph.precision, reason), 1)
        yield found

    def describe(self) -> Iterable[Metric]:
        return ()


class ModelMetrics:
    """The series of one version of a model, looked up only once."""

    def __init__(self, metrics: Metrics, spec: TaggerSpec) -> None:
        labels = (spec.name, str(spec.version))
        self.observe_engine = metrics.writes.channel(metrics.engine_seconds.labels(*labels).observe)
        self._add_images = metrics.writes.channel(metrics.images.labels(*labels).inc)
        self._add_scores = metrics.writes.channel(self._write_scores)
        counted = spec.labels if len(spec.labels) <= _MOST_LABELS else ()
        self._scores = [metrics.label_score.labels(*labels, label) for label in counted]
        self._photos = 0  # whose scores could be counted, until now

    def count_answer(self, images: int, scores: NDArray[np.float32] | None) -> None:
        """Counts photos that the engine answered, and the scores [b, l] of some of them.

        Every l-th photo, for l labels, is enough to see a drift, and no more work with many labels.
        """
        self._add_images(images)
        if scores is None or not self._scores:
            return
        every = len(self._scores)
        for place in range(-self._photos % every, images, every):
            self._add_scores(scores[place])
        self._photos += images

    def _write_scores(self, scores: NDArray[np.float32]) -> None:
        for series, score in zip(self._scores, scores.tolist(), strict=True):
            series.observe(score)


class ReservedMmapedDict(mmap_dict.MmapedDict):
    """prometheus_client's file of values, on disk space that is reserved before it is used.

    prometheus_client maps sparse files into memory. On a full disk, the first write to a page without a block ends the
    process with SIGBUS. So this reserves the blocks first. Values without room stay in this process's memory.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._unshared: dict[str, tuple[float, float]] = {}
        self._is_shared = read_mode or _create(filename, mmap_dict._INITIAL_MMAP_SIZE)
        if self._is_shared:
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        else:
            self._f = None  # type: ignore[assignment]  # so that `close` has nothing to do
            logger.error("no room for shared counts: /metrics leaves out what this process counts from now on")

    def read_value(self, key: str) -> tuple[float, float]:
        if self._is_shared and (key in self._positions or self._has_room(key)):
            return super().read_value(key)  # type: ignore[no-untyped-call,no-any-return]
        return self._unshared.setdefault(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if key in self._unshared:
            self._unshared[key] = value, timestamp
        else:
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _has_room(self, key: str) -> bool:
        """Reserves the size to which the base class will double the file for a new key."""
        if key in self._unshared:
            return False
        capacity: int = self._capacity
        while self._used + len(key.encode()) + 40 > capacity:  # with its length, padding, value and timestamp
            capacity *= 2
        return capacity == self._capacity or _reserve(self._f.fileno(), capacity)


def _create(filename: str, size: int) -> bool:
    """Creates a file of `size` zeros, of which readers never see a smaller one. Returns whether that succeeded."""
    aside = Path(f"{filename}.new")
    try:
        with aside.open("wb") as file:
            if _reserve(file.fileno(), size):
                aside.replace(filename)
                return True
        aside.unlink()
    except OSError:
        logger.debug("%s", aside, exc_info=True)
    return False


def _reserve(descriptor: int, size: int) -> bool:
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            start = os.fstat(descriptor).st_size
            os.pwrite(descriptor, bytes(size - start), start)
    except OSError:
        return False
    return True
