"""What somebody did in SageMaker's console is found, part by part, and a repair puts it right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace, plugins
from cloudreg.manifest import Lineage
from cloudreg.operations import poll_until
from cloudreg.testing.base import fresh
from cloudreg_sagemaker import PLUGIN

CONFIG = """
home = "aws"

[targets.aws]
provider = "sagemaker"
region = "us-east-1"
bucket = "our-models"
prefix = "{model}"
role = "arn:aws:iam::123456789012:role/model-servers"
image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
health_check_timeout_s = 3600
endpoint_url = "{url}"

[stages.dev]
[stages.prod]
gates = []

[endpoints.{model}]
model = "{model}"
stage = "prod"
gpu = "A10G"
max_replicas = 2
concurrency = 5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """A model in production, and the console beside it."""

    ws: Workspace
    model: str
    client: Any
    scaling: Any

    def package(self, number: int) -> str:
        listed = self.client.list_model_packages(ModelPackageGroupName=self.model)
        return next(
            str(one["ModelPackageArn"])
            for one in listed["ModelPackageSummaryList"]
            if one["ModelPackageDescription"].split(":")[1].split()[0] == str(number)
        )

    def settled(self) -> dict[str, Any]:
        """Return the endpoint once SageMaker has done what was asked."""

        def look() -> dict[str, Any]:
            return dict(self.client.describe_endpoint(EndpointName=self.model))

        found = poll_until(look, lambda seen: seen["EndpointStatus"] == "InService", timeout_s=60)
        assert found is not None
        return found

    @property
    def resource(self) -> dict[str, str]:
        return {
            "ServiceNamespace": "sagemaker",
            "ResourceId": f"endpoint/{self.model}/variant/primary",
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        }


@pytest.fixture(scope="module")
def house(cloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two versions, of which the second is in production."""
    model, root = fresh("drift"), tmp_path_factory.mktemp("drift")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CLOUDREG_")]:
            patch.delenv(name)
        plugins.register(PLUGIN)
        (root / "cloudreg.toml").write_text(CONFIG.format(url=cloud.server.url, model=model))
        with Workspace.load(root) as ws:
            for number in (1, 2):
                ws.promote(ws.register(model, weights(root, number), lineage=Lineage()), to="prod")
            yield House(
                ws=ws,
                model=model,
                client=cloud.client("sagemaker"),
                scaling=cloud.client("application-autoscaling"),
            )
            ws.down()


def weights(root: Path, number: int) -> Path:
    folder = root / f"v{number}"
    folder.mkdir()
    (folder / "weights.txt").write_text(f"weights of {number}")
    return folder


def stage(house: House) -> None:
    house.client.update_model_package(
        ModelPackageArn=house.package(1),
        ModelApprovalStatus="Approved",
        ModelLifeCycle={"Stage": "Production", "StageStatus": "Approved"},
    )


def gone_from_the_stage(house: House) -> None:
    house.client.update_model_package(
        ModelPackageArn=house.package(2),
        ModelLifeCycle={"Stage": "Archived", "StageStatus": "PendingApproval"},
    )


def bounds(house: House) -> None:
    house.scaling.register_scalable_target(**house.resource, MinCapacity=1, MaxCapacity=7)


def no_scaling(house: House) -> None:
    house.scaling.deregister_scalable_target(**house.resource)


def policy(house: House) -> None:
    (found,) = house.scaling.describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=house.resource["ResourceId"]
    )["ScalingPolicies"]
    tracking = found["TargetTrackingScalingPolicyConfiguration"]
    house.scaling.put_scaling_policy(
        **house.resource,
        PolicyName=found["PolicyName"],
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={**tracking, "TargetValue": 50.0},
    )


def environment(house: House) -> None:
    """Put another configuration behind the endpoint, of a model with one more variable."""
    seen = house.settled()
    described = house.client.describe_endpoint_config(EndpointConfigName=seen["EndpointConfigName"])
    (variant,) = described["ProductionVariants"]
    model = house.client.describe_model(ModelName=variant["ModelName"])
    container = model["PrimaryContainer"]
    name = fresh("by-hand")
    house.client.create_model(
        ModelName=name,
        ExecutionRoleArn=model["ExecutionRoleArn"],
        PrimaryContainer={
            **container,
            "Environment": {**container["Environment"], "CLOUDREG_MAX_BATCH": "1"},
        },
    )
    house.client.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[{**variant, "ModelName": name}]
    )
    house.client.update_endpoint(EndpointName=house.model, EndpointConfigName=name)
    house.settled()


def removal(house: House) -> None:
    house.client.delete_endpoint(EndpointName=house.model)
    gone = poll_until(
        lambda: house.client.list_endpoints(NameContains=house.model)["Endpoints"],
        lambda found: not found,
        timeout_s=60,
    )
    assert gone == []


def served(house: House) -> tuple[str, str]:
    """Return the names of the configuration that is served, and of its model."""
    config = house.settled()["EndpointConfigName"]
    (variant,) = house.client.describe_endpoint_config(EndpointConfigName=config)[
        "ProductionVariants"
    ]
    return config, variant["ModelName"]


def no_configuration(house: House) -> None:
    house.client.delete_endpoint_config(EndpointConfigName=served(house)[0])


def no_model(house: House) -> None:
    house.client.delete_model(ModelName=served(house)[1])


def no_record(house: House) -> None:
    """Delete what was written down of the endpoint: by what there is it is anybody's."""
    store = house.ws.targets["aws"].store
    (key,) = (one.key for one in store.list("sagemaker/us-east-1/endpoints/"))
    store.delete(key)


EDITS: list[tuple[Callable[[House], None], str, str]] = [
    (stage, "stage", "version"),
    (gone_from_the_stage, "stage", "version"),
    (bounds, "endpoint", "scaling.max_replicas"),
    (no_scaling, "endpoint", "scaling"),
    (policy, "endpoint", "scaling.target"),
    (environment, "endpoint", ""),
    (no_configuration, "endpoint", ""),
    (no_model, "endpoint", ""),
    (no_record, "endpoint", "endpoint"),
    (removal, "endpoint", "endpoint"),
]


@pytest.mark.parametrize(("edit", "kind", "part"), EDITS, ids=[e[0].__name__ for e in EDITS])
def test_console_edit(house: House, edit: Callable[[House], None], kind: str, part: str) -> None:
    """The edit is found at its place, with both values; a repair ends it."""
    assert house.ws.drift(house.model) == []
    edit(house)
    found = house.ws.drift(house.model)
    assert [one for one in found if one.kind == kind and part in one.field], found
    assert all(one.target == "aws" and one.ledger != one.actual for one in found)
    house.ws.repair(house.model)
    assert house.ws.drift(house.model) == []
