"""What goes wrong on Google's side, on demand and counted.

Each case says which error a verb must end with, if with any. Whatever it was, nothing is lost, and
the same verb goes through once the trouble is over.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cloudreg.errors import CloudregError


def _neighbour(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crash = _neighbour("test_crash")

VERTEX, STORAGE, FLEET = "aiplatform", "storage", "fleet"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One case.

    Attributes:
        verb: What is done meanwhile.
        fault: What goes wrong, as the emulator is told.
        ends: Name of the error that it ends with; empty where it goes well all the same.
        way: How the target speaks.
    """

    verb: str
    fault: dict[str, Any] = field(default_factory=dict)
    ends: str = ""
    way: str = "REST"

    def __str__(self) -> str:
        shown = [str(v) for k, v in self.fault.items() if k != "service"]
        return "-".join(([] if self.way == "REST" else [self.way]) + [self.verb, *shown])


def troubles() -> Iterator[Trouble]:
    """Yield all cases."""
    changes = {
        "register": ["UploadModel", "MergeVersionAliases"],
        "apply": ["UploadModel", "CreateEndpoint", "DeployModel"],
        "promote": ["UploadModel", "DeployModel", "UpdateEndpoint", "UndeployModel",
                    "MergeVersionAliases"],
        "down": ["UpdateEndpoint", "UndeployModel", "DeleteEndpoint"],
    }  # fmt: skip
    for verb, operations in changes.items():
        for operation in operations:
            here: dict[str, Any] = {"service": VERTEX, "operation": operation}
            # Nothing was done: the SDK asks again.
            yield Trouble(verb=verb, fault={**here, "kind": "throttle"})
            for status in (503, 500, 0):
                lost = {**here, "kind": "lost", "status": status}
                yield Trouble(verb=verb, fault=lost, ends="Unavailable")
            yield Trouble(verb=verb, fault={**here, "kind": "error"}, ends="Unavailable")


def endings() -> Iterator[Trouble]:
    """Yield operations that end badly, and machines that do not come up."""
    for reason in ("quota", "exited", "not_ready", "permission", "region", "internal"):
        for verb in ("apply", "promote"):
            here = {"service": VERTEX, "operation": "DeployModel", "kind": "failed"}
            yield Trouble(verb=verb, fault={**here, "reason": reason}, ends="OperationFailed")
    failed = {"service": VERTEX, "kind": "failed", "reason": "internal"}
    yield Trouble(verb="register", fault={**failed, "operation": "UploadModel"}, ends="Unavailable")
    for verb, operation in (
        ("apply", "UploadModel"),
        ("apply", "CreateEndpoint"),
        ("promote", "UndeployModel"),
    ):
        fault = {**failed, "operation": operation}
        yield Trouble(verb=verb, fault=fault, ends="OperationFailed")
    for operation in ("UndeployModel", "DeleteEndpoint", "DeleteModel"):
        # Whoever deletes asks until it is gone.
        yield Trouble(verb="down", fault={**failed, "operation": operation})
    machine = {"service": FLEET, "operation": "{model}/*"}
    for verb in ("apply", "promote"):
        capacity = {**machine, "kind": "capacity", "count": 20}
        yield Trouble(verb=verb, fault=capacity, ends="OperationFailed")
        yield Trouble(verb=verb, fault={**machine, "kind": "slow_start", "seconds": 60})


def looks() -> Iterator[Trouble]:
    """Yield looks that are refused for a while, or show what was."""
    for operation in ("GetEndpoint", "ListEndpoints", "ListModelVersions", "ListModels",
                      "GetOperation", "ListOperations", "GetModel"):  # fmt: skip
        here = {"service": VERTEX, "operation": operation}
        yield Trouble(verb="promote", fault={**here, "kind": "throttle"})
        for status in (503, 500, 0):
            yield Trouble(verb="promote", fault={**here, "kind": "error", "status": status})
    for operation in ("ListEndpoints", "ListModelVersions", "ListModels"):
        stale = {"service": VERTEX, "operation": operation, "kind": "stale", "seconds": 0.3}
        yield Trouble(verb="promote", fault={**stale, "count": 3})


def bodies() -> Iterator[Trouble]:
    """Yield what can happen to the bytes of objects, and to those that ask for them."""
    for operation in ("objects.insert", "objects.copy", "objects.get", "objects.list"):
        here: dict[str, Any] = {"service": STORAGE, "operation": operation}
        for kind in ("throttle", "error", "lost"):
            yield Trouble(verb="register", fault={**here, "kind": kind})
        yield Trouble(verb="register", fault={**here, "kind": "lost", "status": 0})
        for kind in ("denied", "expired"):
            refused = {**here, "kind": kind, "count": 1000}
            yield Trouble(verb="register", fault=refused, ends="PermissionDenied")
    body: dict[str, Any] = {"service": STORAGE, "operation": "objects.get"}
    for after in range(4):
        yield Trouble(verb="promote", fault={**body, "kind": "truncated", "after": after})
    # Of what is kept twice, the other one is read; of the home and of a manifest there is one.
    for after, ends in enumerate(("IntegrityError", "", "", "IntegrityError")):
        garbled = {**body, "kind": "garbled", "after": after}
        yield Trouble(verb="promote", fault=garbled, ends=ends)


VERTEX_TROUBLES = [*troubles(), *endings(), *looks()]
TROUBLES = [
    *VERTEX_TROUBLES,
    *bodies(),
    # Objects go by HTTP whatever the rest does.
    *(replace(trouble, way="gRPC") for trouble in VERTEX_TROUBLES),
]
SAMPLE = (
    "apply-DeployModel-failed-quota",
    "register-UploadModel-lost-503",
    "promote-objects.get-garbled-0",
    "gRPC-promote-UpdateEndpoint-lost-0",
)


def meet(trouble: Trouble, project: Any, tally: Any) -> None:
    """Do a verb while something goes wrong, and again when all is well."""
    here = project(trouble.way)
    family = f"{here.family}, trouble of the service"
    tally.tried[family] = tally.tried.get(family, 0) + 1
    crash.prepare(trouble.verb, here)
    fault = {k: v.format(model=here.model) if isinstance(v, str) else v
             for k, v in trouble.fault.items()}  # fmt: skip
    number = here.cloud.arm(**fault)
    ended, error = "", None
    with here.open("ada") as ws:
        try:
            crash.again(trouble.verb, ws, here.model)
        except CloudregError as raised:
            ended, error = type(raised).__name__, raised
    assert here.cloud.struck(number) >= 1
    here.cloud.control("DELETE")
    assert ended == trouble.ends, repr(error)
    with here.open() as ws:
        crash.again(trouble.verb, ws, here.model)
        here.check(ws, **crash.ENDS[trouble.verb])
    tally.survived[family] = tally.survived.get(family, 0) + 1


@pytest.mark.parametrize("trouble", [t for t in TROUBLES if str(t) in SAMPLE], ids=str)
def test_sample(trouble: Trouble, project: Callable[[], Any], tally: Any) -> None:
    """A sample of the trouble is survived, or told by its name."""
    meet(trouble, project, tally)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_every_trouble(trouble: Trouble, project: Callable[[], Any], tally: Any) -> None:
    """Trouble is survived or told by its name; nothing is lost, and the next run goes through."""
    meet(trouble, project, tally)
