"""What Terraform's aws provider has of ours: what it may take over, and what it must leave alone.

Source: https://registry.terraform.io/providers/hashicorp/aws/latest/docs (import ids, attributes)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cloudreg.errors import NotFound
from cloudreg.provider import Deployed, Importable, PlannedChange
from cloudreg_sagemaker import alarms
from cloudreg_sagemaker.errors import translated
from cloudreg_sagemaker.policy import STEM

if TYPE_CHECKING:
    from cloudreg_sagemaker.provider import SageMakerProvider
    from cloudreg_sagemaker.settings import SageMakerSettings

_NAMESPACE = "sagemaker"
_SCALING = frozenset({"aws_appautoscaling_target", "aws_appautoscaling_policy"})
_KEPT = "its configuration changes with each release, which Terraform would undo"
_OBJECTS = frozenset({"aws_s3_object", "aws_s3_bucket_object"})


class Terraform:
    """Beside Terraform's aws provider."""

    def existing(
        self, provider: SageMakerProvider, settings: SageMakerSettings, models: Iterable[str]
    ) -> Iterator[Importable]:
        # Refused by the store where it is missing or somebody else's.
        next(iter(provider.store.list("ledger/")), None)
        yield Importable(type="aws_s3_bucket", name=settings.bucket, id=settings.bucket)
        client, target = provider.clients["sagemaker"], provider.target
        for model in models:
            try:
                with translated(model, target=target):
                    client.describe_model_package_group(ModelPackageGroupName=model)
            except NotFound:
                continue
            yield Importable(type="aws_sagemaker_model_package_group", name=model, id=model)
        ours = {endpoint.spec.name for endpoint in provider.endpoints.endpoints()}
        with translated("endpoints", target=target):
            pages = client.get_paginator("list_endpoints").paginate()
            names = [one["EndpointName"] for page in pages for one in page["Endpoints"]]
        for name in sorted({*names, *ours}):
            kept = _KEPT if name in ours else ""
            yield Importable(type="aws_sagemaker_endpoint", name=name, id=name, kept=kept)

    def claim(
        self, settings: SageMakerSettings, deployed: Deployed, change: PlannedChange
    ) -> str | None:
        if change.type in _OBJECTS:
            return _of_objects(settings, change)
        if change.type == "aws_s3_bucket":
            gone = change.removes and settings.bucket in change.any("bucket")
            return f"the bucket {settings.bucket} holds ledger and artifacts" if gone else None
        if change.type == "aws_sagemaker_model_package_group":
            names = change.any("model_package_group_name") & set(deployed.models)
            if change.removes and names:
                return f"the versions of {names.pop()} are in it"
            return None
        return _of_endpoints(deployed, change)


def _of_objects(settings: SageMakerSettings, change: PlannedChange) -> str | None:
    below = f"{settings.prefix}/" if settings.prefix else ""
    keys = {key.lstrip("/") for key in change.any("key")}
    if settings.bucket in change.any("bucket") and any(key.startswith(below) for key in keys):
        return f"objects below s3://{settings.bucket}/{below} are cloudreg's"
    return None


def _of_endpoints(deployed: Deployed, change: PlannedChange) -> str | None:
    name = next((n for n in deployed.endpoints if _serves(n, change)), None)
    if name is not None:
        return f"it belongs to the endpoint {name}, which changes with each release"
    if change.type == "aws_sagemaker_model":
        model = next(
            (m for m in deployed.models for n in change.any("name") if n.startswith(f"{m}-")), None
        )
        return f"it looks like a version of {model}, which cloudreg makes" if model else None
    return None


def _serves(endpoint: str, change: PlannedChange) -> bool:
    """Whether a change is of an endpoint, its configurations, its scaling or its alarms."""
    if change.type == "aws_sagemaker_endpoint":
        return endpoint in change.any("name")
    if change.type == "aws_sagemaker_endpoint_configuration":
        stem = f"{endpoint[:STEM].rstrip('-')}-"
        return any(name.startswith(stem) for name in change.any("name"))
    if change.type in _SCALING:
        parts = [text.split("/") for text in change.any("resource_id")]
        ours = any(
            p[0] in ("endpoint", "inference-component") and endpoint in p[1:2] for p in parts
        )
        return ours and _NAMESPACE in change.any("service_namespace")
    if change.type == "aws_cloudwatch_metric_alarm":
        made = tuple(f"{prefix}{endpoint}/" for prefix in (alarms.PREFIX, alarms.WAKE_PREFIX))
        return any(name.startswith(made) for name in change.any("alarm_name"))
    return False
