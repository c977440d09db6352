"""What an operation leaves whose undoing failed, and what the next one makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloudreg.errors import OperationFailed

ENDPOINT = '\n[endpoints.churn-prod]\nmodel = "churn"\nstage = "prod"\n'


@pytest.fixture
def refused_from(house: Any) -> Callable[[int], None]:
    """Let every change of an endpoint or a stage fail from the given one on."""

    def arm(first: int) -> None:
        seen = 0

        def strike(_: str, verb: str, __: Any, call: Callable[[], Any]) -> Any:
            nonlocal seen
            if verb in ("create", "update", "delete", "point"):
                seen += 1
                if seen >= first:
                    raise OperationFailed(f"refused: {verb}")
            return call()

        house.script = strike

    return arm


@pytest.mark.parametrize("held", [0, 1])
def test_promotion_again(house: Any, refused_from: Callable[[int], None], held: int) -> None:
    """What could not be brought back is on record once the same promotion goes through."""
    house.configure(ENDPOINT, stages={"prod": "gates = []"}, provider="scripted")
    ws = house.open(timeout_s=30.0)
    for number in range(1, held + 2):
        house.register(ws)
        ws.promote(f"churn:{number}", to="staging")
        if number <= held:
            ws.promote(f"churn:{number}", to="prod")
    # The endpoint moves, the stage does not, and the endpoint stays where it is.
    refused_from(2)
    with pytest.raises(OperationFailed):
        ws.promote(f"churn:{held + 1}", to="prod")
    house.script = None
    assert ws.drift("churn") != []

    ws.promote(f"churn:{held + 1}", to="prod")

    assert ws.fold("churn").stages["prod"].number == held + 1
    assert ws.drift("churn") == []
    house.check_truth(ws)
