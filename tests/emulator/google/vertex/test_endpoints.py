"""Endpoints: made, read, listed, changed and deleted, with what can change of deployed models."""

from __future__ import annotations

from typing import Any

import pytest


def test_create(hosting: Any) -> None:
    """An endpoint has its id, its fields, its times, and no traffic."""
    hosting.endpoint("churn-1", description="d", labels={"team": "risk"})

    made = hosting.get(f"{hosting.parent}/endpoints/churn-1")

    assert made.name == f"{hosting.canonical}/endpoints/churn-1"
    assert (made.display_name, made.description, dict(made.labels)) == (
        "churn",
        "d",
        {"team": "risk"},
    )
    assert made.create_time <= made.update_time
    assert (dict(made.traffic_split), list(made.deployed_models)) == ({}, [])
    assert made.etag.startswith("AMEw")
    assert made.dedicated_endpoint_dns == ""


@pytest.mark.parametrize("endpoint_id", ["a", "a1", "a-b", "a" * 63, "1", "123456789"])
def test_ids(hosting: Any, endpoint_id: str) -> None:
    """Ids have a letter and up to 62 letters, digits and hyphens, or nine digits.

    Source: CreateEndpointRequest.endpoint_id
    """
    assert hosting.endpoint(endpoint_id).endswith(f"/endpoints/{endpoint_id}")


def test_made_up_id(hosting: Any) -> None:
    """Who gives no id gets one of digits."""
    first, second = hosting.endpoint(), hosting.endpoint()

    assert first.rpartition("/")[2].isdigit()
    assert first != second


def test_output_only(hosting: Any) -> None:
    """What only the service writes is passed over: https://google.aip.dev/203"""
    name = hosting.endpoint(etag="mine", dedicated_endpoint_dns="mine")

    made = hosting.get(name)

    assert (made.etag == "mine", made.dedicated_endpoint_dns) == (False, "")


def test_dedicated(hosting: Any) -> None:
    """A dedicated endpoint has a DNS name of its own.

    Source: Endpoint.dedicated_endpoint_dns
    """
    name = hosting.endpoint("own", dedicated_endpoint_enabled=True)

    number = hosting.emulator.place.number
    assert hosting.get(name).dedicated_endpoint_dns == (
        f"own.us-central1-{number}.prediction.vertexai.goog"
    )


def test_list(hosting: Any) -> None:
    """Endpoints are listed by filter, in order, page by page, and only as far as the mask says.

    Source: ListEndpointsRequest
    """
    for number, team in enumerate(["risk", "risk", "ads"]):
        hosting.endpoint(f"e{number}", display_name=f"n{2 - number}", labels={"team": team})

    def listed(**more: Any) -> list[str]:
        pager = hosting.endpoints.list_endpoints(request={"parent": hosting.parent, **more})
        return [one.name.rpartition("/")[2] for one in pager]

    assert sorted(listed()) == ["e0", "e1", "e2"]
    assert sorted(listed(filter="labels.team=risk")) == ["e0", "e1"]
    assert listed(filter='display_name="n0"') == ["e2"]
    assert listed(filter="endpoint=e1") == ["e1"]
    assert listed(order_by="display_name") == ["e2", "e1", "e0"]
    assert listed(order_by="create_time desc") == ["e2", "e1", "e0"]
    assert sorted(listed(page_size=2)) == ["e0", "e1", "e2"]
    page = next(
        hosting.endpoints.list_endpoints(request={"parent": hosting.parent, "page_size": 2}).pages
    )
    assert (len(page.endpoints), bool(page.next_page_token)) == (2, True)
    masked = hosting.endpoints.list_endpoints(
        request={"parent": hosting.parent, "read_mask": {"paths": ["name"]}}
    )
    assert {(bool(one.name), one.display_name) for one in masked} == {(True, "")}


