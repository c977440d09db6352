"""What Prometheus reads, on the port that serves: SageMaker scrapes no other."""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        """Use a registry of their own, so that a test can have two servers."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Histogram(
            "cloudreg_request_seconds",
            "From the request's head to the end of the answer.",
            ["route", "code"],
            registry=registry,
            buckets=SECONDS,
        )
        self.batch_rows = Histogram(
            "cloudreg_batch_rows", "Rows of each batch.", registry=registry, buckets=ROWS
        )
        self.queue_rows = Gauge("cloudreg_queue_rows", "Rows that wait.", registry=registry)
        self.queue_seconds = Histogram(
            "cloudreg_queue_seconds",
            "From the queue's end to the device.",
            registry=registry,
            buckets=SECONDS,
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
        # Finding a child by its labels costs more than all else in an observation.
        self._children: dict[tuple[str, int], Histogram] = {}

    def request(self, route: str, code: int, seconds: float) -> None:
        """Count one request."""
        child = self._children.get((route, code))
        if child is None:
            child = self._children[route, code] = self._requests.labels(route, str(code))
        child.observe(seconds)

    def model(self, **labels: str) -> None:
        """Say what is served."""
        self._model.labels(**labels).set(1)

    def render(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)
