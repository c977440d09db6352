"""Endpoints that follow a stage: all at once, by canary, paused, aborted, undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.errors import (
    Conflict,
    NotFound,
    OperationFailed,
    RolloutAborted,
    RolloutPaused,
    Unavailable,
)
from cloudreg.types import OperationState, OperationStatus

Live = Callable[..., Workspace]


def canary(more: str = "", *, steps: str = "[50, 100]", bake_s: float = 0.3) -> str:
    return f"""
[endpoints.churn-prod]
model = "churn"
stage = "prod"
[endpoints.churn-prod.rollout]
strategy = "canary"
steps = {steps}
bake_s = {bake_s}
{more}
"""


LIMITED = canary("max_error_rate = 0.1\nmin_requests = 5")
PAIR = "".join(
    f'\n[endpoints.churn-{name}]\nmodel = "churn"\nstage = "prod"\n' for name in ("a", "b")
)


def prod(ws: Workspace) -> int:
    return ws.fold("churn").stages["prod"].number


def variants(ws: Workspace, name: str = "churn-prod") -> dict[str, tuple[int, int]]:
    """Variant to number and weight, as it is in force."""
    spec = ws.endpoint(name).describe().spec
    return {v.name: (v.number, v.weight) for v in spec.variants}


def percent(ws: Workspace) -> int | None:
    """Where the rollout under way stands."""
    intent = ws.fold("churn").open
    return intent.progress.get("percent") if intent is not None else None


def ready(ws: Workspace) -> Workspace:
    """Bring version 2 to the stage before prod."""
    ws.promote("churn:2", to="staging")
    return ws


def test_endpoint_follows_its_stage(house: Any, live: Live) -> None:
    """A promotion makes the stage's endpoint, and the next one moves it, all at once."""
    ws = live()
    assert house.served(ws) == 1
    promoted = ready(ws).promote("churn:2", to="prod")

    assert json.loads(promoted.endpoint().invoke(b"{}"))["number"] == 2
    assert promoted.endpoint("local").name == promoted.endpoint("churn-prod").name == "churn-prod"
    with pytest.raises(NotFound):
        promoted.endpoint("gcp")
    assert variants(ws) == {"primary": (2, 100)}
    assert ws.fold("churn").applied["churn-prod"].spec["variants"][0]["number"] == 2
    house.check_truth(ws)


def test_canary_loses_nothing(house: Any, live: Live, traffic: Any) -> None:
    """Requests that flow through all the steps are all answered, by the old version or the new."""
    ws = ready(live(canary("max_error_rate = 0.0\nmin_requests = 3", steps="[20, 60, 100]")))
    with traffic(ws, "churn-prod", dict) as sent:
        ws.promote("churn:2", to="prod")

    assert sent.failures == []
    assert set(sent.answers) == {1, 2}
    assert sent.answers[0] == 1
    assert sent.answers[-1] == 2
    steps = [e.data["progress"] for e in ws.history("churn", newest_first=False)
             if e.kind == "step" and "progress" in e.data]  # fmt: skip
    assert [s["percent"] for s in steps] == [20, 60, 100]
    assert variants(ws) == {"primary": (2, 100)}
    house.check_truth(ws)


def test_rollback_is_at_once(house: Any, live: Live) -> None:
    """Going back takes no steps and no bake: what is gone back to has proved itself there."""
    ws = ready(live(canary(bake_s=0.0)))
    ws.promote("churn:2", to="prod")
    house.configure(canary(bake_s=3600.0))
    ws = house.open()
    ws.rollback("churn", stage="prod")

    assert (prod(ws), house.served(ws)) == (1, 1)
    entries = [e.kind for e, _ in zip(ws.history("churn"), range(2), strict=False)]
    assert entries == ["done", "intent"]
    house.check_truth(ws)


