"""Inference components: several models on one variant's instances, from none to many copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from cloudreg_emulator.aws.sagemaker.errors import Refused
from cloudreg_emulator.aws.sagemaker.models import SageMakerBackend

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role/hosting"
UNHEALTHY = "The primary container did not pass the ping health check."

MODEL = "the service model of botocore"
MEASURED = "https://github.com/stdapi-ai/stdapi.ai/issues/43"
TERRAFORM = "https://github.com/hashicorp/terraform-provider-aws inference_component.go"
STUCK = "https://github.com/aws/amazon-sagemaker-examples/issues/3432"
FIRST = "https://github.com/aws/amazon-sagemaker-feedback/issues/49"
OURS = "the emulator: what it accepts, it does"


def needs(devices: float | None = 1) -> dict[str, Any]:
    found: dict[str, Any] = {"MinMemoryRequiredInMb": 1024}
    if devices:
        found["NumberOfAcceleratorDevicesRequired"] = devices
    return found


def component(name: str = "a", **more: Any) -> dict[str, Any]:
    usual = {
        "InferenceComponentName": name,
        "EndpointName": "e",
        "VariantName": "main",
        "Specification": {"ModelName": "m1", "ComputeResourceRequirements": needs()},
        "RuntimeConfig": {"CopyCount": 1},
    }
    return {key: value for key, value in {**usual, **more}.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request beside the component ``a`` on the endpoint ``e``, and the plain endpoint ``p``."""

    id: str
    call: str
    words: str
    source: str
    request: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        id="component twice",
        call="create_inference_component",
        request=component("a"),
        words="Cannot create already existing inference component "
        f'"{PREFIX}:inference-component/a".',
        source=MODEL,
    ),
    Case(
        id="no copies",
        call="create_inference_component",
        request=component("b", RuntimeConfig={"CopyCount": 0}),
        words="Inference components copy count an integer larger than 0",
        source=MEASURED,
    ),
    Case(
        id="copies of nobody knows how many",
        call="create_inference_component",
        request=component("b", RuntimeConfig=None),
        words="Inference components copy count",
        source=MEASURED,
    ),
    Case(
        id="no endpoint",
        call="create_inference_component",
        request=component("b", EndpointName="none"),
        words=f'Could not find endpoint "{PREFIX}:endpoint/none".',
        source=MODEL,
    ),
    Case(
        id="endpoint with models of its own",
        call="create_inference_component",
        request=component("b", EndpointName="p"),
        words="does not support inference components",
        source=MODEL,
    ),
    Case(
        id="no variant",
        call="create_inference_component",
        request=component("b", VariantName=None),
        words="VariantName must be specified",
        source=MODEL,
    ),
    Case(
        id="another variant",
        call="create_inference_component",
        request=component("b", VariantName="other"),
        words='The variant name(s) "other" is/are not present',
        source=MODEL,
    ),
    Case(
        id="no model",
        call="create_inference_component",
        request=component(
            "b", Specification={"ModelName": "none", "ComputeResourceRequirements": needs()}
        ),
        words=f'Could not find model "{PREFIX}:model/none".',
        source=MODEL,
    ),
    Case(
        id="nothing to run",
        call="create_inference_component",
        request=component("b", Specification={"ComputeResourceRequirements": needs()}),
        words="Specify ModelName, or Container with an Image",
        source=MODEL,
    ),
    Case(
        id="two things to run",
        call="create_inference_component",
        request=component(
            "b",
            Specification={
                "ModelName": "m1",
                "Container": {"Image": "i"},
                "ComputeResourceRequirements": needs(),
            },
        ),
        words="either ModelName or Container",
        source=MODEL,
    ),
    Case(
        id="no requirements",
        call="create_inference_component",
        request=component("b", Specification={"ModelName": "m1"}),
        words="ComputeResourceRequirements must be specified",
        source=MODEL,
    ),
    Case(
        id="no specification",
        call="create_inference_component",
        request=component("b", Specification=None),
        words="Specify either Specification or Specifications",
        source=MODEL,
    ),
    Case(
        id="both kinds of specification",
        call="create_inference_component",
        request=component("b", Specifications=[{"ModelName": "m1"}]),
        words="but not both",
        source=MODEL,
    ),
    Case(
        id="specifications by type",
        call="create_inference_component",
        request=component("b", Specification=None, Specifications=[{"ModelName": "m1"}]),
        words="The emulator does not run Specifications",
        source=OURS,
    ),
    Case(
        id="adapter",
        call="create_inference_component",
        request=component("b", Specification={"BaseInferenceComponentName": "a"}),
        words="The emulator does not run adapter inference components",
        source=OURS,
    ),
    *(
        Case(
            id=f"{call} of no component",
            call=call,
            request={"InferenceComponentName": "none", **more},
            words="Could not find inference component",
            source=TERRAFORM,
        )
        for call, more in (
            ("describe_inference_component", {}),
            ("delete_inference_component", {}),
            ("update_inference_component", {"RuntimeConfig": {"CopyCount": 2}}),
            (
                "update_inference_component_runtime_config",
                {"DesiredRuntimeConfig": {"CopyCount": 2}},
            ),
        )
    ),
    Case(
        id="update of nothing",
        call="update_inference_component",
        request={"InferenceComponentName": "a"},
        words="Specify at least one of Specification or RuntimeConfig",
        source=TERRAFORM,
    ),
    Case(
        id="update to two things to run",
        call="update_inference_component",
        request={
            "InferenceComponentName": "a",
            "Specification": {"ModelName": "m1", "Container": {"Image": "i"}},
        },
        words="either ModelName or Container",
        source=MODEL,
    ),
    Case(
        id="endpoint with components",
        call="delete_endpoint",
        request={"EndpointName": "e"},
        words="it has inference components: a",
        source=FIRST,
    ),
]


