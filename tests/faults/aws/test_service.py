"""What goes wrong on AWS's side, on demand and counted.

Each case says which error a verb must end with, if with any. Whatever it was, nothing is lost, and
the same verb goes through once the trouble is over.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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

ALL = 1_000_000
"""Times that nobody outlasts."""

SCALING, FLEET, STORE = "application-autoscaling", "fleet", "s3"


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One case.

    Attributes:
        verb: What is done meanwhile.
        fault: What goes wrong, as the emulator is told.
        ends: Name of the error that it ends with; empty where it goes well all the same.
        timeout_s: Patience for what takes time.
    """

    verb: str
    fault: dict[str, Any] = field(default_factory=dict)
    ends: str = ""
    timeout_s: float = 60.0

    def __str__(self) -> str:
        shown = [str(v) for k, v in self.fault.items() if k != "service"]
        return f"{self.verb}-{'-'.join(shown)}"


CHANGES: dict[str, list[tuple[str, str]]] = {
    "register": [
        ("sagemaker", "CreateModelPackage"),
        ("sagemaker", "UpdateModelPackage"),
        (STORE, "PutObject"),
        (STORE, "CopyObject"),
    ],
    "apply": [
        ("sagemaker", "CreateModel"),
        ("sagemaker", "CreateEndpointConfig"),
        ("sagemaker", "CreateEndpoint"),
        (SCALING, "RegisterScalableTarget"),
        (SCALING, "PutScalingPolicy"),
    ],
    "promote": [
        ("sagemaker", "CreateModel"),
        ("sagemaker", "UpdateEndpoint"),
        ("sagemaker", "UpdateModelPackage"),
        ("sagemaker", "DeleteModel"),
        ("sagemaker", "DeleteEndpointConfig"),
    ],
    "down": [
        (SCALING, "DeregisterScalableTarget"),
        ("sagemaker", "DeleteEndpoint"),
        ("sagemaker", "DeleteModel"),
        ("sagemaker", "DeleteEndpointConfig"),
    ],
}


def changes() -> Iterator[Trouble]:
    """Yield changes that are refused for a while, or whose answer is lost: AWS's SDK asks again."""
    for verb, operations in CHANGES.items():
        for service, operation in operations:
            here: dict[str, Any] = {"service": service, "operation": operation}
            yield Trouble(verb=verb, fault={**here, "kind": "throttle"})
            yield Trouble(verb=verb, fault={**here, "kind": "error", "status": 500})
            for status in (503, 0):
                yield Trouble(verb=verb, fault={**here, "kind": "lost", "status": status})


def refusals() -> Iterator[Trouble]:
    """Yield rights that are missing, and credentials that end, in the middle of a verb."""
    for verb, service, operation in (
        ("register", STORE, "PutObject"),
        ("register", "sagemaker", "CreateModelPackage"),
        ("apply", "sagemaker", "CreateModel"),
        ("apply", "sagemaker", "CreateEndpoint"),
        ("apply", SCALING, "RegisterScalableTarget"),
        ("promote", STORE, "GetObject"),
        ("promote", "sagemaker", "UpdateEndpoint"),
        ("promote", "sagemaker", "UpdateModelPackage"),
        ("down", "sagemaker", "DeleteEndpoint"),
    ):
        denied = {"service": service, "operation": operation, "kind": "denied"}
        yield Trouble(verb=verb, fault=denied, ends="PermissionDenied")
    for verb, after in (("register", 8), ("apply", 20), ("promote", 30), ("down", 12)):
        expired = {"service": "*", "operation": "*", "kind": "expired", "count": ALL}
        yield Trouble(verb=verb, fault={**expired, "after": after}, ends="PermissionDenied")


def endings() -> Iterator[Trouble]:
    """Yield machines that do not come up, changes that are undone, and those that stand still."""
    machine = {"service": FLEET, "operation": "{model}/*"}
    for verb in ("apply", "promote"):
        for kind in ("capacity", "unhealthy"):
            fault = {**machine, "kind": kind, "count": 20}
            yield Trouble(verb=verb, fault=fault, ends="OperationFailed")
        yield Trouble(verb=verb, fault={**machine, "kind": "slow_start", "seconds": 60})
    undone = {"service": "sagemaker", "operation": "{model}", "kind": "rollback"}
    yield Trouble(verb="promote", fault=undone, ends="OperationFailed")
    yield Trouble(verb="promote", fault={**undone, "after": 1}, ends="OperationFailed")
    yield Trouble(verb="rollback", fault=undone, ends="OperationFailed")
    for verb, operation in (
        ("apply", "CreateEndpoint"),
        ("promote", "UpdateEndpoint"),
        ("down", "DeleteEndpoint"),
    ):
        stuck = {"service": "sagemaker", "operation": operation, "kind": "stuck", "seconds": 1000}
        yield Trouble(verb=verb, fault=stuck, ends="OperationTimeout", timeout_s=3.0)


