"""Operations: time in polls and seconds, names, cancelling, and how they fail on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions, retry
from google.api_core.future.polling import _OperationNotComplete
from google.longrunning import operations_pb2

from cloudreg_emulator.faults import Fault, Kind

POLLING = retry.Retry(
    initial=0.02, maximum=0.05, timeout=20, predicate=retry.if_exception_type(_OperationNotComplete)
)


@pytest.fixture(params=["rest", "grpc", "rest-v1beta1", "grpc-v1beta1"])
def begun(make_cloud: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    """A cloud whose operations take three polls and no seconds."""
    return make_cloud(transport=request.param, polls=3)


def test_polls(begun: Any) -> None:
    """An operation is done when it was polled often enough, and not before."""
    operation = begun.begin("churn").operation
    seen = [operation.done]
    while not seen[-1]:
        seen.append(begun.models.get_operation({"name": operation.name}).done)

    assert seen == [False, False, False, True]


def test_nothing_before_it_is_done(begun: Any) -> None:
    """What an operation makes is not there while it runs."""
    operation = begun.begin("churn")

    assert list(begun.models.list_models(parent=begun.parent)) == []
    made = operation.result(timeout=20, polling=POLLING)
    assert [model.name for model in begun.models.list_models(parent=begun.parent)] == [made.model]


def test_names(begun: Any) -> None:
    """An operation lives below its resource, and carries the times of its kind."""
    operation = begun.begin("churn")

    name = operation.operation.name
    assert name.rpartition("/")[0] == f"{begun.canonical}/models/churn/operations"
    created = operation.metadata.generic_metadata.create_time
    operation.result(timeout=20, polling=POLLING)
    generic = operation.metadata.generic_metadata
    assert type(operation.metadata).__name__ == "UploadModelOperationMetadata"
    assert generic.create_time == created < generic.update_time


def test_taken_up_by_name(begun: Any) -> None:
    """Another client, which knows the name alone, sees the operation to its end."""
    operation = begun.begin("churn").operation

    for _ in range(3):
        found = begun.client("grpc").get_operation({"name": operation.name})

    assert found.done
    assert found.response.type_url.endswith("UploadModelResponse")


def test_wait(begun: Any) -> None:
    """Who waits gets the operation when it is done."""
    operation = begun.begin("churn").operation

    found = begun.models.wait_operation({"name": operation.name, "timeout": {"seconds": 20}})

    # Over gRPC the SDK 2.7.0 hands this one answer over as it came.
    found = operations_pb2.Operation.FromString(found) if isinstance(found, bytes) else found
    assert found.done


def test_seconds(make_cloud: Callable[..., Any]) -> None:
    """An operation takes its seconds, scaled, however often it is polled."""
    cloud = make_cloud(scale=0.01)
    operation = cloud.begin("churn")
    began = time.monotonic()

    early = operation.operation.done
    operation.result(timeout=20, polling=POLLING)

    assert not early
    assert time.monotonic() - began >= 0.25


def test_a_wait_ends(make_cloud: Callable[..., Any]) -> None:
    """A wait that is over before the operation is shows it as it is."""
    cloud = make_cloud(scale=10.0)
    operation = cloud.begin("churn").operation

    found = cloud.models.wait_operation({"name": operation.name, "timeout": {"nanos": 50_000_000}})

    assert not found.done


def test_a_wait_holds_nobody_up(make_cloud: Callable[..., Any]) -> None:
    """Others are answered while somebody waits."""
    cloud = make_cloud(scale=10.0)
    operation = cloud.begin("churn").operation
    waiting = threading.Thread(
        target=lambda: cloud.client("rest").wait_operation(
            {"name": operation.name, "timeout": {"seconds": 20}}
        ),
        daemon=True,
    )
    waiting.start()

    assert list(cloud.models.list_models(parent=cloud.parent)) == []
    cloud.models.cancel_operation({"name": operation.name})
    waiting.join(timeout=20)
    assert not waiting.is_alive()


def test_nobody_polls(make_cloud: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation whose client is gone is done all the same."""
    monkeypatch.setattr("cloudreg_emulator.google.vertex.operations.PATIENCE_S", 0.05)
    cloud = make_cloud(polls=5)
    cloud.begin("churn")
    deadline = time.monotonic() + 20

    while not list(cloud.models.list_models(parent=cloud.parent)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_cancel(begun: Any) -> None:
    """A cancelled operation ends in an error and does nothing; a done one stays done."""
    operation = begun.begin("churn").operation
    begun.models.cancel_operation({"name": operation.name})

    found = begun.models.get_operation({"name": operation.name})

    assert (found.done, found.error.code) == (True, 1)
    assert list(begun.models.list_models(parent=begun.parent)) == []
    done = begun.begin("other")
    done.result(timeout=20, polling=POLLING)
    begun.models.cancel_operation({"name": done.operation.name})
    assert begun.models.get_operation({"name": done.operation.name}).WhichOneof("result") == (
        "response"
    )


def test_delete(begun: Any) -> None:
    """A deleted operation is forgotten, and what it does goes on."""
    begun.begin("kept").result(timeout=20, polling=POLLING)
    operation = begun.begin("churn").operation
    begun.models.delete_operation({"name": operation.name})

    code, _ = begun.refused(lambda: begun.models.get_operation({"name": operation.name}))

    assert code == "NOT_FOUND"
    deadline = time.monotonic() + 20
    while len(list(begun.models.list_models(parent=begun.parent))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_list(begun: Any) -> None:
    """Operations are listed by the resource, or by the location, and by whether they are done."""
    done = begun.begin("one")
    done.result(timeout=20, polling=POLLING)
    running = begun.begin("two").operation

    def listed(name: str, **more: Any) -> list[str]:
        found = begun.models.list_operations({"name": name, **more})
        return [operation.name for operation in found.operations]

    assert listed(begun.parent) == [done.operation.name, running.name]
    assert listed(f"{begun.parent}/models/two") == [running.name]
    assert listed(begun.parent, filter="done=true") == [done.operation.name]


@pytest.mark.parametrize("verb", ["get", "cancel", "delete", "wait"])
def test_nobody(begun: Any, verb: str) -> None:
    """What is no operation is not found."""
    request = {"name": f"{begun.parent}/models/churn/operations/1"}

    code, _ = begun.refused(lambda: getattr(begun.models, f"{verb}_operation")(request))

    assert code == "NOT_FOUND"


@pytest.mark.parametrize("base", ["/v1", "/ui", "/v1beta1"])
def test_paths(make_cloud: Callable[..., Any], base: str) -> None:
    """Over REST operations are asked under three names, of which the SDK takes the second."""
    cloud = make_cloud(polls=1)
    operation = cloud.begin("churn").operation

    shown = cloud.http.get(f"{base}/{operation.name}").json()
    waited = cloud.http.post(f"{base}/{operation.name}:wait", params={"timeout": "5s"}).json()

    assert shown == waited
    assert shown["done"] is True
    assert shown["response"] == {
        "@type": "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse",
        "model": f"{cloud.canonical}/models/churn",
        "modelVersionId": "1",
    }
    assert cloud.http.post(f"{base}/{operation.name}:cancel").json() == {}
    assert cloud.http.delete(f"{base}/{operation.name}").json() == {}
    assert cloud.http.get(f"{base}/{operation.name}").status_code == 404


REASONS = [
    (
        "quota",
        exceptions.ResourceExhausted,
        # https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12
        "The following quota metrics exceed quota limits: "
        "aiplatform.googleapis.com/custom_model_serving_nvidia_l4_gpus",
    ),
    (
        "exited",
        exceptions.FailedPrecondition,
        # https://github.com/googleapis/python-aiplatform/issues/4559
        "Model server exited unexpectedly. Model server logs can be found at",
    ),
    (
        "not_ready",
        exceptions.FailedPrecondition,
        # https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3485
        "Model server never became ready. Please validate that your model file or container "
        "configuration are valid. Model server logs can be found at",
    ),
    (
        "permission",
        exceptions.FailedPrecondition,
        # https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3710
        "Service account `service-123456789012@gcp-sa-aiplatform.iam.gserviceaccount.com` does "
        'not have `[storage.objects.get]` IAM permission(s) to the directory "gs://models/churn"',
    ),
    (
        "region",
        exceptions.FailedPrecondition,
        # https://github.com/googleapis/python-aiplatform/issues/885
        "The Cloud Storage bucket of `gs://models/churn` is in location `us`.",
    ),
    ("internal", exceptions.InternalServerError, "Internal error encountered."),
]


@pytest.mark.parametrize("transport", ["rest", "grpc"])
@pytest.mark.parametrize(("reason", "error", "words"), REASONS, ids=[row[0] for row in REASONS])
def test_failures(
    make_cloud: Callable[..., Any], transport: str, reason: str, error: Any, words: str
) -> None:
    """An operation fails for the reason that was armed, in Google's words, and does nothing."""
    cloud = make_cloud(transport=transport, polls=1)
    cloud.bucket("models", churn__weights=b"1")
    armed = cloud.faults.arm(
        Fault(kind=Kind.FAILED, service="aiplatform", operation="UploadModel", reason=reason)
    )

    with pytest.raises(error) as caught:
        cloud.begin("churn", artifact_uri="gs://models/churn").result(timeout=20, polling=POLLING)

    assert words in str(caught.value)
    assert armed.struck == 1
    assert list(cloud.models.list_models(parent=cloud.parent)) == []
    assert cloud.upload("churn", artifact_uri="gs://models/churn")


def test_somebody_was_faster(begun: Any) -> None:
    """Two uploads of one id that run side by side make one model."""
    first, second = begun.begin("churn"), begun.begin("churn")

    second.result(timeout=20, polling=POLLING)
    with pytest.raises(exceptions.AlreadyExists):
        first.result(timeout=20, polling=POLLING)

    assert begun.aliases(f"{begun.parent}/models/churn") == {"1": {"default"}}