@pytest.fixture
def endpoint(client: Any, make: Any) -> str:
    """An endpoint of one to three instances with four GPUs each, and one with its own model."""
    for name in ("m1", "m2", "bad"):
        make.model(name, PrimaryContainer={"Image": f"{name}:1", "Environment": {"A": name}})
    scaling = {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 3}
    host = make.variant(
        ModelName=None, InstanceType="ml.g5.12xlarge", ManagedInstanceScaling=scaling
    )
    make.config("hosts", host, ExecutionRoleArn=ROLE)
    make.config("plain")
    make.endpoint("p", "plain")
    return str(make.endpoint("e", "hosts"))


def settled(client: Any, name: str = "a") -> dict[str, Any]:
    for _ in range(20):
        body: dict[str, Any] = client.describe_inference_component(InferenceComponentName=name)
        if body["InferenceComponentStatus"] in ("InService", "Failed"):
            return body
    raise AssertionError(body["InferenceComponentStatus"])


@pytest.fixture
def a(client: Any, endpoint: str) -> str:
    arn = str(client.create_inference_component(**component())["InferenceComponentArn"])
    assert settled(client)["InferenceComponentStatus"] == "InService"
    return arn


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refusals(case: Case, client: Any, a: str, cast: Any, refused: Callable[..., str]) -> None:
    """What SageMaker refuses is refused with its words, and changes nothing."""
    before = len(cast.running)

    refused(getattr(client, case.call), "ValidationException", case.words, **case.request)

    assert case.source
    assert len(cast.running) == before
    [listed] = client.list_inference_components()["InferenceComponents"]
    assert listed["InferenceComponentStatus"] == "InService"
    found = client.describe_endpoint(EndpointName="e")
    assert found["EndpointStatus"] == "InService"


