"""Deploying and undeploying: processes, traffic, and what the two do to each other."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions

from cloudreg_emulator.faults import Fault, Kind

CONTAINER = Path(__file__).with_name("container.py")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_deploy(hosting: Any) -> None:
    """A deployed model has its id, its version, its replicas, and its share of the traffic."""
    endpoint = hosting.endpoint()
    version = hosting.version("first")

    made = hosting.done(hosting.begin_deploy(endpoint, version, display_name="blue"))

    (shown,) = hosting.get(endpoint).deployed_models
    assert shown == made.deployed_model
    assert f"{shown.model}@{shown.model_version_id}" == version
    assert (shown.display_name, shown.status.available_replica_count) == ("blue", 1)
    assert shown.id.isdigit()
    assert shown.create_time
    assert hosting.split(endpoint) == {shown.id: 100}
    assert hosting.predict(endpoint, 1).predictions[0]["version"] == "first"


def test_alias_is_frozen(hosting: Any) -> None:
    """An alias in a request is the version that has it then, wherever it goes later."""
    first = hosting.version("first")
    model = first.partition("@")[0]
    hosting.models.merge_version_aliases(name=first, version_aliases=["prod"])
    endpoint = hosting.endpoint()
    hosting.deploy(endpoint, f"{model}@prod")

    second = hosting.version("second", parent=model)
    hosting.models.merge_version_aliases(name=second, version_aliases=["prod"])

    (deployed,) = hosting.get(endpoint).deployed_models
    assert (deployed.model, deployed.model_version_id) == (model, "1")
    assert hosting.predict(endpoint, 1).predictions[0]["version"] == "first"


def test_default_version(hosting: Any) -> None:
    """A model without a version is its default one."""
    model = hosting.version("first").partition("@")[0]
    second = hosting.version("second", parent=model)
    hosting.models.merge_version_aliases(name=second, version_aliases=["default"])
    endpoint = hosting.endpoint()

    hosting.deploy(endpoint, model)

    assert hosting.get(endpoint).deployed_models[0].model_version_id == "2"


def test_model_of_another_region(hosting: Any) -> None:
    """A model may be in another region than its endpoint.

    Source: DeployedModel.model
    """
    bucket = hosting.bucket(f"moved-{hosting.transport}", **{"a__weights.txt": b"first"})
    version = hosting.version("first", artifact_uri=f"gs://{bucket}/a")
    assert hosting.http.delete(f"/storage/v1/b/{bucket}/o/a%2Fweights.txt").status_code == 204
    model = version.partition("@")[0]
    parent = f"{hosting.parent.rpartition('/')[0]}/europe-west4"
    copied = hosting.done(hosting.models.copy_model(parent=parent, source_model=model)).model
    endpoint = hosting.endpoint()

    hosting.deploy(endpoint, copied)

    assert hosting.predict(endpoint, 1).predictions[0]["version"] == "first"
    assert hosting.ask(endpoint)["weights"] == "first"


def test_zero_is_the_new_one(hosting: Any) -> None:
    """In a request's split, 0 stands for the model that is being deployed.

    Source: DeployModelRequest.traffic_split
    """
    endpoint = hosting.endpoint()
    first = hosting.deploy(endpoint, hosting.version("first"))

    second = hosting.deploy(endpoint, hosting.version("second"), split={"0": 30, first: 70})

    assert hosting.split(endpoint) == {first: 70, second: 30}


def test_no_split(hosting: Any) -> None:
    """Without a split in the request the traffic stays where it is.

    Source: DeployModelRequest.traffic_split
    """
    endpoint = hosting.endpoint()
    first = hosting.deploy(endpoint, hosting.version("first"))

    hosting.deploy(endpoint, hosting.version("second"), split={})

    assert hosting.split(endpoint) == {first: 100}
    assert len(hosting.get(endpoint).deployed_models) == 2


def test_split_while_another_is_deployed(hosting: Any) -> None:
    """A split whose models are gone when the replicas are ready ends the operation, undone."""
    endpoint = hosting.endpoint()
    first = hosting.deploy(endpoint, hosting.version("first"))
    armed = hosting.faults.arm(Fault(kind=Kind.SLOW_START, service="fleet", seconds=500))
    begun = hosting.begin_deploy(endpoint, hosting.version("2"), split={"0": 50, first: 50})

    hosting.done(hosting.endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=first))
    with pytest.raises(exceptions.InvalidArgument, match=rf"\[{first}\] do not exist"):
        hosting.done(begun)

    assert armed.struck == 1
    assert (list(hosting.get(endpoint).deployed_models), hosting.split(endpoint)) == ([], {})


def test_undeploy_the_last(hosting: Any) -> None:
    """Undeploying the last model empties the split, ends its process, and frees its version.

    Source: UndeployModelRequest.traffic_split
    """
    endpoint = hosting.endpoint()
    version = hosting.version("first")
    deployed = hosting.deploy(endpoint, version)
    pid = hosting.ask(endpoint)["pid"]

    hosting.done(hosting.endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=deployed))

    assert (list(hosting.get(endpoint).deployed_models), hosting.split(endpoint)) == ([], {})
    hosting.done(hosting.models.delete_model(name=version.partition("@")[0]))
    hosting.done(hosting.endpoints.delete_endpoint(name=endpoint))
    assert hosting.refused(lambda: hosting.get(endpoint))[0] == "NOT_FOUND"
    assert pid


def test_undeployed_processes_end(hosting: Any, until: Callable[..., None]) -> None:
    """What is undeployed leaves no process behind."""
    endpoint = hosting.endpoint()
    deployed = hosting.deploy(endpoint, hosting.version())
    pid = hosting.ask(endpoint)["pid"]
    assert alive(pid)

    hosting.done(hosting.endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=deployed))

    until(lambda: not alive(pid))


def test_undeploy_with_traffic(hosting: Any) -> None:
    """A model with traffic goes only if the request gives its share to the others."""
    endpoint = hosting.endpoint()
    first = hosting.deploy(endpoint, hosting.version("first"))
    second = hosting.deploy(endpoint, hosting.version("2"), split={"0": 40, first: 60})

    def undeploy(one: str, split: dict[str, int] | None = None) -> Any:
        return hosting.endpoints.undeploy_model(
            endpoint=endpoint, deployed_model_id=one, traffic_split=split
        )

    code, message = hosting.refused(lambda: undeploy(first))
    assert (code, "60 %" in message) == ("FAILED_PRECONDITION", True)
    for split, word in [
        ({first: 50, second: 50}, "do not exist"),
        ({"0": 100}, "[0] do not exist"),
        ({second: 90}, "do not sum to 100"),
    ]:
        code, message = hosting.refused(lambda split=split: undeploy(first, split))
        assert (code, word in message) == ("INVALID_ARGUMENT", True), message
    hosting.done(undeploy(first, {second: 100}))
    assert hosting.split(endpoint) == {second: 100}


def test_undeploy_without_traffic(hosting: Any) -> None:
    """A model without traffic goes as it is, and leaves the split as it is."""
    endpoint = hosting.endpoint()
    first = hosting.deploy(endpoint, hosting.version("first"))
    second = hosting.deploy(endpoint, hosting.version("2"), split={"0": 0, first: 100})

    hosting.done(hosting.endpoints.undeploy_model(endpoint=endpoint, deployed_model_id=second))

    assert hosting.split(endpoint) == {first: 100}


def test_split_statistics(hosting: Any) -> None:
    """Requests go to the deployed models in the proportion of the split.

    Of 400 requests at 25 %, fewer than 60 or more than 145 come once in a million runs.
    """
    endpoint = hosting.endpoint()
    first = hosting.deploy(endpoint, hosting.version("first"))
    second = hosting.deploy(endpoint, hosting.version("2"), split={"0": 25, first: 75})

    asked = Counter(hosting.predict(endpoint, 1).deployed_model_id for _ in range(400))

    assert set(asked) == {first, second}
    assert 60 <= asked[second] <= 145


def test_everything_is_in_the_environment(hosting: Any) -> None:
    """A container gets all variables of Vertex AI, which beat its own, and what it needs here."""
    bucket = hosting.bucket(f"weights-{hosting.transport}", **{"churn__weights.txt": b"1"})
    version = hosting.version(
        artifact_uri=f"gs://{bucket}/churn",
        predict_route="/invocations",
        health_route="/ping",
        env=[
            {"name": "AIP_MODE", "value": "mine"},
            {"name": "ROUTE", "value": "to $(AIP_PREDICT_ROUTE) $$(HOME) $(NOBODY)"},
        ],
        args=["--mark", "$(MARK)x"],
    )
    endpoint = hosting.endpoint()
    resources = {
        "machine_spec": {
            "machine_type": "g2-standard-8",
            "accelerator_type": "NVIDIA_L4",
            "accelerator_count": 1,
        }
    }
    deployed = hosting.deploy(endpoint, version, dedicated_resources=resources)

    said = hosting.ask(endpoint)
    env = said["env"]

    endpoint_id = endpoint.rpartition("/")[2]
    port = env["AIP_HTTP_PORT"]
    model = version.partition("@")[0].rpartition("/")[2]
    number = hosting.emulator.place.number
    assert {name: text for name, text in env.items() if name.startswith("AIP_")} == {
        "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0",
        "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
        "AIP_ENDPOINT_ID": endpoint_id,
        "AIP_DEPLOYED_MODEL_ID": deployed,
        "AIP_MODEL_NAME": endpoint_id,
        "AIP_VERSION_NAME": deployed,
        "AIP_PROJECT_NUMBER": str(number),
        "AIP_MACHINE_TYPE": "g2-standard-8",
        "AIP_ACCELERATOR_TYPE": "NVIDIA_L4",
        "AIP_HTTP_PORT": port,
        "AIP_HEALTH_ROUTE": "/ping",
        "AIP_PREDICT_ROUTE": "/invocations",
        "AIP_STORAGE_URI": f"gs://caip-tenant-{number}-us-central1/{model}/1/artifacts",
    }
    assert (said["path"], port.isdigit()) == ("/invocations", True)
    assert env["ROUTE"] == "to /invocations $(HOME) $(NOBODY)"
    assert said["argv"] == ["--mark", "x"]


def test_usual_routes(hosting: Any) -> None:
    """Without routes of its own a container is asked on those that name the deployed model."""
    endpoint = hosting.endpoint()
    deployed = hosting.deploy(endpoint, hosting.version())

    said = hosting.ask(endpoint)

    usual = f"/v1/endpoints/{endpoint.rpartition('/')[2]}/deployedModels/{deployed}"
    assert said["path"] == f"{usual}:predict"
    assert said["env"]["AIP_HEALTH_ROUTE"] == usual
    assert (said["env"]["AIP_STORAGE_URI"], "AIP_ACCELERATOR_TYPE" in said["env"]) == ("", False)


def test_command_and_arguments(hosting: Any) -> None:
    """A model's command and arguments take the place of its image's."""
    command = [sys.executable, "-S", "-E", str(CONTAINER), "of its own"]
    endpoint = hosting.endpoint()
    hosting.deploy(endpoint, hosting.version(command=command, args=["$(MARK)"]))

    assert hosting.ask(endpoint)["argv"] == ["of its own", ""]


def test_artifacts_never_change(hosting: Any) -> None:
    """A version's artifacts are a copy of the upload's time: later changes do not reach it.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    """
    bucket = hosting.bucket(f"frozen-{hosting.transport}", **{"a__weights.txt": b"first"})
    version = hosting.version(artifact_uri=f"gs://{bucket}/a")
    overwritten = hosting.http.post(
        f"/upload/storage/v1/b/{bucket}/o",
        params={"uploadType": "media", "name": "a/weights.txt"},
        content=b"second",
    )
    assert overwritten.status_code == 200
    endpoint = hosting.endpoint()

    hosting.deploy(endpoint, version)
    assert hosting.ask(endpoint)["weights"] == "first"
    assert hosting.http.delete(f"/storage/v1/b/{bucket}/o/a%2Fweights.txt").status_code == 204
    assert hosting.ask(endpoint)["weights"] == "first"


def test_replicas(hosting: Any) -> None:
    """As many replicas are started as are the least, and all of them are asked."""
    endpoint = hosting.endpoint()
    hosting.deploy(
        endpoint,
        hosting.version(),
        dedicated_resources={"min_replica_count": 2, "max_replica_count": 2},
    )

    assert hosting.ready(endpoint) == 2
    assert len({hosting.ask(endpoint)["pid"] for _ in range(8)}) == 2


def test_required_replicas(hosting: Any, until: Callable[..., None]) -> None:
    """A deployment is done when the required replicas are ready, before all of them are.

    Source: DedicatedResources.required_replica_count
    """
    hosting.faults.arm(Fault(kind=Kind.SLOW_START, service="fleet", seconds=1500, after=1))
    endpoint = hosting.endpoint()
    resources = {"min_replica_count": 2, "max_replica_count": 2, "required_replica_count": 1}

    hosting.deploy(endpoint, hosting.version(), dedicated_resources=resources)

    assert hosting.ready(endpoint) == 1
    until(lambda: hosting.ready(endpoint) == 2)


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ("quota", "RESOURCE_EXHAUSTED", "The following quota metrics exceed quota limits: "),
        ("internal", "INTERNAL", "Internal error"),
    ],
)
def test_failures_on_demand(hosting: Any, reason: str, code: str, words: str) -> None:
    """A deployment fails on demand, in Google's words, and leaves nothing."""
    endpoint = hosting.endpoint()
    armed = hosting.faults.arm(Fault(kind=Kind.FAILED, operation="DeployModel", reason=reason))

    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        hosting.deploy(endpoint, hosting.version())

    assert (caught.value.grpc_status_code.name, armed.struck) == (code, 1)
    assert words in str(caught.value)
    assert list(hosting.get(endpoint).deployed_models) == []


