"""Faults strike where they match, as often as they should, and are counted."""

from __future__ import annotations

import json
import threading

import pytest

from cloudreg_emulator.faults import FOREVER, Fault, Faults, Kind, When


def test_count():
    """A fault strikes its count, and says so."""
    faults = Faults()
    armed = faults.arm(Fault(kind="throttle", service="sagemaker", operation="Create*", count=2))
    struck = [faults.strike("sagemaker", "CreateModel", "before") for _ in range(4)]

    assert [fault is not None for fault in struck] == [True, True, False, False]
    assert (armed.struck, armed.spent) == (2, True)


def test_after():
    """Occasions that are let through are counted apart."""
    faults = Faults()
    armed = faults.arm(Fault(kind="error", after=2))
    struck = [faults.strike("s3", "PutObject", "before") is not None for _ in range(4)]

    assert struck == [False, False, True, False]
    assert (armed.seen, armed.struck) == (3, 1)


@pytest.mark.parametrize(
    ("service", "operation", "when"),
    [("s3", "CreateModel", "before"), ("sagemaker", "ListModels", "before"),
     ("sagemaker", "CreateModel", "after")],
)  # fmt: skip
def test_others_are_spared(service, operation, when):
    """A fault strikes no other service, operation or moment."""
    faults = Faults()
    armed = faults.arm(Fault(kind="error", service="sagemaker", operation="Create*"))

    assert faults.strike(service, operation, when) is None
    assert armed.seen == 0


def test_oldest_first():
    """Of two that match, the older one is used up first."""
    faults = Faults()
    for kind in ("throttle", "error"):
        faults.arm(Fault(kind=kind))
    kinds = [faults.strike("s3", "GetObject", When.BEFORE) for _ in range(3)]

    assert [fault and fault.kind for fault in kinds] == [Kind.THROTTLE, Kind.ERROR, None]


def test_guarded():
    """Before: nothing is done. After: it is done, and the answer is lost."""
    faults = Faults()
    done = []

    def ask():
        return faults.guarded(
            "s3", "PutObject", lambda: done.append(1) or "done", spoiled=lambda f: str(f.kind)
        )

    faults.arm(Fault(kind="error"))
    faults.arm(Fault(kind="lost"))

    assert [ask(), len(done)] == ["error", 0]
    assert [ask(), len(done)] == ["lost", 1]
    assert [ask(), len(done)] == ["done", 2]


def test_race():
    """Of many at once, exactly the count is struck."""
    faults = Faults()
    armed = faults.arm(Fault(kind="error", count=50))
    hits = []

    def ask():
        hits.extend(f for _ in range(100) if (f := faults.strike("s3", "X", "before")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(hits) == armed.struck == 50


@pytest.mark.parametrize(
    "fields",
    [{"kind": "fire"}, {"kind": "error", "count": 0}, {"kind": "error", "after": -1},
     {"kind": "error", "status": 404}, {"kind": "stale"}, {"kind": "slow_start"},
     {"kind": "slow_start", "seconds": float("nan")}, {"kind": "error", "service": ""}],
)  # fmt: skip
def test_nonsense(fields):
    """A fault that could strike in no way is refused."""
    with pytest.raises(ValueError, match=r".+"):
        Fault(**fields)


def test_every_kind_has_a_place():
    """Every kind strikes somewhere, and every place has a kind."""
    assert {kind.when for kind in Kind} == set(When)


def test_control():
    """Over HTTP faults are armed, listed with their counts, and disarmed."""
    faults = Faults()
    status, armed = faults.control("POST", b'{"kind": "lost", "operation": "Put*", "status": 0}')
    faults.strike("s3", "PutObject", "after")

    assert (status, armed["number"], armed["struck"]) == (201, 1, 0)
    assert faults.control("GET")[1]["faults"][0] | {"x": 0} == {
        "number": 1, "kind": "lost", "service": "*", "operation": "Put*", "count": 1, "after": 0,
        "status": 0, "seconds": 0.0, "reason": "", "seen": 1, "struck": 1, "x": 0,
    }  # fmt: skip
    assert faults.control("DELETE", b'{"number": 2}')[1]["faults"] != []
    assert faults.control("DELETE", b'{"number": 1}') == (200, {"faults": []})
    faults.arm(Fault(kind="error", count=FOREVER))
    assert faults.control("DELETE") == (200, {"faults": []})


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"{", "Expecting"), (b"[]", "kind is missing"), (b"{}", "kind is missing"),
     (b'{"kind": "error", "colour": 1}', "'colour' is none of"),
     (b'{"kind": "error", "count": "1"}', "count: '1' has the wrong type"),
     (b'{"kind": "error", "count": true}', "count: True has the wrong type"),
     (b'{"kind": "fire"}', "'fire' is not a valid Kind"), (b"\xff", "")],
)  # fmt: skip
def test_control_refuses(body, said):
    """What arms nothing is answered with 400, and arms nothing."""
    faults = Faults()
    status, document = faults.control("POST", body)

    assert status == 400
    assert said in document["error"]
    assert faults.armed == []
    assert json.dumps(document)


def test_control_methods():
    """Other methods are named as such."""
    assert Faults().control("PUT")[0] == 405
    assert Faults().control("DELETE", b'{"all": true}')[0] == 400


def test_capacity(fleet, launch, faults, until):
    """Where a cloud has no instance, the group says so in its words; the next try may succeed."""
    armed = faults.arm(Fault(kind="capacity", service="fleet", operation="churn/*"))
    group = fleet.start(launch(), 1)

    assert not group.wait(timeout_s=20)
    assert "InsufficientInstanceCapacity" in (group.failure or "")
    assert group.pids == []
    assert armed.struck == 1
    second = fleet.start(launch(), 1)
    assert second.wait(timeout_s=20)


def test_unhealthy(make_fleet, launch, faults):
    """A container runs and is not seen as healthy."""
    faults.arm(Fault(kind="unhealthy", operation="churn/main"))
    group = make_fleet(patience_s=0.3).start(launch(startup_timeout_s=60), 1)

    assert not group.wait(timeout_s=20)
    assert "did not pass the ping health check" in (group.failure or "")


def test_slow_start(fleet, launch, faults):
    """An instance starts late, in emulated seconds."""
    faults.arm(Fault(kind="slow_start", seconds=30, operation="churn/main"))
    group = fleet.start(launch(), 1)

    assert not group.wait(timeout_s=0.25)
    assert group.failure is None
    assert group.wait(timeout_s=20)
