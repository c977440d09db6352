"""CloudWatch metrics that follow the traffic of endpoints.

Source of names, units and dimensions:
https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
"""

from __future__ import annotations

import datetime
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from moto.cloudwatch.models import MetricAggregatedDatum, cloudwatch_backends

NAMESPACE = "AWS/SageMaker"

STEP = 1.02
"""Ratio of two neighbouring classes of a `Sample`: a percentile is right to 1 %."""


class Sample(MetricAggregatedDatum):
    """Everything that was measured of one metric in a short time.

    moto keeps a datum for each value; at a thousand predictions a second, six metrics of each
    would make every read of a metric slower than the predictions.
    """

    def __init__(self, name: str, dimensions: list[dict[str, str]], at: float, unit: str) -> None:
        """Begin without a value."""
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC).replace(tzinfo=None)
        super().__init__(NAMESPACE, name, math.inf, -math.inf, 0.0, 0.0, dimensions, moment, unit)
        self.classes: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count one value."""
        self.min, self.max = min(self.min, value), max(self.max, value)
        self.sample_count += 1
        self.sum += value
        self.classes[_class(value)] += 1

    def values(self) -> Counter[float]:
        """Return how often which value was there, to the width of a class."""
        return Counter(
            {min(max(STEP**step, self.min), self.max): n for step, n in self.classes.items()}
        )


_LOG_STEP = math.log(STEP)


def _class(value: float) -> int:
    # Most values are 1: a count, or a share of one instance.
    return 0 if value == 1.0 else round(math.log(max(value, 1e-9)) / _LOG_STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One invocation.

    Attributes:
        status: Of the container; 0 where it gave no answer.
        model_s: What the container took.
        overhead_s: What everything else took.
        instances: That were ready.
        concurrent: Requests in the variant, this one included.
        waited_s: Seconds in a queue; None where it was answered at once.
    """

    status: int
    model_s: float
    overhead_s: float
    instances: int
    concurrent: int
    waited_s: float | None = None


Values = tuple[tuple[str, float, str], ...]
"""Name, value and unit of metrics."""


def _of_the_model(measured: Measured) -> Values:
    """Return what is published of every invocation."""
    side = measured.status // 100
    return (
        ("Invocation4XXErrors", float(side == 4), "None"),
        ("Invocation5XXErrors", float(side == 5), "None"),
        ("ModelLatency", 1e6 * measured.model_s, "Microseconds"),
    )


def _at_once(measured: Measured) -> Values:
    """Return what is published of an invocation whose caller waits."""
    each = 1.0 / max(1, measured.instances)
    return (
        ("Invocations", 1.0, "None"),
        ("InvocationsPerInstance", each, "None"),
        *_of_the_model(measured),
        ("InvocationModelErrors", float(measured.status // 100 != 2), "None"),
        ("OverheadLatency", 1e6 * measured.overhead_s, "Microseconds"),
        ("ConcurrentRequestsPerModel", measured.concurrent * each, "Count"),
    )


def _queued(measured: Measured) -> Values:
    """Return what is published of a queued invocation: the list in the documentation is whole.

    Neither ``Invocations`` nor ``InvocationsPerInstance`` is in it, nor requests in flight.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-monitor.html
    """
    assert measured.waited_s is not None
    return (
        *_of_the_model(measured),
        ("InvocationsProcessed", 1.0, "Count"),
        ("InvocationFailures", float(measured.status // 100 != 2), "Count"),
        ("TimeInBacklog", 1e6 * measured.waited_s, "Microseconds"),
    )


PER_INSTANCE = frozenset({"InvocationsPerInstance", "ConcurrentRequestsPerModel"})
"""Metrics that a component has in another form, by copy."""


class Meter:
    """The metrics of one account and region. Thread-safe."""

    def __init__(self, account: str, region: str, *, width_s: float = 1.0) -> None:
        """Begin with nothing measured.

        Args:
            account: Whose CloudWatch it is.
            region: Of it.
            width_s: Real seconds that one sample gathers.
        """
        self._account = account
        self._region = region
        self._lock = threading.Lock()
        self._width_s = width_s
        self._slot = 0
        self._samples: dict[tuple[str, ...], Sample] = {}

    def count(
        self, endpoint: str, variant: str, measured: Measured, *, component: str | None = None
    ) -> None:
        """Add one invocation to all its metrics."""
        values = _at_once(measured) if measured.waited_s is None else _queued(measured)
        own = {"EndpointName": endpoint, "VariantName": variant}
        with self._lock:
            for name, value, unit in values:
                self._sample(name, own, unit).add(value)
            if component is not None:
                copies = {"InferenceComponentName": component}
                per_copy = 1.0 / max(1, measured.instances)
                # Invocations, errors and latencies are published for components, too:
                # https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
                for name, value, unit in values:
                    if name not in PER_INSTANCE:
                        self._sample(name, copies, unit).add(value)
                self._sample("InvocationsPerCopy", copies, "None").add(per_copy)
                self._sample("ConcurrentRequestsPerCopy", copies, "Count").add(
                    measured.concurrent / max(1, measured.instances)
                )

    def no_capacity(self, component: str) -> None:
        """Count a request to a component without copies: what scales it out from zero.

        Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
        """
        with self._lock:
            copies = {"InferenceComponentName": component}
            self._sample("NoCapacityInvocationFailures", copies, "Count").add(1.0)

    def sample(
        self, own: Mapping[str, str], name: str, value: float, *, unit: str = "Count"
    ) -> None:
        """Publish a value that no request brings.

        What scales must hear of zero to scale in; the developer guide says so of variants
        without traffic (endpoint-auto-scaling-prerequisites).

        Args:
            own: The dimensions.
            name: Of the metric.
            value: To publish.
            unit: Of the value.
        """
        with self._lock:
            self._sample(name, own, unit).add(value)

    def _sample(self, name: str, own: Mapping[str, str], unit: str) -> Sample:
        slot = int(time.time() / self._width_s)
        if slot != self._slot:
            self._slot, self._samples = slot, {}
        key = (name, *own.values())
        sample = self._samples.get(key)
        if sample is None:
            dimensions = [{"Name": name, "Value": value} for name, value in own.items()]
            sample = self._samples[key] = Sample(name, dimensions, slot * self._width_s, unit)
            cloudwatch_backends[self._account][self._region].metric_data.append(sample)
        return sample
