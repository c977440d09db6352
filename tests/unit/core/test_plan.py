"""What would change: as text and as JSON, with a fingerprint that moves when the world does."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import msgspec
import pytest

from cloudreg.errors import InvalidRequest, NotFound
from cloudreg.plan import (
    Action,
    Change,
    Plan,
    SavedPlan,
    endpoint_change,
    flat,
    spec_from_json,
    spec_json,
    stage_change,
)
from cloudreg.types import (
    Endpoint,
    EndpointSpec,
    EndpointStatus,
    GateResult,
    Resources,
    Rollout,
    RolloutStrategy,
    Scaling,
    Variant,
)

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def spec(digest=ONE, number=1, **changes):
    variant = Variant(name="primary", model="churn", number=number, digest=digest)
    return replace(EndpointSpec(name="live", stage="prod", variants=(variant,)), **changes)


CANARY = Rollout(
    strategy=RolloutStrategy.CANARY, steps=(10, 50, 100), bake_s=30, max_error_rate=0.01,
    max_p95_ms=200,
)  # fmt: skip
MOVE = stage_change("churn", "prod", before=(1, ONE), after=(2, TWO))
GATE = GateResult(gate="metric", passed=False, reason="too low", measured="1", wanted="2",
                  evidence={"auc": 0.5})  # fmt: skip
UPDATE = endpoint_change(
    "live",
    target="gcp",
    desired=spec(TWO, 2, env={"A": "1"}),
    observed=Endpoint(spec=spec(), status=EndpointStatus.READY),
    rollout=CANARY,
).change()
PLAN = Plan(request={"verb": "promote", "model": "churn"}, changes=(MOVE, UPDATE), gates=(GATE,),
            warnings=("mind the gap",))  # fmt: skip

TEXT = """\
cloudreg will make these changes:

  ~ stage churn@prod
      digest: sha256:111111111111 -> sha256:222222222222
      version: 1 -> 2

  ~ endpoint live on gcp
      env.A: (none) -> 1
      variants.primary.digest: sha256:111111111111 -> sha256:222222222222
      variants.primary.number: 1 -> 2
      (canary: 10 % -> 50 % -> 100 %, 30 s each, undone above 1.00% errors, undone above p95 200 ms)

Gates:
  FAIL  metric: too low

Note: mind the gap

Plan: 0 to create, 2 to change, 0 to destroy."""


def test_text():
    """A plan reads like Terraform's: marks, changed fields, gates, notes, counts."""
    assert str(PLAN) == TEXT


def test_json_has_the_same_facts():
    """All that the text says is in the JSON, and the JSON is plain."""
    document = json.loads(json.dumps(PLAN.to_json(), allow_nan=False))
    assert document["counts"] == {"create": 0, "update": 2, "delete": 0}
    assert [c["actions"] for c in document["changes"]] == [["update"], ["update"]]
    for shown, change in zip(document["changes"], PLAN.changes, strict=True):
        rebuilt = Change(
            **{k: shown[k] for k in ("kind", "name", "target", "before", "after", "note")},
            action=Action(shown["actions"][0]),
        )
        assert list(rebuilt.lines()) == list(change.lines())
    assert document["gates"] == [GATE.to_json()]
    assert document["warnings"] == ["mind the gap"]
    assert document["fingerprint"] == PLAN.fingerprint


def test_nothing():
    """A plan without changes says that what runs is what was asked for."""
    empty = Plan(request={})
    assert empty.empty
    assert empty.allowed
    assert str(empty).startswith("No changes.")
    assert str(empty).endswith("Plan: 0 to create, 0 to change, 0 to destroy.")


def test_create_and_delete():
    """What comes shows all its fields, what goes those that it had."""
    born = stage_change("churn", "prod", before=None, after=(1, ONE), note="first")
    gone = stage_change("churn", "prod", before=(1, ONE), after=None)
    fields = ["    digest: sha256:111111111111", "    version: 1"]
    assert list(born.lines()) == ["+ stage churn@prod", *fields, "    (first)"]
    assert list(gone.lines()) == ["- stage churn@prod", *fields]
    assert Plan(request={}, changes=(born, gone)).counts() == {
        "create": 1,
        "update": 0,
        "delete": 1,
    }


def test_values_do_not_look_like_changes():
    """A line break inside a value is shown as one."""
    change = Change(kind="endpoint", name="e", action=Action.CREATE,
                    after={"env": {"A": "x\n- endpoint prod"}})  # fmt: skip
    assert list(change.lines()) == ["+ endpoint e", "    env.A: 'x\\n- endpoint prod'"]


def test_allowed():
    """A gate that failed stops a plan, unless somebody broke the glass."""
    assert not PLAN.allowed
    assert replace(PLAN, request={"break_glass": "fire"}).allowed
    assert not replace(PLAN, request={"break_glass": ""}).allowed
    assert replace(PLAN, gates=(replace(GATE, passed=True),)).allowed


def test_fingerprint():
    """The fingerprint stays while the changes do, and moves with each of their facts."""
    same = replace(
        PLAN, gates=(), warnings=("other",), request=dict(reversed(PLAN.request.items()))
    )
    assert same.fingerprint == PLAN.fingerprint
    moved = [
        replace(PLAN, request={"verb": "rollback", "model": "churn"}),
        replace(PLAN, changes=(UPDATE, MOVE)),
        replace(PLAN, changes=(MOVE,)),
        replace(PLAN, changes=(replace(MOVE, target="x"), UPDATE)),
        replace(PLAN, changes=(replace(MOVE, note="x"), UPDATE)),
        replace(PLAN, changes=(replace(MOVE, action=Action.DELETE), UPDATE)),
        replace(PLAN, changes=(replace(MOVE, before={"version": 3}), UPDATE)),
        replace(PLAN, changes=(replace(MOVE, before=None), UPDATE)),
    ]
    assert len({p.fingerprint for p in [PLAN, *moved]}) == len(moved) + 1


