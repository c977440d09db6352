"""Time series that users write: ``timeSeries.create`` over plain HTTP, and what a look shows.

Source of the rules:
https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/create
"""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from cloudreg_emulator.google.emulator import Google

METRIC = "custom.googleapis.com/team/drift"


@pytest.fixture(scope="module")
def google() -> Any:
    with Google(images={}, scale=0.0) as made:
        yield made


@pytest.fixture(scope="module")
def http(google: Any) -> Any:
    import httpx

    with httpx.Client(base_url=google.url, timeout=30.0) as made:
        yield made


def moment(seconds: float = 0.0) -> str:
    now = datetime.datetime.now(datetime.UTC)
    return (now + datetime.timedelta(seconds=seconds)).isoformat()


def series(value: Any = 0.5, *, at: float = 0.0, **more: Any) -> dict[str, Any]:
    labels = more.pop("labels", {"version": "1"})
    return {
        "metric": {"type": more.pop("type", METRIC), "labels": labels},
        "resource": {"type": "global", "labels": {}},
        "points": [{"interval": {"endTime": moment(at)}, "value": {"doubleValue": value}}],
        **more,
    }


def write(http: Any, *given: dict[str, Any]) -> Any:
    return http.post("/v3/projects/emulated-project/timeSeries", json={"timeSeries": list(given)})


def look(http: Any, metric: str, aligner: str = "ALIGN_MEAN", more: str = "") -> Any:
    asked = {
        "filter": f'metric.type="{metric}"{more}',
        "interval.startTime": moment(-60),
        "interval.endTime": moment(1),
        "aggregation.alignmentPeriod": "60s",
        "aggregation.perSeriesAligner": aligner,
    }
    return http.get("/v3/projects/emulated-project/timeSeries", params=asked)


def values(answer: Any) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {
        one["metric"]["labels"]["version"]: one["points"][0]["value"]["doubleValue"]
        for one in answer.json().get("timeSeries", ())
    }


def test_what_is_written_is_seen(http: Any) -> None:
    """Points of a series are aligned as they are asked for; a label chooses among series."""
    metric = f"{METRIC}/seen"
    one, two = {"version": "1"}, {"version": "2"}
    for value, at in ((0.2, -30), (0.4, -20)):
        assert write(http, series(value, at=at, type=metric, labels=one)).json() == {}
    assert write(http, series(7, at=-10, type=metric, labels=two)).status_code == 200
    write(http, series(100, at=-600, type=metric, labels={"version": "3"}))

    assert values(look(http, metric)) == {"1": pytest.approx(0.3), "2": 7.0}
    assert values(look(http, metric, "ALIGN_MAX")) == {"1": 0.4, "2": 7.0}
    assert values(look(http, metric, "ALIGN_SUM")) == {"1": pytest.approx(0.6), "2": 7.0}
    chosen = ' AND metric.labels.version="2"'
    assert values(look(http, metric, more=chosen)) == {"2": 7.0}
    assert values(look(http, metric, more=' AND metric.labels.other="2"')) == {}


def test_what_nobody_wrote(http: Any) -> None:
    """A metric that nobody ever wrote is not found, and not empty."""
    answer = look(http, f"{METRIC}/never")
    assert answer.status_code == 404
    assert "Cannot find metric" in answer.json()["error"]["message"]


def test_aligner_that_does_not_suit(http: Any) -> None:
    """Gauges of numbers have no rate and no percentiles."""
    write(http, series(type=f"{METRIC}/gauge"))
    for aligner in ("ALIGN_RATE", "ALIGN_DELTA", "ALIGN_PERCENTILE_95"):
        answer = look(http, f"{METRIC}/gauge", aligner)
        assert (answer.status_code, aligner in answer.text) == (400, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "timeSeries is required"),
        ([series(type="compute.googleapis.com/drift")], "not one that users write"),
        ([series(resource={"type": "kitchen"})], "'kitchen' cannot be written to"),
        ([series(metricKind="CUMULATIVE")], "no CUMULATIVE metrics"),
        ([series(points=[])], "exactly one point"),
        ([series(points=series()["points"] * 2)], "exactly one point"),
        ([series(at=3600)], "too far in the past or in the future"),
        ([series(at=-26 * 3600)], "too far in the past or in the future"),
        (
            [series(points=[{"interval": {"endTime": "noon"}, "value": {"doubleValue": 1}}])],
            "no time in RFC 3339",
        ),
        (
            [series(points=[{"interval": {"endTime": moment()}, "value": {"stringValue": "x"}}])],
            "one of doubleValue and int64Value",
        ),
        ([series()] * 201, "more than 200"),
        ([{"points": []}], "metric is required"),
    ],
)
def test_refused(http: Any, given: list[Any], words: str) -> None:
    """What Monitoring refuses is refused by name, and nothing of it is written."""
    answer = write(http, *given)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert words in answer.json()["error"]["message"]


def test_points_go_forward(http: Any) -> None:
    """A point that is not more recent than the last one is refused, and so is another type."""
    metric = f"{METRIC}/forward"
    write(http, series(1, at=-5, type=metric))
    assert "more recent" in write(http, series(2, at=-6, type=metric)).text
    whole = [{"interval": {"endTime": moment()}, "value": {"int64Value": "3"}}]
    assert "value type" in write(http, series(type=metric, points=whole)).text
    assert values(look(http, metric, "ALIGN_MAX")) == {"1": 1.0}


def test_somebody_elses_project(http: Any) -> None:
    """Another project's series are nobody's to write."""
    body = {"timeSeries": [series()]}
    answer = http.post("/v3/projects/somebody-else/timeSeries", json=body)
    assert answer.status_code == 403