def test_sick_canary_is_undone(house: Any, live: Live, traffic: Any) -> None:
    """A canary that answers 500 is undone: the version before serves all, and the ledger knows."""
    ws = live(canary("max_error_rate = 0.1\nmin_requests = 5", bake_s=20.0), versions=1)
    house.register(ws, "sick 500")
    ready(ws)
    with (
        traffic(ws, "churn-prod", dict) as sent,
        pytest.raises(RolloutAborted, match=r"measured .* errors") as aborted,
    ):
        ws.promote("churn:2", to="prod")

    assert any("answered 500" in failure for failure in sent.failures)
    assert any("serving churn:2" in line for line in aborted.value.logs)
    assert prod(ws) == 1
    assert variants(ws) == {"primary": (1, 100)}
    assert [house.served(ws) for _ in range(10)] == [1] * 10
    newest = next(ws.history("churn"))
    assert newest.kind == "abort"
    assert newest.data["reason"] == aborted.value.message
    house.check_truth(ws)


def test_slow_canary_is_undone(house: Any, live: Live, traffic: Any) -> None:
    """A canary whose 95th percentile is above the limit is undone, and told in milliseconds."""
    ws = live(canary("max_p95_ms = 100\nmin_requests = 3", bake_s=20.0), versions=1)
    house.register(ws, "lazy 0.3")
    ready(ws)
    with (
        traffic(ws, "churn-prod", dict) as sent,
        pytest.raises(RolloutAborted, match=r"p95 .* ms, wanted at most 100 ms"),
    ):
        ws.promote("churn:2", to="prod")

    assert sent.failures == []
    assert house.served(ws) == 1
    house.check_truth(ws)


def test_no_data_is_no_success(house: Any, live: Live, traffic: Any) -> None:
    """Without requests a rollout pauses as often as it is resumed, and goes on once there are."""
    ws = ready(live(LIMITED))
    for attempt in (lambda: ws.promote("churn:2", to="prod"), lambda: ws.resume("churn")):
        with pytest.raises(RolloutPaused, match="0 requests, 5 are needed") as paused:
            attempt()
        assert paused.value.exit_code == 4
        assert "rollout resume churn" in str(paused.value.hint)
        assert variants(ws) == {"primary": (1, 50), "canary": (2, 50)}
    with pytest.raises(Conflict, match="paused promote of churn:2 to prod"):
        house.open("bob", wait_s=0.2).rollback("churn", stage="prod", to="churn:1", reason="no")
    assert prod(ws) == 1

    with traffic(ws, "churn-prod", dict) as sent:
        resumed = house.open("bob").resume("churn")
    assert sent.failures == []
    assert resumed.changed
    assert prod(ws) == house.served(ws) == 2
    done = next(ws.history("churn"))
    assert (done.kind, done.actor, done.data["previous"]) == ("done", "bob", 1)
    assert done.data["endpoints"]["churn-prod"]["spec"]["variants"][0]["number"] == 2
    house.check_truth(ws)


def test_next_step_by_hand(house: Any, live: Live) -> None:
    """Somebody can take each step without the numbers that are missing."""
    ws = ready(live(LIMITED))
    with pytest.raises(RolloutPaused, match="paused at 50 %"):
        ws.promote("churn:2", to="prod")
    with pytest.raises(RolloutPaused, match="paused at 100 %"):
        ws.resume("churn", next_step=True)
    assert variants(ws) == {"primary": (1, 0), "canary": (2, 100)}
    ws.resume("churn", next_step=True)

    assert variants(ws) == {"primary": (2, 100)}
    assert prod(ws) == 2
    with pytest.raises(NotFound, match="no rollout of churn is paused"):
        ws.resume("churn")
    house.check_truth(ws)


def test_limits_without_a_bake(house: Any, live: Live) -> None:
    """A limit that nothing could be measured by pauses the rollout, and is not ignored."""
    ws = ready(live(canary("max_error_rate = 0.1", steps="[100]", bake_s=0.0)))
    with pytest.raises(RolloutPaused):
        ws.promote("churn:2", to="prod")
    ws.abort("churn")
    house.check_truth(ws)


