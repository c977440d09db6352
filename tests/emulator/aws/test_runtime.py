"""The runtime: real boto3 asks real processes, and is refused in AWS's words."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from cloudreg_emulator.aws import world
from cloudreg_emulator.faults import Fault


def refused(call, **request):
    with pytest.raises(ClientError) as caught:
        call(**request)
    return caught.value.response


def test_prediction(live):
    """An endpoint answers with what its model computes, and says which variant did."""
    live.doubling()
    answer = live.ask(asked={"x": [1, 2.5]})

    assert answer["said"]["y"] == [2, 5.0]
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "main"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert answer["said"]["env"]["MODEL"] == "double"


def test_headers(live):
    """A container sees the headers that SageMaker passes on, and no other; so does the caller."""
    live.doubling()
    answer = live.ask(
        Accept="application/json",
        CustomAttributes="trace=1",
        InferenceId="id-7",
        TargetVariant="main",
        SessionId="NEW_SESSION",
    )
    seen = answer["said"]["headers"]

    assert seen == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-length": "2",
        "content-type": "application/json",
        "host": seen["host"],
        "x-amzn-sagemaker-custom-attributes": "trace=1",
        "x-amzn-sagemaker-inference-id": "id-7",
        "x-amzn-sagemaker-session-id": "NEW_SESSION",
        "x-amzn-sagemaker-target-variant": "main",
    }
    assert answer["CustomAttributes"] == "from=container"
    assert "x-of-our-own" not in answer["ResponseMetadata"]["HTTPHeaders"]


@pytest.mark.parametrize(
    "kind", ["application/x-npy", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_bytes_are_left_alone(live, kind):
    """Bodies pass through unchanged, also those that call themselves a form or are no text."""
    body = b"key=\xff\x00&a=b\x80"
    live.deploy("raw", live.variant("main", live.model("raw", binary=True)))
    answer = live.runtime.invoke_endpoint(EndpointName="raw", Body=body, ContentType=kind)

    assert answer["Body"].read() == body


def test_weights(live):
    """Traffic is shared exactly by weight, and smoothly: a canary waits for nobody."""
    live.deploy(
        "churn",
        live.variant("main", live.model("a", mark="a"), weight=9),
        live.variant("canary", live.model("b", mark="b"), weight=1),
    )
    marks = [live.ask()["said"]["mark"] for _ in range(20)]

    assert Counter(marks) == {"a": 18, "b": 2}
    assert "b" in marks[:10]
    assert "b" in marks[10:]


def test_weight_zero(live):
    """A variant of weight 0 gets nothing but what asks for it by name."""
    live.deploy(
        "churn",
        live.variant("main", live.model("a", mark="a"), weight=1),
        live.variant("off", live.model("b", mark="b"), weight=0),
    )

    assert {live.ask()["said"]["mark"] for _ in range(6)} == {"a"}
    assert live.ask(TargetVariant="off")["said"]["mark"] == "b"


def test_shadow(live, until):
    """A shadow variant gets copies of the requests; its answers reach nobody."""
    shadow = live.variant("shadow", live.model("b", mark="b"))
    live.deploy(
        "churn", live.variant("main", live.model("a", mark="a")),
        ShadowProductionVariants=[shadow],
    )  # fmt: skip
    marks = {live.ask()["said"]["mark"] for _ in range(4)}
    logs, group = live.client("logs"), "/aws/sagemaker/Endpoints/churn"

    def copies():
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="shadow/")
        (name,) = [stream["logStreamName"] for stream in streams["logStreams"]]
        events = logs.get_log_events(logGroupName=group, logStreamName=name)["events"]
        return sum(event["message"].startswith("asked") for event in events)

    until(lambda: copies() == 4)
    assert marks == {"a"}


def test_unknown_endpoint(live):
    """What is not there, or not in service yet, is not found; the code is the runtime's own."""
    error = refused(live.runtime.invoke_endpoint, EndpointName="ghost", Body=b"{}")

    assert error["Error"]["Code"] == "ValidationError"
    assert error["Error"]["Message"] == "Endpoint ghost of account 123456789012 not found."
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_unknown_variant(live):
    """A variant that is not there is refused."""
    live.doubling()
    error = refused(
        live.runtime.invoke_endpoint, EndpointName="churn", Body=b"{}", TargetVariant="ghost"
    )

    assert error["Error"]["Code"] == "ValidationError"
    assert "ghost" in error["Error"]["Message"]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [("CustomAttributes", "x" * 1025, "length less than or equal to 1024"),
     ("InferenceId", "x" * 65, "length less than or equal to 64"),
     ("TargetVariant", "no_underscores", "regular expression pattern"),
     ("SessionId", "-", "regular expression pattern")],
)  # fmt: skip
def test_fields(live, field, value, rule):
    """Every field is held to the service model; the error names it. Source: botocore."""
    error = refused(live.runtime.invoke_endpoint, EndpointName="e", Body=b"", **{field: value})

    assert error["Error"]["Code"] == "ValidationError"
    assert f"at '{field[0].lower()}{field[1:]}'" in error["Error"]["Message"]
    assert rule in error["Error"]["Message"]


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (422, "client"), (503, "server")])
def test_model_error(live, status, side):
    """A container's error is wrapped in 424, with its status, its words and its logs."""
    live.doubling()
    asked = json.dumps({"status": status}).encode()
    error = refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=asked)

    assert error["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert error["Error"]["Code"] == "ModelError"
    assert error["OriginalStatusCode"] == status
    assert '"pid"' in error["OriginalMessage"]
    assert error["LogStreamArn"] == (
        "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/churn"
    )
    assert error["Error"]["Message"].startswith(
        f'Received {side} error ({status}) from primary with message "'
    )
    assert error["Error"]["Message"].endswith(
        "logEventViewer:group=/aws/sagemaker/Endpoints/churn in account 123456789012 for more "
        "information."
    )


def test_container_that_dies(live):
    """A connection that breaks is a ModelError without a status; the request is not repeated."""
    live.doubling()
    asked = b'{"die": true}'
    error = refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=asked)

    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 0)