def test_no_capacity(hosting: Any, until: Callable[..., None]) -> None:
    """Machines that are not to be had are a quota that is exceeded.

    Source: https://github.com/GoogleCloudPlatform/stable-diffusion-on-gcp/issues/12
    """
    armed = hosting.faults.arm(Fault(kind=Kind.CAPACITY, service="fleet", count=9))
    endpoint = hosting.endpoint()

    with pytest.raises(exceptions.ResourceExhausted, match="exceed quota limits"):
        hosting.deploy(endpoint, hosting.version())

    assert armed.struck
    until(lambda: hosting.emulator.deployments.pids == [])


def test_server_exits(hosting: Any, until: Callable[..., None]) -> None:
    """A container that ends by itself fails its deployment, in Google's words.

    Source: https://github.com/googleapis/python-aiplatform/issues/4559
    """
    endpoint = hosting.endpoint()
    version = hosting.version(env=[{"name": "FAIL", "value": "exit"}])

    with pytest.raises(exceptions.FailedPrecondition, match="Model server exited unexpectedly"):
        hosting.deploy(endpoint, version)

    assert (list(hosting.get(endpoint).deployed_models), hosting.split(endpoint)) == ([], {})
    hosting.done(hosting.endpoints.delete_endpoint(name=endpoint))
    hosting.done(hosting.models.delete_model(name=version.partition("@")[0]))
    until(lambda: hosting.emulator.deployments.pids == [])


