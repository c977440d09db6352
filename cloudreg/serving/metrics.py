"""What Prometheus reads, on the port that serves: SageMaker scrapes no other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Tally:
    """How often a value fell between which bounds; only one thread ever counts.

    Three times as fast as prometheus_client's histogram, which takes a lock for every value; what
    Prometheus wants to read is worked out when it reads.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin with none."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count *value*."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return how many values lie at or below each bound, and the sum of all."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True)), self._sum


class _Tallies(Collector):
    """One histogram, with a tally for each combination of labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self._name, self._text, self._labels = name, text, labels
        self.tallies: dict[tuple[str, ...], Tally] = {}

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, tally in list(self.tallies.items()):
            buckets, total = tally.read()
            family.add_metric(labels, buckets, total)
        yield family


class Metrics:
    """The counters of one server.

    Attributes:
        registry: Of their own, so that a test can have two servers.
        batch_rows: Counted on the device's thread, like the next one.
        queue_seconds: Of each request.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = _Tallies(
            "cloudreg_request_seconds",
            "From the request's head to the end of the answer.",
            ("route", "code"),
        )
        registry.register(self._requests)
        self.batch_rows = self._tally("cloudreg_batch_rows", "Rows of each batch.", ROWS)
        self.queue_rows = Gauge("cloudreg_queue_rows", "Rows that wait.", registry=registry)
        self.queue_seconds = self._tally(
            "cloudreg_queue_seconds", "From the queue's end to the device.", SECONDS
        )
        self.busy_seconds = Counter(
            "cloudreg_device_busy_seconds",
            "Seconds in which the device computed; its rate is the duty cycle.",
            registry=registry,
        )
        self.shed = Counter(
            "cloudreg_shed", "Requests that found the queue full.", registry=registry
        )
        self.expired = Counter(
            "cloudreg_expired", "Requests that waited too long.", registry=registry
        )
        self._model = Gauge(
            "cloudreg_model_info",
            "What is served; always 1.",
            ["model", "version", "digest", "runtime", "device"],
            registry=registry,
        )
        self._children: dict[tuple[str, int], Tally] = {}

    def request(self, route: str, code: int, seconds: float) -> None:
        """Count one request."""
        tally = self._children.get((route, code))
        if tally is None:
            tally = self._children[route, code] = Tally(SECONDS)
            self._requests.tallies[route, str(code)] = tally
        tally.observe(seconds)

    def model(self, **labels: str) -> None:
        """Say what is served."""
        self._model.labels(**labels).set(1)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _tally(self, name: str, text: str, bounds: Sequence[float]) -> Tally:
        histogram = _Tallies(name, text)
        tally = histogram.tallies[()] = Tally(bounds)
        self.registry.register(histogram)
        return tally
