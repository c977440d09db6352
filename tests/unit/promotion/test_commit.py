"""What a change of a stage with several targets comes to where one of them fails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import (
    CloudregError,
    OperationFailed,
    RepairRequired,
    RolloutPaused,
    Unavailable,
)
from cloudreg.operations import wait
from cloudreg.testing.clock import Clock
from cloudreg.work import FOLLOWS

THREE = dict.fromkeys(("local", "east", "west"), "")
SERVED = "".join(
    f'\n[endpoints.churn-{name}]\nmodel = "churn"\nstage = "prod"\ntarget = "{name}"\n'
    for name in ("local", "west")
)
Fail = Callable[..., None]


@pytest.fixture
def two(house: Any) -> Callable[..., Workspace]:
    """Return a workspace whose prod is on three targets, holds version 1, and waits for 2."""

    def make(commit: str, text: str = "") -> Workspace:
        section = f'targets = ["local", "east", "west"]\ngates = []\ncommit = "{commit}"'
        house.configure(text, stages={"prod": section}, targets=THREE, provider="scripted")
        ws = house.open(timeout_s=30.0)
        for _ in range(2):
            house.register(ws)
        for number in (1, 2):
            ws.promote(f"churn:{number}", to="staging")
            if number == 1:
                ws.promote("churn:1", to="prod")
        return ws

    return make


@pytest.fixture
def fail(house: Any) -> Fail:
    """Let one verb of one target fail from now on."""

    def script(target: str, verb: str) -> None:
        def strike(where: str, what: str, _: Any, call: Callable[[], Any]) -> Any:
            if (where, what) == (target, verb):
                raise OperationFailed(f"{target} refuses to {verb}")
            return call()

        house.script = strike

    return script


def shown(ws: Workspace) -> dict[str, int]:
    """Target to the version that its registry shows in prod."""
    return {
        target: version.number
        for target in ("local", "east", "west")
        for version in ws.targets[target].registry.published("churn")
        if "prod" in version.stages
    }


def behind(ws: Workspace) -> dict[str, int | None]:
    """Target that is behind in prod, to what it shows."""
    lagging = ws.fold("churn").behind.get("prod", {})
    return {target: each.number for target, each in lagging.items()}


def brought_up(house: Any, ws: Workspace) -> None:
    """Once everything works again, a repair leaves nothing behind."""
    house.script = None
    house.silent.clear()
    ws.repair("churn")
    assert behind(ws) == {}
    assert set(shown(ws).values()) == {2}
    house.check_truth(ws)


@pytest.mark.parametrize(("target", "verb"), [("east", "publish"), ("west", "point")])
def test_all_or_none(house: Any, two: Any, fail: Fail, target: str, verb: str) -> None:
    """By default a target that fails midway or at the end takes all others back, on record."""
    ws = two("all")
    fail(target, verb)

    with pytest.raises(OperationFailed):
        ws.promote("churn:2", to="prod")

    assert ws.fold("churn").stages["prod"].number == 1
    assert shown(ws) == {"local": 1, "east": 1, "west": 1}
    house.script = None
    (last, *_) = ws.history("churn")
    assert last.kind == "abort"
    # West itself could not be asked; whatever could be was set back, the last one first.
    undone = {"publish": [], "point": ["churn@prod on east", "churn@prod on local"]}[verb]
    assert last.data.get("undone", []) == undone
    house.check_truth(ws)


def test_all_with_one_down_before(house: Any, two: Any) -> None:
    """By default nothing begins while a target does not answer."""
    ws = two("all")
    before = house.kinds(ws)
    house.silent.add("west")

    with pytest.raises(Unavailable):
        ws.promote("churn:2", to="prod")

    house.silent.clear()
    assert house.kinds(ws) == before
    house.check_truth(ws)


def test_endpoints_go_back_in_reverse(house: Any, two: Any, fail: Fail) -> None:
    """With all, endpoints that got the version lose it again when the last target fails."""
    ws = two("all", SERVED)
    assert house.served(ws, "churn-west") == 1
    fail("west", "point")

    with pytest.raises(OperationFailed):
        ws.promote("churn:2", to="prod")

    house.script = None
    assert [house.served(ws, f"churn-{name}") for name in ("local", "west")] == [1, 1]
    (last, *_) = ws.history("churn")
    assert last.data["undone"][-2:] == [
        "endpoint churn-west on west",
        "endpoint churn-local on local",
    ]
    house.check_truth(ws)


@pytest.mark.parametrize(
    ("target", "verb"), [("east", "publish"), ("west", "point"), ("local", "point")]
)
def test_any(house: Any, two: Any, fail: Fail, target: str, verb: str) -> None:
    """With any, who succeeds is committed; who fails is behind, is told of, and is repaired."""
    ws = two("any")
    fail(target, verb)

    promoted = ws.promote("churn:2", to="prod")

    assert ws.fold("churn").stages["prod"].number == 2
    assert promoted.behind == {"prod": {target: f"{target} refuses to {verb}"}}
    assert behind(ws) == {target: 1}
    assert shown(ws) == {"local": 2, "east": 2, "west": 2} | {target: 1}
    (row,) = [row for row in ws.status("churn") if row.stage == "prod"]
    assert row.behind == promoted.behind["prod"]
    (difference,) = ws.drift("churn")
    assert (difference.target, difference.actual, difference.ledger) == (target, "1", "2")
    with pytest.raises(RepairRequired):
        ws.repair("churn")
    brought_up(house, ws)


def test_undone_alone(house: Any, two: Any) -> None:
    """With any, what is brought back on the target that failed is on record, and nothing else."""
    ws = two("any", SERVED)
    refused: list[str] = []

    def strike(target: str, verb: str, _: Any, call: Callable[[], Any]) -> Any:
        if (target, verb) == ("west", "point") and not refused:
            refused.append(target)
            raise OperationFailed("west refuses once")
        return call()

    house.script = strike
    ws.promote("churn:2", to="prod")

    house.script = None
    (last, *_) = ws.history("churn")
    assert last.data["undone"] == ["churn@prod on west", "endpoint churn-west on west"]
    assert [house.served(ws, f"churn-{name}") for name in ("local", "west")] == [2, 1]
    assert shown(ws) == {"local": 2, "east": 2, "west": 1}
    brought_up(house, ws)


def test_any_with_one_down_before(house: Any, two: Any) -> None:
    """With any, a target that does not answer is left behind before anything begins."""
    ws = two("any")
    house.silent.add("west")

    preview = ws.promote("churn:2", to="prod", dry_run=True)
    assert "west will be behind in prod: west does not answer" in str(preview)
    preview.apply()

    assert behind(ws) == {"west": 1}
    house.silent.clear()
    assert shown(ws) == {"local": 2, "east": 2, "west": 1}
    brought_up(house, ws)


def test_any_needs_one(house: Any, two: Any) -> None:
    """With any, a change that fails everywhere is none."""
    ws = two("any")

    def strike(_: str, verb: str, __: Any, call: Callable[[], Any]) -> Any:
        if verb == "point":
            raise OperationFailed("no")
        return call()

    house.script = strike
    with pytest.raises(OperationFailed):
        ws.promote("churn:2", to="prod")

    house.script = None
    assert ws.fold("churn").stages["prod"].number == 1
    assert behind(ws) == {}


def test_any_endpoints(house: Any, two: Any, fail: Fail) -> None:
    """With any, an endpoint that fails stays as it was, with its target's stage."""
    ws = two("any", SERVED)
    fail("west", "update")

    ws.promote("churn:2", to="prod")

    house.script = None
    assert [house.served(ws, f"churn-{name}") for name in ("local", "west")] == [2, 1]
    assert shown(ws) == {"local": 2, "east": 2, "west": 1}
    brought_up(house, ws)
    assert house.served(ws, "churn-west") == 2


