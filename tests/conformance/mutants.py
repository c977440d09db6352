"""Providers that are broken in one way each, with the test of the kit that has to notice.

A mutant is a class whose first base is the part that it breaks; its name says how. They stand in
``broken_store.py``, ``broken_uploads.py``, ``broken_registry.py``, ``broken_endpoints.py`` and
``broken_capabilities.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cloudreg.capabilities import Capabilities
from cloudreg.testing.conformance import (
    CapabilityTests,
    EndpointTests,
    RegistryTests,
    ServingTests,
    StoreTests,
)

PAUSE_S = 0.002
"""Between a look and a leap: long enough for another thread to get in between."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One broken provider.

    Attributes:
        name: How it is broken.
        kit: The class of the kit with the test that notices.
        test: Its name.
        parts: Arguments of the provider.
    """

    name: str
    kit: type[ServingTests] | type[StoreTests] | type[RegistryTests]
    test: str
    parts: Mapping[str, Any]


MUTANTS: list[Mutant] = []

KITS = {
    "store": StoreTests,
    "registry": RegistryTests,
    "endpoints": EndpointTests,
    "capabilities": CapabilityTests,
}


def noticed_by(*tests: str, kit: str | None = None) -> Callable[[type], type]:
    """Register the class as one mutant for each of *tests*."""

    def register(broken: type) -> type:
        part = broken.__mro__[1].__name__.removeprefix("Memory").lower()
        for test in tests:
            mutant = Mutant(
                name=broken.__name__, kit=KITS[kit or part], test=test, parts={part: broken}
            )
            MUTANTS.append(mutant)
        return broken

    return register


def claims(name: str, test: str, capabilities: Capabilities, **parts: Any) -> None:
    """Register a provider with false capabilities."""
    parts["capabilities"] = capabilities
    MUTANTS.append(Mutant(name=name, kit=CapabilityTests, test=test, parts=parts))