def test_no_instance(live, until):
    """Where no instance is ready, the service is unavailable."""
    live.doubling()
    refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=b'{"die": true}')
    state = live.sagemaker.describe_endpoint
    until(lambda: state(EndpointName="churn")["ProductionVariants"][0]["CurrentInstanceCount"] == 0)
    error = refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=b"{}")

    assert error["Error"]["Code"] == "ServiceUnavailable"
    until(lambda: state(EndpointName="churn")["ProductionVariants"][0]["CurrentInstanceCount"] == 1)
    assert live.ask(asked={"x": [1]})["said"]["y"] == [2]


@pytest.fixture
def limited(live):
    """Changes the limits of the world that *live* is in."""

    def change(**limits):
        now = world.current()
        for name, value in limits.items():
            object.__setattr__(now, name, value)

    return change


def test_too_slow(live, limited):
    """A container that does not answer in time is a ModelError in AWS's words."""
    live.doubling()
    limited(invoke_timeout_s=0.1)
    error = refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=b'{"sleep_s": 2}')

    assert error["OriginalStatusCode"] == 0
    assert error["OriginalMessage"].startswith("Your invocation timed out while waiting for a")


def test_too_large(live, limited):
    """A body over the limit is refused with 413, and reaches no container."""
    live.doubling()
    limited(max_payload_bytes=100)
    error = refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=b" " * 101)

    assert error["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert error["Error"] == {
        "Code": "413", "Message": "HTTP content length exceeded 100 bytes."
    }  # fmt: skip
    assert (
        refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=b" " * 100)["Error"][
            "Code"
        ]
        == "ModelError"
    )


