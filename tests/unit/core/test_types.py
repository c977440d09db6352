"""Nouns refuse what no target could show back; errors say what was asked of whom."""

from __future__ import annotations

import math
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from cloudreg import errors
from cloudreg.capabilities import Capabilities
from cloudreg.errors import (
    CloudregError,
    GateFailed,
    InvalidRequest,
    OperationFailed,
    Unsupported,
)
from cloudreg.types import (
    EndpointSpec,
    GateResult,
    Resources,
    Rollout,
    RolloutStrategy,
    Scaling,
    ScalingMetric,
    ScalingStep,
    Variant,
    VariantMetrics,
)

DIGEST = "sha256:" + "ab" * 32
V = Variant(name="primary", model="churn", number=1, digest=DIGEST)
SPEC = EndpointSpec(name="churn-prod", stage="prod", variants=(V,))
CANARY = replace(V, name="canary", weight=10)


def variant(**changes):
    return lambda: replace(V, **changes)


def spec(*variants, **changes):
    return lambda: replace(SPEC, variants=variants or (V,), **changes)


def rollout(*steps, **changes):
    changes.setdefault("strategy", RolloutStrategy.CANARY)
    return lambda: Rollout(steps=steps or (100,), **changes)


GPU, CPU = ScalingMetric.GPU_UTILIZATION, ScalingMetric.CPU_UTILIZATION


def scaling(metric, target, *steps):
    return lambda: Scaling(
        metric=metric, target=target, steps=tuple(ScalingStep(at=at, add=add) for at, add in steps)
    )