def test_paused_rollout_aborted(house: Any, live: Live) -> None:
    """A paused rollout can be undone by anybody: all is as before, and promotions go on."""
    ws = ready(live(LIMITED))
    with pytest.raises(RolloutPaused):
        ws.promote("churn:2", to="prod")
    entry = house.open("bob").abort("churn")

    assert (entry.kind, entry.actor, entry.data["reason"]) == ("abort", "bob", "aborted by hand")
    assert (prod(ws), house.served(ws)) == (1, 1)
    assert variants(ws) == {"primary": (1, 100)}
    with pytest.raises(NotFound, match="nothing is under way"):
        ws.abort("churn")
    house.check_truth(ws)


def test_paused_rollout_with_another_configuration(house: Any, live: Live) -> None:
    """What cannot be resumed because its endpoint is gone from the file can still be aborted."""
    ws = ready(live(LIMITED))
    with pytest.raises(RolloutPaused):
        ws.promote("churn:2", to="prod")
    house.configure()
    other = house.open()
    with pytest.raises(Conflict, match="in the middle of a rollout"):
        other.resume("churn")
    assert other.fold("churn").open.paused

    other.abort("churn")
    assert variants(ws) == {"primary": (1, 100)}
    house.check_truth(ws)


@pytest.mark.parametrize("action", ["pause", "abort"])
def test_somebody_else_stops_a_bake(
    house: Any, live: Live, background: Any, eventually: Any, action: str
) -> None:
    """Another process can have a rollout paused or aborted while it bakes."""
    ws = ready(live(canary(bake_s=600.0)))
    other = house.open("bob")
    rollout = background(ws.promote, "churn:2", to="prod")
    eventually(lambda: percent(other) == 50)
    getattr(other, action)("churn")

    if action == "pause":
        with pytest.raises(RolloutPaused, match="somebody asked for it"):
            rollout.result(20)
        assert variants(other) == {"primary": (1, 50), "canary": (2, 50)}
        other.abort("churn")
    else:
        with pytest.raises(RolloutAborted, match="somebody asked for it"):
            rollout.result(20)
    assert variants(other) == {"primary": (1, 100)}
    assert (prod(other), house.served(other)) == (1, 1)
    house.check_truth(other)


def test_abort_while_a_server_starts(
    house: Any, live: Live, background: Any, eventually: Any
) -> None:
    """Whoever waits for slow servers is stopped too, without waiting for them to be ready."""
    ws = live(versions=1)
    house.register(ws, "slow 600")
    ready(ws)
    other = house.open("bob")
    promotion = background(ws.promote, "churn:2", to="prod")
    eventually(lambda: house.observed("churn-prod")["state"] == "running")
    other.abort("churn")
    with pytest.raises(RolloutAborted, match="somebody asked for it"):
        promotion.result(20)

    assert (prod(other), house.served(other)) == (1, 1)
    house.check_truth(other)


