"""What Terraform's aws provider may take over of a target, and what it must leave alone."""

from __future__ import annotations

from typing import Any

import pytest

from cloudreg.provider import Deployed, PlannedChange
from cloudreg.testing.serving import spec, variant
from cloudreg_sagemaker.settings import SageMakerSettings
from cloudreg_sagemaker.terraform import Terraform

SETTINGS = SageMakerSettings(region="eu-central-1", bucket="models", prefix="team")
DEPLOYED = Deployed(models=("churn",), endpoints=("churn-prod",), stages=("prod",))

SCALED = {"service_namespace": "sagemaker", "resource_id": "endpoint/churn-prod/variant/primary"}
OURS = [
    ("aws_sagemaker_endpoint", ["update"], {"name": "churn-prod"}),
    ("aws_sagemaker_endpoint", ["create"], {"name": "churn-prod"}),
    ("aws_sagemaker_endpoint_configuration", ["delete"], {"name": "churn-prod-0123abcd"}),
    ("aws_sagemaker_model", ["delete"], {"name": "churn-0123abcd"}),
    ("aws_appautoscaling_target", ["update"], SCALED),
    ("aws_appautoscaling_policy", ["create"], SCALED),
    ("aws_cloudwatch_metric_alarm", ["delete"], {"alarm_name": "cloudreg-steps/churn-prod/x"}),
    ("aws_s3_object", ["update"], {"bucket": "models", "key": "team/ledger/churn/1"}),
    ("aws_s3_bucket", ["delete"], {"bucket": "models"}),
    ("aws_s3_bucket", ["create", "delete"], {"bucket": "models"}),
    ("aws_sagemaker_model_package_group", ["delete"], {"model_package_group_name": "churn"}),
]
OTHERS = [
    ("aws_sagemaker_endpoint", ["update"], {"name": "churn-prod-2"}),
    ("aws_sagemaker_endpoint_configuration", ["delete"], {"name": "other-0123"}),
    ("aws_sagemaker_model", ["delete"], {"name": "other-0123"}),
    ("aws_appautoscaling_target", ["update"], {**SCALED, "service_namespace": "ecs"}),
    ("aws_appautoscaling_policy", ["create"], {**SCALED, "resource_id": "endpoint/x/variant/y"}),
    ("aws_cloudwatch_metric_alarm", ["create"], {"alarm_name": "cloudreg-churn-prod"}),
    ("aws_s3_object", ["update"], {"bucket": "models", "key": "website/index.html"}),
    ("aws_s3_object", ["update"], {"bucket": "other", "key": "team/ledger/churn/1"}),
    ("aws_s3_bucket", ["update"], {"bucket": "models"}),
    ("aws_s3_bucket", ["create"], {"bucket": "models"}),
    ("aws_sagemaker_model_package_group", ["create"], {"model_package_group_name": "churn"}),
    ("aws_sagemaker_model_package_group", ["delete"], {"model_package_group_name": "other"}),
    ("aws_iam_role", ["delete"], {"name": "churn-prod"}),
]


def claimed(type_: str, actions: list[str], attributes: dict[str, Any]) -> str | None:
    change = PlannedChange(
        address=f"{type_}.x",
        type=type_,
        actions=tuple(actions),
        before={} if actions == ["create"] else attributes,
        after={} if actions == ["delete"] else attributes,
    )
    return Terraform().claim(SETTINGS, DEPLOYED, change)


@pytest.mark.parametrize(("type_", "actions", "attributes"), OURS)
def test_ours(type_: str, actions: list[str], attributes: dict[str, Any]) -> None:
    """What changes with a model, and what holds its history, is not Terraform's to change."""
    assert claimed(type_, actions, attributes)


@pytest.mark.parametrize(("type_", "actions", "attributes"), OTHERS)
def test_not_ours(type_: str, actions: list[str], attributes: dict[str, Any]) -> None:
    """What outlives a model, and what is somebody else's, may change."""
    assert claimed(type_, actions, attributes) is None


def test_existing(desk: Any) -> None:
    """Bucket, groups of known models, and endpoints: those that cloudreg made stay with it."""
    client = desk.cloud.client("sagemaker")
    client.create_model_package_group(ModelPackageGroupName="by-hand")
    serving = desk.start(spec(desk.server.name(), variant("primary", desk.server.version(1))))
    section = SageMakerSettings(**desk.cloud.section)
    models = ["by-hand", "nobody"]
    found = list(Terraform().existing(desk.provider, section, models))
    kept = {one.id: one.kept for one in found if one.type == "aws_sagemaker_endpoint"}
    assert "changes with each release" in kept[serving.name]
    assert [(one.type, one.id) for one in found if not one.kept] == [
        ("aws_s3_bucket", section.bucket),
        ("aws_sagemaker_model_package_group", "by-hand"),
    ]
