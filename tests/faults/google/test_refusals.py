"""Requests that are refused in the middle of a verb, at any of them: looks as well as changes.

From one request on everything is refused, since a permission was taken away or a token ended; or
one request alone is. Once that is over the same verb goes through, and nothing is lost.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
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

FOREVER = 1_000_000
REFUSALS: dict[str, dict[str, Any]] = {
    "denied midway": {"kind": "denied", "count": FOREVER},
    "an expired token": {"kind": "expired", "count": FOREVER},
    "one request denied": {"kind": "denied", "count": 1},
}
VERBS = ("register", "apply", "promote", "down")
STRIDE = 12
"""In the matrix every so many requests are struck: most of them are polls, and alike."""

MAX_CALLS = 400


def refuse(way: str, verb: str, kind: str, project: Any, tally: Any, numbers: Iterable[int]) -> int:
    """Refuse from the requests of these numbers on, and look at what is left; return how many."""
    struck = 0
    for number in numbers:
        here = project(way)
        family = f"{here.family}, {kind}"
        crash.prepare(verb, here)
        armed = here.cloud.arm(
            service="aiplatform", operation="*", after=number - 1, **REFUSALS[kind]
        )
        ended = ""
        with here.open("ada") as ws:
            try:
                crash.again(verb, ws, here.model)
            except CloudregError as error:
                ended = type(error).__name__
        hit = here.cloud.struck(armed)
        here.cloud.control("DELETE")
        if not hit:
            assert ended == ""
            break
        struck += 1
        tally.tried[family] = tally.tried.get(family, 0) + 1
        try:
            # What only tidies up may be refused: the next run does it.
            assert ended in ("", "PermissionDenied")
            with here.open() as ws:
                if ended == "" and verb != "register":
                    stages = {s: h.number for s, h in ws.fold(here.model).stages.items()}
                    assert stages["prod"] == crash.ENDS[verb]["prod"]
                crash.again(verb, ws, here.model)
                here.check(ws, **crash.ENDS[verb])
        except Exception as error:
            error.add_note(f"{verb}, {kind}, from request {number} on: {ended or 'it went well'}")
            raise
        tally.survived[family] = tally.survived.get(family, 0) + 1
        assert number < MAX_CALLS, f"{verb} sends more requests than that"
    return struck


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("way", "verb", "kind", "number"),
    [("REST", "promote", "denied midway", 20), ("gRPC", "apply", "an expired token", 12)],
)
def test_sample(
    way: str, verb: str, kind: str, number: int, project: Callable[..., Any], tally: Any
) -> None:
    """Refusals in the middle are told by their name, and cost nothing but another run."""
    assert refuse(way, verb, kind, project, tally, [number]) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("way", "kind"), [*(("REST", kind) for kind in REFUSALS), ("gRPC", "denied midway")]
)
@pytest.mark.parametrize("verb", VERBS)
def test_every_stretch(
    way: str, verb: str, kind: str, project: Callable[..., Any], tally: Any
) -> None:
    """Refusals that begin anywhere are told by their name, and cost nothing but another run."""
    assert refuse(way, verb, kind, project, tally, range(1, MAX_CALLS + 1, STRIDE))
