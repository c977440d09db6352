"""Serverless and asynchronous endpoints as AWS sees them, and what a target refuses of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloudreg.errors import (
    InvalidRequest,
    NotFound,
    OperationFailed,
    OperationTimeout,
    Unsupported,
)
from cloudreg.operations import poll_until
from cloudreg.testing.serving import spec, variant
from cloudreg.types import (
    Asynchronous,
    EndpointKind,
    EndpointSpec,
    EndpointStatus,
    Serverless,
)
from cloudreg_emulator.faults import Fault, Kind
from cloudreg_sagemaker.queues import MAX_INLINE_BYTES

TOPIC = "arn:aws:sns:us-east-1:123456789012:answers"


def queued(desk: Any, **part: Any) -> EndpointSpec:
    plain = spec(desk.server.name(), variant("primary", desk.server.version(1)))
    asked = Asynchronous(**part)
    return replace(plain, kind=EndpointKind.ASYNCHRONOUS, asynchronous=asked)


def serverless(desk: Any, **part: Any) -> EndpointSpec:
    plain = spec(desk.server.name(), variant("primary", desk.server.version(1)))
    return replace(plain, kind=EndpointKind.SERVERLESS, serverless=Serverless(**part))


def config_of(desk: Any, name: str) -> dict[str, Any]:
    seen = desk.describe(name)["EndpointConfigName"]
    return dict(desk.client.describe_endpoint_config(EndpointConfigName=seen))


def submit(desk: Any, name: str, body: bytes, *, timeout_s: float = 30.0) -> str:
    said: str = desk.endpoints.submit(
        name, body, content_type="application/json", timeout_s=timeout_s
    )
    return said


def answer(desk: Any, name: str, request_id: str) -> bytes | None:
    return poll_until(lambda: desk.endpoints.result(name, request_id), bool, timeout_s=30.0)


def test_serverless_as_aws_sees_it(desk: Any) -> None:
    """A serverless variant has its own part and one archive, and nothing about machines."""
    asked = desk.start(serverless(desk, memory_mib=3072, max_concurrency=5))
    (made,) = config_of(desk, asked.name)["ProductionVariants"]
    model = desk.client.describe_model(ModelName=made["ModelName"])["PrimaryContainer"]

    assert made["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 5}
    assert {"InstanceType", "InitialInstanceCount", "RoutingConfig"} & made.keys() == set()
    assert model["ModelDataUrl"].endswith(".tar.gz")
    assert "ModelDataSource" not in model
    seen = desk.endpoints.endpoint(asked.name)
    assert seen.status is EndpointStatus.READY
    assert seen.variants[0].digest == asked.variants[0].digest


@pytest.mark.parametrize(
    ("key", "section"),
    [
        ("vpc", {"vpc": {"subnets": ["subnet-0a"], "security_groups": ["sg-0"]}}),
        ("network_isolation", {"network_isolation": True}),
        ("data_capture", {"data_capture": {"sample_percent": 10}}),
    ],
)
def test_serverless_excludes(opened: Callable[..., Any], key: str, section: dict[str, Any]) -> None:
    """What a serverless endpoint cannot have is the reason why a target with it has none."""
    desk = opened(**section)
    asked = serverless(desk)

    with pytest.raises(Unsupported, match=f"section has {key}") as caught:
        desk.provider.capabilities.require(asked, target="aws")
    assert "'real_time'" in (caught.value.hint or "")
    with pytest.raises(Unsupported):
        desk.endpoints.create(asked, artifacts=desk.server.artifacts)


def test_asynchronous_as_aws_sees_it(desk: Any) -> None:
    """Answers and failures go below the prefix, and topics are told."""
    asked = desk.start(
        queued(
            desk,
            output="a/b",
            max_concurrent_per_replica=3,
            notify_success=TOPIC,
            notify_error=TOPIC,
        )
    )
    made = config_of(desk, asked.name)["AsyncInferenceConfig"]

    where = f"s3://our-models/team/churn/a/b/{asked.name}"
    assert made == {
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 3},
        "OutputConfig": {
            "S3OutputPath": f"{where}/answers",
            "S3FailurePath": f"{where}/failures",
            "NotificationConfig": {"SuccessTopic": TOPIC, "ErrorTopic": TOPIC},
        },
    }
    assert desk.endpoints.endpoint(asked.name).url.endswith("/async-invocations")


def test_input_by_the_bucket(desk: Any) -> None:
    """Input that is too large for a request goes by the bucket; small input does not."""
    asked = desk.start(queued(desk))
    folder = f"sagemaker/us-east-1/requests/{asked.name}/"
    small = submit(desk, asked.name, b"{}".ljust(MAX_INLINE_BYTES))
    large = submit(desk, asked.name, b"{}".ljust(MAX_INLINE_BYTES + 1))

    kept = [s.key.removeprefix(folder) for s in desk.provider.store.list(folder)]
    assert sorted(kept) == sorted([f"{small}/ticket", f"{large}/input", f"{large}/ticket"])
    assert answer(desk, asked.name, small)
    assert answer(desk, asked.name, large)


def test_failure_has_the_words(desk: Any) -> None:
    """A failure object is a failure, with what stands in it."""
    asked = desk.start(queued(desk))
    request_id = submit(desk, asked.name, b"this is no JSON")

    with pytest.raises(OperationFailed, match="that is no JSON"):
        answer(desk, asked.name, request_id)


def test_request_that_expires(desk: Any) -> None:
    """A request that has neither answer nor failure when its time is over has failed."""
    asked = desk.start(queued(desk, expires_s=60))
    request_id = submit(desk, asked.name, b'{"sleep_s": 3.0}', timeout_s=1.0)
    assert desk.endpoints.result(asked.name, request_id) is None
    queue = desk.endpoints._queue
    now = queue._now
    queue._now = lambda: now() + 60 + 1 + 301
    try:
        with pytest.raises(OperationFailed, match="expired"):
            desk.endpoints.result(asked.name, request_id)
    finally:
        queue._now = now


def test_patience_that_aws_has_not(desk: Any) -> None:
    """More time than AWS gives a request is refused, with the most that it gives."""
    for asked_s, hint in ((59, "expires_s = 60"), (21_601, "expires_s = 21600")):
        with (
            desk.cloud.noted() as calls,
            pytest.raises(Unsupported, match=f"expires_s {asked_s}") as caught,
        ):
            desk.endpoints.create(queued(desk, expires_s=asked_s), artifacts=desk.server.artifacts)
        assert (caught.value.hint, calls) == (hint, [])
    asked = desk.start(queued(desk))
    with pytest.raises(InvalidRequest, match="3601 s"):
        submit(desk, asked.name, b"{}", timeout_s=3601.0)


def test_settings_change(desk: Any) -> None:
    """What becomes of answers can be changed while the endpoint lives."""
    asked = desk.start(queued(desk))
    other = replace(asked, asynchronous=Asynchronous(output="elsewhere"))
    desk.server.update(other)
    request_id = submit(desk, asked.name, b"{}")

    assert desk.endpoints.endpoint(asked.name).spec == other
    assert answer(desk, asked.name, request_id)
    found = [stored.key for stored in desk.provider.store.list(f"elsewhere/{asked.name}/answers/")]
    assert len(found) == 1


def stream(desk: Any, name: str, body: bytes, timeout_s: float = 30.0) -> Any:
    return desk.endpoints.stream(name, body, content_type="application/json", timeout_s=timeout_s)


def test_stream_lets_go(desk: Any) -> None:
    """A stream that is closed early is known to the model server soon."""
    asked = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))
    pieces = stream(desk, asked.name, b'{"stream": 100000}')
    assert next(pieces) == b"row 0\n"
    pieces.close()

    left = poll_until(
        lambda: "the reader left" in desk.endpoints.logs(asked.name), bool, timeout_s=20.0
    )
    assert left


def test_stream_that_breaks_is_told_with_its_reason(desk: Any) -> None:
    """A ModelStreamError is a failure after the pieces that came, in AWS's words."""
    asked = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))
    pieces = stream(desk, asked.name, b'{"stream": 1, "broken": true}')

    assert next(pieces) == b"row 0\n"
    with pytest.raises(OperationFailed, match="broke off: The connection to the container"):
        next(pieces)


def test_slow_stream(desk: Any) -> None:
    """A first piece that does not come in time is `OperationTimeout`."""
    asked = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))

    with pytest.raises(OperationTimeout):
        list(stream(desk, asked.name, b'{"sleep_s": 3.0, "stream": 1}', timeout_s=0.3))


def test_stream_that_is_refused_by_the_service(desk: Any) -> None:
    """A throttled stream is asked once, and refused as a plain request is."""
    asked = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))
    armed = desk.cloud.faults.arm(
        Fault(
            kind=Kind.THROTTLE,
            service="sagemaker-runtime",
            operation="InvokeEndpointWithResponseStream",
        )
    )
    with pytest.raises(Exception, match=r"Rate exceeded|hrottl"):
        list(stream(desk, asked.name, b'{"stream": 1}'))

    assert armed.struck == 1
    with pytest.raises(NotFound):
        list(stream(desk, "kit-nobody", b'{"stream": 1}'))