def test_limit_is_the_documented_one(live):
    """Without a setting, 25 MB pass and more does not."""
    live.deploy("raw", live.variant("main", live.model("raw", binary=True)))
    body = b"\xff" * (25 * 2**20)

    assert len(live.runtime.invoke_endpoint(EndpointName="raw", Body=body)["Body"].read()) == len(
        body
    )
    error = refused(live.runtime.invoke_endpoint, EndpointName="raw", Body=body + b"\xff")
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_stream(live):
    """boto3 reads an event stream of the container's pieces."""
    live.doubling()
    answer = live.runtime.invoke_endpoint_with_response_stream(
        EndpointName="churn", Body=b'{"stream": 3}', ContentType="application/json"
    )
    pieces = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]

    assert b"".join(pieces) == b"piece 0;piece 1;piece 2;"
    assert answer["ContentType"] == "text/plain"
    assert answer["InvokedProductionVariant"] == "main"


def test_stream_that_breaks(live):
    """A stream that breaks off ends in an error that boto3 raises."""
    live.doubling()
    answer = live.runtime.invoke_endpoint_with_response_stream(
        EndpointName="churn", Body=b'{"stream": 2, "cut": true}'
    )
    with pytest.raises(ClientError) as caught:
        list(answer["Body"])

    assert caught.value.response["Error"]["Code"] == "ModelStreamError"


def test_stream_that_is_refused(live):
    """Until the first piece an error is an error like any other."""
    live.doubling()
    error = refused(
        live.runtime.invoke_endpoint_with_response_stream,
        EndpointName="churn",
        Body=b'{"status": 500}',
    )

    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 500)


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [({"kind": "throttle"}, "ThrottlingException", 400),
     ({"kind": "error"}, "ServiceUnavailable", 503),
     ({"kind": "error", "status": 500}, "InternalFailure", 500),
     ({"kind": "lost", "status": 500}, "InternalFailure", 500)],
)  # fmt: skip
def test_faults(live, fault, code, status):
    """Faults strike invocations, in the words of the service, and as often as they should."""
    live.doubling()
    armed = live.emulator.faults.arm(
        Fault(service="sagemaker-runtime", operation="InvokeEndpoint", **fault)
    )
    error = refused(live.runtime.invoke_endpoint, EndpointName="churn", Body=b"{}")

    assert error["Error"]["Code"] == code
    assert error["ResponseMetadata"]["HTTPStatusCode"] == status
    assert armed.struck == 1
    assert live.ask()["said"]["y"] == []


def test_lost_answer(live, until):
    """Where the answer is lost the container has done its work."""
    live.doubling()
    live.emulator.faults.arm(Fault(kind="lost", service="sagemaker-runtime", status=0))
    with pytest.raises(ConnectionClosedError):
        live.ask()
    logs = live.client("logs")

    def asked():
        found = logs.filter_log_events(logGroupName="/aws/sagemaker/Endpoints/churn")
        return [e["message"] for e in found["events"] if e["message"].startswith("asked")]

    until(lambda: asked() == ["asked for 2 bytes"])


def test_logs(live, until):
    """Containers' words are in CloudWatch Logs, in a stream for each instance."""
    live.deploy("churn", live.variant("main", live.model("double", scale=2), count=2))
    logs, group = live.client("logs"), "/aws/sagemaker/Endpoints/churn"
    until(lambda: len(logs.describe_log_streams(logGroupName=group)["logStreams"]) == 2)
    streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
    name = streams[0]["logStreamName"]
    events = logs.get_log_events(logGroupName=group, logStreamName=name)["events"]

    assert all(stream["logStreamName"].startswith("main/i-") for stream in streams)
    assert events[0]["message"] == "the container starts"


def test_logs_of_a_region(live, until):
    """Logs lie in the region of their endpoint, and nowhere else."""
    live.region = "eu-west-1"
    live.doubling()
    groups = live.client("logs").describe_log_groups
    until(lambda: groups()["logGroups"])
    live.region = "us-east-1"

    assert groups()["logGroups"][0]["arn"].startswith("arn:aws:logs:eu-west-1:123456789012:")
    assert live.client("logs").describe_log_groups()["logGroups"] == []