def test_regions(hosting: Any) -> None:
    """An endpoint is in one region, and listed there alone."""
    hosting.endpoint("here")
    elsewhere = hosting.parent.replace("us-central1", "europe-west4")

    assert list(hosting.endpoints.list_endpoints(parent=elsewhere)) == []


def test_update(hosting: Any) -> None:
    """An update changes what its mask names, clears what is empty there, and the etag."""
    name = hosting.endpoint(description="d", labels={"a": "b"})
    before = hosting.get(name)

    changed = hosting.endpoints.update_endpoint(
        endpoint={"name": name, "display_name": "new", "labels": {"c": "d"}},
        update_mask={"paths": ["display_name", "description"]},
    )

    assert changed == hosting.get(name)
    assert (changed.display_name, changed.description, dict(changed.labels)) == (
        "new",
        "",
        {"a": "b"},
    )
    assert changed.etag != before.etag
    assert changed.update_time > before.update_time


def test_update_with_an_etag(hosting: Any) -> None:
    """The newest etag lets an update through, and it is used up by that."""
    name = hosting.endpoint()
    etag = hosting.get(name).etag

    def update(word: str) -> Any:
        return hosting.endpoints.update_endpoint(
            endpoint={"name": name, "display_name": word, "etag": etag},
            update_mask={"paths": ["display_name"]},
        )

    assert update("first").display_name == "first"
    code, message = hosting.refused(lambda: update("second"))
    assert (code, "does not match server `etag`" in message) == ("ABORTED", True)
    assert hosting.get(name).display_name == "first"


def test_update_traffic(hosting: Any) -> None:
    """Traffic is moved at once, and to nobody by an empty split.

    Source: Endpoint.traffic_split
    """
    name = hosting.endpoint()
    first = hosting.deploy(name, hosting.version("first"))
    second = hosting.deploy(name, hosting.version("2"), split={"0": 0, first: 100})

    def move(split: dict[str, int]) -> dict[str, int]:
        hosting.endpoints.update_endpoint(
            endpoint={"name": name, "traffic_split": split},
            update_mask={"paths": ["traffic_split"]},
        )
        return hosting.split(name)

    assert move({first: 1, second: 99}) == {first: 1, second: 99}
    assert move({second: 100}) == {second: 100}
    assert hosting.predict(name, 1).deployed_model_id == second
    assert move({}) == {}


def test_update_slowly(hosting: Any) -> None:
    """The timeout of a dedicated endpoint is changed by an operation, and nothing else is.

    Source: UpdateEndpointLongRunningRequest.endpoint
    """
    name = hosting.endpoint(dedicated_endpoint_enabled=True)

    def update(**fields: Any) -> Any:
        return hosting.endpoints.update_endpoint_long_running(endpoint={"name": name, **fields})

    seconds = {"client_connection_config": {"inference_timeout": {"seconds": 20}}}
    hosting.done(update(display_name="churn", **seconds))
    config = hosting.get(name).client_connection_config
    assert config.inference_timeout.total_seconds() == 20
    for fields in [{"display_name": "new"}, {"labels": {"a": "b"}}, {"traffic_split": {"1": 100}}]:
        code, _ = hosting.refused(lambda fields=fields: update(**fields, **seconds))
        assert code == "INVALID_ARGUMENT"