def test_save_and_load(tmp_path):
    """A saved plan keeps what was asked and what was shown."""
    path = tmp_path / "plan.json"
    PLAN.save(path)
    saved = SavedPlan.load(path)
    assert saved == SavedPlan(request=dict(PLAN.request), fingerprint=PLAN.fingerprint)
    assert json.loads(path.read_text()) == json.loads(json.dumps(PLAN.to_json()))


GARBAGE = [
    b"", b"{", b"[]", b"null", b"3", b"\xff", b'"\xff"', b"[" * 5000, b"{}", b'{"format":1}',
    b'{"format":1,"request":{}}', b'{"format":1,"request":{},"fingerprint":null}',
    b'{"format":1,"request":{},"fingerprint":"x"}',
    b'{"format":1,"request":[],"fingerprint":"' + ONE.encode() + b'"}',
    b'{"format":1,"request":[["a",1]],"fingerprint":"' + ONE.encode() + b'"}',
    b'{"format":"1","request":{},"fingerprint":"' + ONE.encode() + b'"}',
    b'{"format":2,"request":{},"fingerprint":"' + ONE.encode() + b'"}',
]  # fmt: skip


@pytest.mark.parametrize("data", GARBAGE, ids=lambda d: ascii(d[:40]))
def test_no_plan(tmp_path, data):
    """A file that is no saved plan of this format is a typed refusal."""
    path = tmp_path / "plan.json"
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=r"plan\.json"):
        SavedPlan.load(path)


def test_no_file(tmp_path):
    """A plan that is not there, a folder, or a place that cannot be written, is said so."""
    with pytest.raises(NotFound, match="no such plan"):
        SavedPlan.load(tmp_path / "plan.json")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        SavedPlan.load(tmp_path)
    with pytest.raises(InvalidRequest, match="cannot be written"):
        PLAN.save(tmp_path / "no" / "plan.json")


def test_no_number(tmp_path):
    """Evidence that is no number is not saved as something else."""
    bad = replace(PLAN, gates=(replace(GATE, evidence={"auc": math.nan}),))
    with pytest.raises(InvalidRequest):
        bad.save(tmp_path / "plan.json")
    assert not (tmp_path / "plan.json").exists()


OTHER = spec(TWO, 2)
MATRIX = [
    (None, None, None, None),
    (spec(), None, None, Action.CREATE),
    (None, spec(), EndpointStatus.READY, Action.DELETE),
    (None, spec(), EndpointStatus.FAILED, Action.DELETE),
    (None, spec(), EndpointStatus.DELETING, Action.DELETE),
    (spec(), spec(), EndpointStatus.READY, None),
    *[(spec(), spec(), status, Action.UPDATE) for status in EndpointStatus
      if status is not EndpointStatus.READY],
    *[(OTHER, spec(), status, Action.UPDATE) for status in EndpointStatus],
    (spec(env={"A": "1"}), spec(), EndpointStatus.READY, Action.UPDATE),
]  # fmt: skip


@pytest.mark.parametrize(("desired", "there", "status", "action"), MATRIX)
def test_endpoint_change(desired, there, status, action):
    """What is there and well stays; all else is made, changed or removed, and says why."""
    observed = Endpoint(spec=there, status=status, message="m") if there is not None else None
    found = endpoint_change("live", target="t", desired=desired, observed=observed, rollout=CANARY)
    if action is None:
        assert found is None
        return
    change = found.change()
    assert change.action is action
    assert (change.before is None, change.after is None) == (there is None, desired is None)
    if desired == there:
        assert change.note == f"it is {status}: m"
    elif desired == OTHER:
        assert change.note.startswith("canary")
    else:
        assert change.note == ""


def test_sick_without_a_word():
    """An endpoint that is not well and does not say why is said to."""
    observed = Endpoint(spec=spec(), status=EndpointStatus.DEGRADED)
    found = endpoint_change("live", target="t", desired=spec(), observed=observed, rollout=CANARY)
    assert found.why == "it is degraded: no reason given"


def test_spec_round_trip():
    """A spec reads back from the JSON that plans and ledgers keep."""
    variant = Variant(
        name="primary", model="churn", number=3, digest=TWO,
        resources=Resources.parse("T4:2", machine_type="m"),
        scaling=Scaling(min_replicas=0, max_replicas=3, target=2.5),
    )  # fmt: skip
    full = spec(variants=(variant,), env={"A": "é"})
    assert spec_from_json(json.loads(json.dumps(spec_json(full)))) == full
    with pytest.raises(msgspec.ValidationError):
        spec_from_json(spec_json(full) | {"name": "../x"})


def test_flat():
    """Fields are addressed by dots, named items by their name, other lists as a whole."""
    value = {
        "a": {"b": 1, "c": None},
        "list": [1, 2],
        "empty": [],
        "named": [{"name": "x", "v": 1}, {"name": "y", "v": {"w": 2}}],
        "mixed": [{"name": "x"}, 3],
        "text": "abc",
        "none": {},
    }
    assert dict(flat(value)) == {
        "a.b": 1, "a.c": None, "list": [1, 2], "empty": [], "named.x.v": 1, "named.y.v.w": 2,
        "mixed": [{"name": "x"}, 3], "text": "abc",
    }  # fmt: skip
