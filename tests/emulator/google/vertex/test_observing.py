"""Cloud Logging and Cloud Monitoring: what containers wrote, and what endpoints answered."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import pytest

ONLINE = "aiplatform.googleapis.com/prediction/online"
RESOURCE = "aiplatform.googleapis.com/Endpoint"


def moment(seconds: float) -> str:
    now = datetime.datetime.now(datetime.UTC)
    return (now + datetime.timedelta(seconds=seconds)).isoformat()


def series(hosting: Any, metric: str, *, aligner: str = "ALIGN_DELTA", **more: Any) -> Any:
    """Return the time series of a metric in the last minute, as plain HTTP has them."""
    terms = [f'metric.type = "{ONLINE}/{metric}"', *more.pop("terms", ())]
    asked = {
        "filter": " AND ".join(terms),
        "interval.startTime": moment(-60),
        "interval.endTime": moment(1),
        "aggregation.alignmentPeriod": "60s",
        "aggregation.perSeriesAligner": aligner,
        **more,
    }
    project = hosting.emulator.place.project
    answer = hosting.http.get(f"/v3/projects/{project}/timeSeries", params=asked)
    return answer.json()


def points(said: Any) -> dict[tuple[str, ...], float]:
    """Return each series' value, by deployed model and what else tells them apart."""
    return {
        tuple(one["metric"]["labels"].values()): float(
            next(iter(one["points"][0]["value"].values()))
        )
        for one in said.get("timeSeries", ())
    }


def entries(hosting: Any, **asked: Any) -> Any:
    project = hosting.emulator.place.project
    body = {"resourceNames": [f"projects/{project}"], **asked}
    return hosting.http.post("/v2/entries:list", json=body)


def messages(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["jsonPayload"]["message"] for one in answer.json().get("entries", ())]


def test_metrics_follow_the_traffic(hosting: Any) -> None:
    """Answers, predictions, errors, latencies and replicas are those that there were.

    Source: https://cloud.google.com/monitoring/api/metrics_gcp
    """
    endpoint = hosting.endpoint()
    one = hosting.deploy(endpoint, hosting.version())
    assert series(hosting, "response_count") == {}

    for _ in range(3):
        hosting.predict(endpoint, 1)
    for _ in range(2):
        hosting.refused(lambda: hosting.ask(endpoint, status=500))
    hosting.refused(lambda: hosting.ask(endpoint, status=400))
    hosting.ask(endpoint, sleep_s=0.3)

    assert points(series(hosting, "response_count")) == {
        (one, "200"): 4,
        (one, "400"): 1,
        (one, "500"): 2,
    }
    assert points(series(hosting, "prediction_count")) == {(one,): 4}
    assert points(series(hosting, "error_count")) == {(one,): 3}
    assert points(series(hosting, "replicas", aligner="ALIGN_MEAN")) == {(one,): 1}
    (low,) = points(series(hosting, "prediction_latencies", aligner="ALIGN_PERCENTILE_05")).values()
    (top,) = points(series(hosting, "prediction_latencies", aligner="ALIGN_PERCENTILE_99")).values()
    assert 0 < low < 300 <= top
    (shown,) = series(hosting, "replicas", aligner="ALIGN_MEAN")["timeSeries"]
    assert shown["resource"] == {
        "type": RESOURCE,
        "labels": {
            "endpoint_id": endpoint.rpartition("/")[2],
            "location": "us-central1",
            "resource_container": f"projects/{hosting.emulator.place.number}",
        },
    }


def test_metrics_of_one(hosting: Any) -> None:
    """A filter by endpoint, by deployed model, or by time leaves the others out."""
    first, second = hosting.endpoint(), hosting.endpoint()
    version = hosting.version()
    one = hosting.deploy(first, version)
    two = hosting.deploy(second, version)
    hosting.predict(first, 1)
    hosting.predict(second, 1)

    by_endpoint = f'resource.labels.endpoint_id = "{first.rpartition("/")[2]}"'
    by_model = f'metric.labels.deployed_model_id = "{two}"'
    elsewhere = 'resource.labels.location = "europe-west4"'
    assert points(series(hosting, "prediction_count", terms=[by_endpoint])) == {(one,): 1}
    assert points(series(hosting, "prediction_count", terms=[by_model])) == {(two,): 1}
    assert points(series(hosting, "prediction_count", terms=[elsewhere])) == {}
    past = {"interval.startTime": moment(-120), "interval.endTime": moment(-60)}
    assert series(hosting, "prediction_count", **past) == {}
    page = series(hosting, "prediction_count", pageSize=1)
    assert (len(page["timeSeries"]), page["nextPageToken"]) == (1, "1")
    rest = series(hosting, "prediction_count", pageSize=1, pageToken="1")
    assert {*points(page), *points(rest)} == {(one,), (two,)}
    assert "nextPageToken" not in rest


