"""What was answered, from Cloud Monitoring.

Source: https://cloud.google.com/monitoring/api/metrics_gcp (``aiplatform.googleapis.com``).
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cloudreg.errors import NotFound
from cloudreg.types import CustomMetric, VariantMetrics
from cloudreg_vertex.errors import translated
from cloudreg_vertex.logs import check

if TYPE_CHECKING:
    from cloudreg_vertex.services import Services
    from cloudreg_vertex.settings import VertexSettings

HOST = "https://monitoring.googleapis.com"
TIMEOUT_S = 30.0
SHORTEST_S = 60
"""Cloud Monitoring aligns by whole minutes, and no shorter."""

_ONLINE = "aiplatform.googleapis.com/prediction/online"


class EndpointMetrics:
    """The time series of one location's endpoints."""

    def __init__(self, services: Services, settings: VertexSettings, *, target: str) -> None:
        """Use an authorised session; nothing is sent."""
        self._services = services
        self._settings = settings
        self._target = target

    def of(
        self,
        endpoint: str,
        deployed: Mapping[str, str],
        *,
        window_s: float,
        since: datetime.datetime,
        now: datetime.datetime,
    ) -> dict[str, VariantMetrics]:
        """Return what each variant answered.

        Args:
            endpoint: Whose.
            deployed: Variant to the id of its deployed model.
            window_s: Seconds before *now* that count.
            since: When the endpoint was made; before that, another one had its name.
            now: The end of the window.
        """
        begin = max(now - datetime.timedelta(seconds=window_s), since)
        counts: dict[str, list[int]] = {}
        for series in self._series(endpoint, "response_count", "ALIGN_DELTA", begin, now):
            marks = series["metric"].get("labels", {})
            total = sum(_number(point) for point in series.get("points", ()))
            of_model = counts.setdefault(marks.get("deployed_model_id", ""), [0, 0])
            of_model[0] += round(total)
            if str(marks.get("response_code", "")).startswith("5"):
                of_model[1] += round(total)
        asked = any(requests for requests, _ in counts.values())
        p50 = self._latency(endpoint, "ALIGN_PERCENTILE_50", begin, now) if asked else {}
        p95 = self._latency(endpoint, "ALIGN_PERCENTILE_95", begin, now) if asked else {}
        return {
            name: VariantMetrics(
                requests=counts.get(one, [0, 0])[0],
                errors=counts.get(one, [0, 0])[1],
                p50_ms=p50.get(one),
                p95_ms=p95.get(one),
            )
            for name, one in deployed.items()
        }

    def custom(
        self,
        metrics: Sequence[CustomMetric],
        known: Mapping[str, str],
        *,
        window_s: float,
        now: datetime.datetime,
    ) -> dict[str, float]:
        """Return what is asked for, as far as there is data.

        Args:
            metrics: What.
            known: What a query may speak of.
            window_s: Seconds before *now* that count.
            now: The end of the window.
        """
        begin = now - datetime.timedelta(seconds=window_s)
        found = {}
        for metric in metrics:
            query = metric.filled(**known)
            terms = [f'metric.type="{query["metric"]}"']
            if query.get("filter"):
                terms.append(str(query["filter"]))
            aligner = str(query.get("aligner", "ALIGN_MEAN"))
            what = f"rollout metric {metric.name}"
            try:
                series = self._listed(" AND ".join(terms), aligner, begin, now, what=what)
            except NotFound:
                continue  # a metric that nobody ever wrote has no data, and may have some later
            value = metric.worst(
                _number(point) for one in series for point in reversed(one.get("points", ()))
            )
            if value is not None:
                found[metric.name] = value
        return found

    def _latency(
        self, endpoint: str, aligner: str, begin: datetime.datetime, end: datetime.datetime
    ) -> dict[str, float]:
        """Return a percentile of the latency in milliseconds, by deployed model."""
        found: dict[str, float] = {}
        for series in self._series(endpoint, "prediction_latencies", aligner, begin, end):
            marks = series["metric"].get("labels", {})
            if marks.get("latency_type", "total") != "total":
                continue
            values = [_number(point) for point in series.get("points", ())]
            if values:
                found[marks.get("deployed_model_id", "")] = max(values)
        return found

    def _series(
        self,
        endpoint: str,
        metric: str,
        aligner: str,
        begin: datetime.datetime,
        end: datetime.datetime,
    ) -> list[dict[str, Any]]:
        return self._listed(
            f'metric.type="{_ONLINE}/{metric}" AND '
            'resource.type="aiplatform.googleapis.com/Endpoint" AND '
            f'resource.labels.location="{self._settings.location}" AND '
            f'resource.labels.endpoint_id="{endpoint}"',
            aligner,
            begin,
            end,
            what=f"metrics of endpoint {endpoint}",
        )

    def _listed(
        self,
        terms: str,
        aligner: str,
        begin: datetime.datetime,
        end: datetime.datetime,
        *,
        what: str,
    ) -> list[dict[str, Any]]:
        period_s = max(SHORTEST_S, math.ceil((end - begin).total_seconds() / 60) * 60)
        query = {
            "filter": terms,
            "interval.startTime": _iso(begin),
            "interval.endTime": _iso(end),
            "aggregation.alignmentPeriod": f"{period_s}s",
            "aggregation.perSeriesAligner": aligner,
        }
        host = self._settings.address or HOST
        url = f"{host}/v3/projects/{self._settings.project}/timeSeries"
        with translated(what, target=self._target):
            answer = self._services.session().get(url, params=query, timeout=TIMEOUT_S)
        check(answer, what, target=self._target)
        return list(answer.json().get("timeSeries", ()))


def _number(point: Mapping[str, Any]) -> float:
    value = point["value"]
    return float(value.get("int64Value", value.get("doubleValue", 0)))


def _iso(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat().replace("+00:00", "Z")
