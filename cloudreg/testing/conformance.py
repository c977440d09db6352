"""The conformance kit: what every provider must do, as pytest classes to subclass.

`ProviderTests` is all of it. A provider that has only a part yet takes `StoreTests`,
`RegistryTests`, `EndpointTests` or `CapabilityTests`. ``cloudreg/testing/README.md`` shows how.
"""

from __future__ import annotations

from cloudreg.testing.base import ConformanceTests, make_version
from cloudreg.testing.capabilities import CapabilityTests
from cloudreg.testing.endpoints import EndpointTests
from cloudreg.testing.registry import RegistryTests
from cloudreg.testing.serving import ServingTests
from cloudreg.testing.store import StoreTests

__all__ = [
    "CapabilityTests",
    "ConformanceTests",
    "EndpointTests",
    "ProviderTests",
    "RegistryTests",
    "ServingTests",
    "StoreTests",
    "make_version",
]


class ProviderTests(StoreTests, RegistryTests, EndpointTests, CapabilityTests):
    """Everything that makes a provider a provider."""