@pytest.mark.parametrize(
    ("metric", "more"),
    [
        ("mood", {}),
        ("response_count", {"aligner": "ALIGN_PERCENTILE_99"}),
        ("prediction_latencies", {"aligner": "ALIGN_MEAN"}),
        ("response_count", {"terms": ['metric.labels.mood = "good"']}),
        ("response_count", {"terms": ['resource.type = starts_with("a")']}),
        ("response_count", {"interval.startTime": "yesterday"}),
        ("response_count", {"interval.endTime": ""}),
        ("response_count", {"pageToken": "x"}),
        ("response_count", {"mood": "good"}),
        ("response_count", {"filter": ""}),
        ("response_count", {"filter": 'resource.type = "a"'}),
    ],
)
def test_no_such_series(hosting: Any, metric: str, more: dict[str, Any]) -> None:
    """What Monitoring has not, or is not emulated, is refused and not passed over."""
    endpoint = hosting.endpoint()
    hosting.deploy(endpoint, hosting.version())
    hosting.predict(endpoint, 1)

    said = series(hosting, metric, **more)

    assert said["error"]["status"] == ("NOT_FOUND" if metric == "mood" else "INVALID_ARGUMENT")


def test_logs(hosting: Any, until: Callable[..., None]) -> None:
    """What containers write is found by endpoint, deployed model and time, in either order.

    Source: https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
    """
    endpoint, other = hosting.endpoint(), hosting.endpoint()
    version = hosting.version()
    deployed = hosting.deploy(endpoint, version)
    hosting.deploy(other, version)
    for word in ("first", "second", "third"):
        hosting.ask(endpoint, log=word)
    hosting.ask(other, log="elsewhere")
    mine = (
        f'resource.type = "{RESOURCE}" AND '
        f'resource.labels.endpoint_id = "{endpoint.rpartition("/")[2]}"'
    )
    until(lambda: len(messages(entries(hosting, filter=mine))) == 4)

    assert messages(entries(hosting, filter=mine)) == [
        f"starting as {deployed}",
        "first",
        "second",
        "third",
    ]
    assert messages(entries(hosting, filter=mine, orderBy="timestamp desc", pageSize=1)) == [
        "third"
    ]
    by_model = f'labels.deployed_model_id = "{deployed}" AND timestamp >= "{moment(-60)}"'
    assert len(messages(entries(hosting, filter=by_model))) == 4
    assert messages(entries(hosting, filter=f'{mine} AND timestamp > "{moment(60)}"')) == []
    page = entries(hosting, filter=mine, pageSize=3).json()
    rest = entries(hosting, filter=mine, pageSize=3, pageToken=page["nextPageToken"]).json()
    assert [one["jsonPayload"]["message"] for one in rest["entries"]] == ["third"]
    assert "nextPageToken" not in rest
    (line,) = entries(hosting, filter=mine, pageSize=1).json()["entries"]
    assert line["resource"]["labels"]["location"] == "us-central1"
    assert line["labels"]["deployed_model_id"] == deployed


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"filter": "mood"}, "INVALID_ARGUMENT"),
        ({"filter": 'labels.mood = "good"'}, "INVALID_ARGUMENT"),
        ({"filter": 'timestamp >= "yesterday"'}, "INVALID_ARGUMENT"),
        ({"orderBy": "mood"}, "INVALID_ARGUMENT"),
        ({"pageToken": "x"}, "INVALID_ARGUMENT"),
        ({"pageSize": -1}, "INVALID_ARGUMENT"),
        ({"mood": 1}, "INVALID_ARGUMENT"),
        ({"resourceNames": []}, "INVALID_ARGUMENT"),
        ({"resourceNames": ["projects/other"]}, "PERMISSION_DENIED"),
    ],
)
def test_no_such_logs(hosting: Any, asked: dict[str, Any], code: str) -> None:
    """What Logging has not, or is not emulated, is refused and not passed over."""
    endpoint = hosting.endpoint()
    hosting.deploy(endpoint, hosting.version())

    assert entries(hosting, **asked).json()["error"]["status"] == code


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_no_json(hosting: Any, body: bytes) -> None:
    """A body that is no JSON object is refused."""
    said = hosting.http.post("/v2/entries:list", content=body)

    assert (said.status_code, said.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_another_project(hosting: Any) -> None:
    """Another project's metrics are not for everybody."""
    said = hosting.http.get(
        "/v3/projects/other/timeSeries", params={"filter": f'metric.type = "{ONLINE}/replicas"'}
    )

    assert (said.status_code, json.loads(said.text)["error"]["status"]) == (
        403,
        "PERMISSION_DENIED",
    )