def test_unknown_image(make_hosting: Callable[..., Any]) -> None:
    """An image that no command stands for cannot be pulled."""
    hosting = make_hosting(images={"*/other:*": ["true"]})
    endpoint = hosting.endpoint()

    with pytest.raises(exceptions.FailedPrecondition, match="cannot be pulled"):
        hosting.deploy(endpoint, hosting.version())


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["rest", "grpc"])
def test_server_is_never_ready(make_hosting: Callable[..., Any], transport: str) -> None:
    """A container that is never healthy fails its deployment, in Google's words.

    Source: https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3485
    """
    hosting = make_hosting(transport=transport, patience_s=6.0)
    endpoint = hosting.endpoint()
    version = hosting.version(env=[{"name": "FAIL", "value": "deaf"}])

    with pytest.raises(exceptions.FailedPrecondition, match="Model server never became ready"):
        hosting.deploy(endpoint, version)

    assert list(hosting.get(endpoint).deployed_models) == []


def test_deaf_port(make_hosting: Callable[..., Any], until: Callable[..., None]) -> None:
    """A container on whose port nobody listens is started again, until it is given up.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    """
    hosting = make_hosting(patience_s=0.5)
    endpoint = hosting.endpoint()
    version = hosting.version(
        env=[{"name": "FAIL", "value": "mute"}], deployment_timeout={"seconds": 7200}
    )
    begun = hosting.begin_deploy(endpoint, version)

    with pytest.raises(exceptions.FailedPrecondition, match="exited unexpectedly"):
        hosting.done(begun)

    lines = hosting.http.post(
        "/v2/entries:list", json={"resourceNames": ["projects/emulated-project"]}
    ).json()["entries"]
    said = [entry["jsonPayload"]["message"] for entry in lines]
    assert sum(line.startswith("starting as") for line in said) >= 2
    assert any("nothing listens on its port" in line for line in said)


