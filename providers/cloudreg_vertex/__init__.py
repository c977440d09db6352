"""Vertex AI: its Model Registry, its endpoints, and Cloud Storage for the bytes."""

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
    from cloudreg_vertex.settings import VertexSettings

    return VertexSettings


def _open(settings: Any, context: ProviderContext) -> Provider:
    from cloudreg_vertex.provider import VertexProvider

    return VertexProvider(settings, context)


def _capabilities() -> Capabilities:
    from cloudreg_vertex.abilities import capabilities

    return capabilities()


def _policy(settings: Any, deployed: Deployed) -> Mapping[str, Any]:
    from cloudreg_vertex.policy import policy_for

    return policy_for(settings, deployed)


def _terraform() -> TerraformSide:
    from cloudreg_vertex.terraform import Terraform

    return Terraform()


def _machines(settings: Any, resources: Resources, target: str) -> tuple[Machine, ...]:
    from cloudreg_vertex.prices import priced

    return priced(
        resources,
        settings.machines,
        region=settings.location,
        target=target,
        check=settings.machine_check,
    )


PLUGIN = ProviderPlugin(
    name="vertex",
    summary="Google Vertex AI (Agent Platform): Model Registry, endpoints, Cloud Storage",
    settings=_settings,
    open=_open,
    capabilities=_capabilities,
    extra="vertex",
    policy=_policy,
    machines=_machines,
    terraform=_terraform,
)
