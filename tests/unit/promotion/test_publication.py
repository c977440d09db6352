"""What a stage holds stands in one object for others, and never says more than the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cloudreg import Workspace
from cloudreg.publication import Publication

Live = Callable[..., Workspace]


def public(ws: Workspace, stage: str, target: str = "local") -> Any:
    """Return what others read of a stage of the model."""
    with ws.targets[target].store.open(f"public/churn/{stage}.json") as reader:
        return json.loads(reader.read())


def keys(ws: Workspace, target: str = "local") -> list[str]:
    return [stored.key for stored in ws.targets[target].store.list("public/")]


def test_stages(house: Any, live: Live) -> None:
    """Each stage that ever held something is there, with its version, its digest and its moment."""
    ws = live()
    stages = ("dev", "prod", "staging")
    assert keys(ws) == [f"public/churn/{stage}.json" for stage in stages]
    holder = ws.fold("churn").stages["prod"]
    assert public(ws, "prod") == {
        "contract": 1,
        "model": "churn",
        "stage": "prod",
        "number": 1,
        "digest": ws.version("churn:1").digest,
        "since": holder.since,
        "entry": holder.seq,
        "endpoints": {"churn-prod": {"target": "local"}},
    }
    assert public(ws, "dev")["number"] == 2
    ws.promote("churn:2", to="staging")
    ws.promote("churn:2", to="prod")
    assert public(ws, "prod")["number"] == 2
    ws.rollback("churn", stage="prod")
    assert public(ws, "prod")["number"] == 1


def test_repair(house: Any, live: Live) -> None:
    """An object that is gone or was changed by hand is written again by a repair."""
    ws = live()
    store = ws.targets["local"].store
    store.delete("public/churn/dev.json")
    store.put(b"{}", "public/churn/prod.json")
    assert ws.repair("churn").differences == ()
    assert (public(ws, "dev")["number"], public(ws, "prod")["number"]) == (2, 1)


def test_newest_wins(house: Any, live: Live) -> None:
    """Whoever writes what is old by then reads once more, and writes what is true."""
    ws = live()
    ledger = ws.registry.ledger("churn")
    store = ws.targets["local"].store
    ws.promote("churn:2", to="staging")
    old = ws.fold("churn").seq
    ws.promote("churn:2", to="prod")
    publication = Publication(ws.settings, ws.targets)
    written: list[int] = []

    def read() -> Any:
        with store.open("public/churn/prod.json") as reader:
            written.append(json.loads(reader.read())["number"])
        return ledger.read()

    publication.show("churn", ["prod"], known=ledger_at(ws, old), read=read)
    assert written == [1, 2]
    assert public(ws, "prod")["number"] == 2


def ledger_at(ws: Workspace, seq: int) -> Any:
    """Return the state as it was at an entry."""
    from cloudreg.ledger import Fold

    fold = Fold("churn")
    for entry in reversed(list(ws.history("churn"))):
        if entry.seq <= seq:
            fold.apply(entry)
    return fold