def test_apply_any(house: Any, two: Any, fail: Fail) -> None:
    """Applying endpoints follows the policy, too, and the next one brings up what was behind."""
    ws = two("any", SERVED)
    path = house.root / "cloudreg.toml"
    serving = "[endpoints.churn-"
    head, *endpoints = path.read_text().split(serving)
    endpoints = [f'{endpoint}env = {{ MARK = "new" }}\n' for endpoint in endpoints]
    path.write_text(serving.join([head, *endpoints]))
    changed = house.open()
    fail("west", "update")

    applied = changed.apply(model="churn")

    assert applied.behind == {"prod": {"west": "west refuses to update"}}
    assert behind(ws) == {"west": 1}
    house.script = None
    assert changed.apply(model="churn").behind == {}
    assert behind(ws) == {}
    house.check_truth(changed)


@pytest.mark.parametrize("how", ["silent", "publish", "point"])
def test_home_first(house: Any, two: Any, fail: Fail, how: str) -> None:
    """With home-first, the home's change is true before another target is touched."""
    ws = two("home-first")
    if how == "silent":
        house.silent.add("west")
    else:
        fail("west", how)

    promoted = ws.promote("churn:2", to="prod")

    assert list(promoted.behind["prod"]) == ["west"]
    house.silent.clear()
    assert shown(ws) == {"local": 2, "east": 2, "west": 1}
    first = next(e for e in ws.history("churn") if e.data.get("stages") == {"prod": 2})
    assert first.data["behind"]["prod"]["east"] == {"number": 1, "reason": FOLLOWS}
    brought_up(house, ws)


