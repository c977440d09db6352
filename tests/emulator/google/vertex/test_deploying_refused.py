"""Deployed models that Vertex AI refuses, and that nothing happened then."""

from __future__ import annotations

from typing import Any

import pytest

from cloudreg_emulator.faults import Fault, Kind

ONLINE = "aiplatform.googleapis.com/prediction/online"


def test_being_deployed_is_deployed(hosting: Any) -> None:
    """While a model is being deployed, its endpoint, its version and its id are taken."""
    endpoint, version = hosting.endpoint(), hosting.version()
    hosting.version(parent=version.partition("@")[0])
    hosting.faults.arm(Fault(kind=Kind.SLOW_START, service="fleet", seconds=1000))
    begun = hosting.begin_deploy(endpoint, version, id="77")

    hosting.refuses(
        lambda: hosting.endpoints.delete_endpoint(name=endpoint), "FAILED_PRECONDITION", "77"
    )
    hosting.refuses(
        lambda: hosting.models.delete_model_version(name=version), "FAILED_PRECONDITION", "deployed"
    )
    hosting.refuses(lambda: hosting.begin_deploy(endpoint, version, id="77"), "ALREADY_EXISTS")
    hosting.endpoints.cancel_operation({"name": begun.operation.name})
    hosting.done(hosting.models.delete_model_version(name=version))


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({}, "machine_type"),
        ({"machine_type": "n1-standard-3"}, 'Machine type "n1-standard-3" is not supported'),
        ({"machine_type": "ml.g5.xlarge"}, 'Machine type "ml.g5.xlarge" is not supported'),
        (
            {
                "machine_type": "n1-standard-4",
                "accelerator_type": "NVIDIA_TESLA_K80",
                "accelerator_count": 1,
            },
            'Accelerator "NVIDIA_TESLA_K80" is not supported for machine type "n1-standard-4"',
        ),
        (
            {
                "machine_type": "g2-standard-8",
                "accelerator_type": "NVIDIA_L4",
                "accelerator_count": 8,
            },
            'accelerator count "8" is not allowed. The allowed numbers of accelerator "NVIDIA_L4" '
            'to use with machine type "g2-standard-8" are: [1].',
        ),
        (
            {
                "machine_type": "n1-standard-32",
                "accelerator_type": "NVIDIA_TESLA_T4",
                "accelerator_count": 1,
            },
            "are: [2, 4].",
        ),
        (
            {
                "machine_type": "n1-standard-4",
                "accelerator_type": "NVIDIA_L4",
                "accelerator_count": 1,
            },
            'Accelerator "NVIDIA_L4" is not supported',
        ),
        (
            {
                "machine_type": "a2-highgpu-1g",
                "accelerator_type": "NVIDIA_A100_80GB",
                "accelerator_count": 1,
            },
            'Accelerator "NVIDIA_A100_80GB" is not supported',
        ),
        (
            {
                "machine_type": "e2-standard-4",
                "accelerator_type": "NVIDIA_TESLA_T4",
                "accelerator_count": 1,
            },
            'Accelerator "NVIDIA_TESLA_T4" is not supported for machine type "e2-standard-4"',
        ),
        ({"machine_type": "n1-standard-4", "accelerator_count": 1}, "accelerator_type"),
        ({"machine_type": "g2-standard-8"}, "accelerator_type"),
        ({"machine_type": "g2-standard-8", "accelerator_type": "NVIDIA_L4"}, 'count "0"'),
    ],
)
def test_no_such_machine(standing: Any, machine: dict[str, Any], said: str) -> None:
    """Machines and accelerators that do not go together are refused, in Google's words.

    Source: https://github.com/GoogleCloudPlatform/vertex-ai-samples/issues/3372 and
    https://github.com/hashicorp/terraform-provider-google/issues/18931
    """
    standing.hosting.refuses(
        lambda: standing.deploy(dedicated_resources={"machine_spec": machine}),
        "INVALID_ARGUMENT",
        said,
    )


