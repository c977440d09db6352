"""Somebody edits in SageMaker's console while a promotion is at any of its changes.

The promotion either takes no notice, or fails and is undone; whatever the edit left is told by
drift, and mended by a repair. Nothing of what was registered is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from cloudreg.testing.faults import Action, Fault

MAX_CALLS = 60


def edit_approval(here: Any) -> None:
    """Reject the version that is in the last stage, as a reviewer does."""
    here.cloud.client("sagemaker").update_model_package(
        ModelPackageArn=here.cloud.package(here.model, 1), ModelApprovalStatus="Rejected"
    )


def edit_lifecycle(here: Any) -> None:
    """Show another version in the last stage."""
    here.cloud.client("sagemaker").update_model_package(
        ModelPackageArn=here.cloud.package(here.model, 2),
        ModelApprovalStatus="Approved",
        ModelLifeCycle={"Stage": "Production", "StageStatus": "Approved"},
    )


def _capacities(here: Any, **change: Any) -> None:
    # The service changes an endpoint once it is free, and refuses it before.
    seen = here.cloud.settled(here.model)
    first = seen["ProductionVariants"][0]["VariantName"]
    here.cloud.client("sagemaker").update_endpoint_weights_and_capacities(
        EndpointName=here.model,
        DesiredWeightsAndCapacities=[{"VariantName": first, **change}],
    )
    here.cloud.settled(here.model)


def edit_weights(here: Any) -> None:
    """Give the first variant nine times the weight."""
    _capacities(here, DesiredWeight=9.0)


def edit_counts(here: Any) -> None:
    """Start a second instance by hand."""
    _capacities(here, DesiredInstanceCount=2)


def edit_scaling(here: Any) -> None:
    """Let the first variant grow further than it was configured to."""
    seen = here.cloud.settled(here.model)
    first = seen["ProductionVariants"][0]["VariantName"]
    here.cloud.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId=f"endpoint/{here.model}/variant/{first}",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=1,
        MaxCapacity=5,
    )


EDITS: dict[str, Callable[[Any], None]] = {
    "approval": edit_approval,
    "lifecycle": edit_lifecycle,
    "weights": edit_weights,
    "counts": edit_counts,
    "scaling": edit_scaling,
}


def meddle(edit: str, project: Any, tally: Any, numbers: Iterable[int]) -> int:
    """Edit in a console while a promotion is at the changes of these numbers; return how many."""
    edited = 0
    family = "AWS, a promotion against an edit in the console"
    for number in numbers:
        here = project()
        here.configure(endpoint=True)
        with here.open("ada") as ws:
            here.register(ws, 1)
            here.promote(ws, 1)
            here.register(ws, 2)
        halted = here.crash("promote", Fault(call=number, action=Action.STOP))
        calls = here.calls()
        if len(calls) < number:
            assert halted == 0, here.log.read_text()
            break
        edited += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        try:
            EDITS[edit](here)
            code = here.wake(halted["stopped"])
            with here.open() as ws:
                fold = ws.fold(here.model)
                assert fold.stages["prod"].number == (2 if code == 0 else 1)
                # Whatever the edit left is told, and mended; then the promotion goes through.
                ws.repair(here.model)
                assert ws.drift(here.model) == []
                ws.promote(f"{here.model}:2", to="prod")
                here.check(ws, prod=2, dev=2, serves=2)
            here.check_tidy()
            here.check_bounds()
        except Exception as error:
            hit = calls[number - 1]
            error.add_note(f"{edit}, at change {number}: {hit.verb} {hit.subject}")
            error.add_note(here.log.read_text())
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, "a promotion makes more changes than that"
    return edited


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("edit", "number"), [("lifecycle", 3), ("weights", 9)])
def test_edit(edit: str, number: int, project: Callable[[], Any], tally: Any) -> None:
    """What somebody moves in the middle of a promotion is not taken for the promotion's."""
    assert meddle(edit, project, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("edit", EDITS)
def test_every_edit(edit: str, project: Callable[[], Any], tally: Any) -> None:
    """An edit in the console at any moment of a promotion is told and mended, and loses nothing."""
    assert meddle(edit, project, tally, range(1, MAX_CALLS + 1))
