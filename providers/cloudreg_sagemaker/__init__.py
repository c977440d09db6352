"""Amazon SageMaker: its Model Registry, its endpoints, and S3 for the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cloudreg.capabilities import Capabilities
from cloudreg.machines import Machine
from cloudreg.provider import Deployed, Provider, ProviderContext, ProviderPlugin, TerraformSide
from cloudreg.types import Resources

if TYPE_CHECKING:
    # pydantic is slow to import, and only an opened target needs it.
    from pydantic import BaseModel

__all__ = ["PLUGIN"]


def _settings() -> type[BaseModel]:
    from cloudreg_sagemaker.settings import SageMakerSettings

    return SageMakerSettings


def _open(settings: Any, context: ProviderContext) -> Provider:
    from cloudreg_sagemaker.provider import SageMakerProvider

    return SageMakerProvider(settings, context)


def _capabilities() -> Capabilities:
    from cloudreg_sagemaker.abilities import capabilities

    return capabilities()


def _policy(settings: Any, deployed: Deployed) -> Mapping[str, Any]:
    from cloudreg_sagemaker.policy import policy_for

    return policy_for(settings, deployed)


def _terraform() -> TerraformSide:
    from cloudreg_sagemaker.terraform import Terraform

    return Terraform()


def _machines(settings: Any, resources: Resources, target: str) -> tuple[Machine, ...]:
    from cloudreg_sagemaker.prices import priced

    return priced(resources, settings.machines, region=settings.region, target=target)


PLUGIN = ProviderPlugin(
    name="sagemaker",
    summary="Amazon SageMaker: Model Registry, endpoints, S3",
    settings=_settings,
    open=_open,
    capabilities=_capabilities,
    extra="sagemaker",
    policy=_policy,
    machines=_machines,
    terraform=_terraform,
)