def metric(name: str, target: int = 50) -> dict[str, Any]:
    return {"metric_name": f"{ONLINE}/{name}", "target": target}


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"min_replica_count": 0}, "min_replica_count"),
        ({"min_replica_count": -1}, "min_replica_count"),
        ({"min_replica_count": 3, "max_replica_count": 2}, "max_replica_count"),
        ({"max_replica_count": -1}, "max_replica_count"),
        ({"required_replica_count": 2}, "required_replica_count"),
        ({"required_replica_count": -1}, "required_replica_count"),
        ({"autoscaling_metric_specs": [metric("mood")]}, "metric_name"),
        ({"autoscaling_metric_specs": [metric("cpu/utilization", 0)]}, "target"),
        ({"autoscaling_metric_specs": [metric("cpu/utilization", 101)]}, "target"),
        ({"autoscaling_metric_specs": [metric("cpu/utilization")] * 2}, "autoscaling_metric_specs"),
        (
            {"autoscaling_metric_specs": [metric("accelerator/duty_cycle")]},
            "autoscaling_metric_specs",
        ),
    ],
)
def test_no_such_replicas(standing: Any, resources: dict[str, Any], field: str) -> None:
    """Bounds that no number satisfies, and metrics that move none, are refused, first and later.

    Source: DedicatedResources and AutoscalingMetricSpec
    """
    standing.hosting.refuses(
        lambda: standing.deploy(dedicated_resources=resources),
        "INVALID_ARGUMENT",
        f"deployed_model.dedicated_resources.{field}"
        if field not in ("metric_name", "target")
        else field,
    )
    paths = [f"dedicated_resources.{name}" for name in resources]
    standing.hosting.refuses(
        lambda: standing.mutate(*paths, **resources), "INVALID_ARGUMENT", field
    )


def test_no_such_mutation(standing: Any) -> None:
    """Only replicas, their metrics and the container's log are mutable.

    Source: MutateDeployedModelRequest.update_mask
    """
    hosting = standing.hosting
    hosting.refuses(standing.mutate, "INVALID_ARGUMENT", "update_mask")
    for path in ("mood", "dedicated_resources.mood"):
        hosting.refuses(lambda path=path: standing.mutate(path), "INVALID_ARGUMENT", path)
    for path in (
        "dedicated_resources",
        "dedicated_resources.machine_spec",
        "display_name",
        "model",
        "service_account",
        "dedicated_resources.spot",
    ):
        hosting.refuses(
            lambda path=path: standing.mutate(path),
            "INVALID_ARGUMENT",
            "cannot be mutated",
        )
    beta = hosting.beta().endpoints
    hosting.refuses(
        lambda: beta.mutate_deployed_model(
            endpoint=standing.name,
            deployed_model={"id": standing.deployed},
            update_mask={"paths": ["disable_container_logging"]},
        ),
        "INVALID_ARGUMENT",
    )


def test_no_such_deployed_model(standing: Any) -> None:
    """A deployed model that cannot be is refused, with the field's path."""
    hosting = standing.hosting
    model = f"{hosting.parent}/models"
    for fields, field in [
        ({"id": "12345678901"}, "deployed_model.id"),
        ({"id": "a1"}, "deployed_model.id"),
        ({"display_name": "x" * 129}, "deployed_model.display_name"),
    ]:
        hosting.refuses(lambda fields=fields: standing.deploy(**fields), "INVALID_ARGUMENT", field)
    for name, code in [
        ("", "INVALID_ARGUMENT"),
        ("nobody", "INVALID_ARGUMENT"),
        ("projects/other/locations/us-central1/models/m", "INVALID_ARGUMENT"),
        (f"{model}/nobody", "NOT_FOUND"),
        (f"{standing.model}@9", "NOT_FOUND"),
        (f"{standing.model}@prod", "NOT_FOUND"),
    ]:
        hosting.refuses(lambda name=name: hosting.begin_deploy(standing.name, name), code)


