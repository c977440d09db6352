"""What invocations leave behind: captured data, CloudWatch metrics, asynchronous answers."""

from __future__ import annotations

import base64
import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError


def captured(live, prefix="captured/"):
    """Return the captured lines, in their order."""
    s3 = live.client("s3")
    found = s3.list_objects_v2(Bucket="models", Prefix=prefix).get("Contents", [])
    keys = [item["Key"] for item in sorted(found, key=lambda item: item["LastModified"])]
    bodies = [s3.get_object(Bucket="models", Key=key)["Body"].read() for key in keys]
    return keys, [json.loads(line) for body in bodies for line in body.splitlines()]


def capture(percent=100, modes=("Input", "Output"), **more):
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": percent,
        "DestinationS3Uri": "s3://models/captured",
        "CaptureOptions": [{"CaptureMode": mode} for mode in modes],
        **more,
    }


def test_capture(live):
    """A sampled request lies in the bucket as the line that AWS's monitoring reads."""
    live.doubling(DataCaptureConfig=capture())
    live.ask(asked={"x": [3]}, InferenceId="id-7")
    (key,), (line,) = captured(live)

    assert key.startswith(f"captured/churn/main/{datetime.now(UTC):%Y/%m/%d/}")
    assert key.endswith(".jsonl")
    assert line["eventVersion"] == "0"
    assert line["eventMetadata"]["inferenceId"] == "id-7"
    assert line["captureData"]["endpointInput"] == {
        "observedContentType": "application/json",
        "mode": "INPUT",
        "data": '{"x": [3]}',
        "encoding": "JSON",
    }
    assert json.loads(line["captureData"]["endpointOutput"]["data"])["y"] == [6]


def test_capture_of_bytes(live):
    """What is no text is captured as BASE64, and only the side that was asked for."""
    live.deploy(
        "raw", live.variant("main", live.model("raw", binary=True)),
        DataCaptureConfig=capture(modes=["Input"]),
    )  # fmt: skip
    live.runtime.invoke_endpoint(EndpointName="raw", Body=b"\xff\x00", ContentType="image/png")
    _, (line,) = captured(live)

    assert list(line["captureData"]) == ["endpointInput"]
    assert line["captureData"]["endpointInput"]["encoding"] == "BASE64"
    assert base64.b64decode(line["captureData"]["endpointInput"]["data"]) == b"\xff\x00"


def test_sampling(live):
    """About the share that was asked for is captured; nothing of 0 %."""
    live.doubling(DataCaptureConfig=capture(percent=50))
    for _ in range(100):
        live.ask()
    share = len(captured(live)[1])
    live.deploy(
        "other", live.variant("main", "double"),
        DataCaptureConfig=capture(percent=0, DestinationS3Uri="s3://models/none"),
    )  # fmt: skip
    live.ask("other")

    # Of 100 draws at one half, 20 or 80 would come once in a billion runs.
    assert 20 < share < 80
    assert captured(live, "none/")[1] == []


def test_capture_stops_on_demand(live):
    """A configuration that says that capture is off captures nothing."""
    live.doubling(DataCaptureConfig=capture(EnableCapture=False))
    live.ask()

    assert captured(live)[1] == []


def test_capture_without_bucket(live):
    """A destination that is not there does no harm to predictions."""
    live.doubling(DataCaptureConfig=capture(DestinationS3Uri="s3://gone/x"))

    assert live.ask(asked={"x": [1]})["said"]["y"] == [2]


def test_failures_are_not_captured(live):
    """What a container refused is not captured."""
    live.doubling(DataCaptureConfig=capture())
    with pytest.raises(ClientError):
        live.ask(asked={"status": 400})

    assert captured(live)[1] == []


DIMENSIONS = [
    {"Name": "EndpointName", "Value": "churn"},
    {"Name": "VariantName", "Value": "main"},
]


def statistics(live, name, *, statistics=None, extended=None, dimensions=DIMENSIONS):
    """Return one statistic over the last minute and the next one."""
    now = datetime.now(UTC)
    asked = {"Statistics": [statistics]} if statistics else {"ExtendedStatistics": [extended]}
    points = live.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/SageMaker",
        MetricName=name,
        Dimensions=dimensions,
        StartTime=now - timedelta(seconds=60),
        EndTime=now + timedelta(seconds=60),
        Period=120,
        **asked,
    )["Datapoints"]
    return points[0].get(statistics) if statistics and points else points


def test_metrics(live):
    """CloudWatch counts what came, what failed and how long it took, for each variant."""
    live.deploy("churn", live.variant("main", live.model("double", scale=2), count=2))
    for status in (200, 200, 200, 404, 500):
        with nullcontext() if status == 200 else pytest.raises(ClientError):
            live.ask(asked={"status": status, "sleep_s": 0.02})

    def total(name):
        return statistics(live, name, statistics="Sum")

    assert total("Invocations") == 5
    assert total("InvocationsPerInstance") == 2.5
    assert total("Invocation4XXErrors") == 1
    assert total("Invocation5XXErrors") == 1
    assert total("InvocationModelErrors") == 2
    # Microseconds: the container slept for 20 milliseconds each time.
    assert 20_000 <= statistics(live, "ModelLatency", statistics="Minimum") < 1_000_000
    assert statistics(live, "OverheadLatency", statistics="SampleCount") == 5