def looks() -> Iterator[Trouble]:
    """Yield looks that are refused for a while, or show what was."""
    for service, operation in (
        ("sagemaker", "DescribeEndpoint"),
        ("sagemaker", "DescribeEndpointConfig"),
        ("sagemaker", "DescribeModelPackage"),
        ("sagemaker", "ListModelPackages"),
        (SCALING, "DescribeScalableTargets"),
        (STORE, "ListObjectsV2"),
    ):
        here: dict[str, Any] = {"service": service, "operation": operation}
        yield Trouble(verb="promote", fault={**here, "kind": "throttle"})
        for status in (503, 0):
            yield Trouble(verb="promote", fault={**here, "kind": "error", "status": status})
    for operation in ("ListModelPackages", "ListModels", "ListEndpointConfigs"):
        stale = {"service": "sagemaker", "operation": operation, "kind": "stale", "seconds": 0.5}
        yield Trouble(verb="promote", fault={**stale, "count": 3})


def bodies() -> Iterator[Trouble]:
    """Yield what can happen to the bytes of objects, on their way up and down."""
    down: dict[str, Any] = {"service": STORE, "operation": "GetObject"}
    for after in range(4):
        yield Trouble(verb="promote", fault={**down, "kind": "truncated", "after": after})
    # Of what is kept twice, the other one is read; of the home and of a manifest there is one.
    for after, ends in enumerate(("IntegrityError", "", "", "IntegrityError")):
        garbled = {**down, "kind": "garbled", "after": after}
        yield Trouble(verb="promote", fault=garbled, ends=ends)
    up: dict[str, Any] = {"service": STORE, "operation": "PutObject"}
    # The fourth is a help for lists, which do without it.
    for after, ends in enumerate(("IntegrityError",) * 3 + ("", "IntegrityError")):
        garbled = {**up, "kind": "garbled", "after": after}
        yield Trouble(verb="register", fault=garbled, ends=ends)


def outages() -> Iterator[Trouble]:
    """Yield times in which nothing of AWS answers, from a moment of a verb on."""
    for verb, after in (("register", 0), ("register", 8), ("apply", 20), ("promote", 40)):
        for status in (503, 0):
            out = {"service": "*", "operation": "*", "kind": "error", "status": status}
            fault = {**out, "after": after, "count": ALL}
            yield Trouble(verb=verb, fault=fault, ends="Unavailable")


TROUBLES = [*changes(), *refusals(), *endings(), *looks(), *bodies(), *outages()]
SAMPLE = (
    "register-CreateModelPackage-lost-0",
    "promote-UpdateEndpoint-denied",
    "promote-{model}-rollback",
    "promote-GetObject-garbled-0",
)


def meet(trouble: Trouble, project: Any, tally: Any) -> None:
    """Do a verb while something goes wrong, and again when all is well."""
    family = "AWS, trouble of the service"
    tally.tried[family] = tally.tried.get(family, 0) + 1
    here = project()
    crash.prepare(trouble.verb, here)
    fault = {k: v.format(model=here.model) if isinstance(v, str) else v
             for k, v in trouble.fault.items()}  # fmt: skip
    number = here.cloud.arm(**fault)
    ended, error = "", None
    with here.open("ada", timeout_s=trouble.timeout_s, lease_s=LEASE_S) as ws:
        try:
            crash.again(trouble.verb, ws, here.model)
        except CloudregError as raised:
            ended, error = type(raised).__name__, raised
    struck = here.cloud.armed(number)["struck"]
    here.cloud.control("DELETE")
    assert struck >= 1
    assert ended == trouble.ends, repr(error)
    with here.open() as ws:
        crash.again(trouble.verb, ws, here.model)
        here.check(ws, **crash.ENDS[trouble.verb])
    if crash.ENDS[trouble.verb]["serves"] is not None:
        here.check_tidy()
    tally.survived[family] = tally.survived.get(family, 0) + 1


LEASE_S = 5.0
"""Of whoever is in trouble: what he cannot undo himself, others undo so much later."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("trouble", [t for t in TROUBLES if str(t) in SAMPLE], ids=str)
def test_sample(trouble: Trouble, project: Callable[[], Any], tally: Any) -> None:
    """A sample of the trouble is survived, or told by its name."""
    meet(trouble, project, tally)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("trouble", TROUBLES, ids=str)
def test_every_trouble(trouble: Trouble, project: Callable[[], Any], tally: Any) -> None:
    """Trouble is survived or told by its name; nothing is lost, and the next run goes through."""
    meet(trouble, project, tally)
