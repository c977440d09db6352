"""One of two clouds is really stopped: before a promotion, in its middle, at its end, or at home.

The emulated Google Cloud is a process that ends and comes back with what it had; meanwhile nothing
listens at its address.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.errors import CloudregError, Unavailable

pytestmark = [pytest.mark.timeout(900)]

MOMENTS: dict[str, tuple[str, ...]] = {
    "before": (),
    "midway": ("copying",),
    "at the end": ("-gcp",),
}


def promote_while_stopping(here: Any, ws: Any, moment: str, stopping: Any) -> Any:
    """Promote version 2 while the Google Cloud stops at that moment."""
    here.register(ws, 2)
    if moment == "before":
        here.gcp.stop()
        return ws.promote(f"{here.model}:2", to="prod")
    strike = stopping(here.gcp, *MOMENTS[moment])
    with here.open(progress=strike) as other:
        try:
            return other.promote(f"{here.model}:2", to="prod")
        finally:
            assert strike.struck


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_all(project: Callable[..., Any], moment: str, stopping: Any, tally: Any) -> None:
    """All or none: the cloud that stays goes back to what it had, and so does the other one."""
    tally.tried["two clouds, one stopped"] = 1
    here = project(home="aws", commit="all")
    here.promoted(1)
    with here.open() as ws:
        with pytest.raises(CloudregError):
            promote_while_stopping(here, ws, moment, stopping)
        assert here.served(ws, "aws") == [1]
        here.gcp.start()
        # What the stopped cloud could not be asked to undo, a repair does.
        ws.repair(here.model)
    here.check(number=1)
    tally.survived["two clouds, one stopped"] = 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("commit", ["any", "home-first"])
def test_left_behind(
    project: Callable[..., Any], commit: str, moment: str, stopping: Any, tally: Any
) -> None:
    """Any, and home-first: who answers moves; who does not is behind until a repair."""
    tally.tried["two clouds, one stopped"] = 1
    here = project(home="aws", commit=commit)
    here.promoted(1)
    with here.open() as ws:
        promoted = promote_while_stopping(here, ws, moment, stopping)
        assert list(promoted.behind["prod"]) == ["gcp"]
        assert here.served(ws, "aws") == [2]
        assert list(ws.fold(here.model).behind["prod"]) == ["gcp"]
        here.gcp.start()
        ws.repair(here.model)
    here.check(number=2)
    tally.survived["two clouds, one stopped"] = 1


def test_home_is_stopped(project: Callable[..., Any], tally: Any) -> None:
    """With the home stopped, a rollback breaks the glass on the other cloud, and is reconciled."""
    tally.tried["two clouds, one stopped"] = 1
    here = project(home="gcp")
    here.promoted(1)
    here.promoted(2)
    here.gcp.stop()

    with here.open("bob") as ws:
        with pytest.raises(Unavailable):
            ws.rollback(here.model, stage="prod")
        back = ws.rollback(here.model, stage="prod", break_glass="the home is on fire")
        assert back.version is not None
        assert back.version.number == 1
        assert list(back.behind["prod"]) == ["gcp"]
        assert here.served(ws, "aws") == [1]

    here.gcp.start()
    with here.open("cleo") as ws:
        assert ws.fold(here.model).stages["prod"].number == 1
        adopted = next(e for e in ws.history(here.model) if e.kind == "adopt")
        assert adopted.data["break_glass"] == "the home is on fire"
        assert adopted.actor == "bob"
        assert here.served(ws, "gcp") == [2]
        ws.repair(here.model)
    here.check(number=1)
    tally.survived["two clouds, one stopped"] = 1
