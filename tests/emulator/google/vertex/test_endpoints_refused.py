"""Endpoints that Vertex AI refuses, and that nothing happened then."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    "endpoint_id",
    ["A", "a_b", "a-", "-a", "0", "012", "1234567890", "1a", "a" * 64, "a.b", "a/b", "default@1"],
)
def test_no_such_id(hosting: Any, endpoint_id: str) -> None:
    """An id that no endpoint can have is refused. Source: CreateEndpointRequest.endpoint_id"""
    hosting.refuses(lambda: hosting.endpoint(endpoint_id), "INVALID_ARGUMENT", "endpoint_id")
    assert list(hosting.endpoints.list_endpoints(parent=hosting.parent)) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"display_name": ""}, "endpoint.display_name"),
        ({"display_name": "x" * 129}, "endpoint.display_name"),
        ({"labels": {"Big": "a"}}, "endpoint.labels"),
        ({"labels": {"a": "b" * 64}}, "endpoint.labels"),
        ({"labels": {f"k{n}": "" for n in range(65)}}, "endpoint.labels"),
        ({"traffic_split": {"1": 100}}, "endpoint.traffic_split"),
        ({"traffic_split": {"0": 100}}, "endpoint.traffic_split"),
        ({"encryption_spec": {"kms_key_name": "key"}}, "kms_key_name"),
        (
            {
                "encryption_spec": {
                    "kms_key_name": "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
                }
            },
            "kms_key_name",
        ),
        (
            {"client_connection_config": {"inference_timeout": {"seconds": 3601}}},
            "inference_timeout",
        ),
        (
            {
                "dedicated_endpoint_enabled": True,
                "private_service_connect_config": {"enable_private_service_connect": True},
            },
            "dedicated_endpoint_enabled",
        ),
    ],
)
def test_no_such_endpoint(hosting: Any, fields: dict[str, Any], field: str) -> None:
    """An endpoint that cannot be is refused, with the field's path."""
    hosting.refuses(
        lambda: hosting.endpoint(**fields), "INVALID_ARGUMENT", "Field: endpoint", field
    )
    assert list(hosting.endpoints.list_endpoints(parent=hosting.parent)) == []


def test_id_taken(hosting: Any) -> None:
    """An id belongs to one endpoint."""
    hosting.endpoint("taken")

    hosting.refuses(lambda: hosting.endpoint("taken"), "ALREADY_EXISTS")


def test_nobody(hosting: Any) -> None:
    """An endpoint that is not there is missed by every RPC that names it."""
    name = f"{hosting.parent}/endpoints/nobody"
    endpoints = hosting.endpoints
    mask = {"paths": ["description"]}
    for act in (
        lambda: endpoints.get_endpoint(name=name),
        lambda: endpoints.delete_endpoint(name=name),
        lambda: endpoints.update_endpoint(endpoint={"name": name}, update_mask=mask),
        lambda: endpoints.update_endpoint_long_running(endpoint={"name": name}),
        lambda: endpoints.undeploy_model(endpoint=name, deployed_model_id="1"),
        lambda: endpoints.mutate_deployed_model(
            endpoint=name, deployed_model={"id": "1"}, update_mask=mask
        ),
        lambda: hosting.begin_deploy(name, hosting.version()),
        lambda: hosting.predict(name, 1),
        lambda: hosting.raw(name, b"{}"),
    ):
        hosting.refuses(act, "NOT_FOUND", name.rpartition("/")[2])


def test_wrong_region(hosting: Any) -> None:
    """A location that is not served here is refused, with the one that is.

    Source: https://github.com/googleapis/python-aiplatform/issues/1684
    """
    parent = hosting.parent.replace("us-central1", "asia-east1")

    hosting.refuses(
        lambda: hosting.endpoints.list_endpoints(parent=parent),
        "INVALID_ARGUMENT",
        "The provided location ID doesn't match the endpoint",
    )