def test_health(
    make_hosting: Callable[..., Any], until: Callable[..., None], tmp_path: Path
) -> None:
    """Four missed health checks stop the traffic; the container stays, and recovers.

    Source: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements
    """
    hosting = make_hosting()
    closed = tmp_path / "closed"
    endpoint = hosting.endpoint()
    hosting.deploy(endpoint, hosting.version(env=[{"name": "CLOSED", "value": str(closed)}]))
    pid = hosting.ask(endpoint)["pid"]

    closed.touch()
    until(lambda: hosting.ready(endpoint) == 0)
    assert hosting.refused(lambda: hosting.ask(endpoint))[0] == "UNAVAILABLE"
    assert alive(pid)
    closed.unlink()
    until(lambda: hosting.ready(endpoint) == 1)
    assert hosting.ask(endpoint)["pid"] == pid


def test_cancel(hosting: Any, until: Callable[..., None]) -> None:
    """A deployment that is cancelled leaves no process and no deployed model."""
    endpoint = hosting.endpoint()
    version = hosting.version(env=[{"name": "FAIL", "value": "deaf"}])
    begun = hosting.begin_deploy(endpoint, version)
    until(lambda: hosting.emulator.deployments.pids)
    pids = hosting.emulator.deployments.pids

    hosting.endpoints.cancel_operation({"name": begun.operation.name})

    found = hosting.endpoints.get_operation({"name": begun.operation.name})
    assert (found.done, found.error.code) == (True, 1)
    until(lambda: not any(map(alive, pids)))
    assert list(hosting.get(endpoint).deployed_models) == []
    hosting.done(hosting.endpoints.delete_endpoint(name=endpoint))


def test_crash_between_requests(hosting: Any, until: Callable[..., None]) -> None:
    """A container that dies is started again."""
    endpoint = hosting.endpoint()
    hosting.deploy(endpoint, hosting.version())
    pid = hosting.ask(endpoint)["pid"]

    assert hosting.refused(lambda: hosting.ask(endpoint, die=True))[0] == "INTERNAL"

    until(lambda: not alive(pid))
    until(lambda: hosting.ready(endpoint) == 1)
    assert hosting.ask(endpoint)["pid"] != pid