@pytest.mark.parametrize("verb", ["publish", "point"])
def test_home_first_needs_the_home(house: Any, two: Any, fail: Fail, verb: str) -> None:
    """With home-first, nothing changes where the home fails, and nobody else is asked."""
    ws = two("home-first")
    fail("local", verb)

    with pytest.raises(OperationFailed):
        ws.promote("churn:2", to="prod")

    house.script = None
    assert shown(ws) == {"local": 1, "east": 1, "west": 1}
    house.check_truth(ws)


def test_rollback_home_first(house: Any, two: Any, fail: Fail) -> None:
    """Going back follows the policy, too."""
    ws = two("home-first", SERVED)
    ws.promote("churn:2", to="prod")
    fail("west", "update")

    back = ws.rollback("churn", stage="prod")

    assert list(back.behind["prod"]) == ["west"]
    house.script = None
    assert [house.served(ws, f"churn-{name}") for name in ("local", "west")] == [1, 2]
    ws.repair("churn")
    assert [house.served(ws, f"churn-{name}") for name in ("local", "west")] == [1, 1]
    house.check_truth(ws)


def test_console_edit_of_a_target_that_is_behind(house: Any, two: Any, fail: Fail) -> None:
    """Who is behind must still show what it had: another edit is found before the next move."""
    ws = two("any")
    fail("west", "point")
    ws.promote("churn:2", to="prod")
    house.script = None
    ws.targets["west"].registry.point("churn", "prod", None)

    with pytest.raises(RepairRequired):
        ws.promote("churn:1", to="prod")

    ws.repair("churn")
    house.check_truth(ws)


def test_next_promotion_brings_everybody_along(house: Any, two: Any, fail: Fail) -> None:
    """A target that is behind is no obstacle to the next version, which it gets with the rest."""
    ws = two("any")
    fail("east", "point")
    ws.promote("churn:2", to="prod")
    house.script = None
    house.register(ws)
    ws.promote("churn:3", to="staging")

    ws.promote("churn:3", to="prod")

    assert behind(ws) == {}
    assert set(shown(ws).values()) == {3}
    house.check_truth(ws)


def test_broken_glass_leaves_behind_who_is_down(house: Any, two: Any) -> None:
    """A rollback that breaks the glass changes who answers, whatever the policy is."""
    ws = two("all")
    ws.promote("churn:2", to="prod")
    house.silent.add("east")
    with pytest.raises(CloudregError):
        ws.rollback("churn", stage="prod")

    back = ws.rollback("churn", stage="prod", break_glass="east burns")

    assert list(back.behind["prod"]) == ["east"]
    house.silent.clear()
    assert shown(ws) == {"local": 1, "east": 2, "west": 1}
    ws.repair("churn")
    house.check_truth(ws)