def test_the_host_runs_no_container(client: Any, endpoint: str, backend: Any, cast: Any) -> None:
    """An endpoint for components has instances, and no container and no route of its own."""
    found = client.describe_endpoint(EndpointName="e")

    [variant] = found["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 1
    assert variant["ManagedInstanceScaling"]["MaxInstanceCount"] == 3
    assert "DeployedImages" not in variant
    assert backend.routes("e") == []
    assert backend.routes("e", components=True) == []
    assert [group.launch.endpoint for group in cast.running] == ["p"]


def test_a_component_comes_into_service(
    client: Any, endpoint: str, cast: Any, backend: SageMakerBackend
) -> None:
    """A component is Creating until its copies are healthy; then requests can name it."""
    cast.most = 1
    request = component(RuntimeConfig={"CopyCount": 2})
    arn = client.create_inference_component(**request)["InferenceComponentArn"]
    for _ in range(3):
        found = client.describe_inference_component(InferenceComponentName="a")
        assert found["InferenceComponentStatus"] == "Creating"
        assert backend.routes("e", components=True) == []

    cast.most = 2
    found = settled(client)
    assert found["InferenceComponentArn"] == arn == f"{PREFIX}:inference-component/a"
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    assert found["EndpointArn"] == endpoint
    assert found["Specification"]["ModelName"] == "m1"
    [route] = backend.routes("e", components=True)
    assert (route.component, route.variant, route.model_name) == ("a", "main", "m1")
    assert cast.running[-1].launch.environment == {"A": "m1"}
    assert cast.running[-1].launch.instance_type == "ml.g5.12xlarge"


def test_a_component_with_its_own_container(client: Any, endpoint: str, cast: Any) -> None:
    """A component may name image, data, environment and timeouts itself."""
    specification = {
        "Container": {
            "Image": "own:1",
            "ArtifactUrl": "s3://b/m.tar.gz",
            "Environment": {"B": "2"},
        },
        "StartupParameters": {
            "ModelDataDownloadTimeoutInSeconds": 61,
            "ContainerStartupHealthCheckTimeoutInSeconds": 62,
        },
        "ComputeResourceRequirements": needs(),
    }
    client.create_inference_component(**component(Specification=specification))
    found = settled(client)

    launch = cast.running[-1].launch
    assert (launch.image, launch.environment) == ("own:1", {"B": "2"})
    assert (launch.bucket, launch.key, launch.compressed) == ("b", "m.tar.gz", True)
    assert (launch.download_timeout_s, launch.startup_timeout_s) == (61.0, 62.0)
    shown = found["Specification"]["Container"]
    assert shown["DeployedImage"] == {"SpecifiedImage": "own:1"}
    assert shown["ArtifactUrl"] == "s3://b/m.tar.gz"


def test_a_component_waits_for_its_endpoint(client: Any, make: Any, endpoint: str) -> None:
    """A component can be asked for while its endpoint is being created."""
    client.create_endpoint(EndpointName="late", EndpointConfigName="hosts")
    client.create_inference_component(**component(EndpointName="late"))

    assert (
        client.describe_inference_component(InferenceComponentName="a")["InferenceComponentStatus"]
        == "Creating"
    )
    make.settled("late")
    assert settled(client)["InferenceComponentStatus"] == "InService"


def test_a_failed_component(client: Any, endpoint: str, cast: Any) -> None:
    """A component whose copies never come up is Failed with its reason, and can be deleted."""
    cast.failing["bad:1"] = UNHEALTHY
    specification = {"ModelName": "bad", "ComputeResourceRequirements": needs()}
    client.create_inference_component(**component(Specification=specification))

    found = settled(client)

    assert (found["InferenceComponentStatus"], found["FailureReason"]) == ("Failed", UNHEALTHY)
    assert found["RuntimeConfig"]["CurrentCopyCount"] == 0
    client.delete_inference_component(InferenceComponentName="a")


@pytest.mark.parametrize(
    ("devices", "copies", "instances"), [(1, 4, 1), (1, 5, 2), (2, 5, 3), (4, 3, 3)]
)
def test_instances_follow_the_copies(
    client: Any, endpoint: str, devices: int, copies: int, instances: int
) -> None:
    """Managed scaling has as many instances as the copies' GPUs need."""
    specification = {"ModelName": "m1", "ComputeResourceRequirements": needs(devices)}
    client.create_inference_component(
        **component(Specification=specification, RuntimeConfig={"CopyCount": copies})
    )

    assert settled(client)["InferenceComponentStatus"] == "InService"
    [variant] = client.describe_endpoint(EndpointName="e")["ProductionVariants"]
    assert variant["DesiredInstanceCount"] == instances


@pytest.mark.parametrize(("devices", "copies"), [(5, 1), (1, 13), (4, 4)])
def test_more_than_fits(client: Any, endpoint: str, devices: int, copies: int) -> None:
    """What needs more GPUs than there can be is Failed."""
    specification = {"ModelName": "m1", "ComputeResourceRequirements": needs(devices)}
    client.create_inference_component(
        **component(Specification=specification, RuntimeConfig={"CopyCount": copies})
    )

    found = settled(client)
    assert found["InferenceComponentStatus"] == "Failed"
    assert "accelerator devices are required, 12 can be had" in found["FailureReason"]


def test_two_models_share_a_gpu_machine(client: Any, a: str, backend: SageMakerBackend) -> None:
    """Several components run beside each other, and count together."""
    second = {"ModelName": "m2", "ComputeResourceRequirements": needs(3)}
    client.create_inference_component(**component("b", Specification=second))
    settled(client, "b")

    assert {one.component for one in backend.routes("e", components=True)} == {"a", "b"}
    [variant] = client.describe_endpoint(EndpointName="e")["ProductionVariants"]
    assert variant["DesiredInstanceCount"] == 1


def test_down_to_zero_and_back(
    client: Any, make: Any, endpoint: str, cast: Any, backend: SageMakerBackend
) -> None:
    """Copies go to none and come back, and the instances with them where the least is none."""
    scaling = {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}
    host = make.variant(ModelName=None, ManagedInstanceScaling=scaling)
    make.config("zero", host, ExecutionRoleArn=ROLE)
    make.endpoint("z", "zero")
    client.create_inference_component(**component(EndpointName="z"))
    settled(client)

    client.update_inference_component_runtime_config(
        InferenceComponentName="a", DesiredRuntimeConfig={"CopyCount": 0}
    )
    found = settled(client)
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 0, "CurrentCopyCount": 0}
    [variant] = client.describe_endpoint(EndpointName="z")["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 0
    assert [one.group.desired for one in backend.routes("z", components=True)] == [0]

    backend.rescale_component("a", 2)
    assert settled(client)["RuntimeConfig"] == {"DesiredCopyCount": 2, "CurrentCopyCount": 2}
    [variant] = client.describe_endpoint(EndpointName="z")["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 2


def test_an_update_to_another_model(
    client: Any, a: str, cast: Any, backend: SageMakerBackend
) -> None:
    """The old copies answer until the new ones do, and go then."""
    cast.most = 0
    deployment = {
        "RollingUpdatePolicy": {
            "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
            "WaitIntervalInSeconds": 0,
        }
    }
    client.update_inference_component(
        InferenceComponentName="a",
        Specification={"ModelName": "m2", "ComputeResourceRequirements": needs()},
        DeploymentConfig=deployment,
    )
    [route] = backend.routes("e", components=True)
    assert route.group.launch.image == "m1:1"

    cast.most = 9
    found = settled(client)
    assert found["Specification"]["ModelName"] == "m2"
    assert found["LastDeploymentConfig"] == deployment
    [route] = backend.routes("e", components=True)
    assert route.group.launch.image == "m2:1"
    assert [g.launch.image for g in cast.running if g.launch.endpoint == "e"] == ["m2:1"]


def test_a_failed_update(client: Any, a: str, cast: Any, backend: SageMakerBackend) -> None:
    """An update whose copies never come up leaves the old ones in service."""
    cast.failing["bad:1"] = UNHEALTHY
    client.update_inference_component(
        InferenceComponentName="a", Specification={"ModelName": "bad"}
    )

    found = settled(client)

    assert (found["InferenceComponentStatus"], found["FailureReason"]) == ("InService", UNHEALTHY)
    assert found["Specification"]["ModelName"] == "m1"
    [route] = backend.routes("e", components=True)
    assert route.group.launch.image == "m1:1"
    assert route.group.ready == 1


def test_too_many_copies_later(client: Any, a: str) -> None:
    """Copies that do not fit are refused by what happens, and the old number stays."""
    client.update_inference_component(InferenceComponentName="a", RuntimeConfig={"CopyCount": 13})

    found = settled(client)
    assert found["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    assert "12 can be had" in found["FailureReason"]


@pytest.mark.parametrize("phase", ["Creating", "Updating"])
def test_nothing_is_done_to_a_component_in_progress(
    client: Any, endpoint: str, cast: Any, refused: Callable[..., str], phase: str
) -> None:
    """While a component is being created or updated, it can neither be changed nor deleted."""
    client.create_inference_component(**component())
    if phase == "Updating":
        settled(client)
        client.update_inference_component(
            InferenceComponentName="a", RuntimeConfig={"CopyCount": 2}
        )

    for call, more in (
        (client.update_inference_component, {"RuntimeConfig": {"CopyCount": 3}}),
        (client.delete_inference_component, {}),
        (
            client.update_inference_component_runtime_config,
            {"DesiredRuntimeConfig": {"CopyCount": 3}},
        ),
    ):
        words = f"in status {phase}"
        refused(call, "ValidationException", words, InferenceComponentName="a", **more)


def test_deletion(client: Any, make: Any, a: str, cast: Any, refused: Callable[..., str]) -> None:
    """A component goes with its copies; then its endpoint can go, too."""
    client.delete_inference_component(InferenceComponentName="a")
    found = client.describe_inference_component(InferenceComponentName="a")
    assert found["InferenceComponentStatus"] == "Deleting"
    assert [group.launch.endpoint for group in cast.running] == ["p"]

    words = "Could not find inference component"
    call = client.describe_inference_component
    refused(call, "ValidationException", words, InferenceComponentName="a")
    client.delete_endpoint(EndpointName="e")


def test_deletion_twice(client: Any, a: str, refused: Callable[..., str]) -> None:
    """Deleting what is being deleted is refused, in the word that Terraform looks for."""
    client.delete_inference_component(InferenceComponentName="a")

    refused(
        client.delete_inference_component,
        "ValidationException",
        "DELETE_IN_PROGRESS",
        InferenceComponentName="a",
    )


def test_a_component_that_goes_is_not_scaled(
    client: Any, a: str, backend: SageMakerBackend
) -> None:
    """Nothing goes to a component that is being deleted, and autoscaling is refused."""
    client.delete_inference_component(InferenceComponentName="a")
    client.describe_inference_component(InferenceComponentName="a")
    with pytest.raises(Refused, match="in status Deleting"):
        backend.rescale_component("a", 1)

    assert backend.routes("e", components=True) == []


def test_lists_and_tags(client: Any, a: str) -> None:
    """Components are listed by endpoint, variant and status, and have tags."""
    tags = [{"Key": "k", "Value": "v"}]
    made = client.create_inference_component(**component("b", Tags=tags))

    def names(**request: Any) -> list[str]:
        found = client.list_inference_components(**request)["InferenceComponents"]
        return [one["InferenceComponentName"] for one in found]

    assert names() == ["b", "a"]
    assert names(StatusEquals="InService") == ["a"]
    assert names(EndpointNameEquals="p") == []
    assert names(EndpointNameEquals="e", VariantNameEquals="main", SortOrder="Ascending") == [
        "a",
        "b",
    ]
    assert names(VariantNameEquals="other") == []
    assert client.list_tags(ResourceArn=made["InferenceComponentArn"])["Tags"] == tags


def test_a_reset_stops_what_runs(a: str, cast: Any, backend: SageMakerBackend) -> None:
    """moto's reset ends every copy."""
    backend.reset()

    assert cast.running == []