def test_only_dedicated_resources(standing: Any) -> None:
    """Custom containers have dedicated resources, and no others.

    Source: Model.supported_deployment_resources_types
    """
    hosting = standing.hosting
    for more in ({}, {"automatic_resources": {"min_replica_count": 1}}):
        hosting.refuses(
            lambda more=more: hosting.endpoints.deploy_model(
                endpoint=standing.name, deployed_model={"model": standing.version, **more}
            ),
            "INVALID_ARGUMENT",
            "DEDICATED_RESOURCES",
        )


def test_deployed_id_taken(standing: Any) -> None:
    """An id belongs to one deployed model of an endpoint."""
    name = standing.hosting.endpoint()
    standing.hosting.deploy(name, standing.version, id="77")

    standing.hosting.refuses(
        lambda: standing.hosting.begin_deploy(name, standing.version, id="77"),
        "ALREADY_EXISTS",
    )


def test_nobody_deployed(standing: Any) -> None:
    """What is not deployed is neither undeployed nor mutated."""
    hosting = standing.hosting
    mask = {"paths": ["dedicated_resources.min_replica_count"]}
    hosting.refuses(
        lambda: hosting.endpoints.undeploy_model(endpoint=standing.name, deployed_model_id="77"),
        "NOT_FOUND",
    )
    hosting.refuses(
        lambda: hosting.endpoints.mutate_deployed_model(
            endpoint=standing.name, deployed_model={"id": "77"}, update_mask=mask
        ),
        "NOT_FOUND",
    )


def test_any_route_needs_a_dedicated_endpoint(standing: Any) -> None:
    """A model of any routes is deployed to a dedicated endpoint, and has no predictions there.

    Source: ModelContainerSpec.invoke_route_prefix
    """
    hosting = standing.hosting
    version = hosting.version(invoke_route_prefix="/*", health_route="/ping")
    hosting.refuses(
        lambda: hosting.begin_deploy(standing.name, version),
        "FAILED_PRECONDITION",
        "dedicated endpoint",
    )
    own = hosting.endpoint(dedicated_endpoint_enabled=True)
    hosting.deploy(own, version)
    hosting.refuses(lambda: hosting.predict(own, 1), "FAILED_PRECONDITION")


def test_not_emulated(hosting: Any) -> None:
    """What is not emulated is refused by its name."""
    name = hosting.endpoint()

    hosting.refuses(
        lambda: hosting.predictions.explain(endpoint=name, instances=[]),
        "UNIMPLEMENTED",
        "PredictionService.Explain",
    )


def test_scale_to_zero_is_of_v1beta1(hosting: Any) -> None:
    """Only v1beta1 has zero replicas, and only with a spec for that, whose periods are bounded.

    Source: DedicatedResources.scale_to_zero_spec and ScaleToZeroSpec of v1beta1
    """
    beta = hosting.beta()
    endpoint, version = hosting.endpoint(), hosting.version()
    zero = {"min_replica_count": 0, "max_replica_count": 2}

    def deploy(**more: Any) -> Any:
        return beta.begin_deploy(endpoint, version, dedicated_resources={**zero, **more})

    hosting.refuses(
        lambda: hosting.begin_deploy(endpoint, version, dedicated_resources=zero),
        "INVALID_ARGUMENT",
        "min_replica_count",
    )
    hosting.refuses(deploy, "INVALID_ARGUMENT", "min_replica_count")
    for name in ("idle_scaledown_period", "min_scaleup_period"):
        for seconds in (299, 28_801):
            spec = {name: {"seconds": seconds}}
            hosting.refuses(
                lambda spec=spec: deploy(scale_to_zero_spec=spec),
                "INVALID_ARGUMENT",
                f"scale_to_zero_spec.{name}",
            )
    spec = {"idle_scaledown_period": {"seconds": 300}}
    hosting.refuses(
        lambda: deploy(scale_to_zero_spec=spec, initial_replica_count=3),
        "INVALID_ARGUMENT",
        "initial_replica_count",
    )