def test_paused_in_the_middle(house: Any, two: Any) -> None:
    """A rollout that pauses on one of several targets goes on with all that is left."""
    rollout = (
        '[endpoints.churn-west.rollout]\nstrategy = "canary"\nsteps = [50, 100]\n'
        "max_error_rate = 0.5\nmin_requests = 1\n"
    )
    ws = two("home-first", SERVED + rollout)
    with pytest.raises(RolloutPaused):
        ws.promote("churn:2", to="prod")
    assert ws.fold("churn").stages["prod"].number == 2
    assert house.served(ws, "churn-local") == 2

    ws.abort("churn")
    assert set(behind(ws)) == {"east", "west"}
    assert house.served(ws, "churn-west") == 1
    with pytest.raises(RolloutPaused):
        ws.repair("churn")
    with pytest.raises(RolloutPaused):  # the last step is judged, too
        ws.resume("churn", next_step=True)
    ws.resume("churn", next_step=True)
    assert behind(ws) == {}
    house.check_truth(ws)


def test_removal_that_one_console_began(house: Any, two: Any) -> None:
    """With home-first, who has nothing left to remove is not behind after a removal."""
    ws = two("home-first", SERVED)
    wait(ws.targets["west"].endpoints.delete("churn-west"))

    assert ws.down() == {"churn-local": "local", "churn-west": "west"}

    assert house.kinds(ws)[-2:] == ["intent", "done"]
    assert ws.fold("churn").behind == {}
    assert ws.repair("churn").entry is None


def test_removal_under_an_empty_stage(house: Any, two: Any) -> None:
    """With home-first, endpoints go from all targets at once, though their stage has nothing."""
    ws = two("home-first", SERVED)
    ws.targets["local"].registry.point("churn", "prod", None)
    ws.adopt("churn", reason="it was taken back")

    ws.down()

    assert ws.fold("churn").behind == {}
    ws.repair("churn")
    house.check_truth(ws)


def test_pruning_under_home_first(house: Any, two: Any) -> None:
    """With home-first, what is not configured any more goes from all targets in one go."""
    ws = two("home-first", SERVED)
    text = (house.root / "cloudreg.toml").read_text()
    (house.root / "cloudreg.toml").write_text(text.partition("[endpoints")[0])
    ws = house.open(timeout_s=30.0)

    assert ws.apply(prune=True).changed

    assert ws.fold("churn").applied == {}
    assert behind(ws) == {}
    assert ws.plan(prune=True).plan.empty
    house.check_truth(ws)


@pytest.mark.parametrize(
    "rest",
    [
        'schedule = {days = "mon-fri", from = "07:00", to = "19:00", timezone = "Europe/Berlin"}',
        'ttl = "10h"',
    ],
)
@pytest.mark.parametrize("where", [pytest.param("local", marks=pytest.mark.slow), "west"])
def test_rest_of_one_target(house: Any, two: Any, rest: str, where: str) -> None:
    """With home-first, an endpoint whose hours are over goes from its target, and no other does.

    Nobody is behind for that, and in the morning the same command brings it back.
    """
    one, other = SERVED, ""
    for section in SERVED.split("\n\n"):
        if f"churn-{where}" in section:
            one, other = section.strip("\n"), SERVED.replace(section, "").strip("\n")
    two("home-first", f"\n{one}\n{rest}\n\n{other}\n")
    noon = datetime(2027, 11, 24, 12, tzinfo=UTC).timestamp()
    clock = Clock(noon)
    ws = house.open(timeout_s=30.0, clock=clock)

    def names() -> set[str]:
        targets = [ws.targets[name] for name in ("local", "west")]
        return {e.spec.name for target in targets for e in target.endpoints.endpoints()}

    ws.down()
    ws.apply()
    assert names() == {"churn-local", "churn-west"}

    clock.set(noon + 11 * 3600)
    assert ws.apply().changed
    assert names() == {"churn-local", "churn-west"} - {f"churn-{where}"}
    assert ws.fold("churn").behind == {}
    assert ws.plan().plan.empty
    assert ws.drift("churn") == []
    assert ws.repair("churn").entry is None

    if rest.startswith("schedule"):
        clock.set(noon + 24 * 3600)
    else:
        ws.promote("churn:2", to="prod")
    ws.apply()
    assert names() == {"churn-local", "churn-west"}
    assert ws.fold("churn").behind == {}
    house.check_truth(ws)