def test_mutate(hosting: Any) -> None:
    """Bounds and metrics of a deployed model are changed in place, and processes follow.

    Source: MutateDeployedModelRequest.update_mask
    """
    name = hosting.endpoint()
    deployed = hosting.deploy(name, hosting.version())
    pid = hosting.ask(name)["pid"]
    cpu = "aiplatform.googleapis.com/prediction/online/cpu/utilization"

    made = hosting.done(
        hosting.endpoints.mutate_deployed_model(
            endpoint=name,
            deployed_model={
                "id": deployed,
                "display_name": "not in the mask",
                "dedicated_resources": {
                    "min_replica_count": 2,
                    "max_replica_count": 3,
                    "autoscaling_metric_specs": [{"metric_name": cpu, "target": 70}],
                },
                "disable_container_logging": True,
            },
            update_mask={
                "paths": [
                    "dedicated_resources.min_replica_count",
                    "dedicated_resources.max_replica_count",
                    "dedicated_resources.autoscaling_metric_specs",
                    "disable_container_logging",
                ]
            },
        )
    )

    (shown,) = hosting.get(name).deployed_models
    resources = shown.dedicated_resources
    assert (resources.min_replica_count, resources.max_replica_count) == (2, 3)
    assert [(one.metric_name, one.target) for one in resources.autoscaling_metric_specs] == [
        (cpu, 70)
    ]
    assert resources.machine_spec.machine_type == "n1-standard-2"
    assert (shown.display_name, shown.disable_container_logging) == ("", True)
    assert made.deployed_model.id == deployed
    hosting_pids = hosting.emulator.deployments.get(shown_name(hosting, name), deployed).group
    assert hosting_pids.desired == 2
    assert pid in hosting_pids.pids


def shown_name(hosting: Any, name: str) -> str:
    found: str = hosting.get(name).name
    return found


def test_container_logging_of_v1beta1(hosting: Any) -> None:
    """The older version of the API has the opposite field for the logs of containers.

    Source: MutateDeployedModelRequest.deployed_model
    """
    name = hosting.endpoint()
    deployed = hosting.deploy(name, hosting.version())
    beta = hosting.beta().endpoints

    hosting.done(
        beta.mutate_deployed_model(
            endpoint=name,
            deployed_model={"id": deployed, "enable_container_logging": True},
            update_mask={"paths": ["enable_container_logging"]},
        )
    )

    assert beta.get_endpoint(name=name).deployed_models[0].enable_container_logging is True


def test_usual_metrics(hosting: Any) -> None:
    """Who names no metrics gets 60 percent of the processor and, with one, of the accelerator.

    Source: AutoscalingMetricSpec, DedicatedResources.autoscaling_metric_specs
    """
    name = hosting.endpoint()
    gpu = {
        "machine_type": "n1-standard-4",
        "accelerator_type": "NVIDIA_TESLA_T4",
        "accelerator_count": 1,
    }
    hosting.deploy(
        name, hosting.version(), dedicated_resources={"machine_spec": gpu, "max_replica_count": 2}
    )

    (shown,) = hosting.get(name).deployed_models

    assert {
        one.metric_name.rpartition("online/")[2]: one.target
        for one in shown.dedicated_resources.autoscaling_metric_specs
    } == {"cpu/utilization": 60, "accelerator/duty_cycle": 60}


def test_maximum_is_the_minimum(hosting: Any) -> None:
    """Who names no maximum gets the minimum.

    Source: DedicatedResources.max_replica_count
    """
    name = hosting.endpoint()

    hosting.deploy(
        name,
        hosting.version(),
        dedicated_resources={"min_replica_count": 2, "max_replica_count": 0},
    )

    assert hosting.get(name).deployed_models[0].dedicated_resources.max_replica_count == 2


def test_delete(hosting: Any) -> None:
    """An endpoint that is deleted is gone, and its id can be had again."""
    name = hosting.endpoint("again")

    hosting.done(hosting.endpoints.delete_endpoint(name=name))

    assert hosting.refused(lambda: hosting.get(name))[0] == "NOT_FOUND"
    assert hosting.endpoint("again") == name


def test_where_a_version_is_deployed(hosting: Any) -> None:
    """A version tells where it is deployed, and another version of its model does not.

    Source: Model.deployed_models
    """
    version = hosting.version()
    model = version.partition("@")[0]
    other = hosting.version(parent=model)
    endpoint = hosting.endpoint()
    deployed = hosting.deploy(endpoint, version)

    (found,) = hosting.models.get_model(name=version).deployed_models

    assert (found.endpoint, found.deployed_model_id) == (hosting.get(endpoint).name, deployed)
    assert list(hosting.models.get_model(name=other).deployed_models) == []
