"""The backend: moto's, which answers percentiles with None and drops ``ExtendedStatistics``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend, Dimension, Statistics

from cloudreg_emulator.aws.cloudwatch.percentiles import percentile, share


class MeteredCloudWatchBackend(CloudWatchBackend):
    """CloudWatch in one account and region."""

    def get_metric_data(
        self,
        queries: list[dict[str, Any]],
        start_time: datetime,
        end_time: datetime,
        scan_by: str = "TimestampAscending",
    ) -> list[dict[str, Any]]:
        """Answer as moto does, and percentiles by the values themselves."""
        ours = {
            query["Id"]: query["MetricStat"]
            for query in queries
            if share(query.get("MetricStat", {}).get("Stat", "")) is not None
        }
        # moto finds the periods with data by itself, given a statistic that it knows.
        asked = [
            {**query, "MetricStat": {**query["MetricStat"], "Stat": "SampleCount"}}
            if query["Id"] in ours
            else query
            for query in queries
        ]
        results: list[dict[str, Any]] = super().get_metric_data(
            asked, start_time, end_time, scan_by
        )
        for result in results:
            stat = ours.get(result["id"])
            if stat is None:
                continue
            pairs = [
                (moment, self._percentile(stat, moment, end_time))
                for moment in result["timestamps"]
            ]
            known = [(moment, value) for moment, value in pairs if value is not None]
            result["timestamps"] = [moment for moment, _ in known]
            result["values"] = [value for _, value in known]
            result["label"] = result["label"].replace(" SampleCount", f" {stat['Stat']}")
        return results

    def extended(
        self, datapoints: Sequence[Statistics], period: int, statistics: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return data points with the percentiles that were asked for."""
        return [
            {
                "Timestamp": point.timestamp,
                "Unit": point.unit or "None",
                "ExtendedStatistics": {
                    name: value
                    for name in statistics
                    if (value := percentile(point.metric_data, name)) is not None
                },
            }
            for point in datapoints
        ]

    def _percentile(self, stat: dict[str, Any], begin: datetime, end: datetime) -> float | None:
        metric = stat["Metric"]
        dimensions = sorted(
            Dimension(name=d["Name"], value=d["Value"]) for d in metric.get("Dimensions", [])
        )
        limit = min(begin + timedelta(seconds=int(stat["Period"])), end)
        data = [
            datum
            for datum in self.get_all_metrics()
            if begin <= datum.timestamp < limit
            and datum.namespace == metric["Namespace"]
            and datum.name == metric["MetricName"]
            and (not dimensions or sorted(datum.dimensions) == dimensions)
            and (not stat.get("Unit") or datum.unit == stat["Unit"])
        ]
        return percentile(data, stat["Stat"])
