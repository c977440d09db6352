"""Endpoints on the command line, with a stand-in for the model server."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudreg import Workspace
from cloudreg.operations import wait

ENDPOINT = '[endpoints.churn-staging]\nmodel = "churn"\nstage = "staging"\n'
CANARY = (
    ENDPOINT
    + """
[endpoints.churn-staging.rollout]
strategy = "canary"
steps = [20, 100]
bake_s = 0.3
max_error_rate = 0.5
min_requests = {min_requests}
"""
)


@pytest.fixture
def at_first(served: Any, cloudreg: Any) -> Iterator[Any]:
    """The shared project, with version 1 behind its endpoint."""
    served.configure(ENDPOINT)
    assert cloudreg("promote", "churn:1", "--to", "staging").code == 0
    yield served
    served.configure(ENDPOINT)
    if cloudreg("rollout", "status").code == 4:
        assert cloudreg("rollout", "abort", "churn").code == 0


def test_status(at_first: Any, cloudreg: Any) -> None:
    """Status shows stage, version, endpoint, replicas and address in one row."""
    said = cloudreg("status", "churn")
    rows = cloudreg("status", "--json").json["stages"]

    assert said.code == 0
    (row,) = [line for line in said.out.splitlines() if "staging" in line]
    assert "churn-staging on local  ready   primary :1 100 %  1/1    http://127.0.0.1:" in row
    (staging,) = [r for r in rows if r["stage"] == "staging"]
    (endpoint,) = staging["endpoints"]
    assert endpoint["status"] == "ready"
    assert endpoint["serving"][0]["digest"] == staging["digest"]


@pytest.mark.parametrize("way", ["argument", "file", "stdin", "dash"])
def test_predict(at_first: Any, cloudreg: Any, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A request comes from the command line, a file or stdin, and the answer is printed."""
    text = '{"instances": [[1, 2]]}'
    Path("request.json").write_text(text)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    words = {"argument": [text], "file": ["@request.json"], "stdin": [], "dash": ["-"]}[way]

    said = cloudreg("predict", "churn-staging", *words)

    assert said.code == 0, said.err
    assert json.loads(said.out)["number"] == 1


def test_predict_as_json(at_first: Any, cloudreg: Any) -> None:
    """The facts hold the answer; a variant can be asked by its name."""
    said = cloudreg("predict", "churn-staging", "{}", "--variant", "primary", "--json")

    assert said.json["endpoint"] == "churn-staging"
    assert said.json["answer"]["number"] == 1


def test_predict_by_key(at_first: Any, cloudreg: Any) -> None:
    """A key chooses who is asked, and not together with a variant."""
    assert cloudreg("predict", "churn-staging", "{}", "--key", "user-42", "--json").code == 0
    both = cloudreg("predict", "churn-staging", "{}", "--key", "user", "--variant", "primary")
    assert (both.code, "both choose" in both.err) == (64, True)


def test_compare_online(at_first: Any, cloudreg: Any) -> None:
    """What each variant answered lately stands beside the metrics of its version."""
    for _ in range(3):
        cloudreg("predict", "churn-staging", "{}")
    said = cloudreg("compare", "churn@staging", "--online")
    (row,) = cloudreg("compare", "churn", "--online", "--window", "60", "--json").json["variants"]

    assert said.code == 0, said.err
    assert "ENDPOINT" in said.out
    assert "churn-staging  primary  churn:1  100 %" in said.out
    assert (row["variant"], row["number"]) == ("primary", 1)
    assert row["online"]["requests"] >= 3
    assert row["online"]["p95_ms"] > 0


@pytest.mark.parametrize(
    "words",
    [("churn:1",), ("churn:1", "churn:2", "--online"), ("churn:1", "churn:2", "--window", "9")],
)
def test_compare_with_what(at_first: Any, cloudreg: Any, words: tuple[str, ...]) -> None:
    """Two versions are compared, or the variants of one model's endpoints."""
    assert cloudreg("compare", *words).code == 64


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["churn-staging", "{"], 64, "the request is no JSON: "),
        (["churn-staging", "7"], 64, "the request is neither an object nor a list"),
        (["churn-staging", '{"a": NaN}'], 64, "not plain JSON"),
        (["churn-staging", "[" * 5000], 64, "the request is no JSON: "),
        (["churn-staging", "@missing.json"], 64, "missing.json cannot be read"),
        (["churn-staging", '{"status": 400}'], 64, "answered 400"),
        (["churn-staging", '{"status": 500}'], 1, "answered 500"),
        (["churn-staging", '{"sleep_s": 5}', "--timeout", "0.2"], 1, "did not answer in 0.2 s"),
        (["churn-staging", "[1]"], 1, "something else than predictions"),
        (["churn-staging", "{}", "--variant", "canary"], 1, "no variant 'canary'"),
        (["nowhere", "{}"], 1, "no endpoint 'nowhere' is configured"),
    ],
)
def test_bad_request(
    at_first: Any, cloudreg: Any, words: list[str], code: int, reason: str
) -> None:
    """A request that cannot be answered ends with a reason and without an answer."""
    said = cloudreg("predict", *words)

    assert (said.code, said.out) == (code, "")
    assert reason in said.err


