"""The embedded provider: a folder for bytes and registry, and supervised processes to serve.

It needs no account and no network. Everything above it runs here exactly as on a cloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloudreg.capabilities import Capabilities
from cloudreg.machines import Machine, Price
from cloudreg.provider import Provider, ProviderContext, ProviderPlugin
from cloudreg.types import Resources

if TYPE_CHECKING:
    # pydantic is slow to import, and only an opened target needs it.
    from pydantic import BaseModel

__all__ = ["PLUGIN"]


def _settings() -> type[BaseModel]:
    from cloudreg_local.settings import LocalSettings

    return LocalSettings


def _open(settings: Any, context: ProviderContext) -> Provider:
    from cloudreg_local.provider import LocalProvider

    return LocalProvider(settings, context)


def _capabilities() -> Capabilities:
    from cloudreg_local.abilities import capabilities

    return capabilities(emulate_accelerators=False)


def _machines(settings: Any, resources: Resources, target: str) -> tuple[Machine, ...]:
    here = Price(usd_per_hour=0.0, region="here", as_of="", source="this machine")
    return (Machine(name="this machine", price=here),)


PLUGIN = ProviderPlugin(
    name="local",
    summary="this machine: a folder and supervised processes, no account needed",
    settings=_settings,
    open=_open,
    capabilities=_capabilities,
    extra="local",
    machines=_machines,
    remote=False,
)