REFUSED = {
    "a count without accelerator": lambda: Resources(accelerator_count=1),
    "an accelerator without count": lambda: Resources(accelerator="L4"),
    "a negative count": lambda: Resources(accelerator="L4", accelerator_count=-1),
    "no replica at most": lambda: Scaling(min_replicas=0, max_replicas=0),
    "less than none": lambda: Scaling(min_replicas=-1),
    "bounds the wrong way round": lambda: Scaling(min_replicas=3, max_replicas=2),
    "no concurrency": lambda: Scaling(target=0),
    "concurrency that is no number": lambda: Scaling(target=math.nan),
    "endless concurrency": lambda: Scaling(target=math.inf),
    "a negative cooldown": lambda: Scaling(scale_in_cooldown_s=-1),
    "a cooldown that is no number": lambda: Scaling(scale_in_cooldown_s=math.nan),
    "an endless cooldown": lambda: Scaling(scale_in_cooldown_s=math.inf),
    "a cooldown before growth that is negative": lambda: Scaling(scale_out_cooldown_s=-1),
    "less than a percent": scaling(GPU, 0.5),
    "more than all of it": scaling(CPU, 101),
    "a step at the target": scaling(CPU, 60, (60, 1)),
    "steps that do not rise": scaling(CPU, 60, (80, 1), (70, 2)),
    "a step beyond all of it": scaling(CPU, 60, (101, 1)),
    "a step that adds nothing": scaling(CPU, 60, (80, 0)),
    "a step at no number": scaling(CPU, 60, (math.nan, 1)),
    "more steps than anybody reads": scaling(CPU, 1, *((n, 1) for n in range(2, 30))),
    "GPUs that are measured on the CPU": variant(
        scaling=Scaling(metric=ScalingMetric.GPU_UTILIZATION, target=50)
    ),
    "a fallback from nothing": lambda: Resources(fallback=("T4",)),
    "a fallback with a count": lambda: Resources.parse("L4:2", fallback=("T4:2",)),
    "a fallback to itself": lambda: Resources.parse("L4", fallback=("L4",)),
    "a fallback that is listed twice": lambda: Resources.parse("L4", fallback=("T4", "T4")),
    "a fallback from one machine": lambda: Resources.parse(
        "L4", machine_type="m", fallback=("T4",)
    ),
    "no memory": lambda: Resources(memory_mib=0),
    "no processor": lambda: Resources(cpus=0.0),
    "a share of nobody's machine": spec(replace(V, resources=Resources(memory_mib=512))),
    "a pool without shares": spec(pool="shared"),
    "a hostile pool": spec(replace(V, resources=Resources(memory_mib=512)), pool="a/b"),
    "a hostile variant": variant(name="../x"),
    "a variant of a hostile model": variant(model="../x"),
    "a variant without digest": variant(digest="sha256:ab"),
    "a negative weight": variant(weight=-1),
    "too much weight": variant(weight=101),
    "a hostile endpoint": spec(name="a/b"),
    "a hostile stage": spec(stage="Prod"),
    "variants with one name": spec(replace(V, weight=50), replace(V, weight=50)),
    "too little traffic": spec(replace(V, weight=99)),
    "too much traffic": spec(V, CANARY),
    "two models": spec(replace(V, weight=90), replace(CANARY, model="other")),
    "a variable without name": spec(env={"": "x"}),
    "a variable with an equals sign": spec(env={"A=B": "x"}),
    "a variable with a space": spec(env={"A B": "x"}),
    "a variable with NUL": spec(env={"A": "x\0y"}),
    "steps that do not end": rollout(10, 50),
    "falling steps": rollout(50, 10, 100),
    "a step twice": rollout(10, 10, 100),
    "a step of nothing": rollout(0, 100),
    "steps beyond all": rollout(50, 100, 110),
    "steps at once": rollout(10, 100, strategy=RolloutStrategy.ALL_AT_ONCE),
    "a negative bake": rollout(bake_s=-1),
    "a bake that is no number": rollout(bake_s=math.nan),
    "an endless bake": rollout(bake_s=math.inf),
    "fewer requests than none": rollout(min_requests=-1),
    "more errors than requests": rollout(max_error_rate=1.1),
    "fewer errors than none": rollout(max_error_rate=-0.1),
    "an error rate that is no number": rollout(max_error_rate=math.nan),
    "no latency": rollout(max_p95_ms=0),
    "a latency that is no number": rollout(max_p95_ms=math.nan),
    "an endless latency": rollout(max_p95_ms=math.inf),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    """What no target could show back is refused when it is made."""
    with pytest.raises(InvalidRequest) as refused:
        REFUSED[case]()
    assert refused.value.exit_code == 64


def test_no_variants():
    """An endpoint without variants serves nothing."""
    with pytest.raises(InvalidRequest):
        EndpointSpec(name="e", stage="prod", variants=())


@pytest.mark.parametrize("steps", [(), (100, 100), (-10, 100)])
def test_steps(steps):
    """Steps lead to all the traffic."""
    with pytest.raises(InvalidRequest, match="rising"):
        Rollout(strategy=RolloutStrategy.CANARY, steps=steps)


@pytest.mark.parametrize(
    "gpu", ["", "l4", "L4:0", "L4:", "L4:100", "L4:x", "L4 ", "L4:1:1", ":1", "L"]
)
def test_bad_gpu(gpu):
    """A GPU is a class and a count."""
    with pytest.raises(InvalidRequest, match="such as L4"):
        Resources.parse(gpu)


@pytest.mark.parametrize(
    ("gpu", "shown"),
    [(None, "cpu"), ("L4", "L4:1"), ("T4:2", "T4:2"), ("A100-80GB:8", "A100-80GB:8")],
)
def test_gpu(gpu, shown):
    """A GPU reads back as it is shown."""
    assert str(Resources.parse(gpu)) == shown
    assert str(Resources.parse(gpu, machine_type="m")) == f"{shown} (m)"


def test_frozen():
    """A noun is never changed; another one is made."""
    with pytest.raises(FrozenInstanceError):
        V.weight = 3  # type: ignore[misc]
    both = replace(SPEC, variants=(replace(V, weight=90), CANARY))
    assert [v.weight for v in both.weighted({"primary": 0, "canary": 100}).variants] == [0, 100]
    assert both.variant("canary") == CANARY
    assert both.variant("other") is None
    assert both.model == "churn"


def test_no_data():
    """Without requests there is no error rate: no data is never success."""
    assert VariantMetrics(requests=0, errors=0).error_rate is None
    assert VariantMetrics(requests=4, errors=1).error_rate == 0.25


def tree():
    return [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("kind", tree(), ids=lambda k: k.__name__)
def test_error(kind):
    """Every error shows message, target and hint on lines of their own, and survives a process."""
    error = kind("no such thing", target="gcp", hint="cloudreg list")
    assert str(error) == "no such thing\n  target: gcp\n  hint: cloudreg list"
    assert str(kind("only this")) == "only this"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    document = error.to_json()
    assert document["error"] == kind.__name__
    assert (document["message"], document["target"], document["hint"]) == (
        "no such thing", "gcp", "cloudreg list")  # fmt: skip
    assert issubclass(kind, CloudregError)
    assert document["exit_code"] == kind.exit_code


def test_exit_codes():
    """The command line's codes are promises: 3 a gate, 4 somebody has to act, 64 usage."""
    codes = {kind.__name__: kind.exit_code for kind in tree()}
    assert {name for name, code in codes.items() if code == 3} == {"GateFailed"}
    assert {name for name, code in codes.items() if code == 4} == {
        "ApprovalRequired", "RepairRequired", "RolloutPaused", "SignatureRequired"}  # fmt: skip
    assert {name for name, code in codes.items() if code == 64} == {
        "ConfigError", "InvalidRequest", "ProviderNotInstalled"}  # fmt: skip


def test_log_lines():
    """What the model server said last is part of the error."""
    error = OperationFailed("it died", logs=["one", "two"])
    assert str(error) == "it died\n  last log lines:\n    one\n    two"
    assert error.to_json()["logs"] == ["one", "two"]


def test_gate_results():
    """A failed gate shows every gate, and what was measured and wanted of those that failed."""
    good = GateResult(gate="card", passed=True, reason="complete")
    bad = GateResult(
        gate="metric", passed=False, reason="too low", measured="auc 0.7", wanted="auc >= 0.9",
        evidence={"auc": 0.7},
    )  # fmt: skip
    error = GateFailed("no", results=[good, bad])
    assert str(error).splitlines() == [
        "no",
        "  pass  card: complete",
        "  FAIL  metric: too low",
        "        measured auc 0.7, wanted auc >= 0.9",
    ]
    assert error.to_json()["gates"] == [good.to_json(), bad.to_json()]


NOTHING = Capabilities(
    machine_types=False,
    reasons={
        "accelerators": "it is a laptop",
        "scale_to_zero": "one stays",
        "gpu_fallback": "nothing ever runs out",
    },
    nearest={"A10G": 'gpu = "L4" is the nearest (24 GB)'},
)
ALL = Capabilities(
    accelerators=frozenset({"L4", "T4"}),
    scale_to_zero=True,
    autoscaling=True,
    scaling_metrics=frozenset({ScalingMetric.CONCURRENCY, CPU}),
    step_scaling=True,
    gpu_fallback=1,
    pools=True,
    traffic_split=2,
    max_replicas=4,
)


def scaled(**changes):
    return replace(SPEC, variants=(replace(V, scaling=Scaling(**changes)),))


NEEDS = {
    "traffic_split": replace(SPEC, variants=(replace(V, weight=90), CANARY)),
    "accelerators": replace(SPEC, variants=(replace(V, resources=Resources.parse("L4")),)),
    "scale_to_zero": scaled(min_replicas=0, max_replicas=1),
    "autoscaling": scaled(min_replicas=1, max_replicas=2),
    "scaling_metrics": scaled(max_replicas=2, metric=CPU, target=50),
    "step_scaling": scaled(target=4, steps=(ScalingStep(at=8, add=1),)),
    "gpu_fallback": replace(
        SPEC, variants=(replace(V, resources=Resources.parse("L4", fallback=("T4",))),)
    ),
    "pools": replace(
        SPEC, pool="shared", variants=(replace(V, resources=Resources(memory_mib=512)),)
    ),
    "max_replicas": scaled(min_replicas=3, max_replicas=3),
    "machine_types": replace(SPEC, variants=(replace(V, resources=Resources(machine_type="m")),)),
}


@pytest.mark.parametrize("need", NEEDS)
def test_capability(need):
    """What is declared passes; what is not is refused with target and reason."""
    ALL.require(NEEDS[need], target="t")
    with pytest.raises(Unsupported) as refused:
        NOTHING.require(NEEDS[need], target="t")
    assert refused.value.target == "t"
    reason = NOTHING.reasons.get(need)
    assert reason is None or reason in refused.value.message


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        (
            scaled(max_replicas=2, metric=ScalingMetric.REQUESTS_PER_MINUTE, target=50),
            "concurrency or cpu_utilization instead of requests_per_minute",
        ),
        (
            replace(
                SPEC,
                variants=(replace(V, resources=Resources.parse("L4", fallback=("T4", "K80"))),),
            ),
            "gpu_fallback = ['T4']",
        ),
    ],
)
def test_nearest_of_scaling(wanted, hint):
    """What replicas cannot follow or fall back to is refused with what comes nearest."""
    with pytest.raises(Unsupported) as refused:
        ALL.require(wanted, target="t")
    assert refused.value.hint == hint


def test_nearest():
    """A GPU that is not offered leads to the one that comes nearest."""
    wanted = replace(SPEC, variants=(replace(V, resources=Resources.parse("A10G")),))
    with pytest.raises(Unsupported, match="no A10G") as refused:
        NOTHING.require(wanted, target="t")
    assert refused.value.hint == 'gpu = "L4" is the nearest (24 GB)'
    assert ("accelerators", frozenset(), "it is a laptop") in NOTHING.rows()
