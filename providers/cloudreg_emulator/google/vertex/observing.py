"""Cloud Logging and Cloud Monitoring, as far as somebody looks after endpoints.

Of Logging there is ``entries:list``, of Monitoring ``timeSeries.list`` and ``create``, with the
filters, orders and aligners that such a look needs; whatever else they have is refused by name.

Sources: https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list,
https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/list and
https://cloud.google.com/monitoring/api/metrics_gcp (``aiplatform.googleapis.com``).
"""

from __future__ import annotations

import datetime
import json
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cloudreg_emulator.fleet import Launch
from cloudreg_emulator.google.http import Request, Response
from cloudreg_emulator.google.vertex.deployments import Deployment, Deployments
from cloudreg_emulator.google.vertex.names import parse
from cloudreg_emulator.google.vertex.refusals import Refused, denied
from cloudreg_emulator.google.vertex.traffic import Asked
from cloudreg_emulator.google.vertex.written import WRITABLE, Written, no_metric
from cloudreg_emulator.google.world import World

__all__ = ["Observing"]

KEPT = 100_000
_ONLINE = "aiplatform.googleapis.com/prediction/online"
_LOG = "aiplatform.googleapis.com%2Fprediction_container"
_RESOURCE = "aiplatform.googleapis.com/Endpoint"
_JOB = "ml_job"
"""https://cloud.google.com/logging/docs/api/v2/resource-list#tag_ml_job: jobs of every kind."""

_REFUSED = {
    "throttle": "RESOURCE_EXHAUSTED",
    "expired": "UNAUTHENTICATED",
    "denied": "PERMISSION_DENIED",
}
"""How faults end that are no trouble of the service's own."""