def test_no_request(at_first: Any, cloudreg: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing on stdin is no request."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))

    assert cloudreg("predict", "churn-staging").code == 64


def test_logs(at_first: Any, cloudreg: Any) -> None:
    """The last lines of the model servers are printed, and nothing in them is obeyed."""
    cloudreg("predict", "churn-staging", json.dumps({"log": "loud \x1b[31mred"}))

    said = cloudreg("logs", "churn-staging", "--lines", "1")

    assert said.out == "loud \\u001b[31mred\n"
    assert cloudreg("logs", "churn-staging", "--json").json["lines"][-1] == "loud \x1b[31mred"
    assert cloudreg("logs", "nowhere").code == 1


def test_promotion_deploys(at_first: Any, cloudreg: Any) -> None:
    """Promoting a version changes the endpoint that follows the stage, and says where it is."""
    said = cloudreg("promote", "churn:2", "--to", "staging")

    assert said.code == 0
    assert "variants.primary.number: 1 -> 2" in said.out
    assert "\nendpoint churn-staging on local serves at http://127.0.0.1:" in said.out
    assert json.loads(cloudreg("predict", "churn-staging", "{}").out)["number"] == 2


def test_nothing_to_plan(at_first: Any, cloudreg: Any) -> None:
    """What runs as it is configured makes an empty plan, and an apply without work."""
    said = cloudreg("plan")

    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("No changes.")
    done = cloudreg("apply", "--json")
    assert done.code == 0
    assert done.json["changed"] is False


def test_plan_and_apply(at_first: Any, cloudreg: Any) -> None:
    """A change of the configuration is planned, saved, and applied once."""
    at_first.configure(f"{ENDPOINT}max_replicas = 2\n")

    planned = cloudreg("plan", "--out", "p.json")
    assert planned.code == 2
    assert "variants.primary.scaling.max_replicas: 1 -> 2" in planned.out
    assert planned.out.endswith("saved in p.json\n")
    assert planned.err == "next: cloudreg apply p.json\n"
    applied = cloudreg("apply", "p.json")
    assert applied.code == 0, applied.err
    assert "variants.primary.scaling.max_replicas: 1 -> 2" in applied.out
    assert cloudreg("plan").code == 0
    assert cloudreg("apply", "p.json").code == 1
    at_first.configure(ENDPOINT)
    assert cloudreg("apply", "--model", "churn").code == 0
    assert cloudreg("plan", "--json").json["plan"]["changes"] == []


def test_prune(at_first: Any, cloudreg: Any) -> None:
    """An endpoint that is not configured any more goes when it is asked for, and not before."""
    other = ENDPOINT.replace("churn-staging", "churn-second")
    at_first.configure(ENDPOINT + other)
    assert cloudreg("apply").code == 0
    at_first.configure(ENDPOINT)

    kept = cloudreg("plan")
    assert kept.code == 0
    assert "endpoint churn-second on local is not configured any more" in kept.out
    pruned = cloudreg("plan", "--prune")
    assert pruned.code == 2
    assert pruned.err == "next: cloudreg apply --prune\n"
    assert cloudreg("apply", "--prune").code == 0
    assert "churn-second" not in cloudreg("plan").out


def test_down(at_first: Any, cloudreg: Any) -> None:
    """Endpoints go by name, unknown names stop everything, and apply brings them back."""
    refused = cloudreg("down", "churn-staging", "nowhere")
    assert refused.code == 1
    assert "no endpoint 'nowhere' is there\n  hint: there are churn-staging" in refused.err
    said = cloudreg("down", "churn-staging")
    assert said.code == 0
    assert "- endpoint churn-staging on local (churn:1, 100 %)\nremoved 1 endpoint" in said.out
    assert cloudreg("down").out == "no endpoint is there: nothing to remove\n"
    absent = cloudreg("status")
    assert "absent" in absent.out
    assert absent.err == "next: cloudreg plan\n"
    assert cloudreg("predict", "churn-staging", "{}").code == 1
    assert cloudreg("apply").code == 0
    assert cloudreg("down", "--json").json == {"removed": {"churn-staging": "local"}}
    assert cloudreg("apply").code == 0


def test_down_of_what_is_gone(at_first: Any, cloudreg: Any) -> None:
    """An endpoint that somebody removed by hand is taken out of the ledger like any other."""
    with Workspace.load() as workspace:
        wait(workspace.targets["local"].endpoints.delete("churn-staging"))
    assert cloudreg("drift").code == 5

    said = cloudreg("down", "churn-staging")

    assert said.code == 0, said.err
    assert "- endpoint churn-staging on local (churn, and it is gone already)" in said.out
    assert cloudreg("drift").code == 0
    assert cloudreg("apply").code == 0


def test_failed_start(at_first: Any, cloudreg: Any) -> None:
    """A version whose server does not start leaves the one before, and its last words are shown."""
    assert cloudreg("register", "churn", at_first.model("crash 4", "bad")).code == 0

    refs = cloudreg("list", "churn", "--json").json["versions"]
    said = cloudreg("promote", f"churn:{refs[0]['number']}", "--to", "staging")

    assert said.code == 1
    # The plan was shown before it was carried out.
    assert "  ~ endpoint churn-staging on local" in said.out
    assert "is in staging now" not in said.out
    assert "the weights make no sense" in said.err
    assert json.loads(cloudreg("predict", "churn-staging", "{}").out)["number"] == 1
    assert "undone: " in cloudreg("history", "churn").out


def test_paused_rollout(at_first: Any, cloudreg: Any) -> None:
    """A canary that nobody asks pauses, is shown by every verb, and is undone or gone on with."""
    at_first.configure(CANARY.format(min_requests=5))

    said = cloudreg("promote", "churn:2", "--to", "staging")
    assert said.code == 4
    assert "is paused at 20 %: 0 requests, 5 are needed to judge" in said.err
    shown = cloudreg("rollout", "status")
    assert shown.code == 4
    assert "churn-staging at 20 %; PAUSED: 0 requests" in shown.out
    status = cloudreg("status")
    assert "primary :1 80 %, canary :2 20 %" in status.out
    assert "cloudreg rollout resume churn, or cloudreg rollout abort churn" in status.err
    assert "model churn" in cloudreg("doctor").out
    assert cloudreg("promote", "churn:3", "--to", "staging").code == 1
    undone = cloudreg("rollout", "abort", "churn", "--json")
    assert undone.code == 0
    assert undone.json["entry"]["kind"] == "abort"
    assert json.loads(cloudreg("predict", "churn-staging", "{}").out)["number"] == 1
    history = cloudreg("history", "churn").out
    assert "PAUSED churn-staging at 20 % of the traffic" in history
    assert "undone: aborted by hand" in history


def test_resumed_rollout(at_first: Any, cloudreg: Any) -> None:
    """A paused canary goes on once the limits let it."""
    at_first.configure(CANARY.format(min_requests=5))
    assert cloudreg("promote", "churn:2", "--to", "staging").code == 4
    at_first.configure(ENDPOINT)

    said = cloudreg("rollout", "resume", "churn", "--next-step")

    assert said.code == 0, said.err
    assert said.out.endswith("/invocations\n")
    assert json.loads(cloudreg("predict", "churn-staging", "{}").out)["number"] == 2


def test_watched_rollout(at_first: Any, cloudreg: Any) -> None:
    """A canary that answers well goes all the way while requests flow."""
    at_first.configure(CANARY.format(min_requests=1))
    over = threading.Event()
    answers: list[bool] = []

    def ask() -> None:
        with Workspace.load() as workspace:
            live = workspace.endpoint("churn-staging")
            while not over.wait(0.01):
                answers.append("number" in live.predict({}))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        said = cloudreg("promote", "churn:2", "--to", "staging")
    finally:
        over.set()
        asking.join()

    assert said.code == 0, said.err
    assert "churn-staging: 20 % of the traffic on churn:2\n" in said.err
    assert answers
    assert all(answers)