def test_another_project(hosting: Any) -> None:
    """Another project's endpoints are not for everybody."""
    hosting.refuses(
        lambda: hosting.endpoints.list_endpoints(parent="projects/other/locations/us-central1"),
        "PERMISSION_DENIED",
    )


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"filter": "mood=good"}, "mood"),
        ({"filter": "labels.a=b OR labels.c=d"}, "filter"),
        ({"order_by": "mood"}, "order_by"),
        ({"page_token": "nonsense"}, "page_token"),
        ({"page_size": -1}, "page_size"),
        ({"read_mask": {"paths": ["mood"]}}, "read_mask"),
    ],
)
def test_no_such_list(standing: Any, more: dict[str, Any], word: str) -> None:
    """A list by what is not there is refused, not passed over."""
    hosting = standing.hosting

    def act() -> Any:
        return list(hosting.endpoints.list_endpoints(request={"parent": hosting.parent, **more}))

    code, message = hosting.refused(act)
    assert code == "INVALID_ARGUMENT", message
    assert word in message


def test_no_such_update(standing: Any) -> None:
    """An update of nothing, of what is not there, or of what does not change, is refused."""
    hosting = standing.hosting

    def update(*paths: str, **fields: Any) -> Any:
        return hosting.endpoints.update_endpoint(
            endpoint={"name": standing.name, **fields}, update_mask={"paths": list(paths)}
        )

    for paths in ([], ["mood"], ["deployed_models"], ["etag"], ["name"], ["create_time"]):
        hosting.refuses(lambda paths=paths: update(*paths), "INVALID_ARGUMENT", "update_mask")
    for paths in (["encryption_spec"], ["network"], ["dedicated_endpoint_enabled"]):
        hosting.refuses(lambda paths=paths: update(*paths), "INVALID_ARGUMENT", "cannot be updated")
    hosting.refuses(lambda: update("display_name"), "INVALID_ARGUMENT", "display_name")
    hosting.refuses(
        lambda: update("labels", labels={"Big": "a"}),
        "INVALID_ARGUMENT",
        "endpoint.labels",
    )


def test_stale_etag(standing: Any) -> None:
    """An etag that is not the newest lets nothing through.

    Source: google/cloud/aiplatform/metadata/context.py, for the words and the code
    """
    standing.hosting.refuses(
        lambda: standing.hosting.endpoints.update_endpoint(
            endpoint={"name": standing.name, "description": "d", "etag": "AMEw0ld"},
            update_mask={"paths": ["description"]},
        ),
        "ABORTED",
        "`AMEw0ld` does not match server `etag`",
    )


def test_no_such_split(standing: Any) -> None:
    """A split names deployed models, in whole percents that sum to 100; 0 only where one is new.

    Source: Endpoint.traffic_split, and
    https://github.com/GoogleCloudPlatform/java-docs-samples/pull/8475
    """
    hosting, one = standing.hosting, standing.deployed

    def update(split: dict[str, int]) -> Any:
        return hosting.endpoints.update_endpoint(
            endpoint={"name": standing.name, "traffic_split": split},
            update_mask={"paths": ["traffic_split"]},
        )

    for split, said in [
        ({one: 99}, "do not sum to 100"),
        ({one: 0}, "do not sum to 100"),
        ({one: 101}, "is not 0 to 100"),
        ({"77": 100}, "DeployedModel ID(s) [77] do not exist"),
        ({"0": 100}, "DeployedModel ID(s) [0] do not exist"),
        ({one: 100, "77": 0}, "DeployedModel ID(s) [77] do not exist"),
    ]:
        hosting.refuses(lambda split=split: update(split), "INVALID_ARGUMENT", said)
    for split, said in [
        ({"0": 50, one: 51}, "do not sum to 100"),
        ({"0": -1, one: 101}, "is not 0 to 100"),
        ({"0": 50, "77": 50}, "DeployedModel ID(s) [77] do not exist"),
    ]:
        hosting.refuses(lambda split=split: standing.deploy(split=split), "INVALID_ARGUMENT", said)


def test_deployed_models_are_kept(standing: Any) -> None:
    """While a model is deployed, neither its endpoint nor it nor its version can be deleted.

    Source: DeleteEndpoint, DeleteModel and DeleteModelVersion of the API's reference
    """
    hosting = standing.hosting
    hosting.version(parent=standing.model)

    for act in (
        lambda: hosting.endpoints.delete_endpoint(name=standing.name),
        lambda: hosting.models.delete_model(name=standing.model),
        lambda: hosting.models.delete_model_version(name=standing.version),
    ):
        hosting.refuses(act, "FAILED_PRECONDITION", "deployed")
    assert hosting.predict(standing.name, 1).predictions[0]["version"] == "first"