_SERIES = re.compile(r"/v3/projects/([^/]+)/timeSeries")
_TERM = re.compile(r'([\w.]+)\s*(>=|<=|=|>|<)\s*"((?:[^"\\]|\\.)*)"')
_PERCENTILES = {f"ALIGN_PERCENTILE_{n:02}": n / 100 for n in (5, 50, 95, 99)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    at: float
    endpoint: str
    region: str
    deployed: str
    replica: str
    line: str
    job: bool = False


class Observing:
    """What replicas wrote, and what endpoints answered."""

    def __init__(self, world: World) -> None:
        """Begin without a line."""
        self._world = world
        self._lock = threading.Lock()
        self._entries: deque[_Entry] = deque(maxlen=KEPT)
        self.written = Written(world.clock)
        self.deployments: Deployments | None = None

    def log(self, launch: Launch, replica: str, line: str) -> None:
        """Keep a line of a replica."""
        entry = _Entry(
            at=self._world.clock(),
            endpoint=launch.endpoint,
            region=launch.region,
            deployed=launch.variant,
            replica=replica,
            line=line,
            job=launch.job,
        )
        with self._lock:
            self._entries.append(entry)

    def is_for(self, path: str) -> bool:
        """Return whether a path belongs to one of the two services."""
        return path == "/v2/entries:list" or _SERIES.fullmatch(path) is not None

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return _json(self._answer(request))
        except Refused as error:
            if not error.http:
                return Response(status=0)
            return _json(error.as_json(), status=error.http)

    def _answer(self, request: Request) -> dict[str, Any]:
        series = _SERIES.fullmatch(request.path)
        service = "monitoring" if series else "logging"
        writes = series is not None and request.method == "POST"
        operation = "ListTimeSeries" if series else "ListLogEntries"
        if writes:
            operation = "CreateTimeSeries"

        def spoiled(fault: Any) -> dict[str, Any]:
            code = _REFUSED.get(fault.kind)
            http = None if code else fault.status
            raise Refused(code or "UNAVAILABLE", f"{operation} is out of order.", http=http)

        return self._world.faults.guarded(
            service,
            operation,
            lambda: (
                self._write(request)
                if writes
                else self._series(request)
                if series
                else self._lines(request)
            ),
            spoiled=spoiled,
        )

    def _lines(self, request: Request) -> dict[str, Any]:
        if request.method != "POST":
            raise Refused("INVALID_ARGUMENT", f"{request.method} is no method of entries:list.")
        asked = _read(request)
        known = {"resourceNames", "filter", "orderBy", "pageSize", "pageToken"}
        _only(asked, known)
        self._check_owned(asked.get("resourceNames"))
        terms = _terms(asked.get("filter", ""))
        entries = [one for one in list(self._entries) if _matches(terms, _logged(one))]
        order = asked.get("orderBy", "timestamp asc")
        if order not in ("timestamp asc", "timestamp desc", "timestamp"):
            raise Refused("INVALID_ARGUMENT", f"orderBy: {order!r} is not supported.")
        if order.endswith("desc"):
            entries.reverse()
        page, token = _page(entries, asked.get("pageSize"), asked.get("pageToken"), usual=50)
        answer: dict[str, Any] = {"entries": [self._entry(one) for one in page]} if page else {}
        return answer | ({"nextPageToken": token} if token else {})

    def _check_owned(self, names: Any) -> None:
        if not isinstance(names, list) or not names:
            raise Refused("INVALID_ARGUMENT", "At least one resource name is needed.")
        for name in names:
            project = str(name).removeprefix("projects/").partition("/")[0]
            if not self._world.place.owns(project):
                raise denied(project)

    def _entry(self, one: _Entry) -> dict[str, Any]:
        place = self._world.place
        labels = {
            "endpoint_id": one.endpoint,
            "location": one.region,
            "resource_container": f"projects/{place.number}",
        }
        if one.job:
            project = place.project
            labels = {"job_id": one.endpoint, "project_id": project, "task_name": one.deployed}
        return {
            "logName": f"projects/{place.project}/logs/{_LOG}",
            "resource": {"type": _JOB if one.job else _RESOURCE, "labels": labels},
            "labels": {"deployed_model_id": one.deployed, "replica_id": one.replica},
            "timestamp": _iso(one.at),
            "jsonPayload": {"message": one.line},
        }

    def _write(self, request: Request) -> dict[str, Any]:
        series = _SERIES.fullmatch(request.path)
        if series is None or not self._world.place.owns(series[1]):
            raise denied(series[1] if series else "")
        asked = _read(request)
        _only(asked, {"timeSeries"})
        return self.written.create(asked)

    def _series(self, request: Request) -> dict[str, Any]:
        series = _SERIES.fullmatch(request.path)
        if request.method != "GET":
            raise Refused("INVALID_ARGUMENT", "only timeSeries.list and create are emulated")
        _only(
            request.query,
            {
                "filter",
                "interval.startTime",
                "interval.endTime",
                "aggregation.alignmentPeriod",
                "aggregation.perSeriesAligner",
                "pageSize",
                "pageToken",
            },
        )
        if series is None or not self._world.place.owns(series[1]):
            raise denied(series[1] if series else "")
        terms = _terms(request.arg("filter") or "")
        metric = next((value for name, _, value in terms if name == "metric.type"), None)
        if metric is None:
            raise Refused("INVALID_ARGUMENT", "filter: one metric.type is needed.")
        begin = _seconds(request.arg("interval.startTime") or "")
        end = _seconds(request.arg("interval.endTime") or "")
        aligner = request.arg("aggregation.perSeriesAligner") or "ALIGN_NONE"
        found = []
        own = metric.startswith(WRITABLE)
        # Series of one metric may have labels that others have not.
        absent = {name: "" for name, _, _ in terms if ".labels." in name}
        values = (
            self.written.look(
                metric, begin, end, aligner, lambda one: _matches(terms, {**absent, **one})
            )
            if own
            else self._values(metric, begin, end, aligner, terms)
        )
        for marks, kind, value in values:
            found.append(
                {
                    **marks,
                    "metricKind": "GAUGE" if own else "DELTA",
                    "valueType": "INT64" if kind == "int64Value" else "DOUBLE",
                    "points": [
                        {
                            "interval": {"startTime": _iso(begin), "endTime": _iso(end)},
                            "value": {kind: str(value) if kind == "int64Value" else value},
                        }
                    ],
                }
            )
        page, token = _page(found, request.arg("pageSize"), request.arg("pageToken"), usual=100_000)
        answer: dict[str, Any] = {"timeSeries": page} if page else {}
        return answer | ({"nextPageToken": token} if token else {})

    def _values(
        self,
        metric: str,
        begin: float,
        end: float,
        aligner: str,
        terms: list[tuple[str, str, str]],
    ) -> Iterator[tuple[dict[str, Any], str, Any]]:
        assert self.deployments is not None
        measure = _MEASURES.get(metric)
        if measure is None:
            raise no_metric(metric)
        for endpoint, deployment in self.deployments.items():
            parts = parse(endpoint)
            assert parts is not None
            resource = {
                "endpoint_id": parts.id,
                "location": parts.location,
                "resource_container": f"projects/{self._world.place.number}",
            }
            asked = deployment.traffic.between(begin, end)
            for labels, kind, value in measure(deployment, asked, aligner):
                marks = {"deployed_model_id": deployment.deployed.id, **labels}
                shown = {
                    "metric.type": metric,
                    "resource.type": _RESOURCE,
                    **{f"resource.labels.{k}": v for k, v in resource.items()},
                    **{f"metric.labels.{k}": v for k, v in marks.items()},
                }
                if _matches(terms, shown):
                    yield (
                        {
                            "metric": {"type": metric, "labels": marks},
                            "resource": {"type": _RESOURCE, "labels": resource},
                        },
                        kind,
                        value,
                    )


Measured = Iterator[tuple[Mapping[str, str], str, Any]]


def _responses(deployment: Deployment, asked: list[Asked], aligner: str) -> Measured:
    del deployment
    _needs(aligner, {"ALIGN_NONE", "ALIGN_DELTA", "ALIGN_SUM"})
    for code in sorted({one.code for one in asked}):
        count = sum(one.code == code for one in asked)
        yield {"response_code": str(code)}, "int64Value", count


def _predictions(deployment: Deployment, asked: list[Asked], aligner: str) -> Measured:
    del deployment
    _needs(aligner, {"ALIGN_NONE", "ALIGN_DELTA", "ALIGN_SUM"})
    if asked:
        yield {}, "int64Value", sum(one.code < 400 for one in asked)


def _errors(deployment: Deployment, asked: list[Asked], aligner: str) -> Measured:
    del deployment
    _needs(aligner, {"ALIGN_NONE", "ALIGN_DELTA", "ALIGN_SUM"})
    if asked:
        yield {}, "int64Value", sum(one.code >= 400 for one in asked)


def _latencies(deployment: Deployment, asked: list[Asked], aligner: str) -> Measured:
    del deployment
    _needs(aligner, set(_PERCENTILES))
    if asked:
        values = sorted(1000.0 * one.latency_s for one in asked)
        at = min(len(values) - 1, math.ceil(_PERCENTILES[aligner] * len(values)) - 1)
        yield {"latency_type": "total"}, "doubleValue", values[max(0, at)]


def _replicas(deployment: Deployment, asked: list[Asked], aligner: str) -> Measured:
    del asked
    _needs(aligner, {"ALIGN_NONE", "ALIGN_MEAN", "ALIGN_MAX"})
    yield {}, "int64Value", deployment.ready


_MEASURES: Mapping[str, Callable[[Deployment, list[Asked], str], Measured]] = {
    f"{_ONLINE}/response_count": _responses,
    f"{_ONLINE}/prediction_count": _predictions,
    f"{_ONLINE}/error_count": _errors,
    f"{_ONLINE}/prediction_latencies": _latencies,
    f"{_ONLINE}/replicas": _replicas,
}


def _needs(aligner: str, known: set[str]) -> None:
    if aligner not in known:
        raise Refused("INVALID_ARGUMENT", f"{aligner} cannot be applied to metrics of this kind.")


def _logged(one: _Entry) -> dict[str, Any]:
    if one.job:
        return {
            "resource.type": _JOB,
            "resource.labels.job_id": one.endpoint,
            "resource.labels.task_name": one.deployed,
            "timestamp": one.at,
        }
    return {
        "resource.type": _RESOURCE,
        "resource.labels.endpoint_id": one.endpoint,
        "resource.labels.location": one.region,
        "labels.deployed_model_id": one.deployed,
        "timestamp": one.at,
    }


def _terms(text: str) -> list[tuple[str, str, str]]:
    """Return the comparisons of a filter, which are joined by AND."""
    terms = []
    for part in re.split(r"\s+AND\s+", text.strip()) if text.strip() else []:
        found = _TERM.fullmatch(part.strip())
        if found is None:
            raise Refused("INVALID_ARGUMENT", f"filter: {part!r} is not supported.")
        terms.append((found[1], found[2], re.sub(r"\\(.)", r"\1", found[3])))
    return terms


def _matches(terms: list[tuple[str, str, str]], one: Mapping[str, Any]) -> bool:
    for name, sign, value in terms:
        if name == "timestamp":
            at = one["timestamp"]
            wanted = _seconds(value)
            holds = {">=": at >= wanted, "<=": at <= wanted, ">": at > wanted, "<": at < wanted}
            if not holds.get(sign, at == wanted):
                return False
        elif sign != "=" or name not in one:
            raise Refused("INVALID_ARGUMENT", f"filter: {name} {sign} is not supported.")
        elif str(one[name]) != value:
            return False
    return True


def _read(request: Request) -> dict[str, Any]:
    try:
        asked = json.loads(request.read() or b"{}")
    except ValueError as error:
        raise Refused("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from error
    if not isinstance(asked, dict):
        raise Refused("INVALID_ARGUMENT", "Invalid JSON payload received. Root must be an object.")
    return asked


def _page(found: list[Any], size: Any, token: Any, *, usual: int) -> tuple[list[Any], str | None]:
    """Return one page of what was found, and the token of the next."""
    try:
        start, most = int(token or 0), int(size or usual)
    except (TypeError, ValueError) as error:
        raise Refused("INVALID_ARGUMENT", "Invalid page size or page token.") from error
    if start < 0 or most < 0:
        raise Refused("INVALID_ARGUMENT", "Invalid page size or page token.")
    end = start + min(most, usual if usual > 1000 else 1000)
    return found[start:end], str(end) if end < len(found) else None


def _only(asked: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(asked) - known)
    if unknown:
        raise Refused(
            "INVALID_ARGUMENT",
            f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.',
        )


def _seconds(text: str) -> float:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise Refused("INVALID_ARGUMENT", f"{text!r} is no time in RFC 3339.") from error


def _iso(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def _json(document: Any, *, status: int = 200) -> Response:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    return Response(status=status, headers=headers, body=json.dumps(document).encode())