def test_abort_at_the_last_moment(house: Any, live: Live) -> None:
    """A wish to abort that comes before the last entry is still heeded."""
    ws = ready(live(provider="scripted"))
    other = house.open("bob")

    def wish(_: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if verb == "point" and args[2] == ws.version("churn:2").digest:
            other.abort("churn")
        return call()

    house.script = wish
    with pytest.raises(RolloutAborted, match="somebody asked for it"):
        ws.promote("churn:2", to="prod")
    assert (prod(ws), house.served(ws)) == (1, 1)
    house.check_truth(ws)


def test_requests_where_nothing_is_under_way(house: Any, live: Live) -> None:
    """There is nothing to pause, abort or resume where nothing is under way."""
    ws = live("", versions=1)
    for verb in (ws.pause, ws.abort, ws.resume):
        with pytest.raises(NotFound):
            verb("churn")
        with pytest.raises(NotFound):
            verb("nobody")


def test_endpoint_that_cannot_start(house: Any, live: Live) -> None:
    """Weights that cannot be loaded leave all as it was; error and ledger say why."""
    ws = live(versions=1)
    house.register(ws, "crash 4")
    ready(ws)
    with pytest.raises(OperationFailed, match="could not be loaded") as failure:
        ws.promote("churn:2", to="prod")

    assert any("the weights make no sense" in line for line in failure.value.logs)
    assert (prod(ws), house.served(ws)) == (1, 1)
    newest = next(ws.history("churn"))
    assert (newest.kind, newest.data["reason"]) == ("abort", failure.value.message)
    assert "notes" not in newest.data
    house.check_truth(ws)


def test_first_endpoint_that_cannot_start(house: Any) -> None:
    """An endpoint that was not there before is not there afterwards."""
    house.configure('[endpoints.churn-prod]\nmodel = "churn"\nstage = "dev"')
    ws = house.open()
    house.register(ws, "crash 4")
    with pytest.raises(OperationFailed):
        ws.apply()

    with pytest.raises(NotFound):
        ws.endpoint("churn-prod").describe()
    assert house.kinds(ws) == ["register", "intent", "abort"]
    house.check_truth(ws)


def test_second_endpoint_fails(house: Any, live: Live) -> None:
    """Where the second of two endpoints fails, the first goes back as well."""
    ws = ready(live(PAIR, provider="scripted"))
    changed: list[str] = []

    def refuse(_: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if verb == "update":
            changed.append(f"{args[0].name} {args[0].variants[0].number}")
            if changed[-1] == "churn-b 2":
                raise Unavailable("no answer")
        return call()

    house.script = refuse
    with pytest.raises(Unavailable):
        ws.promote("churn:2", to="prod")

    assert changed == ["churn-a 2", "churn-b 2", "churn-b 1", "churn-a 1"]
    assert [house.served(ws, f"churn-{name}") for name in "ab"] == [1, 1]
    assert prod(ws) == 1
    house.check_truth(ws)


def test_endpoint_on_another_target(house: Any, live: Live) -> None:
    """An endpoint of another target is served from that target's own copy of the bytes."""
    text = '[endpoints.churn-prod]\nmodel = "churn"\nstage = "prod"\ntarget = "west"'
    ws = live(text, targets={"local": "", "west": ""})
    assert house.served(ws) == 1
    assert (house.root / ".west" / "store").is_dir()
    assert not (house.root / ".local" / "endpoints").exists()
    ready(ws).promote("churn:2", to="prod")
    assert house.served(ws) == 2
    house.check_truth(ws)


def test_damaged_bytes_are_not_deployed(house: Any, live: Live) -> None:
    """A file that is not what was registered is found before anything is changed."""
    ws = ready(live())
    [entry] = ws.version("churn:2").manifest.files
    path = next((house.root / ".local" / "store").rglob(f"*{entry.sha256}*"))
    path.chmod(0o644)
    path.write_bytes(b"weights X")
    with pytest.raises(Exception, match="not what was registered"):
        ws.promote("churn:2", to="prod")
    assert (prod(ws), house.served(ws)) == (1, 1)
    house.check_truth(ws)


class Done:
    """An operation that says that all went well."""

    name = "endpoint"

    def poll(self) -> OperationStatus:
        return OperationStatus(state=OperationState.SUCCEEDED)


@pytest.mark.parametrize("text", ["", "\n[endpoints.churn-prod.rollout]\nstrategy = 'canary'"])
def test_success_that_is_none(house: Any, live: Live, text: str) -> None:
    """A target that says "done" and runs the old configuration is not believed."""
    base = '[endpoints.churn-prod]\nmodel = "churn"\nstage = "prod"'
    ws = ready(live(base + text, provider="scripted"))

    def pretend(_: str, verb: str, args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
        if verb == "update" and args[0].variants[-1].number == 2:
            return Done()
        return call()

    house.script = pretend
    with pytest.raises(OperationFailed, match="another configuration than was asked for"):
        ws.promote("churn:2", to="prod")
    house.script = None

    assert (prod(ws), house.served(ws)) == (1, 1)
    assert house.kinds(ws)[-1] == "abort"
    house.check_truth(ws)


def test_removal_that_is_none(house: Any, live: Live) -> None:
    """A target that says that an endpoint is gone and keeps it is not believed."""
    ws = live(versions=1, provider="scripted")
    house.script = lambda _, verb, __, call: Done() if verb == "delete" else call()
    with pytest.raises(OperationFailed, match="still there"):
        ws.down()
    house.script = None
    assert house.served(ws) == 1
    house.check_truth(ws)
