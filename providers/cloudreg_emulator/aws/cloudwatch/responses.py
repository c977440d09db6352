"""CloudWatch's operations: moto's, and ``ExtendedStatistics``."""

from __future__ import annotations

from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from cloudreg_emulator.aws.cloudwatch.models import MeteredCloudWatchBackend


class MeteredCloudWatchResponse(CloudWatchResponse):
    """Requests to CloudWatch."""

    def get_metric_statistics(self) -> ActionResult:
        """Answer moto's statistics, or percentiles; AWS takes one of the two, too."""
        asked = self._get_param("ExtendedStatistics")
        backend = self.cloudwatch_backend
        if (
            not asked
            or self._get_param("Statistics")
            or (not isinstance(backend, MeteredCloudWatchBackend))
        ):
            return super().get_metric_statistics()
        period = self._get_int_param("Period")
        points = backend.get_metric_statistics(
            self._get_param("Namespace"),
            self._get_param("MetricName"),
            self._get_param("StartTime"),
            self._get_param("EndTime"),
            period,
            ["SampleCount"],
            unit=self._get_param("Unit"),
            dimensions=self._get_param("Dimensions", []),
        )
        shown = backend.extended(points, period, asked)
        return ActionResult({"Label": self._get_param("MetricName"), "Datapoints": shown})