def test_metric_data(live):
    """The other operation of CloudWatch shows the same, percentiles included."""
    live.doubling()
    for sleep_s in (0, 0, 0, 0, 0, 0, 0, 0, 0, 0.3):
        live.ask(asked={"sleep_s": sleep_s})
    now = datetime.now(UTC)

    def query(number, name, stat):
        metric = {"Namespace": "AWS/SageMaker", "MetricName": name, "Dimensions": DIMENSIONS}
        return {"Id": number, "MetricStat": {"Metric": metric, "Period": 120, "Stat": stat}}

    results = live.client("cloudwatch").get_metric_data(
        MetricDataQueries=[
            query("n", "Invocations", "Sum"),
            query("fast", "ModelLatency", "p50"),
            query("slow", "ModelLatency", "p95"),
            query("most", "ModelLatency", "Maximum"),
        ],
        StartTime=now - timedelta(seconds=60),
        EndTime=now + timedelta(seconds=60),
    )["MetricDataResults"]
    values = {result["Id"]: result["Values"][0] for result in results}

    assert values["n"] == 10
    assert values["fast"] < 300_000 <= values["slow"] <= values["most"]
    # A class of latencies is 2 % wide.
    assert values["slow"] == pytest.approx(values["most"], rel=0.02)


def test_extended_statistics(live):
    """Percentiles are answered where moto drops the question."""
    live.doubling()
    live.ask()
    (point,) = statistics(live, "ModelLatency", extended="p99")

    assert point["ExtendedStatistics"]["p99"] > 0


def test_percentiles_of_the_users_own(live):
    """Percentiles of values that somebody published are exact."""
    cloudwatch = live.client("cloudwatch")
    data = [{"MetricName": "mine", "Value": float(value)} for value in range(1, 101)]
    cloudwatch.put_metric_data(Namespace="AWS/SageMaker", MetricData=data)
    (point,) = statistics(live, "mine", extended="p90", dimensions=[])

    assert point["ExtendedStatistics"] == {"p90": 90.0}


def asynchronous(**more):
    return {
        "OutputConfig": {
            "S3OutputPath": "s3://models/out",
            "S3FailurePath": "s3://models/failed",
            **more,
        }
    }


def there(live, uri):
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        return live.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError:
        return None


def test_asynchronous(live, until):
    """The input is read from S3, and the answer lies where the caller was told."""
    live.doubling(AsyncInferenceConfig=asynchronous())
    live.client("s3").put_object(Bucket="models", Key="in.json", Body=b'{"x": [21]}')
    ticket = live.runtime.invoke_endpoint_async(
        EndpointName="churn",
        InputLocation="s3://models/in.json",
        ContentType="application/json",
        InferenceId="mine",
    )
    until(lambda: there(live, ticket["OutputLocation"]) is not None)

    assert ticket["InferenceId"] == "mine"
    assert ticket["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert ticket["OutputLocation"].startswith("s3://models/out/")
    assert json.loads(there(live, ticket["OutputLocation"]))["y"] == [42]
    assert there(live, ticket["FailureLocation"]) is None


def test_asynchronous_inline(live, until):
    """A small input may come with the request, and the caller may name the output."""
    live.doubling(AsyncInferenceConfig=asynchronous())
    ticket = live.runtime.invoke_endpoint_async(
        EndpointName="churn", Body=b'{"x": [1]}', S3OutputPathExtension="deep", Filename="mine.json"
    )
    until(lambda: there(live, "s3://models/out/deep/mine.json") is not None)

    assert ticket["OutputLocation"] == "s3://models/out/deep/mine.json"


@pytest.mark.parametrize(
    ("body", "said"),
    [(b'{"status": 400}', b"Received client error (400)"), (None, b"missing.json")],
)
def test_asynchronous_failure(live, until, body, said):
    """What went wrong lies where the caller was told: a container's error, or no input."""
    live.doubling(AsyncInferenceConfig=asynchronous())
    source = {"Body": body} if body else {"InputLocation": "s3://models/missing.json"}
    ticket = live.runtime.invoke_endpoint_async(EndpointName="churn", **source)
    until(lambda: there(live, ticket["FailureLocation"]) is not None)

    assert said in there(live, ticket["FailureLocation"])
    assert there(live, ticket["OutputLocation"]) is None


@pytest.mark.parametrize(
    ("config", "operation", "request_"),
    [({}, "invoke_endpoint_async", {"InputLocation": "s3://models/x"}),
     ({"AsyncInferenceConfig": asynchronous()}, "invoke_endpoint", {"Body": b"{}"}),
     ({"AsyncInferenceConfig": asynchronous()}, "invoke_endpoint_async", {}),
     ({"AsyncInferenceConfig": asynchronous()}, "invoke_endpoint_async",
      {"InputLocation": "s3://models/x", "Body": b"{}"})],
)  # fmt: skip
def test_wrong_operation(live, config, operation, request_):
    """An asynchronous endpoint takes asynchronous requests only, with one input, and vice versa."""
    live.doubling(**config)
    with pytest.raises(ClientError) as caught:
        getattr(live.runtime, operation)(EndpointName="churn", **request_)

    assert caught.value.response["Error"]["Code"] == "ValidationError"
